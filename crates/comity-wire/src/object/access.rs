//! Grants: an owner's decision that a project may use a tier of a model (spec/03-manifest.md §7).

use super::{KIB, Tier, ascending, require};
use crate::cbor::{List, Malformed, Text, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{GrantId, ModelId, OrgId};
use crate::op::Op;
use crate::time::Timestamp;

record! {
    /// Signed by the feed writer. It never raises vetting.
    pub struct Grant {
        1 => id: GrantId,
        2 => org: OrgId,
        /// The project's pseudonym at this organisation: a token's `sub`.
        3 => subject: Text<80>,
        4 => models: List<ModelId, 64>,
        5 => tier: Tier,
        /// Left out: every op of the tier.
        6 => ops: List<Op, 16>,
        7 => not_before: Timestamp,
        8 => not_after: Timestamp,
        /// Digest of the approved experiment plan; needed for t3.
        9 => plan: Option<Digest>,
        10 => reason: Text<400>,
        /// How often the plan may be executed; left out: once.
        11 => executions: Option<u32>,
    }
}

impl Grant {
    /// More are approved again: each approval is looked at.
    pub const EXECUTIONS_MAX: u32 = 100;

    /// How often its plan may be executed.
    pub const fn executions(&self) -> u32 {
        match self.executions {
            Some(executions) => executions,
            None => 1,
        }
    }
}

impl Object for Grant {
    const KIND: Kind = Kind { name: "grant", bytes_max: 8 * KIB, items_max: 128 };

    fn validate(&self) -> Result<(), Malformed> {
        require(!self.models.is_empty(), "grant: it names no model")?;
        require(ascending(&self.models, Clone::clone), "order of models")?;
        require(ascending(&self.ops, |op| *op), "order of ops")?;
        require(self.tier != Tier::Audited || self.plan.is_some(), "grant: t3 needs an approved plan")?;
        let executions_fit = match self.executions {
            None => true,
            Some(executions) => self.plan.is_some() && (1..=Self::EXECUTIONS_MAX).contains(&executions),
        };
        require(executions_fit, "grant: 1 to 100 executions, of a plan")?;
        require(self.not_before < self.not_after, "grant: it ends before it begins")
    }
}
