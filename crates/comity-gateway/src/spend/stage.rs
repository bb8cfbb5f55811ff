//! Durable changes: worked out against the book, written in one SQL transaction, then followed by the book.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_wire::cbor::List;
use comity_wire::object::{AckLane, Basis, Ended, Final, Flags, Receipt};
use comity_wire::time::SKEW_S;
use comity_wire::{
    Amount, Digest, Exact, Meter, Meters, ModelId, NodeId, Op, SecretKey, Timestamp, TokenId, Verified, cose,
};

use super::excerpt::{Excerpt, Lent};
use super::{
    ASKED_MAX, Account, Book, Charged, HoldId, Lane, LaneKey, Pace, PaceKey, Refused, RunKey, RunRow, Slot, Volume,
};

/// Who signs here.
pub struct Signer {
    pub node: NodeId,
    pub key: SecretKey,
    /// The node certificate's `restore`.
    pub restore: u32,
}

/// Something to make durable.
#[derive(Clone, Debug)]
pub enum Change {
    Charge(Box<Charge>),
    Acknowledge {
        token: TokenId,
        proof: Proof,
    },
    /// A final was asked for: no new work from here on.
    Close {
        token: TokenId,
        leaf: Digest,
        chain: Arc<[u8]>,
    },
    /// Signs the final, or hands out the stored one.
    Final {
        token: TokenId,
        at: Timestamp,
    },
    /// The holder asks what became of a slot, and is about to hear that nothing was charged there.
    Asked {
        token: TokenId,
        key: LaneKey,
        slot: Slot,
        /// By the holder's clock.
        created: Timestamp,
        at: Timestamp,
    },
    /// The node was shown a receipt of its own that it does not have.
    Supersede {
        token: TokenId,
        at: Digest,
    },
    /// A claim is about to be sent, or (without bytes) will not be sent again.
    ClaimPending {
        token: TokenId,
        number: u64,
        bytes: Option<Vec<u8>>,
    },
    /// The house has answered a claim.
    Claimed {
        token: TokenId,
        lanes: Vec<(LaneKey, u64, u64)>,
    },
    /// The house says which n it settled last, and it is another than this node thought. The claim is made anew.
    Settled {
        token: TokenId,
        lanes: Vec<(LaneKey, u64)>,
    },
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Charge {
    pub hold: HoldId,
    pub exact: Exact,
    pub meters: Meters,
    pub flags: Flags,
    pub basis: Basis,
    pub ended: Ended,
    /// Salted digests.
    pub request: Digest,
    pub response: Digest,
    pub model: ModelId,
    pub op: Op,
    pub release: Digest,
    pub manifest: Digest,
    pub tariff: Digest,
    pub standing: u64,
    pub at: Timestamp,
    pub evidence: Evidence,
    /// Stored with the leaf's first charge.
    pub chain: Arc<[u8]>,
    /// What came in header `comity-acknowledgement`, stored with the charge.
    pub acknowledgement: Option<Proof>,
}

/// What the holder signed: kept until the lane is settled and sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub base: String,
    pub signature: [u8; 64],
}

/// A verified acknowledgement.
#[derive(Clone, Debug)]
pub struct Proof {
    pub bytes: Vec<u8>,
    /// Each lane with what the store says of its n, where it was asked.
    pub lanes: Vec<(AckLane, Option<Charged>)>,
}

/// One row to write. A batch of them is one SQL transaction.
#[derive(Clone, Debug)]
pub enum Write {
    Token {
        token: TokenId,
        root: Digest,
    },
    Chain {
        token: TokenId,
        leaf: Digest,
        bytes: Arc<[u8]>,
    },
    Spent {
        token: TokenId,
        id: Digest,
        amount: Amount,
        /// What it stays below.
        cap: Amount,
    },
    Lane {
        token: TokenId,
        key: LaneKey,
        lane: Arc<Lane>,
    },
    Charge {
        token: TokenId,
        key: LaneKey,
        slot: Slot,
        charged: Charged,
        charge: Amount,
        receipt: Vec<u8>,
        evidence: Evidence,
    },
    Acknowledgement {
        token: TokenId,
        id: Digest,
        bytes: Vec<u8>,
    },
    Closed {
        token: TokenId,
    },
    Final {
        token: TokenId,
        bytes: Vec<u8>,
    },
    Superseded {
        token: TokenId,
        at: Digest,
    },
    Asked {
        token: TokenId,
        key: LaneKey,
        slot: Slot,
        created: Timestamp,
    },
    Claim {
        token: TokenId,
        number: u64,
        pending: Option<Vec<u8>>,
    },
    /// What was charged in a project's window so far.
    Pace {
        key: PaceKey,
        pace: Pace,
    },
    Run {
        key: RunKey,
        row: RunRow,
    },
}

