//! What happens to the probes, fact by fact, and what is kept of it. Everything here is written to the disk as it stands.

use std::collections::BTreeMap;

use comity_probe::{Answer, Finding, Settings, Suspicion};
use comity_wire::cbor::Bytes;
use comity_wire::{Amount, Digest, ModelId, NodeId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};

/// A signed object's bytes.
pub type Stored = Bytes<16384>;
/// Reasons that are counted at a door.
const REASONS_MAX: usize = 32;
/// Longest reason.
const REASON_BYTES: usize = 200;

/// A fact.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// How it is checked from here on.
    Set { settings: Settings, day_max: Amount },
    /// A persona is about to be made at the house.
    Cast { persona: u32, who: Who },
    /// It has its credits.
    Ready { persona: u32, lot: Amount },
    /// It was given more since: an award that was supplemented, as any may be.
    Given { persona: u32, more: Amount },
    /// What was found at a place: another release there begins anew, another tariff does not.
    Door { at: usize, door: Place },
    /// The calls of a day.
    Planned { day: u64, asks: Vec<Planned> },
    /// These will not be made: too late, no money, nobody there.
    Missed { day: u64, asks: Vec<usize>, why: String },
    /// One is about to be made.
    Began { day: u64, ask: usize, at: Timestamp },
    /// It has ended, with a receipt.
    Answered { day: u64, ask: usize, at: Timestamp, seen: Box<Seen> },
    /// It has ended without anything to compare.
    Failed { day: u64, ask: usize, at: Timestamp, charge: Amount, why: String },
    /// A person looked into a finding.
    DealtWith { finding: Digest },
}

/// A persona of the core, as a project of the house.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// Its folder.
    pub number: u32,
    pub project: ProjectId,
    pub announced: bool,
    pub title: String,
    pub purpose: String,
    /// What it was given, all awards together.
    pub award: Amount,
    pub ends_at: Timestamp,
    #[serde(default)]
    pub ready: bool,
}

/// One release behind one door.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub node: NodeId,
    pub model: ModelId,
    pub release: Digest,
    /// The signed tariff.
    pub tariff: Stored,
    pub logprobs: Option<u8>,
    /// 0: it is no longer checked.
    pub risk: u8,
}

/// A call of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub at: Timestamp,
    pub door: usize,
    pub persona: u32,
    pub announced: bool,
    pub session: u32,
    pub prompt: u32,
    pub stream: bool,
    pub worst: Amount,
}

/// What came back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub receipt: Stored,
    pub answer: Answer,
    pub text: Option<String>,
    pub body_bytes: u64,
    pub max_tokens: u64,
    pub usage: Option<(u64, u64)>,
    pub listed: Option<u64>,
}

/// The calls of a day, and how far they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    pub asks: Vec<Planned>,
    pub stands: Vec<Stands>,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stands {
    Waits,
    /// Begun, and its money is held.
    Open {
        at: Timestamp,
    },
    Done,
}

/// What happened at a door.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    pub answered: u64,
    pub compared: u64,
    pub failed: u64,
    pub missed: u64,
    pub last: Option<Timestamp>,
    /// How often calls ended so, and when last.
    pub reasons: BTreeMap<String, (u64, Timestamp)>,
}

/// A finding with what the house alone may know of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawn {
    pub finding: Finding,
    pub suspicion: Suspicion,
    pub door: usize,
    pub dealt_with: bool,
}

impl Tally {
    pub(super) fn failed(&mut self, why: &str, at: Timestamp) {
        self.failed += 1;
        self.reason(why, at);
    }

    pub(super) fn missed(&mut self, why: &str, at: Timestamp) {
        self.missed += 1;
        self.reason(why, at);
    }

    pub(super) fn reason(&mut self, why: &str, at: Timestamp) {
        let mut why: String = why.chars().take(REASON_BYTES).collect();
        if self.reasons.len() >= REASONS_MAX && !self.reasons.contains_key(&why) {
            "other reasons".clone_into(&mut why);
        }
        let (times, last) = self.reasons.entry(why).or_insert((0, at));
        (*times, *last) = (*times + 1, at);
    }
}
