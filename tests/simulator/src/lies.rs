//! A node that does not keep to the rules, alone or with a holder: what it says beside its work.

use std::collections::BTreeMap;

use comity_gateway::spend::LaneKey;
use comity_gateway::store::Store as _;
use comity_token::Capability;
use comity_wire::api::challenge::Shown;
use comity_wire::api::clearing::{SignedBytes, lane_proof};
use comity_wire::cbor::{Bytes, List};
use comity_wire::merkle;
use comity_wire::object::{AckLane, Basis, Claim, ClaimLane, Ended, Final, Flags, Receipt};
use comity_wire::{Amount, Digest, Meters, Op, SecretKey, Signed, TokenId, Verified, cose};

use crate::around::{Around, Chance};
use crate::federation::{BASE, KEYS, MODEL, NODE, RELEASE};
use crate::holder::signed_ack;
use crate::net::{Message, Reply};
use crate::node::{Node, ready, signed_final};

/// What a lying node keeps for itself.
#[derive(Default)]
pub(crate) struct Lies {
    /// Whether holders sign what it asks them to, and which.
    colludes: bool,
    honest: [bool; 3],
    lanes: BTreeMap<(Digest, u16), Made>,
    /// Receipts of real work, signed again with a higher total.
    inflated: BTreeMap<(Digest, u16, u64), Vec<u8>>,
    number: u64,
}

/// A lane that was made up.
#[derive(Clone, Default)]
struct Made {
    receipts: Vec<Digest>,
    total: i64,
    claimed: Option<u64>,
}

impl Lies {
    pub(crate) fn new(colludes: bool, honest: [bool; 3]) -> Self {
        Self { colludes, honest, ..Self::default() }
    }

    pub(crate) fn inflated(&self, key: LaneKey, n: u64) -> Option<Vec<u8>> {
        self.inflated.get(&(key.leaf, key.lane, n)).cloned()
    }

    /// An answer to a holder, with a receipt that breaks a rule, or none.
    pub(crate) fn answer(&mut self, answer: &[u8], receipt: &Verified<Receipt>, chance: &mut Chance) -> Reply {
        let mut said = receipt.object().clone();
        match chance.below(14) {
            0 => return Reply::Answer { answer: answer.to_vec(), receipt: None },
            1 => {
                said.charge = said.charge.saturating_add(Amount::from_ucr(7));
                said.total = said.total.saturating_add(Amount::from_ucr(7));
            }
            2 => said.total = said.total.saturating_add(Amount::from_ucr(1)),
            3 => said.n += 1,
            4 if said.n > 1 => said.history = Digest::of(b"another past"),
            5 => said.seq += 1,
            6 => said.response = Digest::of(b"another answer"),
            7 => said.meters_total = Meters::default(),
            8 => said.authority = Digest::of(b"another request"),
            _ => {}
        }
        let bytes = match cose::try_sign(&said, &KEYS.receipt) {
            Ok(signed) => signed.bytes().to_vec(),
            Err(_) => receipt.bytes().to_vec(),
        };
        Reply::Answer { answer: answer.to_vec(), receipt: Some(bytes) }
    }
}