/// What a change came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    Charged(Box<Verified<Receipt>>),
    Acknowledged {
        lanes: usize,
    },
    Closed,
    Final(Vec<u8>),
    /// What was signed by then for the slot is not taken any more.
    Asked,
    Superseded,
    ClaimPending,
    Claimed,
}

/// A batch that was worked out and is not durable yet.
pub struct Stage {
    accounts: BTreeMap<TokenId, Account>,
    /// Holds that were charged, with what they came to.
    done: BTreeMap<HoldId, Volume>,
    paces: BTreeMap<PaceKey, Pace>,
    runs: BTreeMap<RunKey, RunRow>,
    pub writes: Vec<Write>,
    /// One for each change, in order.
    pub outcomes: Vec<Result<Outcome, Refused>>,
}

impl Stage {
    /// Tokens it touches.
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.accounts.keys().copied()
    }

    /// Projects whose windows and executions it counts in.
    pub fn subjects(&self) -> BTreeSet<String> {
        let paces = self.paces.keys().map(|key| &key.subject);
        paces.chain(self.runs.keys().map(|key| &key.subject)).cloned().collect()
    }

    /// Holds that it charges.
    pub fn charged(&self) -> Vec<HoldId> {
        self.done.keys().copied().collect()
    }
}

impl Book {
    /// [`Excerpt::stage`] of what the book has now.
    pub fn stage(&self, changes: &[Change], signer: &Signer) -> Stage {
        self.excerpt(changes).stage(changes, signer)
    }

    /// Follows a batch that the store has made durable: holds end in the same step in which their charges count.
    pub fn commit(&mut self, stage: Stage) -> Vec<Result<Outcome, Refused>> {
        for (token, account) in stage.accounts {
            if let Some(entry) = self.entries.get_mut(&token) {
                entry.account = Some(account);
            } else {
                self.load(account);
            }
        }
        for (hold, used) in stage.done {
            self.charged(hold, used);
        }
        stage.outcomes
    }
}

impl Excerpt {
    /// Works out the batch that it was taken for. Takes its time: receipts are signed here.
    pub fn stage(self, changes: &[Change], signer: &Signer) -> Stage {
        let Self { accounts, lent, open, busy } = self;
        let (paces, runs) = (BTreeMap::new(), BTreeMap::new());
        let stage = Stage { accounts, done: BTreeMap::new(), paces, runs, writes: Vec::new(), outcomes: Vec::new() };
        let mut staging = Staging { lent, open, busy, signer, stage };
        for change in changes {
            let outcome = staging.apply(change);
            staging.stage.outcomes.push(outcome);
        }
        let mut stage = staging.stage;
        let paces = stage.paces.iter().map(|(key, pace)| Write::Pace { key: key.clone(), pace: *pace });
        stage.writes.extend(paces);
        let runs = stage.runs.iter().map(|(key, row)| Write::Run { key: key.clone(), row: *row });
        stage.writes.extend(runs);
        stage
    }
}

struct Staging<'s> {
    lent: BTreeMap<HoldId, Lent>,
    open: BTreeSet<(TokenId, LaneKey, Slot)>,
    busy: BTreeSet<TokenId>,
    signer: &'s Signer,
    stage: Stage,
}

