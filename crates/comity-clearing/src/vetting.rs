//! Vetting: what the house states of a project, computed from the evidence it keeps.
//!
//! A pure, versioned function: an auditor with the same rows and the same hour gets the same answer.

use comity_wire::Timestamp;
use comity_wire::object::Vetting;

/// The version of [`of`]: it rises when the rule changes.
pub const VERSION: u32 = 1;

/// A piece of evidence: who states what, from when, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub value: Vetting,
    pub issuer: String,
    pub claim: String,
    pub from: Timestamp,
    pub until: Option<Timestamp>,
}

/// The newest statement in force decides, so that a later "none" takes back an earlier "vetted". Nothing in force is
/// nothing stated. `statements` stand in the order in which they were recorded.
pub fn of(statements: &[Statement], now: Timestamp) -> Vetting {
    let in_force = |statement: &&Statement| statement.from <= now && statement.until.is_none_or(|until| now < until);
    statements.iter().rev().find(in_force).map_or(Vetting::None, |statement| statement.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(value: Vetting, from: u64, until: Option<u64>) -> Statement {
        let (issuer, claim) = ("operator".to_owned(), "seen".to_owned());
        Statement { value, issuer, claim, from: Timestamp(from), until: until.map(Timestamp) }
    }

    #[test]
    fn the_newest_statement_in_force_decides() {
        let all = [statement(Vetting::Registered, 0, None), statement(Vetting::Vetted, 10, Some(20))];
        let at = |now| of(&all, Timestamp(now));
        assert_eq!(
            [at(5), at(10), at(19), at(20)],
            [Vetting::Registered, Vetting::Vetted, Vetting::Vetted, Vetting::Registered]
        );
        let taken_back = [statement(Vetting::Vetted, 0, None), statement(Vetting::None, 5, None)];
        assert_eq!(of(&taken_back, Timestamp(6)), Vetting::None);
        assert_eq!(of(&[], Timestamp(6)), Vetting::None);
    }
}
