//! Tokens and the blocks that holders add offline (spec/04-token.md). A token is a CWT (RFC 8392).

use super::{KIB, Vetting, ascending, require};
use crate::amount::Amount;
use crate::cbor::{Decode, Encode, List, Malformed, MalformedKind, Reader, Text, Writer, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{ModelId, NodeId, OrgId, TokenId};
use crate::key::PublicKey;
use crate::op::Op;
use crate::time::Timestamp;

record! {
    /// The signed capability. `iss`, `sub`, `aud` are the text forms of ids, as CWT has them.
    pub struct Token {
        /// `iss`: the organisation whose issuer key signs.
        1 => issuer: IdText<OrgId>,
        /// `sub`: the project's pseudonym at the audience's organisation; for an own-node token the holder's thumbprint.
        2 => subject: Text<80>,
        /// `aud`: one node.
        3 => audience: IdText<NodeId>,
        4 => expires_at: Timestamp,
        5 => not_before: Timestamp,
        6 => issued_at: Timestamp,
        7 => id: TokenId,
        /// `cnf`: the holder's key as a COSE_Key (RFC 8747).
        8 => holder: Confirmation,
        /// Comity's own claims.
        -70001 => terms: Terms,
    }
}

record! {
    /// What the token allows, and how far the house is bound by it.
    pub struct Terms {
        1 => roster_version: u64,
        2 => scope: List<Scope, 8>,
        /// 0: a free tier, or an own-node token.
        3 => budget: Amount,
        4 => vetting: Vetting,
        5 => purposes: List<Text<48>, 16>,
        /// The most that may stand unacknowledged in a lane.
        6 => window: Amount,
        7 => lanes_max: u16,
        /// How long work that was admitted may run, seconds.
        8 => longest_op_s: u32,
        /// The earliest close of the escrow without a final.
        9 => settle_by: Timestamp,
        /// How many blocks may follow.
        10 => depth: u8,
        /// Content ids of grants that the caller means to use.
        11 => grants: List<Digest, 8>,
    }
}

record! {
    /// One model at one release under one tariff, with the ops that may be asked of it.
    #[derive(serde::Deserialize)]
    pub struct Scope {
        1 => model: ModelId,
        /// [`super::Release::digest`].
        2 => release: Digest,
        3 => ops: List<Op, 16>,
        /// Content id of the tariff.
        4 => tariff: Digest,
    }
}

record! {
    /// A narrower right, signed by the holder before. What it omits it does not grant.
    pub struct Block {
        /// Content id of the token or block before.
        1 => previous: Digest,
        /// 1 for the first block.
        2 => index: u8,
        3 => cap: Amount,
        4 => expires_at: Timestamp,
        /// Lane numbers 0 … lanes−1. Left out: 1.
        5 => lanes: Option<u16>,
        /// How many blocks may follow. Left out: 0.
        6 => depth: Option<u8>,
        /// Left out: as before.
        7 => models: List<ModelId, 8>,
        /// Left out: as before.
        8 => ops: List<Op, 16>,
        9 => next: PublicKey,
    }
}

/// A token with its blocks, root first: `[token, *4 block]`, each a byte string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub token: Vec<u8>,
    pub blocks: Vec<Vec<u8>>,
}

/// The `cnf` claim: `{1: COSE_Key}` with kty OKP (1), crv Ed25519 (6), x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Confirmation(pub PublicKey);

/// An id in its text form, as CWT's `iss` and `aud` want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct IdText<T>(pub T);

impl Token {
    pub const VALID_S_MAX: u64 = 24 * 3600;
    /// `settle_by` ≥ expiry + longest op + this.
    pub const SETTLE_S_MIN: u64 = 72 * 3600;
    pub const LANES_MAX: u16 = 1024;

    pub fn issuer(&self) -> OrgId {
        self.issuer.0
    }

    pub fn audience(&self) -> NodeId {
        self.audience.0
    }

    pub fn holder(&self) -> &PublicKey {
        &self.holder.0
    }

    pub fn scope_of(&self, model: &ModelId) -> Option<&Scope> {
        self.terms.scope.iter().find(|scope| scope.model == *model)
    }
}

impl Object for Token {
    const KIND: Kind = Kind { name: "token", bytes_max: 4 * KIB, items_max: 512 };

