//! The owner's access policy (spec/03-manifest.md §6): (tier, op) → limits, and what each tier asks of a caller.

use super::{KIB, ascending, require};
use crate::amount::Amount;
use crate::cbor::{List, Malformed, Text, enumeration, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{ModelId, OrgId};
use crate::op::Op;
use crate::time::Timestamp;

enumeration! {
    /// A level in an owner's policy. Not [`Vetting`], which the house states.
    pub enum Tier: "tier" {
        Open = 0 "t0",
        Registered = 1 "t1",
        Vetted = 2 "t2",
        Audited = 3 "t3",
    }
}

enumeration! {
    /// What the clearing house states of a person and project.
    pub enum Vetting: "vetting" {
        None = 0 "none",
        Registered = 1 "registered",
        Vetted = 2 "vetted",
    }
}

record! {
    /// Signed by the feed writer. What is not in it is refused.
    pub struct Policy {
        1 => org: OrgId,
        2 => name: Text<48>,
        3 => version: u64,
        4 => models: List<ModelId, 64>,
        5 => tiers: List<TierRule, 4>,
        6 => rules: List<OpRule, 64>,
        7 => issued_at: Timestamp,
    }
}

record! {
    /// What a tier asks, and the bounds it sets whatever the op.
    #[derive(serde::Deserialize)]
    pub struct TierRule {
        1 => tier: Tier,
        2 => vetting: Vetting,
        /// Whether this owner's own grant is needed.
        3 => grant: bool,
        /// GA4GH DUO-like codes of purposes that are allowed; empty: any.
        #[serde(default)]
        4 => purposes: List<Text<48>, 16>,
        5 => identity: Identity,
        6 => delegates: Delegates,
        /// The most that may stand unacknowledged in a lane.
        7 => window_max: Amount,
        8 => lanes_max: u16,
        /// The most one call may hold where the caller names no limit.
        9 => charge_max: Amount,
        /// Calls of a project that may run at once.
        10 => concurrency: u16,
        #[serde(default)]
        11 => windows: List<Window, 4>,
        12 => logging: Logging,
        #[serde(default)]
        13 => filters: List<Filter, 16>,
        /// Digest of the terms that a caller agrees to.
        #[serde(default)]
        14 => terms: Option<Digest>,
    }
}

record! {
    /// An op at a tier. The highest tier that a caller reaches decides.
    #[derive(serde::Deserialize)]
    pub struct OpRule {
        1 => op: Op,
        2 => tier: Tier,
        3 => input_bytes_max: u32,
        4 => output_tokens_max: u32,
        /// `n` and `best_of` at most.
        5 => choices_max: u16,
        /// Alternatives per token; 0: no log-probabilities.
        6 => logprobs_max: u8,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Window {
        1 => seconds: u32,
        2 => requests: u32,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Filter {
        1 => category: Text<48>,
        2 => action: FilterAction,
    }
}

enumeration! {
    pub enum FilterAction: "filter action" {
        Allow = 1 "allow",
        /// Counted into receipts.
        Log = 2 "log",
        Annotate = 3 "annotate",
        Hold = 4 "hold",
        Throttle = 5 "throttle",
        Block = 6 "block",
        Suspend = 7 "suspend",
    }
}

enumeration! {
    pub enum Identity: "identity" {
        Pseudonym = 1 "pseudonym",
        Organisation = 2 "organisation",
        Person = 3 "person",
    }
}

enumeration! {
    pub enum Delegates: "delegates" {
        All = 1 "all",
        Members = 2 "members",
        None = 3 "none",
    }
}

enumeration! {
    pub enum Logging: "logging" {
        None = 1 "none",
        Metadata = 2 "metadata",
        Bodies = 3 "bodies",
    }
}

impl Policy {
    pub fn tier(&self, tier: Tier) -> Option<&TierRule> {
        self.tiers.iter().find(|rule| rule.tier == tier)
    }

    /// The rows of an op, lowest tier first.
    pub fn rules_of(&self, op: Op) -> impl Iterator<Item = &OpRule> {
        self.rules.iter().filter(move |rule| rule.op == op)
    }
}

impl Object for Policy {
    const KIND: Kind = Kind { name: "policy", bytes_max: 16 * KIB, items_max: 4096 };

    fn validate(&self) -> Result<(), Malformed> {
        require(ascending(&self.tiers, |rule| rule.tier), "order of tiers")?;
        require(ascending(&self.rules, |rule| (rule.op, rule.tier)), "order of op rules")?;
        require(ascending(&self.models, Clone::clone), "order of models")?;
        let known = |rule: &OpRule| self.tier(rule.tier).is_some();
        require(self.rules.iter().all(known), "op rule: its tier is not in the policy")?;
        let granted = |rule: &TierRule| rule.tier != Tier::Audited || rule.grant;
        require(self.tiers.iter().all(granted), "tier t3: it always needs the owner's grant")
    }
}
