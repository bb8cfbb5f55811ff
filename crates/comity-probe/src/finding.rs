//! From a suspicion to something that is said: drawn up, looked at by a person, shown to the owner, answered, published or
//! withdrawn (spec/13-checks.md).
//!
//! A finding has receipts, numbers and what they are worth; never a prompt, an answer, or who the personas are. Receipts
//! already carry salted digests of request and response, so whoever has to judge can have them opened one by one.

use comity_wire::time::DAY_S;
use comity_wire::{Digest, ModelId, NodeId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::{RECEIPTS_MAX, Suspicion, Why};
use crate::pairs::Signs;

/// How long an owner has to answer, at least.
pub const ANSWER_S: u64 = 14 * DAY_S;
/// Longest text of an owner or of the house.
pub(crate) const TEXT_BYTES_MAX: usize = 16_384;

/// What was found of one release behind one door.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Digest of the evidence: names it, and nobody can change it under the name.
    pub id: Digest,
    /// What it rests on.
    pub evidence: Evidence,
    /// Where it stands.
    pub state: State,
    /// What the owner said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Which node.
    pub node: NodeId,
    /// Which model.
    pub model: ModelId,
    /// Under which release the answers were sold.
    pub release: Digest,
    /// What.
    pub why: Why,
    /// Whether announced auditors saw it; else blind personas, or it lies between the two.
    pub announced: bool,
    /// First and last answer.
    pub since: Timestamp,
    /// See `since`.
    pub until: Timestamp,
    /// Answers, pairs or receipts looked at in that time, and those that differ.
    pub looked_at: u64,
    /// See `looked_at`.
    pub differ: u64,
    /// Units too many, for contradictions.
    pub excess: u64,
    /// How pairs came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signs: Option<Signs>,
    /// What the test reached and where it is an alarm, as whole numbers; nothing for contradictions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// See `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u64>,
    /// Content ids of receipts of what differs.
    pub receipts: Vec<Digest>,
}

/// Where a finding stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Made by the tests; a person of the house has not looked at it.
    Drawn,
    /// The owner has it, and may answer until then.
    Shown {
        /// When nobody needs to wait any longer.
        answer_by: Timestamp,
    },
    /// Anybody may read it.
    Published {
        /// Since when.
        at: Timestamp,
        /// Who decided.
        by: String,
        /// Why.
        reason: String,
    },
    /// It was wrong, or was explained.
    Withdrawn {
        /// Since when.
        at: Timestamp,
        /// Who decided.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What is done with a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A person of the house looked at it and gives it to the owner.
    Show,
    /// The owner says what they have to say; a later answer replaces it.
    Answer(String),
    /// The house makes it public.
    Publish {
        /// Who.
        by: String,
        /// Why, with what became of the owner's answer.
        reason: String,
    },
    /// The house takes it back.
    Withdraw {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It stands elsewhere.
    Stands,
    /// The owner's answer was added.
    Answered,
}

/// Why an act was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not from where it stands.
    #[error("a finding that is {stands} cannot be {act}")]
    State {
        /// Where it stands.
        stands: &'static str,
        /// What was tried.
        act: &'static str,
    },
    /// The owner still has time, and has not answered.
    #[error("the owner has until {until} to answer: publish it then, or when they have")]
    TooEarly {
        /// Until when.
        until: Timestamp,
    },
    /// No text where one is needed, or too long a one.
    #[error("a reason or an answer has 1 to {TEXT_BYTES_MAX} bytes")]
    Text,
}

impl Finding {
    /// Draws up what a suspicion amounts to.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and cut")]
    pub fn draw(node: NodeId, model: ModelId, release: Digest, suspicion: &Suspicion) -> Self {
        let whole = |value: f64| value.min(1e15) as u64;
        let evidence = Evidence {
            node,
            model,
            release,
            why: suspicion.why,
            announced: suspicion.announced,
            since: suspicion.since,
            until: suspicion.at,
            looked_at: suspicion.looked_at,
            differ: suspicion.differ,
            excess: suspicion.excess,
            signs: suspicion.signs,
            value: suspicion.value.map(|(value, _)| whole(value)),
            threshold: suspicion.value.map(|(_, threshold)| whole(threshold)),
            receipts: suspicion.receipts.clone(),
        };
        Self { id: evidence.id(), evidence, state: State::Drawn, answer: None }
    }

