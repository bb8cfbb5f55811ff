//! Quotes and mandates (spec/04-token.md §7, §8).

use super::{KIB, Scope, ascending, require};
use crate::amount::Amount;
use crate::cbor::{List, Malformed, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{MandateId, ModelId, NodeId, OrgId, ProjectId, QuoteId};
use crate::key::PublicKey;
use crate::time::Timestamp;

record! {
    /// A pinned price: signed by the house's issuer key.
    pub struct Quote {
        1 => id: QuoteId,
        2 => issuer: OrgId,
        3 => project: ProjectId,
        4 => node: NodeId,
        5 => scope: List<Scope, 8>,
        6 => window: Amount,
        7 => lanes_max: u16,
        8 => longest_op_s: u32,
        9 => issued_at: Timestamp,
        10 => expires_at: Timestamp,
    }
}

record! {
    /// A PI's long-lived permission for a member to draw tokens, the PI being away. Signed by the PI's member key.
    pub struct Mandate {
        1 => id: MandateId,
        2 => project: ProjectId,
        /// The member's key; absent where `join_code` binds it at the first claim.
        3 => member: Option<PublicKey>,
        /// SHA-256 of a join code.
        4 => join_code: Option<Digest>,
        5 => cap: Amount,
        6 => cap_per_day: Amount,
        7 => models: List<ModelId, 64>,
        8 => not_before: Timestamp,
        9 => not_after: Timestamp,
        /// What tokens for one model may hold or have spent. A token under a mandate with such caps is for one model.
        10 => model_caps: List<ModelCap, 16>,
        /// Whether who redeems it may look at mandates of the same signer and project, and end them: a class's assistant. `true`, or left out.
        11 => assists: Option<bool>,
    }
}

record! {
    /// The most that may be drawn for one model.
    pub struct ModelCap {
        1 => model: ModelId,
        2 => cap: Amount,
    }
}

impl Mandate {
    /// The most that may be drawn for this model; none: what the whole lets it.
    pub fn cap_of(&self, model: &ModelId) -> Option<Amount> {
        self.model_caps.iter().find(|row| row.model == *model).map(|row| row.cap)
    }
}

impl Object for Quote {
    const KIND: Kind = Kind { name: "quote", bytes_max: 4 * KIB, items_max: 512 };

    fn validate(&self) -> Result<(), Malformed> {
        require(!self.scope.is_empty(), "quote: its scope is empty")?;
        require(ascending(&self.scope, |scope| scope.model.clone()), "order of scope")?;
        let ordered = |scope: &Scope| !scope.ops.is_empty() && ascending(&scope.ops, |op| *op);
        require(self.scope.iter().all(ordered), "order of ops")?;
        require(self.issued_at < self.expires_at, "quote: it ends before it begins")
    }
}

impl Object for Mandate {
    const KIND: Kind = Kind { name: "mandate", bytes_max: 8 * KIB, items_max: 128 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.member.is_some() != self.join_code.is_some(), "mandate: a member's key or a join code, not both")?;
        require(ascending(&self.models, Clone::clone), "order of models")?;
        require(self.not_before < self.not_after, "mandate: it ends before it begins")?;
        let days = self.not_after.since(self.not_before);
        require(days <= 366 * crate::time::DAY_S, "mandate: a year is the most")?;
        require(self.cap_per_day <= self.cap, "mandate: the daily cap is above the whole")?;
        require(ascending(&self.model_caps, |row| row.model.clone()), "order of caps")?;
        let within =
            |row: &ModelCap| row.cap <= self.cap && (self.models.is_empty() || self.models.contains(&row.model));
        require(
            self.model_caps.iter().all(within),
            "mandate: a model's cap is above the whole, or for none of its models",
        )?;
        require(self.assists != Some(false), "mandate: assists is true or left out")
    }
}