impl Node {
    /// Says something to the house that is not so.
    pub(crate) fn lie(&mut self, around: &mut Around<'_>) {
        let known: Vec<_> = self.chains.values().cloned().collect();
        if known.is_empty() {
            return;
        }
        let chain = known[around.chance.index(known.len())].clone();
        let token = chain.token().id;
        if around.chance.one_in(8) {
            return self.false_final(token, around);
        }
        if around.chance.one_in(4) {
            return self.inflate(&chain, around);
        }
        let leaf = chain.leaf();
        let lane = u16::try_from(around.chance.below(u64::from(chain.lanes()) + 1)).expect("a lane");
        let at = (leaf, lane);
        let Some(lies) = &mut self.lies else { return };
        let mut made = lies.lanes.get(&at).cloned().unwrap_or_default();
        lies.number += 1;
        let number = 1_000 + lies.number;
        let (n, settled_n) = extend(&mut made, chain.token().terms.budget.ucr(), token, at, around.chance);
        let receipt = receipt_of(&made, token, at, n, around);
        let inclusion = settled_n.map_or_else(Vec::new, |settled| lane_proof(&made.receipts, n, settled));
        let id = receipt.id();
        let mut acknowledgements = Vec::new();
        if lies.colludes && !around.chance.one_in(3) {
            let entry = AckLane { leaf, lane, n, total: receipt.total, receipt: id };
            let lies = |(at, key): (usize, &'static SecretKey)| {
                (!lies.honest[at] && chain.keys().contains(&&key.public())).then_some(key)
            };
            if let Some(key) = KEYS.holders.iter().enumerate().find_map(lies) {
                let ack = signed_ack(token, vec![entry], around.now, key);
                around.truth.acknowledge(&ack);
                acknowledgements.push(Bytes::new(ack.bytes().to_vec()).expect("small"));
            }
        } else if around.chance.one_in(4) {
            // Nobody who may say so.
            let entry = AckLane { leaf, lane, n, total: receipt.total, receipt: id };
            let ack = signed_ack(token, vec![entry], around.now, &KEYS.stranger);
            acknowledgements.push(Bytes::new(ack.bytes().to_vec()).expect("small"));
        }
        let claim = Claim {
            token,
            node: NODE,
            number,
            chains: List::new(vec![Bytes::new(chain.chain_bytes().to_vec()).expect("small")]).expect("one"),
            lanes: List::new(vec![ClaimLane {
                receipt: Bytes::new(receipt.bytes().to_vec()).expect("small"),
                settled_n,
                inclusion: List::new(inclusion).expect("few"),
            }])
            .expect("one"),
            acknowledgements: List::new(acknowledgements).expect("few"),
            at: around.now,
        };
        made.claimed = Some(n);
        if made.receipts.len() as u64 == n - 1 {
            made.receipts.push(id);
        }
        lies.lanes.insert(at, made);
        around.truth.meet("a node claims what nobody asked for");
        around.net.note(|| format!("node lies: claim of {at:?} n {n} total {}", receipt.total));
        let bytes = cose::sign(&claim, &KEYS.receipt).bytes().to_vec();
        around.send(Message::Claim { bytes });
    }

    /// Claims real work at a higher total than its charges come to.
    fn inflate(&mut self, chain: &Capability, around: &mut Around<'_>) {
        let token = chain.token().id;
        let Ok(Some(account)) = ready(self.store.account(token)) else { return };
        let Some((key, n)) = account
            .lanes
            .iter()
            .filter(|(key, lane)| key.leaf == chain.leaf() && lane.n > 0)
            .map(|(key, lane)| (*key, lane.n))
            .nth(around.chance.index(account.lanes.len().max(1)))
        else {
            return;
        };
        let Ok(Some(newest)) = ready(self.store.charge_by_n(token, key, n)) else { return };
        let Ok(history) = ready(self.store.history(token, key, n - 1)) else { return };
        let Some(lies) = &mut self.lies else { return };
        let mut receipt = Signed::<Receipt>::decode(&newest.receipt).expect("its own receipt").unverified().clone();
        let more = u32::try_from(1 + around.chance.below(90)).expect("small");
        receipt.total = receipt.total.saturating_add(Amount::from_ucr(more));
        let Ok(signed) = cose::try_sign(&receipt, &KEYS.receipt) else { return };
        lies.inflated.insert((key.leaf, key.lane, n), signed.bytes().to_vec());
        lies.number += 1;
        let settled_n = Some(account.lanes[&key].claimed_n).filter(|settled| *settled > 0);
        let inclusion =
            settled_n.filter(|settled| *settled < n).map_or_else(Vec::new, |at| lane_proof(&history, n, at));
        let lane = ClaimLane {
            receipt: Bytes::new(signed.bytes().to_vec()).expect("small"),
            settled_n,
            inclusion: List::new(inclusion).expect("few"),
        };
        let claim = Claim {
            token,
            node: NODE,
            number: 1_000 + lies.number,
            chains: List::new(vec![Bytes::new(chain.chain_bytes().to_vec()).expect("small")]).expect("one"),
            lanes: List::new(vec![lane]).expect("one"),
            acknowledgements: List::default(),
            at: around.now,
        };
        around.truth.meet("a node claims more than it charged");
        around.net.note(|| format!("node lies: n {n} of lane {} comes to {}", key.lane, receipt.total));
        let bytes = cose::sign(&claim, &KEYS.receipt).bytes().to_vec();
        around.send(Message::Claim { bytes });
    }

