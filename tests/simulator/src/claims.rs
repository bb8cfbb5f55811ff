//! A node's claims: what is due is sent, what is challenged is shown.

use std::collections::BTreeMap;

use comity_gateway::spend::{Account, Change, ClaimPart, LaneKey, Outcome, due, proof};
use comity_gateway::store::Store as _;
use comity_wire::api::challenge::{Before, SHOWN_MAX, Shown};
use comity_wire::api::clearing::{SettledLane, SignedBytes, lane_proof};
use comity_wire::cbor::{Bytes, List};
use comity_wire::object::{Acknowledgement, Claim, ClaimLane, CountLine, Receipt};
use comity_wire::{Amount, Code, Digest, Signed, TokenId, cose};

use crate::around::Around;
use crate::federation::NODE;
use crate::net::Message;
use crate::node::{Node, ready};
use crate::truth::Checked;

impl Node {
    /// Sends what is due to the house, as the claims task does: a claim that has no answer yet again, unchanged.
    pub(crate) fn claim(&mut self, around: &mut Around<'_>) -> Checked {
        around.send(Message::AskWhatIsAsked);
        let Ok(tokens) = ready(self.store.tokens_due()) else { return Ok(()) };
        for token in tokens {
            self.settle(token, around)?;
        }
        Ok(())
    }

    fn settle(&mut self, token: TokenId, around: &mut Around<'_>) -> Checked {
        let Ok(Some(account)) = ready(self.store.account(token)) else { return Ok(()) };
        let root = account.root;
        if self.load(token, root).is_err() {
            return Ok(());
        }
        let account = self.book.account(token).expect("it was loaded").clone();
        if let Some(bytes) = &account.pending {
            around.send(Message::Claim { bytes: bytes.clone() });
            return Ok(());
        }
        if let Some((number, bytes)) = self.build(&account, around) {
            let change = Change::ClaimPending { token, number, bytes: Some(bytes.clone()) };
            if let Ok([Ok(_)]) = self.change(vec![change], around)?.as_deref() {
                around.send(Message::Claim { bytes });
            }
            return Ok(());
        }
        let undelivered = !ready(self.store.is_final_delivered(token)).unwrap_or(true);
        if account.closed && account.final_.is_none() {
            // A final that was asked for while requests ran.
            if let Ok([Ok(Outcome::Final(_))]) =
                self.change(vec![Change::Final { token, at: around.now }], around)?.as_deref()
            {
                around.truth.finals.insert(token);
            }
        } else if let Some(bytes) = account.final_.filter(|_| undelivered) {
            around.truth.finals.insert(token);
            around.send(Message::Final { bytes });
        }
        Ok(())
    }

    fn build(&self, account: &Account, around: &Around<'_>) -> Option<(u64, Vec<u8>)> {
        let parts: Vec<ClaimPart> = due(account).into_iter().take(64).collect();
        if parts.is_empty() || account.superseded.contains(&account.root) {
            return None;
        }
        let (mut lanes, mut leaves, mut acknowledgements) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for part in &parts {
            let newest = ready(self.store.charge_by_n(account.token, part.key, part.n)).ok()??;
            let history = ready(self.store.history(account.token, part.key, part.n - 1)).ok()?;
            let inclusion = List::new(proof(&history, part.settled_n)).ok()?;
            let receipt = Bytes::new(newest.receipt).ok()?;
            lanes.push(ClaimLane { receipt, settled_n: part.settled_n, inclusion });
            let chain = ready(self.store.chain(part.key.leaf)).ok()??;
            leaves.insert(part.key.leaf, Bytes::new(chain).ok()?);
            if let Some(id) = part.acknowledgement
                && let Some(bytes) = ready(self.store.acknowledgement(account.token, id)).ok()?
            {
                acknowledgements.insert(id, Bytes::new(bytes).ok()?);
            }
        }
        let number = account.claims + 1;
        let claim = Claim {
            token: account.token,
            node: NODE,
            number,
            chains: List::new(leaves.into_values().collect()).ok()?,
            lanes: List::new(lanes).ok()?,
            acknowledgements: List::new(acknowledgements.into_values().collect()).ok()?,
            at: around.now,
        };
        Some((number, cose::sign(&claim, &self.signer.key).bytes().to_vec()))
    }

