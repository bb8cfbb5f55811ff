//! The door to a model: authenticate, authorise, hold, filter, forward, meter, charge.
//!
//! Promises: nothing is forwarded that was not authenticated, allowed, priced and held; nothing is answered that was
//! not charged in one durable transaction first, or streamed under a hold that its charge ends; a replay charges
//! nothing. Leaves to others: listening (comity-http), what upstreams speak (comity-supply), what is published
//! ([`comity_token::Directory`]), how the house is reached ([`House`]), files and keys (the node).
#![forbid(unsafe_code)]

mod acknowledge;
mod agreements;
mod arrived;
mod chains;
mod challenges;
mod claims;
mod config;
mod control;
mod counts;
mod credits;
mod exports;
mod fields;
mod gateway;
mod grants;
mod guarding;
mod models;
pub mod moderating;
mod passing;
mod phase;
mod plans;
mod queue;
pub mod reading;
mod refusal;
mod replies;
mod reply;
mod responses;
mod routes;
pub mod schema;
pub mod spend;
mod stopping;
pub mod store;
#[cfg(test)]
mod tests;
mod transcript;
mod watch;
mod works;
mod writer;

pub use claims::{House, HouseError};
pub use config::{Clock, Config, Entropy, Failpoint, Parts, Served, no_failpoint};
pub use credits::{Credit, CreditError, FlaggedCharges, GiveBack, GiveBackError};
pub use exports::{CALLS_MAX, CallKept, CallPlace};
pub use gateway::{Gateway, GrantError, ModelNow, PlanError, StartError};
pub use guarding::{FLAGS_MAX, Flagged, Flags, THROTTLE_S, WORDS_BYTES_MAX, Words};
pub use routes::{meters_of, takes};
pub use transcript::{Transcript, Transcripts};
pub use watch::{Call, Charge, Watch};
