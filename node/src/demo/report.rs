//! What the demo saw, for scripts and for people.

use comity_wire::Amount;
use serde::Serialize;

use crate::failure::Failure;

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) nodes: usize,
    pub(super) models: usize,
    pub(super) queries: usize,
    pub(super) awarded_ucr: Amount,
    pub(super) charged_ucr: Amount,
    pub(super) settled_ucr: Amount,
    pub(super) refunded_ucr: Amount,
    pub(super) available_ucr: Amount,
    pub(super) receipts_verified: usize,
    pub(super) ledger_sum_ucr: i64,
    pub(super) refusals: Vec<RefusalSeen>,
    #[serde(skip)]
    pub(super) answers: Vec<AnswerSeen>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct RefusalSeen {
    pub(super) case: String,
    pub(super) code: String,
}

#[derive(Clone, Debug)]
pub(super) struct AnswerSeen {
    pub(super) model: String,
    pub(super) question: String,
    pub(super) text: String,
    pub(super) cost: Amount,
}

impl Report {
    /// The sums that must hold.
    ///
    /// # Errors
    /// [`Failure`] naming the one that does not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let home = self.settled_ucr.checked_add(self.available_ucr);
        let broken =
            |what: &str| Err(Failure::new(format!("the books do not add up: {what}")).because(format!("{self:?}")));
        if home != Some(self.awarded_ucr) {
            return broken("awarded is not settled + available");
        }
        if self.charged_ucr != self.settled_ucr {
            return broken("charged is not settled");
        }
        if self.ledger_sum_ucr != 0 {
            return broken("the ledger does not sum to zero");
        }
        if self.receipts_verified != self.queries {
            return broken("a query has no receipt");
        }
        Ok(())
    }

    pub(super) fn for_people(&self) -> String {
        let mut lines = vec![String::new(), "what they answered, side by side".to_owned()];
        for answer in &self.answers {
            lines.push(format!(
                "  {:24} {:32} -> {:22} {}",
                answer.model,
                answer.question,
                answer.text.trim(),
                answer.cost
            ));
        }
        lines.push(String::new());
        lines.push("refused, each with its code".to_owned());
        for refusal in &self.refusals {
            lines.push(format!("  {:52} {}", refusal.case, refusal.code));
        }
        lines.push(String::new());
        lines.push("the books".to_owned());
        for (name, amount) in [
            ("awarded", self.awarded_ucr),
            ("charged", self.charged_ucr),
            ("settled", self.settled_ucr),
            ("refunded", self.refunded_ucr),
            ("available", self.available_ucr),
        ] {
            lines.push(format!("  {name:12} {amount:>16}", amount = amount.to_string()));
        }
        lines.push(format!(
            "  awarded = settled + available; charged = settled; ledger sums to {}",
            self.ledger_sum_ucr
        ));
        lines.push(format!("  {} queries, {} receipts verified", self.queries, self.receipts_verified));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_does_not_add_up_is_a_failure() {
        let good =
            Report { awarded_ucr: Amount::from_ucr(10), available_ucr: Amount::from_ucr(10), ..Report::default() };
        assert!(good.check().is_ok());
        assert!(Report { charged_ucr: Amount::from_ucr(1), ..good.clone() }.check().is_err());
        assert!(Report { ledger_sum_ucr: 1, ..good.clone() }.check().is_err());
        assert!(Report { queries: 1, ..good.clone() }.check().is_err());
        assert!(Report { available_ucr: Amount::from_ucr(9), ..good }.check().is_err());
    }
}
