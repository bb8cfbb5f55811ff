//! The node's side of a token: receipts, claims, finals, and what it shows when it is challenged.

use std::collections::BTreeMap;

use comity_token::{Authority, parse_request, sign_request};
use comity_wire::api::challenge::{Before, Shown};
use comity_wire::api::clearing::lane_proof;
use comity_wire::cbor::Bytes;
use comity_wire::object::*;
use comity_wire::{Amount, Digest, Meter, Meters, Op, SecretKey, Signed, Timestamp, cose, merkle};
use serde_json::{Value, json};

use super::world::*;

/// The node's side of one token: lanes with real receipts.
pub(super) struct Lab {
    pub(super) token: comity_wire::Verified<Token>,
    pub(super) receipt_key: SecretKey,
    /// Blocks by the leaf they end in.
    pub(super) chains: BTreeMap<Digest, Chain>,
    pub(super) lanes: BTreeMap<(Digest, u16), Vec<comity_wire::Verified<Receipt>>>,
    pub(super) settled: BTreeMap<(Digest, u16), u64>,
    pub(super) number: u64,
    /// What each further call is flagged for.
    pub(super) flags: Flags,
    /// Of a request: which of its charges the next receipts are.
    pub(super) item: u32,
    /// Whose key signs the requests under a leaf.
    pub(super) holders: BTreeMap<Digest, SecretKey>,
    /// Of each receipt: the base and the signature of the request that it charges.
    pub(super) requests: BTreeMap<Digest, (String, [u8; 64])>,
}

impl Lab {
    pub(super) fn new(token: &Value) -> Self {
        let bytes = signed_bytes(token);
        let token = Signed::<Token>::decode(&bytes).unwrap().verify(&secret("issuer").public()).unwrap();
        let root = Chain { token: bytes, blocks: vec![] };
        Self {
            chains: [(token.id(), root)].into(),
            holders: [(token.id(), secret("holder"))].into(),
            token,
            receipt_key: secret("receipt"),
            lanes: BTreeMap::new(),
            settled: BTreeMap::new(),
            number: 0,
            flags: Flags::default(),
            item: 0,
            requests: BTreeMap::new(),
        }
    }

    pub(super) fn root(&self) -> Digest {
        self.token.id()
    }

    /// A student's block under the token; its leaf.
    pub(super) fn delegate(&mut self, name: &str, cap: u32) -> Digest {
        let root = self.chains[&self.root()].to_bytes();
        let narrow = comity_token::Narrow {
            cap: ucr(cap),
            expires_at: self.token.expires_at,
            lanes: 1,
            depth: 0,
            models: vec![],
            ops: vec![],
            next: secret(name).public(),
        };
        let bytes = comity_token::delegate(&root, &secret("holder"), narrow).unwrap();
        let chain = Chain::from_bytes(&bytes).unwrap();
        let leaf = Signed::<Block>::decode(&chain.blocks[0]).unwrap().id();
        self.chains.insert(leaf, chain);
        self.holders.insert(leaf, secret(name));
        leaf
    }

    /// A call that its holder signed for at most what it is charged.
    pub(super) fn charge(&mut self, leaf: Digest, lane: u16, charge: u32) {
        self.overcharge(leaf, lane, charge, charge);
    }

    /// A call that its holder signed for at most `max`.
    pub(super) fn overcharge(&mut self, leaf: Digest, lane: u16, charge: u32, max: u32) {
        let seq = self.lanes.get(&(leaf, lane)).map_or(0, Vec::len) as u64 + 1;
        self.call((leaf, lane), seq, (charge, max), 0);
    }

    /// A call after which the lane's total is `more` above what was charged.
    pub(super) fn inflate(&mut self, leaf: Digest, lane: u16, more: u32) {
        let seq = self.lanes.get(&(leaf, lane)).map_or(0, Vec::len) as u64 + 1;
        self.call((leaf, lane), seq, (PRICE, PRICE), more);
    }

    /// The newest call of a lane was never made.
    pub(super) fn forget(&mut self, leaf: Digest, lane: u16) {
        self.lanes.get_mut(&(leaf, lane)).expect("it was used").pop();
    }

    /// The request of number `seq` is charged once more.
    pub(super) fn charge_again(&mut self, leaf: Digest, lane: u16, seq: u64) {
        self.call((leaf, lane), seq, (PRICE, PRICE), 0);
    }

