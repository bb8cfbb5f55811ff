//! The lattice of rights: what a token gives, and what each block leaves of it (spec/04-token.md §4).

use comity_wire::object::{Block, Token};
use comity_wire::{Amount, ModelId, Op, Timestamp};

/// What stands after a token and some blocks. Models and ops are borrowed lists that may only shrink.
#[derive(Clone, Debug)]
pub(crate) struct Rights<'a> {
    token: &'a Token,
    pub(crate) cap: Amount,
    pub(crate) expires_at: Timestamp,
    pub(crate) lanes: u16,
    depth: u8,
    models: Option<&'a [ModelId]>,
    ops: Option<&'a [Op]>,
}

/// Which part of a block is wider than what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widens(pub(crate) &'static str);

impl<'a> Rights<'a> {
    pub(crate) fn of(token: &'a Token) -> Self {
        let terms = &token.terms;
        Self {
            token,
            cap: terms.budget,
            expires_at: token.expires_at,
            lanes: terms.lanes_max,
            depth: terms.depth,
            models: None,
            ops: None,
        }
    }

    /// Every part may stay or shrink; depth must shrink by one at least.
    pub(crate) fn narrow(&self, block: &'a Block) -> Result<Self, Widens> {
        let keep = |holds: bool, what| if holds { Ok(()) } else { Err(Widens(what)) };
        keep(block.cap <= self.cap, "cap")?;
        keep(block.expires_at <= self.expires_at, "expiry")?;
        keep(block.lanes() <= self.lanes, "lanes")?;
        keep(block.depth() < self.depth, "depth")?;
        keep(block.models.iter().all(|model| self.has_model(model)), "models")?;
        keep(block.ops.iter().all(|op| self.has_op(*op)), "ops")?;
        let models = if block.models.is_empty() { self.models } else { Some(&*block.models) };
        let ops = if block.ops.is_empty() { self.ops } else { Some(&*block.ops) };
        let (cap, expires_at) = (block.cap, block.expires_at);
        Ok(Self { token: self.token, cap, expires_at, lanes: block.lanes(), depth: block.depth(), models, ops })
    }

    pub(crate) fn has_model(&self, model: &ModelId) -> bool {
        self.models.map_or_else(|| self.token.scope_of(model).is_some(), |models| models.contains(model))
    }

    fn has_op(&self, op: Op) -> bool {
        self.ops
            .map_or_else(|| self.token.terms.scope.iter().any(|scope| scope.ops.contains(&op)), |ops| ops.contains(&op))
    }

    /// Whether no block has taken this op away.
    pub(crate) fn keeps_op(&self, op: Op) -> bool {
        self.ops.is_none_or(|ops| ops.contains(&op))
    }
}