    /// Whether its id is that of its evidence, and its evidence within bounds.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.id == self.evidence.id() && self.evidence.receipts.len() <= RECEIPTS_MAX
    }

    /// Does an act, or says why not.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn act(&mut self, now: Timestamp, act: Act) -> Result<Moved, Refused> {
        if let Act::Answer(text) | Act::Publish { reason: text, .. } | Act::Withdraw { reason: text, .. } = &act
            && !(1..=TEXT_BYTES_MAX).contains(&text.len())
        {
            return Err(Refused::Text);
        }
        let refused = |act| Err(Refused::State { stands: self.state.name(), act });
        let state = match (&self.state, act) {
            (State::Drawn, Act::Show) => State::Shown { answer_by: now.plus(ANSWER_S) },
            // Also after it was published: what an owner says belongs to it.
            (State::Shown { .. } | State::Published { .. }, Act::Answer(text)) => {
                self.answer = Some(text);
                return Ok(Moved::Answered);
            }
            (State::Shown { answer_by }, Act::Publish { .. }) if self.answer.is_none() && now < *answer_by => {
                return Err(Refused::TooEarly { until: *answer_by });
            }
            (State::Shown { .. }, Act::Publish { by, reason }) => State::Published { at: now, by, reason },
            (State::Drawn | State::Shown { .. } | State::Published { .. }, Act::Withdraw { by, reason }) => {
                State::Withdrawn { at: now, by, reason }
            }
            (_, Act::Show) => return refused("shown"),
            (_, Act::Answer(_)) => return refused("answered"),
            (_, Act::Publish { .. }) => return refused("published"),
            (_, Act::Withdraw { .. }) => return refused("withdrawn"),
        };
        self.state = state;
        Ok(Moved::Stands)
    }
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Drawn => "drawn up",
            Self::Shown { .. } => "shown to its owner",
            Self::Published { .. } => "published",
            Self::Withdrawn { .. } => "withdrawn",
        }
    }
}

impl Evidence {
    /// SHA-256 over what it says, each part with its length or in a fixed number of bytes (spec/13-checks.md §13.3).
    fn id(&self) -> Digest {
        let mut bytes = b"comity/v1/finding\0".to_vec();
        let mut text = |text: &str| {
            bytes.extend((text.len() as u32).to_be_bytes());
            bytes.extend(text.as_bytes());
        };
        text(&self.node.to_string());
        text(&self.model.to_string());
        text(&self.why.name());
        bytes.extend(self.release.as_bytes());
        bytes.push(u8::from(self.announced));
        let signs = self.signs.unwrap_or_default();
        let numbers = [
            self.since.seconds(),
            self.until.seconds(),
            self.looked_at,
            self.differ,
            self.excess,
            signs.better,
            signs.worse,
            signs.pairs,
            self.value.unwrap_or_default(),
            self.threshold.unwrap_or_default(),
            self.receipts.len() as u64,
        ];
        numbers.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
        self.receipts.iter().for_each(|receipt| bytes.extend(receipt.as_bytes()));
        Digest::of(&bytes)
    }
}

impl Why {
    /// Its name in a finding.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Changed => "changed".to_owned(),
            Self::Filters => "filters".to_owned(),
            Self::Auditors => "auditors".to_owned(),
            Self::Meters(kind) => format!("meters/{}", kind.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        let suspicion = Suspicion {
            why: Why::Changed,
            announced: false,
            at: Timestamp(2_000),
            since: Timestamp(1_000),
            value: Some((3e6, 2.19e6)),
            looked_at: 12,
            differ: 9,
            excess: 0,
            signs: None,
            receipts: vec![Digest::of(b"receipt")],
            prompts: vec![7],
            personas: vec![3],
        };
        let model = "owner/model".parse().unwrap();
        Finding::draw(NodeId::from_bytes([1; 16]), model, Digest::of(b"release"), &suspicion)
    }

    #[test]
    fn nothing_is_published_before_the_owner_could_answer() {
        let (now, publish) = (Timestamp(10_000), Act::Publish { by: "ada".into(), reason: "no answer".into() });
        let mut finding = finding();
        assert!(matches!(finding.act(now, publish.clone()), Err(Refused::State { stands: "drawn up", .. })));
        assert_eq!(finding.act(now, Act::Show), Ok(Moved::Stands));
        let until = now.plus(ANSWER_S);
        assert_eq!(finding.act(until.minus(1), publish.clone()), Err(Refused::TooEarly { until }));
        let mut answered = finding.clone();
        assert_eq!(answered.act(now, Act::Answer(String::new())), Err(Refused::Text));
        assert_eq!(answered.act(now, Act::Answer("we moved to other cards".into())), Ok(Moved::Answered));
        assert_eq!(answered.act(now, publish.clone()), Ok(Moved::Stands));
        assert_eq!(finding.act(until, publish), Ok(Moved::Stands));
        assert_eq!(finding.act(until, Act::Answer("late, and still heard".into())), Ok(Moved::Answered));
        assert_eq!(
            finding.act(until, Act::Withdraw { by: "ada".into(), reason: "explained".into() }),
            Ok(Moved::Stands)
        );
        assert!(finding.act(until, Act::Show).is_err() && finding.act(until, Act::Answer("again".into())).is_err());
    }

    #[test]
    fn what_is_published_names_neither_prompts_nor_personas_and_has_a_name_of_its_own() {
        let finding = finding();
        let json = serde_json::to_string(&finding).unwrap();
        assert!(!json.contains("prompt") && !json.contains("persona"), "{json}");
        let mut other = finding.evidence.clone();
        other.differ += 1;
        assert_ne!(other.id(), finding.id);
        assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), finding);
    }
}
