//! What lines cost, or may have cost, without an answer: written down beside the output, since a wallet forgets a call once
//! enough others are younger, and would sign it anew (rule 3).

use std::collections::HashMap;

use comity_sdk::compare::Missed;
use comity_sdk::keys::Outcome;
use comity_wire::{Amount, Digest};
use serde::{Deserialize, Serialize};

/// What came of a line that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "became", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Became {
    Charged {
        receipt: Digest,
        charge_ucr: Amount,
    },
    /// It may be charged, with this at most.
    Unknown {
        most_ucr: Amount,
    },
    /// It was in doubt, and cost nothing.
    Free,
}

/// What is owed an answer, by `custom_id`.
#[derive(Debug, Default)]
pub(super) struct Owed(HashMap<String, Became>);

#[derive(Serialize, Deserialize)]
struct Line {
    owed: String,
    #[serde(flatten)]
    became: Became,
}

/// What to do about a line that was paid for, or may have been, and is asked no more.
const ANEW: &str = "it is asked no more under this custom_id, so that it is not paid twice; to ask and pay anew, give the line another \
                    custom_id, or put it into a file of its own with an --out of its own";

impl Became {
    /// `None` where nothing was owed before, and nothing is now. `most`: what it may cost.
    pub(super) fn of(outcome: Option<Outcome>, most: Amount, before: Option<Self>) -> Option<Self> {
        match outcome {
            Some(Outcome::Charged { receipt, charge }) => Some(Self::Charged { receipt, charge_ucr: charge }),
            Some(Outcome::Unknown) => Some(Self::Unknown { most_ucr: most }),
            Some(Outcome::Free) => before.map(|_| Self::Free),
            // What is not known any more stays as it was.
            None => before,
        }
    }

    /// The most that it cost.
    pub(super) fn most(self) -> Amount {
        match self {
            Self::Charged { charge_ucr, .. } => charge_ucr,
            Self::Unknown { most_ucr } => most_ucr,
            Self::Free => Amount::ZERO,
        }
    }

    /// Its receipt and what it is known to have cost.
    pub(super) fn charged(self) -> Option<(Digest, Amount)> {
        match self {
            Self::Charged { receipt, charge_ucr } => Some((receipt, charge_ucr)),
            _ => None,
        }
    }

    /// Why it is not asked again, once the wallet remembers nothing of it.
    pub(super) fn missed(self) -> Missed {
        let message = match self {
            Self::Charged { receipt, charge_ucr } => {
                format!(
                    "this line was answered and charged {charge_ucr} before (receipt {receipt}), and its answer is lost"
                )
            }
            _ => format!(
                "this line was sent before and may be charged, {} at most: what became of it was never known",
                self.most()
            ),
        };
        Missed { code: "replayed".to_owned(), message, hint: Some(ANEW.to_owned()), limit: None }
    }
}

impl Owed {
    /// Takes in a line of the run's own file; `None` where it is none of these.
    pub(super) fn read(&mut self, line: &str) -> Option<()> {
        let Line { owed, became } = serde_json::from_str(line).ok()?;
        self.0.insert(owed, became);
        Some(())
    }

    /// The line to write down, with its end; `None` where that stands there.
    pub(super) fn put(&mut self, id: &str, became: Became) -> Option<String> {
        if self.get(id) == Some(became) {
            return None;
        }
        self.0.insert(id.to_owned(), became);
        let line = Line { owed: id.to_owned(), became };
        Some(serde_json::to_string(&line).expect("it has a JSON form") + "\n")
    }

    pub(super) fn get(&self, id: &str) -> Option<Became> {
        self.0.get(id).copied()
    }

    /// What was paid for, or may have been.
    pub(super) fn taken(&self, id: &str) -> Option<Became> {
        self.get(id).filter(|became| *became != Became::Free)
    }
}

/// The hint of an answer that a node keeps no more, as a line's.
pub(super) fn with_hint(missed: Missed) -> Missed {
    if missed.code == "replayed" { Missed { hint: Some(ANEW.to_owned()), ..missed } } else { missed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_line_stands() {
        let most = Amount::from_ucr(9);
        let (receipt, charge) = (Digest([1; 32]), Amount::from_ucr(5));
        let charged = Became::Charged { receipt, charge_ucr: charge };
        let of = |outcome, before| Became::of(outcome, most, before);
        let (unknown, free) = (Became::Unknown { most_ucr: most }, Became::Free);
        assert_eq!(of(Some(Outcome::Charged { receipt, charge }), None), Some(charged));
        assert_eq!(of(Some(Outcome::Unknown), None), Some(unknown));
        assert_eq!(of(Some(Outcome::Free), None), None, "a refusal is nothing to write down");
        assert_eq!(of(Some(Outcome::Free), Some(unknown)), Some(free));
        assert_eq!(of(None, Some(charged)), Some(charged), "what the wallet forgot");
        assert_eq!(of(None, None), None);

        let (mut owed, mut again) = (Owed::default(), Owed::default());
        for became in [unknown, free, charged] {
            again.read(owed.put("a", became).expect("it is new").trim_end()).expect("it is read again");
            assert_eq!(again.get("a"), Some(became));
        }
        assert_eq!(owed.put("a", charged), None, "it stands there");
        assert_eq!((again.taken("a"), again.taken("b")), (Some(charged), None));
        again.put("a", free);
        assert_eq!(again.taken("a"), None, "it is a new call");
        assert_eq!(again.read("{\"id\":1}"), None);
    }
}
