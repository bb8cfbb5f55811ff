//! The trail of one settlement: from the award that it was paid from to the receipt that it was paid for, and everything in it
//! computed again. Pure: an auditor does it from files.

use std::collections::BTreeMap;

use comity_ledger::{Posted, Reference, TransferKind};
use comity_wire::api::challenge::Challenge;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::log::{Checkpoint, Entry, Note, VerifierKey, includes};
use comity_wire::object::{Claim, Receipt, Tariff, Token};
use comity_wire::{Amount, Digest, PublicKey, Signed, Timestamp, Verified, merkle};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sample::Sample;
use crate::acts::ActRecord;

/// Everything about one settlement. Each part becomes a file of its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trail {
    pub transfer: TransferView,
    pub proof: Proof,
    /// The awards whose lots the token was drawn on, with their lots.
    pub awards: Vec<Value>,
    /// The acts that gave these credits, set the owner's terms and paid it out, with who signed for them.
    pub approvals: Vec<ActRecord>,
    /// Quotes for this project and node that held when the token was issued.
    pub quotes: Vec<SignedBytes>,
    pub reservation: Reservation,
    pub token: TokenTrail,
    pub tariffs: Vec<SignedBytes>,
    /// The receipt keys that were ever certified to the node.
    pub node_keys: Vec<PublicKey>,
    /// The claims that it was paid on, with receipts and acknowledgements in them.
    pub claims: Vec<SignedBytes>,
    pub settlement: Settlement,
    /// Which receipts of the token the node was asked to show with their requests, and whether it did. The requests themselves
    /// stay with the node (spec/07-settlement.md §5).
    pub requests: Vec<Challenge>,
    /// What of the token's earnings its owner was paid, outside of these books.
    pub paid_out: Vec<PaidOutView>,
}

/// A transfer in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferView {
    /// Its place among the transfers.
    pub seq: u64,
    pub id: String,
    /// Its kind's number in spec/10-log.md §2.
    pub kind: u16,
    pub debit: String,
    pub credit: String,
    pub amount: Amount,
    /// The token, or what else it is about.
    pub reference: String,
    pub evidence: Digest,
    pub posted_at: Timestamp,
}

impl From<&Posted> for TransferView {
    fn from(posted: &Posted) -> Self {
        let transfer = &posted.transfer;
        Self {
            seq: posted.seq,
            id: transfer.id.to_string(),
            kind: transfer.kind.number(),
            debit: transfer.debit.to_string(),
            credit: transfer.credit.to_string(),
            amount: transfer.amount,
            reference: transfer.reference.to_string(),
            evidence: transfer.evidence,
            posted_at: posted.posted_at,
        }
    }
}

/// That the transfer is in the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    pub index: u64,
    pub entry: SignedBytes,
    pub path: Vec<Digest>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Lots → escrow.
    pub transfers: Vec<TransferView>,
    /// What of it fell on which lot, and what of it came home.
    pub draws: Vec<DrawView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrawView {
    pub lot: comity_wire::LotId,
    pub amount: Amount,
    pub returned: Amount,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenTrail {
    pub signed: SignedBytes,
    pub issuer: PublicKey,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    pub lines: Vec<LineView>,
    /// Settled under the token before.
    pub settled_before: Amount,
}

/// What of the settlement is for a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineView {
    pub leaf: Digest,
    pub lane: u16,
    pub amount: Amount,
    /// Paid for the lane before.
    pub before: Amount,
}

/// A line of a payment to the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaidOutView {
    /// The transfer of the whole payment.
    pub transfer: String,
    /// The payment run, or the payment that was recorded by itself.
    pub run: String,
    pub paid_on: Timestamp,
    /// What of it was for this token; below zero where something was taken back.
    pub amount_ucr: i64,
    /// The acts that set the terms and made the payment.
    pub terms: Digest,
    pub act: Digest,
}

/// One thing that was computed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub check: String,
    pub holds: bool,
    /// What was found.
    pub found: String,
}

