//! Vetting: what the house states of a person and project, computed from the evidence it keeps (docs/operating/persons.md).
//!
//! A pure, versioned function: an auditor with the same rows and the same hour gets the same answer.

pub mod evidence;
mod rule;
#[cfg(test)]
mod tests;

use comity_wire::Timestamp;
use comity_wire::object::Vetting;

pub use evidence::{Evidence, How};
pub(crate) use rule::sponsored;
pub use rule::{Case, Level, Person, Unmet, level};

/// The version of [`level`] that the house works by: it rises when the rule changes.
///
/// 1: the newest statement on the project in force. 2: beside it, evidence on its persons.
pub const VERSION: u32 = 2;

/// A piece of evidence on a project: who states what, from when, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub value: Vetting,
    pub issuer: String,
    pub claim: String,
    pub from: Timestamp,
    pub until: Option<Timestamp>,
}

/// The newest statement in force decides, so that a later "none" takes back an earlier "vetted". `statements` stand in the
/// order in which they were recorded.
pub fn stated(statements: &[Statement], now: Timestamp) -> Option<&Statement> {
    let in_force = |statement: &&Statement| statement.from <= now && statement.until.is_none_or(|until| now < until);
    statements.iter().rev().find(in_force)
}

/// What is stated of a project whoever asks: nothing in force is nothing stated.
pub fn of(statements: &[Statement], now: Timestamp) -> Vetting {
    stated(statements, now).map_or(Vetting::None, |statement| statement.value)
}