    /// A final that says less, or more, than was done.
    fn false_final(&self, token: TokenId, around: &mut Around<'_>) {
        let Some(lies) = &self.lies else { return };
        let mut lanes = Vec::new();
        for ((leaf, lane), made) in &lies.lanes {
            if around.chance.one_in(2) || made.receipts.is_empty() {
                continue;
            }
            let n = 1 + around.chance.below(made.receipts.len() as u64);
            let total = Amount::from_ucr(u32::try_from(around.chance.below(900)).expect("small"));
            lanes.push(AckLane { leaf: *leaf, lane: *lane, n, total, receipt: Digest::of(b"a head") });
        }
        around.truth.finals.insert(token);
        around.truth.meet("a false final");
        let final_ = Final { token, node: NODE, lanes: List::new(lanes).expect("few"), at: around.now };
        around.send(Message::Final { bytes: signed_final(&final_).bytes().to_vec() });
    }
}

/// Some receipts more of a made-up lane, or another one in the place of the newest.
fn extend(made: &mut Made, budget: i64, token: TokenId, at: (Digest, u16), chance: &mut Chance) -> (u64, Option<u64>) {
    let settled = made.claimed;
    let more = chance.below(3);
    for _ in 0..more {
        let n = made.receipts.len() as u64 + 1;
        let parts: [&[u8]; 4] = [b"made up", &token.0, &n.to_be_bytes(), &at.1.to_be_bytes()];
        made.receipts.push(Digest::of_parts(&parts));
    }
    let n = made.receipts.len() as u64 + 1;
    made.total = match chance.below(5) {
        0 => i64::try_from(chance.below(budget.unsigned_abs() * 2 + 1)).expect("small"),
        1 => made.total,
        _ => made.total + i64::try_from(chance.below(60)).expect("small"),
    };
    let settled_n = match chance.below(6) {
        0 => None,
        1 => Some(chance.below(n + 1)),
        _ => settled.filter(|settled| *settled < n),
    };
    (n, settled_n)
}

fn receipt_of(
    made: &Made,
    token: TokenId,
    (leaf, lane): (Digest, u16),
    n: u64,
    around: &mut Around<'_>,
) -> Verified<Receipt> {
    let total = Amount::new(made.total).expect("not negative");
    let receipt = Receipt {
        token,
        leaf,
        lane,
        seq: n,
        item: 0,
        n,
        charge: Amount::ZERO,
        total,
        remainder: 0,
        meters: Meters::default(),
        meters_total: Meters::default(),
        flags: Flags::default(),
        flags_total: Flags::default(),
        bytes_out: None,
        rank: None,
        basis: Basis::Upstream,
        ended: Ended::Stop,
        request: Digest::ZERO,
        response: Digest::ZERO,
        release: *RELEASE,
        manifest: Digest::ZERO,
        tariff: BASE.tariff.id(),
        history: merkle::root(&made.receipts[..made.receipts.len().min(usize::try_from(n - 1).expect("small"))]),
        standing: 1,
        node: NODE,
        at: around.now,
        restore: 0,
        authority: Digest::of(&around.chance.bytes()),
        model: MODEL.clone(),
        op: Op::Chat,
    };
    cose::sign(&receipt, &KEYS.receipt)
}

/// What is shown is not always what it should be.
pub(crate) fn bend(items: &mut Vec<Shown>, chance: &mut Chance) {
    if items.is_empty() || !chance.one_in(3) {
        return;
    }
    let at = chance.index(items.len());
    match chance.below(4) {
        0 => drop(items.remove(at)),
        1 => items[at].request = items[at].request.replace("comity-max-charge", "comity-max-charges"),
        2 => items[at].proof.push(Digest::of(b"another past")),
        _ => {
            let mut receipt =
                Signed::<Receipt>::decode(&items[at].receipt).expect("its own receipt").unverified().clone();
            receipt.charge = receipt.charge.saturating_add(Amount::from_ucr(50));
            receipt.total = receipt.total.saturating_add(Amount::from_ucr(50));
            if let Ok(signed) = cose::try_sign(&receipt, &KEYS.receipt) {
                items[at].receipt = SignedBytes::new(signed.bytes()).expect("small");
            }
        }
    }
}