/// Computes everything in a trail again. `key` is the log's; without it nothing is said of the checkpoint's signature.
pub fn recompute(trail: &Trail, sample: &Sample, key: Option<&VerifierKey>) -> Vec<Check> {
    let mut checks = Checks(Vec::new());
    checks.say("in_the_log", in_the_log(trail, sample));
    if let Some(key) = key {
        checks.say("checkpoint_signed", signed(sample, key));
    }
    let token = token(trail);
    checks.say(
        "token",
        token.as_ref().map(|token| format!("{}, budget {}", token.id, token.terms.budget)).map_err(Clone::clone),
    );
    let budget = token.as_ref().map(|token| token.terms.budget).unwrap_or_default();
    checks.say("within_budget", within_budget(trail, budget));
    if trail.transfer.kind == TransferKind::Settle.number() {
        checks.say("reserved", reserved(trail, budget));
        checks.say("approved", approved(trail));
    }
    let receipts = receipts(trail);
    checks.say("claimed", receipts.as_ref().map(|found| claimed(trail, found.len())).map_err(Clone::clone));
    checks.say("lines", lines(trail));
    let receipts = receipts.unwrap_or_default();
    checks.say("receipted", receipted(trail, &receipts));
    checks.say("charged_by_tariff", charged(trail, &receipts));
    checks.0
}

struct Checks(Vec<Check>);

impl Checks {
    fn say(&mut self, check: &str, found: Result<String, String>) {
        let (holds, found) = match found {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        self.0.push(Check { check: check.to_owned(), holds, found });
    }
}

type Found = Result<String, String>;

fn in_the_log(trail: &Trail, sample: &Sample) -> Found {
    let Ok(Entry::Transfer(said)) = Entry::from_bytes(&trail.proof.entry) else {
        return Err("the entry is no transfer".into());
    };
    let posted = Posted::from_bytes(&said.bytes.0).ok_or("the entry's transfer cannot be read")?;
    if TransferView::from(&posted) != trail.transfer {
        return Err("the log says another transfer".into());
    }
    let leaf = merkle::leaf_of(&trail.proof.entry);
    if includes(leaf, trail.proof.index, sample.size, &sample.root, &trail.proof.path) {
        Ok(format!("entry {} of {}", trail.proof.index, sample.size))
    } else {
        Err(format!("the path of entry {} does not lead to the root", trail.proof.index))
    }
}

fn signed(sample: &Sample, key: &VerifierKey) -> Found {
    let note = Note::parse(sample.checkpoint.as_bytes()).map_err(|error| error.to_string())?;
    let Checkpoint { origin, size, root } = note.verify(key).map_err(|error| error.to_string())?;
    if (size, root) == (sample.size, sample.root) {
        Ok(origin)
    } else {
        Err("the checkpoint is of another tree".into())
    }
}

fn token(trail: &Trail) -> Result<Verified<Token>, String> {
    let signed = Signed::<Token>::decode(&trail.token.signed).map_err(|error| error.to_string())?;
    let token = signed.verify(&trail.token.issuer).map_err(|error| error.to_string())?;
    if Reference(token.id.0).to_string() == trail.transfer.reference {
        Ok(token)
    } else {
        Err(format!("the transfer is not about {}", token.id))
    }
}

fn within_budget(trail: &Trail, budget: Amount) -> Found {
    let settled = trail.settlement.settled_before.saturating_add(trail.transfer.amount);
    if settled <= budget { Ok(format!("{settled} of {budget}")) } else { Err(format!("{settled} is above {budget}")) }
}

fn sum<'a>(amounts: impl Iterator<Item = &'a Amount>) -> Amount {
    amounts.fold(Amount::ZERO, |sum, amount| sum.saturating_add(*amount))
}

fn reserved(trail: &Trail, budget: Amount) -> Found {
    let moved = sum(trail.reservation.transfers.iter().map(|transfer| &transfer.amount));
    let drawn = sum(trail.reservation.draws.iter().map(|draw| &draw.amount));
    let other = TransferKind::Reserve.number();
    if trail.reservation.transfers.iter().any(|transfer| transfer.kind != other || transfer.seq >= trail.transfer.seq) {
        return Err("a transfer is no reservation from before the settlement".into());
    }
    if moved == budget && drawn == budget {
        Ok(format!("{moved} from {} lots", trail.reservation.draws.len()))
    } else {
        Err(format!("{moved} was moved and {drawn} drawn for a budget of {budget}"))
    }
}

fn approved(trail: &Trail) -> Found {
    if trail.approvals.is_empty() {
        return Err("no act gave these credits".into());
    }
    let mut alone = 0;
    for act in &trail.approvals {
        if Digest::of(act.body.as_bytes()) != act.id || act.done_at.is_none() {
            return Err(format!("act {} is not what its id says, or was not done", act.id));
        }
        let signers: Vec<_> = act.proposed_by.iter().chain(&act.approved_by).collect();
        if signers.iter().any(|signature| !signature.stands(&act.id)) {
            return Err(format!("a signature under act {} does not stand", act.id));
        }
        if let [one, other] = &signers[..]
            && one.officer == other.officer
        {
            return Err(format!("one person signed act {} twice", act.id));
        }
        alone += usize::from(signers.len() < 2);
    }
    for line in &trail.paid_out {
        if [line.terms, line.act].iter().any(|id| trail.approvals.iter().all(|act| act.id != *id)) {
            return Err(format!("no act stands for what was paid out in {}", line.transfer));
        }
    }
    let acts = trail.approvals.len();
    Ok(format!("{} of {acts} acts by two persons, {alone} by one who could act alone then", acts - alone))
}

