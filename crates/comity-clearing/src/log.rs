//! The log, held against itself and against the books.
//!
//! [`LogAuditor`] is for whoever has no more than the log: it reads every entry, computes the tree again, re-adds the ledger by
//! the ledger's own auditor, and holds each settlement against the tokens and claims that were logged. It is pure, and
//! knows no house. [`Clearing::log_audit`](crate::Clearing::log_audit) is the operator's: the database and the log say the same.

mod agreement;
mod auditor;
pub mod sample;
#[cfg(test)]
mod tests;
pub mod trail;

pub use agreement::{Disagreement, LogAgreement};
pub use auditor::{LogAuditor, LogBreak, LogReport};

pub use crate::service::log::{Ended, LogProof, LogStatus};