impl Staging<'_> {
    fn apply(&mut self, change: &Change) -> Result<Outcome, Refused> {
        match change {
            Change::Charge(charge) => self.charge(charge),
            Change::Acknowledge { token, proof } => {
                self.acknowledge(*token, proof).map(|lanes| Outcome::Acknowledged { lanes })
            }
            Change::Close { token, leaf, chain } => {
                let account = self.account(*token)?;
                account.closed = true;
                let root = account.root;
                self.stage.writes.push(Write::Token { token: *token, root });
                self.stage.writes.push(Write::Chain { token: *token, leaf: *leaf, bytes: chain.clone() });
                self.stage.writes.push(Write::Closed { token: *token });
                Ok(Outcome::Closed)
            }
            Change::Final { token, at } => self.final_(*token, *at).map(Outcome::Final),
            Change::Asked { token, key, slot, created, at } => self.asked(*token, (*key, *slot), *created, *at),
            Change::Supersede { token, at } => {
                self.supersede(*token, *at)?;
                Ok(Outcome::Superseded)
            }
            Change::ClaimPending { token, number, bytes } => {
                let account = self.account(*token)?;
                // Whoever built a claim while another was sent built it on what was settled before that one.
                if bytes.is_some() && (account.pending.is_some() || *number != account.claims + 1) {
                    return Err(Refused::ClaimUnderWay);
                }
                account.claims = account.claims.max(*number);
                account.pending.clone_from(bytes);
                let number = account.claims;
                self.stage.writes.push(Write::Claim { token: *token, number, pending: bytes.clone() });
                Ok(Outcome::ClaimPending)
            }
            Change::Claimed { token, lanes } => self.claimed(*token, lanes),
            Change::Settled { token, lanes } => self.settled(*token, lanes),
        }
    }

    fn account(&mut self, token: TokenId) -> Result<&mut Account, Refused> {
        self.stage.accounts.get_mut(&token).ok_or(Refused::NoAccount)
    }

    fn supersede(&mut self, token: TokenId, at: Digest) -> Result<(), Refused> {
        let account = self.account(token)?;
        account.superseded.insert(at);
        let root = account.root;
        self.stage.writes.push(Write::Token { token, root });
        self.stage.writes.push(Write::Superseded { token, at });
        Ok(())
    }

    fn charge(&mut self, charge: &Charge) -> Result<Outcome, Refused> {
        // Two charges of one hold in one batch would be a bug of ours, and would be paid twice.
        assert!(!self.stage.done.contains_key(&charge.hold), "a hold is charged once");
        let lent = self.lent.remove(&charge.hold).ok_or(Refused::HoldGone)?;
        let hold = &*lent.hold;
        if let Some(proof) = &charge.acknowledgement {
            // What it says wrong is the acknowledgement's fault alone; the work is charged all the same.
            let _ = self.acknowledge(hold.token, proof);
        }
        let signer = self.signer;
        let mut writes = Vec::new();
        let account = self.account(hold.token)?;
        if hold.path.iter().any(|at| account.superseded.contains(&at.id)) {
            return Err(Refused::Superseded);
        }
        let (token, root) = (account.token, account.root);
        let lane_is_new = !account.lanes.contains_key(&hold.key);
        let lane = Arc::make_mut(account.lanes.entry(hold.key).or_default());
        assert!(!lane.recent.contains(hold.slot), "a slot is charged once");
        let exact = lane.exact().checked_add(charge.exact).expect("a lane's exact sum fits 128 bits");
        let total = exact.ceil().expect("a lane's total stays below its cap");
        let due = total.checked_sub(lane.total).expect("totals do not fall");
        assert!(due <= hold.amount, "charge {due} is above the hold {}", hold.amount);
        assert!(hold.amount <= hold.max, "hold {} is above the signed maximum {}", hold.amount, hold.max);
        let remainder = Exact::from_amount(total).checked_sub(exact).expect("a ceiling is not below what it rounds").0;
        let history = lane.frontier.root();
        lane.n += 1;
        lane.total = total;
        lane.remainder = u32::try_from(remainder).expect("a remainder is below 10^6");
        lane.meters = lane.meters.checked_add(&charge.meters).expect("a lane's meters fit 63 bits");
        lane.flags.add(&charge.flags);
        lane.seq_highest = lane.seq_highest.max(hold.slot.seq);
        let receipt = Receipt {
            token,
            leaf: hold.key.leaf,
            lane: hold.key.lane,
            seq: hold.slot.seq,
            item: hold.slot.item,
            n: lane.n,
            charge: due,
            total,
            remainder: lane.remainder,
            meters: charge.meters,
            meters_total: lane.meters,
            flags: charge.flags.clone(),
            flags_total: lane.flags.clone(),
            bytes_out: None,
            rank: None,
            basis: charge.basis,
            ended: charge.ended,
            request: charge.request,
            response: charge.response,
            release: charge.release,
            manifest: charge.manifest,
            tariff: charge.tariff,
            history,
            standing: charge.standing,
            node: signer.node,
            at: charge.at,
            restore: signer.restore,
            authority: hold.authority,
            model: charge.model.clone(),
            op: charge.op,
        };
        let receipt = cose::sign(&receipt, &signer.key);
        lane.frontier.push(&receipt.id());
        let charged = Charged { authority: hold.authority, n: lane.n, total, receipt: receipt.id() };
        lane.recent.insert(hold.slot, charged);
        lane.prune();
        let lane = account.lanes[&hold.key].clone();
        if lane_is_new {
            writes.push(Write::Token { token, root });
            writes.push(Write::Chain { token, leaf: hold.key.leaf, bytes: charge.chain.clone() });
        }
        for at in &hold.path {
            let spent = account.spent.entry(at.id).or_default();
            *spent = spent.checked_add(due).expect("what is spent stays below a cap");
            assert!(*spent <= at.cap, "{spent} spent under a cap of {}", at.cap);
            writes.push(Write::Spent { token, id: at.id, amount: *spent, cap: at.cap });
        }
        writes.push(Write::Lane { token, key: hold.key, lane });
        writes.push(Write::Charge {
            token,
            key: hold.key,
            slot: hold.slot,
            charged,
            charge: due,
            receipt: receipt.bytes().to_vec(),
            evidence: charge.evidence.clone(),
        });
        self.stage.writes.append(&mut writes);
        let used = Volume {
            calls: charge.meters.get(Meter::Requests).max(1),
            input_tokens: charge.meters.get(Meter::InputTokens),
            output_tokens: charge.meters.get(Meter::OutputTokens),
        };
        self.pace(&lent, used.input_tokens.saturating_add(used.output_tokens));
        self.runs(&lent, used);
        self.stage.done.insert(charge.hold, used);
        Ok(Outcome::Charged(Box::new(receipt)))
    }

    /// What the project's windows hold once this is charged. A window that has begun anew since does not count it.
    fn pace(&mut self, Lent { hold, paces, .. }: &Lent, tokens: u64) {
        for (place, known) in hold.places.iter().zip(paces) {
            let key = PaceKey { subject: hold.subject.clone(), rule: place.rule.clone(), seconds: place.seconds };
            let staged = self.stage.paces.get(&key).filter(|pace| pace.begun == place.begun).copied();
            if let Some(pace) = staged.or(*known) {
                self.stage.paces.insert(key, pace.with(tokens));
            }
        }
    }

    /// What its executions have used once this is charged.
    fn runs(&mut self, Lent { hold, runs, .. }: &Lent, used: Volume) {
        let keys = hold.runs.iter().flat_map(|place| place.keys(&hold.subject).map(move |key| (place, key)));
        for ((place, key), known) in keys.zip(runs) {
            let before = self.stage.runs.get(&key).copied().unwrap_or(*known);
            self.stage.runs.insert(key, place.with(before, used));
        }
    }

    /// Monotonic: an older n changes nothing.
    fn acknowledge(&mut self, token: TokenId, proof: &Proof) -> Result<usize, Refused> {
        let id = Digest::of(&proof.bytes);
        let account = self.account(token)?;
        let mut lanes = Vec::new();
        for (ack, stored) in &proof.lanes {
            let key = LaneKey { leaf: ack.leaf, lane: ack.lane };
            let lane = account.lanes.get(&key);
            let n = lane.map_or(0, |lane| lane.n);
            if ack.n > n {
                // Nothing of ours is in it, so it proves nothing: only a receipt that this node signed, shown to it,
                // ends a token (rule 9). Whoever could end one by a bare claim could take streams and never pay.
                return Err(Refused::OtherReceipt);
            }
            let lane = lane.ok_or(Refused::OtherReceipt)?;
            let ours = lane.by_n(ack.n).copied().or(*stored).ok_or(Refused::OtherReceipt)?;
            if (ours.n, ours.total, ours.receipt) != (ack.n, ack.total, ack.receipt) {
                return Err(Refused::OtherReceipt);
            }
            lanes.push((key, ack.n, ack.total));
        }
        let mut writes = Vec::new();
        for (key, n, total) in lanes {
            let lane = account.lanes.get_mut(&key).expect("it was looked up above");
            if n > lane.acknowledged_n {
                let lane = Arc::make_mut(lane);
                (lane.acknowledged_n, lane.acknowledged, lane.acknowledgement) = (n, total, Some(id));
                writes.push(Write::Lane { token, key, lane: Arc::new(lane.clone()) });
            }
        }
        if !writes.is_empty() {
            writes.push(Write::Acknowledgement { token, id, bytes: proof.bytes.clone() });
        }
        self.stage.writes.append(&mut writes);
        Ok(proof.lanes.len())
    }

    /// What was charged is left to whoever looks behind this.
    fn asked(
        &mut self,
        token: TokenId,
        (key, slot): (LaneKey, Slot),
        created: Timestamp,
        at: Timestamp,
    ) -> Result<Outcome, Refused> {
        if self.open.contains(&(token, key, slot)) {
            return Err(Refused::InFlight { seq: slot.seq });
        }
        let account = self.account(token)?;
        let lane = account.lanes.get(&key);
        let is_past = |lane: &Arc<Lane>| slot.seq <= lane.seq_highest && !lane.takes(slot.seq);
        if account.closed || lane.is_some_and(is_past) {
            return Ok(Outcome::Asked);
        }
        // What is older is stale anyway.
        account.asked.retain(|_, asked| asked.plus(SKEW_S) >= at);
        if account.asked.len() >= ASKED_MAX && !account.asked.contains_key(&(key, slot)) {
            return Err(Refused::AskedTooOften);
        }
        account.asked(key, slot, created);
        let root = account.root;
        self.stage.writes.push(Write::Token { token, root });
        self.stage.writes.push(Write::Asked { token, key, slot, created });
        Ok(Outcome::Asked)
    }

    fn final_(&mut self, token: TokenId, at: Timestamp) -> Result<Vec<u8>, Refused> {
        let open = self.busy.contains(&token);
        let (node, key) = (self.signer.node, &self.signer.key);
        let account = self.account(token)?;
        if let Some(bytes) = &account.final_ {
            return Ok(bytes.clone());
        }
        if !account.closed || open {
            return Err(Refused::StillOpen);
        }
        if account.superseded.contains(&account.root) {
            return Err(Refused::Superseded);
        }
        let head = |(key, lane): (&LaneKey, &Arc<Lane>)| {
            let newest = lane.by_n(lane.n)?;
            Some(AckLane { leaf: key.leaf, lane: key.lane, n: lane.n, total: lane.total, receipt: newest.receipt })
        };
        let lanes: Vec<_> = account.lanes.iter().filter_map(head).collect();
        assert_eq!(lanes.len(), account.lanes.len(), "the newest receipt of a lane is always remembered");
        let lanes = List::new(lanes).expect("lanes_max is 1024 at most");
        let bytes = cose::sign(&Final { token, node, lanes, at }, key).bytes().to_vec();
        account.final_ = Some(bytes.clone());
        self.stage.writes.push(Write::Final { token, bytes: bytes.clone() });
        Ok(bytes)
    }

    fn claimed(&mut self, token: TokenId, lanes: &[(LaneKey, u64, u64)]) -> Result<Outcome, Refused> {
        let account = self.account(token)?;
        account.pending = None;
        let number = account.claims;
        let mut writes = vec![Write::Claim { token, number, pending: None }];
        for (key, n, acknowledged_n) in lanes {
            let Some(lane) = account.lanes.get_mut(key) else { continue };
            let lane = Arc::make_mut(lane);
            lane.claimed_n = lane.claimed_n.max(*n);
            lane.claimed_acknowledged_n = lane.claimed_acknowledged_n.max(*acknowledged_n);
            writes.push(Write::Lane { token, key: *key, lane: Arc::new(lane.clone()) });
        }
        self.stage.writes.append(&mut writes);
        Ok(Outcome::Claimed)
    }

    fn settled(&mut self, token: TokenId, lanes: &[(LaneKey, u64)]) -> Result<Outcome, Refused> {
        let account = self.account(token)?;
        account.pending = None;
        let number = account.claims;
        let mut writes = vec![Write::Claim { token, number, pending: None }];
        for (key, n) in lanes {
            // A house that settled more than this node has receipts for says `claim_older`.
            let Some(lane) = account.lanes.get_mut(key).filter(|lane| *n <= lane.n) else { continue };
            let lane = Arc::make_mut(lane);
            (lane.claimed_n, lane.claimed_acknowledged_n) = (*n, 0);
            writes.push(Write::Lane { token, key: *key, lane: Arc::new(lane.clone()) });
        }
        self.stage.writes.append(&mut writes);
        Ok(Outcome::Claimed)
    }
}
