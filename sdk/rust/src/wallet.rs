//! The wallet: tokens, their lanes, and what may be signed next. A core without I/O.
//!
//! [`Wallet::begin`] and its kin say what to write down ([`Entry`]); the shell appends that to the journal, then calls
//! [`Wallet::apply`], then sends. Replaying a journal gives the same wallet, so a restart neither spends twice nor forgets
//! what may have been charged.

use std::collections::BTreeMap;

use comity_token::request::Authority;
use comity_wire::cbor::List;
use comity_wire::object::{Acknowledgement, Block, Chain, Receipt, Token};
use comity_wire::{Amount, Digest, ModelId, NodeId, Object, Op, SecretKey, Signed, Timestamp, TokenId, Verified, cose};

use crate::journal::{Entry, JournalAck, Stored};
use crate::lane::{Lane, Open, ReceiptFault};

/// Everything the holder has.
#[derive(Debug, Default)]
pub struct Wallet {
    purses: BTreeMap<TokenId, Purse>,
}

/// One token, or a delegated chain, with its lanes.
#[derive(Debug)]
pub struct Purse {
    chain: Vec<u8>,
    token: Token,
    blocks: Vec<Block>,
    leaf: Digest,
    key: SecretKey,
    cap: Amount,
    lanes: Vec<Lane>,
    closed: bool,
}

/// A request that is about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub body: &'a [u8],
    pub tariff: Digest,
    pub max_charge: Amount,
}