    pub(crate) fn claimed(
        &mut self,
        token: TokenId,
        claim: Digest,
        outcome: Result<(), (Code, Vec<SettledLane>)>,
        around: &mut Around<'_>,
    ) -> Checked {
        let Ok(Some(account)) = ready(self.store.account(token)) else { return Ok(()) };
        if self.load(token, account.root).is_err() {
            return Ok(());
        }
        // The answer to a call that was given up is heard by nobody.
        let Some(pending) = account.pending.filter(|bytes| id_of(bytes) == Some(claim)) else { return Ok(()) };
        around.net.note(|| format!("node hears of its claim: {outcome:?}"));
        let change = match outcome {
            Ok(()) => {
                around.truth.meet("a claim");
                self.corrected.remove(&token);
                Change::Claimed { token, lanes: claimed_by(&pending) }
            }
            Err((Code::SettledDiffers, settled)) if self.corrected.insert(token) => {
                let lane = |lane: &SettledLane| (LaneKey { leaf: lane.leaf, lane: lane.lane }, lane.n);
                Change::Settled { token, lanes: settled.iter().map(lane).collect() }
            }
            Err((code, _)) => {
                let set_back = around.truth.node_set_back || !around.truth.node_honest;
                // While its own words are all that it has, the house has nothing to refuse of them.
                let known = matches!(code, Code::SettledDiffers);
                let what = || format!("token {token}: {code}");
                around.truth.holds("an honest node's claim is taken", set_back || known, what)?;
                if code == Code::ClaimOlder {
                    let _ = self.change(vec![Change::Supersede { token, at: account.root }], around)?;
                }
                self.corrected.remove(&token);
                Change::ClaimPending { token, number: 0, bytes: None }
            }
        };
        self.change(vec![change], around).map(drop)
    }

    /// What an operator does after a house was set back: everything is claimed once more.
    pub(crate) fn claim_anew(&mut self, around: &mut Around<'_>) -> Checked {
        let tokens: Vec<_> = around.truth.tokens.keys().copied().collect();
        for token in tokens {
            let Ok(Some(account)) = ready(self.store.account(token)) else { continue };
            if self.load(token, account.root).is_err() {
                continue;
            }
            let lanes = account.lanes.keys().map(|key| (*key, 0)).collect();
            let _ = self.change(vec![Change::Settled { token, lanes }], around)?;
        }
        Ok(())
    }