    fn call(&mut self, (leaf, lane): (Digest, u16), seq: u64, (charge, max): (u32, u32), more: u32) {
        let receipts = self.lanes.entry((leaf, lane)).or_default();
        let n = receipts.len() as u64 + 1;
        let ids: Vec<_> = receipts.iter().map(comity_wire::Verified::id).collect();
        let before = receipts.last().map_or(Amount::ZERO, |last| last.total);
        let authority = Authority {
            leaf,
            lane,
            seq,
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            query: String::new(),
            content_digest: Digest::of(b"{}"),
            tariff: tariff(PRICE).id(),
            max_charge: ucr(max),
            nonce: [9; 16],
        };
        let mut headers = http::HeaderMap::new();
        for (name, value) in sign_request(&authority, START, &self.holders[&leaf]) {
            headers.insert(name, value.parse().unwrap());
        }
        let request = parse_request("POST", "/v1/chat/completions", "", &headers, b"{}").unwrap();
        let receipt = Receipt {
            token: self.token.id,
            leaf,
            lane,
            seq,
            item: self.item,
            n,
            charge: ucr(charge),
            total: before.checked_add(ucr(charge + more)).unwrap(),
            remainder: 0,
            meters: Meters::default().with(Meter::Requests, 1),
            meters_total: Meters::default().with(Meter::Requests, n),
            flags: self.flags.clone(),
            flags_total: {
                let mut total = receipts.last().map(|last| last.flags_total.clone()).unwrap_or_default();
                total.add(&self.flags);
                total
            },
            bytes_out: None,
            rank: None,
            basis: Basis::Counted,
            ended: Ended::Stop,
            request: Digest::of(b"request"),
            response: Digest::of(b"response"),
            release: Digest::of(b"release"),
            manifest: Digest::of(b"manifest"),
            tariff: tariff(PRICE).id(),
            history: merkle::root(&ids),
            standing: 1,
            node: NODE,
            at: START,
            restore: 0,
            authority: authority.id(),
            model: model(),
            op: Op::Chat,
        };
        let receipt = cose::sign(&receipt, &self.receipt_key);
        self.requests.insert(receipt.id(), (request.signature_base().to_owned(), *request.signature()));
        receipts.push(receipt);
    }

    /// What an honest node shows of receipt `n`, where `newest` was claimed.
    pub(super) fn show(&self, key: (Digest, u16), n: u64, newest: u64) -> Shown {
        let receipts = &self.lanes[&key];
        let receipt = &receipts[n as usize - 1];
        let ids: Vec<_> = receipts.iter().map(comity_wire::Verified::id).collect();
        let (request, signature) = self.requests[&receipt.id()].clone();
        let proof = |n| if n < newest { lane_proof(&ids, newest, n) } else { Vec::new() };
        let before = (n > 1)
            .then(|| Before { receipt: Bytes::new(receipts[n as usize - 2].bytes()).unwrap(), proof: proof(n - 1) });
        Shown {
            receipt: Bytes::new(receipt.bytes()).unwrap(),
            request,
            signature: Bytes::new(signature.to_vec()).unwrap(),
            proof: proof(n),
            before,
        }
    }

    fn ack_lane(&self, key: &(Digest, u16)) -> AckLane {
        let last = self.lanes[key].last().unwrap();
        AckLane { leaf: key.0, lane: key.1, n: last.n, total: last.total, receipt: last.id() }
    }

    /// Acknowledges every lane's newest receipt.
    pub(super) fn acknowledge(&self, key: &SecretKey) -> Vec<u8> {
        let lanes = self.lanes.keys().map(|key| self.ack_lane(key)).collect();
        let acknowledgement = Acknowledgement { token: self.token.id, lanes: list(lanes), at: START };
        cose::sign(&acknowledgement, key).bytes().to_vec()
    }

    /// The claim that an honest node makes now.
    pub(super) fn draft(&mut self, acknowledgements: Vec<Vec<u8>>) -> Claim {
        self.number += 1;
        let lane = |(key, receipts): (&(Digest, u16), &Vec<comity_wire::Verified<Receipt>>)| {
            let ids: Vec<_> = receipts.iter().map(comity_wire::Verified::id).collect();
            let settled_n = self.settled.get(key).copied();
            ClaimLane {
                receipt: Bytes::new(receipts.last().unwrap().bytes()).unwrap(),
                settled_n,
                inclusion: list(settled_n.map_or_else(Vec::new, |settled| lane_proof(&ids, ids.len() as u64, settled))),
            }
        };
        let used = |leaf: &Digest| self.lanes.keys().any(|key| key.0 == *leaf);
        let chains = self.chains.iter().filter(|(leaf, _)| used(leaf));
        Claim {
            token: self.token.id,
            node: NODE,
            number: self.number,
            chains: list(chains.map(|(_, chain)| Bytes::new(chain.to_bytes()).unwrap()).collect()),
            lanes: list(self.lanes.iter().map(lane).collect()),
            acknowledgements: list(acknowledgements.into_iter().map(|ack| Bytes::new(ack).unwrap()).collect()),
            at: START,
        }
    }

    pub(super) fn sign(&self, claim: &Claim) -> Value {
        let bytes = Bytes::<{ 2 * 1024 * 1024 }>::new(cose::sign(claim, &self.receipt_key).bytes()).unwrap();
        json!({ "claim": bytes })
    }

    pub(super) fn claim(&mut self, acknowledgements: Vec<Vec<u8>>) -> Value {
        let draft = self.draft(acknowledgements);
        self.sign(&draft)
    }

    /// The house took the claim.
    pub(super) fn taken(&mut self) {
        self.settled = self.lanes.iter().map(|(key, receipts)| (*key, receipts.len() as u64)).collect();
    }

    pub(super) fn final_(&self) -> Value {
        self.final_at(START)
    }

    pub(super) fn final_at(&self, at: Timestamp) -> Value {
        let lanes = self.lanes.keys().map(|key| self.ack_lane(key)).collect();
        let final_ = Final { token: self.token.id, node: NODE, lanes: list(lanes), at };
        let bytes = Bytes::<{ 2 * 1024 * 1024 }>::new(cose::sign(&final_, &self.receipt_key).bytes()).unwrap();
        json!({ "final": bytes })
    }
}