/// What [`Wallet::begin`] decided: journal `entry`, apply it, then sign `authority` and send.
#[derive(Clone, Debug)]
pub struct Begun {
    pub entry: Entry,
    pub authority: Authority,
    pub lane: u16,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    #[error("no token {0} in this wallet")]
    Unknown(TokenId),
    #[error("this wallet holds another right under token {0}: use another wallet folder for this one")]
    Another(TokenId),
    #[error("the token is closed or has ended: a new one is needed")]
    Ended,
    #[error("the call may cost {asked}, {free} is left of the token")]
    Budget { asked: Amount, free: Amount },
    #[error("the call may cost {asked}, {window} is the most that may stand unacknowledged in a lane")]
    Window { asked: Amount, window: Amount },
    #[error("all {0} lanes of the token are busy: wait for a call to end")]
    LanesBusy(u16),
    #[error("what came is not a token of ours")]
    Token(#[source] cose::Unverified),
    #[error("the journal holds an entry that does not follow from those before")]
    Journal,
    #[error("the receipt breaks the rules, and its lane was stopped: keep it as evidence")]
    Receipt(#[from] ReceiptFault),
}

impl Wallet {
    /// # Errors
    /// [`WalletError::Journal`] where entries do not follow from one another.
    pub fn replay(entries: impl IntoIterator<Item = Entry>) -> Result<Self, WalletError> {
        let mut wallet = Self::default();
        for entry in entries {
            match wallet.apply(&entry) {
                // Kept as evidence; the lane stays stopped.
                Ok(()) | Err(WalletError::Receipt(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wallet)
    }

    pub fn purse(&self, token: TokenId) -> Result<&Purse, WalletError> {
        self.purses.get(&token).ok_or(WalletError::Unknown(token))
    }

    pub fn purses(&self) -> impl Iterator<Item = &Purse> {
        self.purses.values()
    }

    /// The open purse with the most left for this model and op at this node.
    pub fn purse_for(&self, node: NodeId, model: &ModelId, op: Op, now: Timestamp) -> Option<&Purse> {
        let fits = |purse: &&Purse| purse.token.audience() == node && purse.is_open(now) && purse.allows(model, op);
        self.purses.values().filter(fits).max_by_key(|purse| purse.free())
    }

    /// Chooses a lane and a seq for a request. The same body in a lane whose outcome is unknown is the same request:
    /// seq and nonce are used again, so it cannot be charged twice.
    ///
    /// # Errors
    /// [`WalletError`]: nothing was signed.
    pub fn begin(&self, token: TokenId, ask: &Ask<'_>, now: Timestamp) -> Result<Begun, WalletError> {
        let purse = self.purse(token)?;
        let content = Digest::of(ask.body);
        if !purse.is_open(now) {
            return Err(WalletError::Ended);
        }
        let lane = purse.free_lane()?;
        let free = purse.free();
        if ask.max_charge > free {
            return Err(WalletError::Budget { asked: ask.max_charge, free });
        }
        // What stands unacknowledged is acknowledged with this very request, so the window bounds the call alone.
        let window = purse.token.terms.window;
        if ask.max_charge > window {
            return Err(WalletError::Window { asked: ask.max_charge, window });
        }
        let state = purse.lanes.get(usize::from(lane));
        let seq = state.map_or(1, Lane::next_seq);
        Ok(purse.authority(lane, seq, content, ask))
    }

    /// Takes a fact in.
    ///
    /// # Errors
    /// [`WalletError`]; the wallet is as it was, but for a lane that a bad receipt stops.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), WalletError> {
        match entry {
            Entry::Token { chain, seed, cap } => {
                let seed: [u8; 32] = (**seed).try_into().map_err(|_| WalletError::Journal)?;
                let purse = Purse::new(chain, SecretKey::from_seed(seed), *cap)?;
                // The first stays: its lanes may have gone on.
                self.purses.entry(purse.token.id).or_insert(purse);
            }
            Entry::Signed { token, lane, open } => self.lane_mut(*token, *lane)?.open = Some(open.clone()),
            Entry::Free { token, lane, seq } => {
                let lane = self.lane_mut(*token, *lane)?;
                if lane.open.as_ref().is_some_and(|open| open.seq == *seq) {
                    lane.open = None;
                }
            }
            Entry::Receipt { token, lane, receipt } => {
                let receipt = reread(receipt)?;
                self.lane_mut(*token, *lane)?.receipt(&receipt)?;
            }
            Entry::Acknowledged { token, ack } => self.lane_mut(*token, ack.lane)?.acknowledged(ack.n, ack.total),
            Entry::Closed { token } => self.purses.get_mut(token).ok_or(WalletError::Journal)?.closed = true,
        }
        Ok(())
    }

    fn lane_mut(&mut self, token: TokenId, lane: u16) -> Result<&mut Lane, WalletError> {
        let purse = self.purses.get_mut(&token).ok_or(WalletError::Journal)?;
        let lanes_max = purse.lanes_max();
        let at = usize::from(lane);
        if at >= usize::from(lanes_max) {
            return Err(WalletError::Journal);
        }
        while purse.lanes.len() <= at {
            purse.lanes.push(Lane::default());
        }
        Ok(&mut purse.lanes[at])
    }
}

impl Purse {
    fn new(chain: &[u8], key: SecretKey, cap: Amount) -> Result<Self, WalletError> {
        let malformed = |source| WalletError::Token(cose::Unverified::Malformed { kind: "chain", source });
        let parts = Chain::from_bytes(chain).map_err(malformed)?;
        let token = Signed::<Token>::decode(&parts.token).map_err(WalletError::Token)?;
        let mut leaf = token.id();
        let mut blocks = Vec::new();
        for bytes in &parts.blocks {
            let block = Signed::<Block>::decode(bytes).map_err(WalletError::Token)?;
            leaf = block.id();
            blocks.push(block.unverified().clone());
        }
        let token = token.unverified().clone();
        Ok(Self { chain: chain.to_vec(), token, blocks, leaf, key, cap, lanes: Vec::new(), closed: false })
    }

    pub fn id(&self) -> TokenId {
        self.token.id
    }

    pub fn token(&self) -> &Token {
        &self.token
    }

    pub fn chain(&self) -> &[u8] {
        &self.chain
    }

    pub fn leaf(&self) -> Digest {
        self.leaf
    }

    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    pub fn node(&self) -> NodeId {
        self.token.audience()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the holder is the root: only then may it ask for a final.
    pub fn is_root(&self) -> bool {
        self.blocks.is_empty()
    }

    pub fn is_open(&self, now: Timestamp) -> bool {
        !self.closed && now < self.expires_at()
    }

    pub fn expires_at(&self) -> Timestamp {
        self.blocks.last().map_or(self.token.expires_at, |block| block.expires_at)
    }

    pub fn lanes_max(&self) -> u16 {
        self.blocks.last().map_or(self.token.terms.lanes_max, Block::lanes)
    }

    /// The least cap on the path, and what the user set.
    pub fn budget(&self) -> Amount {
        let caps = self.blocks.iter().map(|block| block.cap);
        caps.chain([self.token.terms.budget, self.cap]).min().expect("two caps at least")
    }

    pub fn spent(&self) -> Amount {
        self.lanes.iter().fold(Amount::ZERO, |sum, lane| sum.saturating_add(lane.total()))
    }

    /// What is neither charged nor signed for.
    pub fn free(&self) -> Amount {
        let open = self.lanes.iter().filter_map(|lane| lane.open.as_ref()).map(|open| open.max_charge);
        self.budget().saturating_sub(self.spent()).saturating_sub(open.fold(Amount::ZERO, Amount::saturating_add))
    }

    pub fn allows(&self, model: &ModelId, op: Op) -> bool {
        let narrowed = |block: &Block| {
            (block.models.is_empty() || block.models.contains(model))
                && (block.ops.is_empty() || block.ops.contains(&op))
        };
        self.token.scope_of(model).is_some_and(|scope| scope.ops.contains(&op)) && self.blocks.iter().all(narrowed)
    }

    /// Lanes whose last request has an unknown outcome.
    pub fn doubtful(&self) -> impl Iterator<Item = (u16, &Open)> {
        self.lanes.iter().enumerate().filter_map(|(at, lane)| Some((u16::try_from(at).ok()?, lane.open.as_ref()?)))
    }

    pub fn lane(&self, lane: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(lane))
    }

    /// The maximum to sign for a call without a limit: a quarter of what is free, at most the policy's ceiling and the
    /// call's worst case, at least the call's `least` where that fits.
    pub fn small_maximum(&self, worst: Amount, ceiling: Amount, least: Amount) -> Amount {
        let free = self.free();
        let quarter = Amount::new(free.ucr() / 4).expect("a quarter of an amount is one");
        worst.min(ceiling.min(quarter).max(least.min(free))).min(self.token.terms.window)
    }

    /// A signed acknowledgement of everything receipted and not yet acknowledged; `None` where nothing is.
    pub fn acknowledge(&self, now: Timestamp) -> Option<Verified<Acknowledgement>> {
        const LANES_MAX: usize = 64;
        let entries = self
            .lanes
            .iter()
            .enumerate()
            .filter_map(|(at, lane)| lane.acknowledgement(self.leaf, u16::try_from(at).ok()?));
        let lanes: Vec<_> = entries.take(LANES_MAX).collect();
        if lanes.is_empty() {
            return None;
        }
        let lanes = List::new(lanes).expect("at most 64 were taken");
        Some(cose::sign(&Acknowledgement { token: self.token.id, lanes, at: now }, &self.key))
    }

    /// The entries to journal once the node has taken `acknowledgement`.
    pub fn acknowledged(acknowledgement: &Acknowledgement) -> Vec<Entry> {
        let token = acknowledgement.token;
        acknowledgement.lanes.iter().map(|lane| Entry::Acknowledged { token, ack: JournalAck::from(lane) }).collect()
    }

    fn free_lane(&self) -> Result<u16, WalletError> {
        let idle = self.lanes.iter().position(|lane| lane.open.is_none() && lane.fault().is_none());
        let lane = idle.unwrap_or(self.lanes.len());
        match u16::try_from(lane) {
            Ok(lane) if lane < self.lanes_max() => Ok(lane),
            _ => Err(WalletError::LanesBusy(self.lanes_max())),
        }
    }

    fn authority(&self, lane: u16, seq: u64, content: Digest, ask: &Ask<'_>) -> Begun {
        let nonce = self.nonce(lane, seq, &content);
        let authority = Authority {
            leaf: self.leaf,
            lane,
            seq,
            method: ask.method.to_owned(),
            path: ask.path.to_owned(),
            query: ask.query.to_owned(),
            content_digest: content,
            tariff: ask.tariff,
            max_charge: ask.max_charge,
            nonce,
        };
        let open = Open { seq, nonce, authority: authority.id(), content, max_charge: ask.max_charge };
        Begun { entry: Entry::Signed { token: self.token.id, lane, open }, authority, lane }
    }

    /// Secret, and found again from the key and the request, so that a retry after a crash is the same request.
    fn nonce(&self, lane: u16, seq: u64, content: &Digest) -> [u8; 16] {
        let seed = self.key.seed();
        let parts: [&[u8]; 5] =
            [b"comity/v1/nonce", &*seed, &lane.to_be_bytes(), &seq.to_be_bytes(), content.as_bytes()];
        let digest = Digest::of_parts(&parts);
        digest.0[..16].try_into().expect("16 of 32 bytes")
    }
}

/// The journal holds only receipts that were verified before they were written.
fn reread(bytes: &Stored) -> Result<Verified<Receipt>, WalletError> {
    let signed = Signed::<Receipt>::decode(bytes).map_err(WalletError::Token)?;
    let key = comity_wire::PublicKey::from_bytes(signed.kid()).map_err(|_| WalletError::Journal)?;
    signed.verify(&key).map_err(WalletError::Token)
}

/// A stored form that always fits: objects are bounded by their kind.
pub fn stored(bytes: &[u8]) -> Stored {
    const { assert!(Receipt::KIND.bytes_max <= 16384 && Chain::BYTES_MAX <= 16384) };
    Stored::new(bytes).expect("chains and receipts are below 16 KiB")
}