    /// What its meter has of these tokens.
    pub(crate) fn counted<'a>(&self, tokens: impl Iterator<Item = &'a TokenId>) -> BTreeMap<TokenId, CountLine> {
        let line = |token: &TokenId| {
            let account = ready(self.store.account(*token)).ok().flatten()?;
            let charges = account.lanes.values().map(|lane| lane.n).sum();
            let charged = account.lanes.values().map(|lane| lane.total).fold(Amount::ZERO, Amount::saturating_add);
            let lanes = u32::try_from(account.lanes.len()).expect("few");
            (charges > 0).then_some((*token, CountLine { token: *token, lanes, charges, charged }))
        };
        tokens.filter_map(line).collect()
    }

    /// Shows what the house asks for, as far as one answer holds it.
    pub(crate) fn show_what_is_asked(
        &mut self,
        id: Digest,
        (token, key, newest): (TokenId, LaneKey, u64),
        left: &[u64],
        around: &mut Around<'_>,
    ) -> Checked {
        let excused = around.truth.node_set_back || !around.truth.node_honest;
        let history = ready(self.store.history(token, key, newest - 1)).unwrap_or_default();
        around.truth.holds(
            "an honest node has the history it claimed",
            excused || history.len() as u64 == newest - 1,
            || format!("{} of {newest}", history.len()),
        )?;
        let is_whole = history.len() as u64 == newest - 1;
        let path = |n| if n < newest && is_whole { lane_proof(&history, newest, n) } else { Vec::new() };
        let mut items = Vec::new();
        for n in left.iter().take(SHOWN_MAX) {
            let stored = ready(self.store.charge_by_n(token, key, *n)).ok().flatten();
            around.truth.holds("an honest node has the receipts it claimed", excused || stored.is_some(), || {
                format!("n {n}")
            })?;
            // What is missing is missing; a node that is excused shows the rest.
            let Some(charge) = stored else { continue };
            let receipt = self.lies.as_ref().and_then(|lies| lies.inflated(key, *n)).unwrap_or(charge.receipt);
            let before = self
                .before(token, key, *n)
                .map(|receipt| Before { receipt: SignedBytes::new(receipt).expect("small"), proof: path(*n - 1) });
            items.push(Shown {
                receipt: SignedBytes::new(receipt).expect("small"),
                request: charge.evidence.base,
                signature: Bytes::new(charge.evidence.signature.to_vec()).expect("64 bytes"),
                proof: path(*n),
                before,
            });
        }
        if self.lies.is_some() {
            crate::lies::bend(&mut items, around.chance);
        }
        around.send(Message::Shown { id, items });
        Ok(())
    }

    /// The number of the first receipt of a lane whose total reaches an amount.
    pub(crate) fn charging(&self, token: TokenId, key: LaneKey, newest: u64, at: u64) -> Option<u64> {
        (1..=newest).find(|n| {
            let stored = ready(self.store.charge_by_n(token, key, *n)).ok().flatten();
            let total = stored.and_then(|charge| {
                Signed::<Receipt>::decode(&charge.receipt).ok().map(|receipt| receipt.unverified().total)
            });
            total.is_some_and(|total| total.ucr().unsigned_abs() >= at)
        })
    }

    /// The receipt before that of a number.
    fn before(&self, token: TokenId, key: LaneKey, n: u64) -> Option<Vec<u8>> {
        let stored = ready(self.store.charge_by_n(token, key, n.checked_sub(1).filter(|n| *n > 0)?)).ok()??;
        Some(self.lies.as_ref().and_then(|lies| lies.inflated(key, n - 1)).unwrap_or(stored.receipt))
    }
}

fn id_of(claim: &[u8]) -> Option<Digest> {
    Signed::<Claim>::decode(claim).ok().map(|claim| claim.id())
}

/// What a claim of its own said, read back from its bytes: (lane, n, acknowledged n).
fn claimed_by(bytes: &[u8]) -> Vec<(LaneKey, u64, u64)> {
    let signed = Signed::<Claim>::decode(bytes).expect("its own claim");
    let claim = signed.unverified();
    let acks: Vec<Acknowledgement> = claim
        .acknowledgements
        .iter()
        .filter_map(|bytes| Signed::<Acknowledgement>::decode(bytes).ok())
        .map(|ack| ack.unverified().clone())
        .collect();
    let mut lanes = Vec::new();
    for lane in &claim.lanes {
        let receipt = Signed::<Receipt>::decode(&lane.receipt).expect("its own receipt");
        let receipt = receipt.unverified();
        let of_lane = acks.iter().flat_map(|ack| ack.lanes.iter());
        let of_lane = of_lane.filter(|ack| (ack.leaf, ack.lane) == (receipt.leaf, receipt.lane));
        let acknowledged_n = of_lane.map(|ack| ack.n).max().unwrap_or(0);
        lanes.push((LaneKey { leaf: receipt.leaf, lane: receipt.lane }, receipt.n, acknowledged_n));
    }
    lanes
}
