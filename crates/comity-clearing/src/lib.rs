//! The clearing house: vetting, awards, quotes, reservations, minting, settlement.
//!
//! Promises: credits come from awards alone; settled + in escrow ≤ awarded per allocation, settled ≤ budget per token
//! ([`Clearing::audit`] re-adds it); a token is signed only after its escrow is durable; every call can be repeated; a
//! token that the house signed is paid up to its budget whatever the house's own books say (rule 9).
//!
//! [`log`] verifies a house from its transparency log alone; the sequencer that writes one is among the house's own tasks.
//!
//! [`settlement`], [`lots`], [`mandates`], [`acts`], [`owners`], [`recharge`], [`persons`], [`vetting`], [`quote`], [`reservation`] and [`pseudonym`] are pure. [`Clearing`] awaits: it reads the
//! directory and the clock it was given, and writes its tables in one SQL transaction with the ledger's. [`http`] serves
//! it to members and nodes, [`admin`] to whoever may open the operator's socket.
#![forbid(unsafe_code)]

pub mod acts;
pub mod admin;
pub mod amie;
mod answers;
pub mod audit;
mod brought;
pub mod config;
pub mod failure;
pub mod http;
pub mod log;
pub mod lots;
pub mod mandates;
pub mod ops;
pub mod owners;
pub mod persons;
pub mod pseudonym;
pub mod quote;
pub mod recharge;
pub mod reports;
pub mod reservation;
pub mod service;
pub mod settlement;
mod store;
#[cfg(test)]
mod tests;
pub mod vetting;

pub use acts::{Act, AwardAsk};
pub use admin::{PersonVouch, ProjectAdd, ProjectVet};
pub use audit::{AuditReport, Break, Finding, ProjectTotals, Sums, Totals};
pub use config::{Config, Keys, LOG_FORGOTTEN, LogKey, LogMemory, Publisher};
pub use failure::Failure;
pub use service::{
    Account, Clearing, Clock, Contradiction, Failpoint, FeedHead, FeedNewest, OpenError, REPLICAS_MAX, Replica,
    SEEN_EVERY_S, Swept, Vital, no_failpoint,
};
