//! Experiment plans: what an owner approves for a fixed number of executions (spec/03-manifest.md §8).
//!
//! A plan is not signed: whoever applies names its digest in the application, whoever approves it names the digest in a
//! grant. One text of it has one encoding, and so one digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{KIB, ascending, require};
use crate::cbor::{Decode as _, Encode as _, Limits, List, Malformed, Text, record};
use crate::digest::Digest;
use crate::id::ModelId;
use crate::op::Op;

record! {
    /// Everything that one execution may do, at most.
    pub struct Plan {
        1 => title: Text<120>,
        /// Of one owner.
        2 => models: List<ModelId, 8>,
        3 => ops: List<PlanOp, 16>,
        /// How long an execution may last, from its first call on.
        4 => hours: u16,
        /// Classes of the data that is put in; left out: none but public data.
        5 => data: List<Text<48>, 8>,
        6 => purpose: Text<2000>,
        /// What leaves the experiment: what is kept, shown, published.
        7 => outputs: Text<1000>,
    }
}

record! {
    /// One op of a plan: how much of it an execution may use over all its models.
    pub struct PlanOp {
        1 => op: Op,
        2 => calls: u32,
        /// All calls together.
        3 => input_tokens: Option<u64>,
        4 => output_tokens: Option<u64>,
        /// Of one answer.
        5 => output_tokens_max: Option<u32>,
        /// Alternatives per token.
        6 => logprobs_max: Option<u8>,
        /// Choices of one prompt.
        7 => choices_max: Option<u16>,
        /// Where the op looks into the model.
        8 => sites: List<Text<64>, 32>,
    }
}

impl Plan {
    pub const BYTES_MAX: usize = 16 * KIB;
    /// The longest execution: thirty days, as the longest op.
    pub const HOURS_MAX: u16 = 720;
    const LIMITS: Limits = Limits { bytes_max: Self::BYTES_MAX, items_max: 1024, tagged: false };

    /// Reads the one encoding of a plan that keeps the rules.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let plan = Self::from_cbor(bytes, Self::LIMITS)?;
        plan.validate()?;
        Ok(plan)
    }

    /// The plan as it is attached, kept and hashed.
    ///
    /// # Errors
    /// [`Malformed`] where it breaks a rule, or is too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let bytes = self.to_cbor();
        Self::from_bytes(&bytes)?;
        Ok(bytes)
    }

    /// What an approval names.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_cbor())
    }

    pub fn op(&self, op: Op) -> Option<&PlanOp> {
        self.ops.iter().find(|row| row.op == op)
    }

    fn validate(&self) -> Result<(), Malformed> {
        let owner = self.models.first().map(ModelId::organisation);
        require(owner.is_some(), "plan: it names no model")?;
        require(ascending(&self.models, Clone::clone), "order of models")?;
        require(self.models.iter().all(|model| Some(model.organisation()) == owner), "plan: models of one owner")?;
        require(!self.ops.is_empty(), "plan: it names no op")?;
        require(ascending(&self.ops, |row| row.op), "order of ops")?;
        require((1..=Self::HOURS_MAX).contains(&self.hours), "plan: an execution lasts 1 to 720 hours")?;
        require(ascending(&self.data, |class| class.as_str().to_owned()), "order of data classes")?;
        let said = [self.title.as_str(), &self.purpose, &self.outputs];
        require(said.iter().all(|text| !text.trim().is_empty()), "plan: title, purpose and outputs say something")?;
        self.ops.iter().try_for_each(|row| row.fault().map_or(Ok(()), |what| require(false, what)))
    }
}

impl PlanOp {
    /// The rule that it breaks, if it does.
    pub fn fault(&self) -> Option<&'static str> {
        let (generates, reads_tokens) = (generates(self.op), generates(self.op) || self.op == Op::Embeddings);
        let rules = [
            (self.calls >= 1, "plan: an op has at least one call"),
            (!reads_tokens || self.input_tokens.is_some_and(|most| most > 0), "plan: this op needs input_tokens"),
            (!generates || self.output_tokens.is_some_and(|most| most > 0), "plan: this op needs output_tokens"),
            (
                generates || (self.output_tokens, self.output_tokens_max) == (None, None),
                "plan: this op generates nothing",
            ),
            (self.output_tokens_max != Some(0), "plan: an answer of no token"),
            (
                self.logprobs_max.is_none() || matches!(self.op, Op::Logprobs | Op::PromptLogprobs),
                "plan: this op has no logprobs",
            ),
            (
                self.choices_max.is_none_or(|most| most > 0 && generates),
                "plan: this op has no choices, or none are allowed",
            ),
            (looks_inside(self.op) != self.sites.is_empty(), "plan: sites are named where an op looks into the model"),
            (ascending(&self.sites, |site| site.as_str().to_owned()), "order of sites"),
        ];
        rules.iter().find(|(holds, _)| !holds).map(|(_, what)| *what)
    }
}

/// Whether calls of it end in text, by themselves or beside what they ask.
const fn generates(op: Op) -> bool {
    matches!(op, Op::Chat | Op::Completions | Op::Responses | Op::Logprobs | Op::PromptLogprobs)
}

/// Whether it has sites.
const fn looks_inside(op: Op) -> bool {
    matches!(op, Op::Activations | Op::Patch | Op::Gradients)
}

/// Names an execution of a plan: chosen by whoever runs it, the same in each of its calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Run(String);

impl Run {
    pub const BYTES_MAX: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text names no execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run is named by 1 to 64 letters, digits, '.', '_' or '-'")]
pub struct NotARun;

impl FromStr for Run {
    type Err = NotARun;
    fn from_str(text: &str) -> Result<Self, NotARun> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotARun)
        }
    }
}

impl TryFrom<String> for Run {
    type Error = NotARun;
    fn try_from(text: String) -> Result<Self, NotARun> {
        text.parse()
    }
}

impl From<Run> for String {
    fn from(run: Run) -> Self {
        run.0
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