/// The newest receipt of each lane in the claims, each claim and receipt under a key of the node.
fn receipts(trail: &Trail) -> Result<BTreeMap<(Digest, u16), Verified<Receipt>>, String> {
    let mut found: BTreeMap<(Digest, u16), Verified<Receipt>> = BTreeMap::new();
    for bytes in &trail.claims {
        let claim = Signed::<Claim>::decode(bytes).and_then(|claim| claim.verify_any(&trail.node_keys));
        let claim = claim.map_err(|error| error.to_string())?;
        for lane in &claim.lanes {
            let receipt =
                Signed::<Receipt>::decode(&lane.receipt).and_then(|receipt| receipt.verify_any(&trail.node_keys));
            let receipt = receipt.map_err(|error| error.to_string())?;
            let newest = found.entry((receipt.leaf, receipt.lane)).or_insert_with(|| receipt.clone());
            if receipt.n > newest.n {
                *newest = receipt;
            }
        }
    }
    if found.is_empty() {
        return Err("no claim says what it was paid for".into());
    }
    Ok(found)
}

/// On which word it was paid: a claim's or a final's at once, or when the window of what nobody acknowledged had passed.
fn claimed(trail: &Trail, receipts: usize) -> String {
    let named =
        |bytes: &SignedBytes| Signed::<Claim>::decode(bytes).is_ok_and(|claim| claim.id() == trail.transfer.evidence);
    let on = if trail.claims.iter().any(named) { "on this claim" } else { "later, on what was claimed" };
    format!("{on}: {receipts} lanes with receipts")
}

fn lines(trail: &Trail) -> Found {
    let of_lines = sum(trail.settlement.lines.iter().map(|line| &line.amount));
    let amount = trail.transfer.amount;
    if of_lines == amount && !trail.settlement.lines.is_empty() {
        Ok(format!("{} lanes add up to {amount}", trail.settlement.lines.len()))
    } else {
        Err(format!("the lanes add up to {of_lines}, {amount} was paid"))
    }
}

fn receipted(trail: &Trail, receipts: &BTreeMap<(Digest, u16), Verified<Receipt>>) -> Found {
    for line in &trail.settlement.lines {
        let receipt =
            receipts.get(&(line.leaf, line.lane)).ok_or_else(|| format!("no receipt of lane {}", line.lane))?;
        let paid = line.before.saturating_add(line.amount);
        if Reference(receipt.token.0).to_string() != trail.transfer.reference {
            return Err(format!("the receipt of lane {} is of another token", line.lane));
        }
        if paid > receipt.total {
            return Err(format!("{paid} was paid for lane {}, receipts say {}", line.lane, receipt.total));
        }
    }
    Ok("nothing was paid above the receipts".into())
}

/// The newest receipt says by itself what its charge must be: the exact sums before and after it, and the tariff.
fn charged(trail: &Trail, receipts: &BTreeMap<(Digest, u16), Verified<Receipt>>) -> Found {
    let mut tariffs = BTreeMap::new();
    for bytes in &trail.tariffs {
        let tariff = Signed::<Tariff>::decode(bytes).map_err(|error| error.to_string())?;
        tariffs.insert(tariff.id(), tariff);
    }
    let mut checked = 0;
    for line in &trail.settlement.lines {
        let Some(receipt) = receipts.get(&(line.leaf, line.lane)) else { continue };
        let tariff = tariffs.get(&receipt.tariff).ok_or_else(|| format!("tariff {} is not there", receipt.tariff))?;
        let price = tariff.unverified().exact(receipt.op, &receipt.meters).map_err(|error| error.to_string())?;
        let after = receipt.exact_total().ok_or("the receipt's sums do not fit together")?;
        let before = after.checked_sub(price).ok_or("the receipt's charge is above its total")?;
        let charge = before.ceil().and_then(|before| receipt.total.checked_sub(before));
        if charge != Some(receipt.charge) {
            return Err(format!(
                "lane {}: by the tariff the charge is {charge:?}, the receipt says {}",
                line.lane, receipt.charge
            ));
        }
        checked += 1;
    }
    Ok(format!("{checked} charges are what the tariff says"))
}