    fn validate(&self) -> Result<(), Malformed> {
        let terms = &self.terms;
        require(self.not_before < self.expires_at, "token: it ends before it begins")?;
        let life = self.expires_at.since(self.issued_at.min(self.not_before));
        require(life <= Self::VALID_S_MAX, "token: 24 hours are the most")?;
        require(!terms.scope.is_empty(), "token: its scope is empty")?;
        require(ascending(&terms.scope, |scope| scope.model.clone()), "order of scope")?;
        let ordered = |scope: &Scope| !scope.ops.is_empty() && ascending(&scope.ops, |op| *op);
        require(terms.scope.iter().all(ordered), "order of ops")?;
        require((1..=Self::LANES_MAX).contains(&terms.lanes_max), "token: lanes_max is 1 to 1024")?;
        require(usize::from(terms.depth) <= Chain::BLOCKS_MAX, "token: four blocks are the most")?;
        let least = self.expires_at.plus(u64::from(terms.longest_op_s)).plus(Self::SETTLE_S_MIN);
        require(terms.budget.is_zero() || terms.settle_by >= least, "token: settle_by lies too early")
    }
}

impl Block {
    pub fn lanes(&self) -> u16 {
        self.lanes.unwrap_or(1)
    }

    pub fn depth(&self) -> u8 {
        self.depth.unwrap_or(0)
    }
}

impl Object for Block {
    const KIND: Kind = Kind { name: "delegation", bytes_max: 2 * KIB, items_max: 64 };

    fn validate(&self) -> Result<(), Malformed> {
        require((1..=Chain::BLOCKS_MAX).contains(&usize::from(self.index)), "block: its index is 1 to 4")?;
        // A default is left out, so that one right has one encoding.
        require(self.lanes != Some(1) && self.lanes != Some(0), "block: lanes is 2 or more, or left out")?;
        require(self.depth != Some(0), "block: depth is 1 or more, or left out")?;
        require(ascending(&self.models, Clone::clone), "order of models")?;
        require(ascending(&self.ops, |op| *op), "order of ops")
    }
}

impl Chain {
    pub const BLOCKS_MAX: usize = 4;
    pub const BYTES_MAX: usize = 12 * KIB;

    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_cbor()
    }

    /// # Errors
    /// [`Malformed`]; the parts are looked at by whoever verifies them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::from_cbor(bytes, crate::cbor::Limits { bytes_max: Self::BYTES_MAX, items_max: 16, tagged: false })
    }
}

impl Encode for Chain {
    fn encode(&self, w: &mut Writer) {
        w.array(1 + self.blocks.len());
        w.bytes(&self.token);
        for block in &self.blocks {
            w.bytes(block);
        }
    }
}

impl Decode for Chain {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        let parts = r.array()?;
        if !(1..=1 + Self::BLOCKS_MAX).contains(&parts) {
            return Err(Malformed::value(at, "number of blocks"));
        }
        let token = r.bytes()?.to_vec();
        let blocks = (1..parts).map(|_| r.bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        Ok(Self { token, blocks })
    }
}

impl Encode for Confirmation {
    fn encode(&self, w: &mut Writer) {
        w.map(1);
        w.uint(1);
        w.map(3);
        w.uint(1);
        w.uint(1);
        w.int(-1);
        w.uint(6);
        w.int(-2);
        w.bytes(self.0.as_bytes());
    }
}

impl Decode for Confirmation {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        let wrong = Malformed::new(at, MalformedKind::WrongType("a COSE_Key with kty OKP and crv Ed25519"));
        let step = |holds: bool| if holds { Ok(()) } else { Err(wrong.clone()) };
        step(r.map()? == 1 && r.int()? == 1)?;
        step(r.map()? == 3 && r.int()? == 1 && r.int()? == 1)?;
        step(r.int()? == -1 && r.int()? == 6)?;
        step(r.int()? == -2)?;
        r.value().map(Self)
    }
}

impl<T: std::fmt::Display> Encode for IdText<T> {
    fn encode(&self, w: &mut Writer) {
        w.text(&self.0.to_string());
    }
}

impl<T: std::str::FromStr> Decode for IdText<T> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        r.text()?.parse().map(Self).map_err(|_| Malformed::value(at, "id"))
    }
}
