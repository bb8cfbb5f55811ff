//! Acknowledgements on their way in: verified, and compared with the receipts that they name.

use std::sync::Arc;

use comity_http::Refusal;
use comity_token::{Capability, verify_acknowledgement_among};
use comity_wire::object::Acknowledgement;
use comity_wire::{Digest, Verified};

use crate::gateway::Inner;
use crate::refusal;
use crate::spend::{LaneKey, Proof};

/// Verifies an acknowledgement under chains of its token and looks up what the book does not remember.
pub(crate) async fn prove(inner: &Inner, bytes: &[u8], chains: &[Arc<Capability>]) -> Result<Proof, Refusal> {
    let now = inner.now();
    let borrowed: Vec<&Capability> = chains.iter().map(|chain| &**chain).collect();
    let ack = verify_acknowledgement_among(bytes, &borrowed).map_err(|denied| refusal::denied(&denied, now))?;
    let root = root(&ack, chains).expect("it verified under one of these chains");
    inner.ledger.load(ack.token, root).await.map_err(|error| refusal::store(&error))?;
    let mut lanes = Vec::with_capacity(ack.lanes.len());
    for lane in &ack.lanes {
        let key = LaneKey { leaf: lane.leaf, lane: lane.lane };
        let stored = if inner.ledger.remembers(ack.token, key, lane.n) {
            None
        } else {
            let stored = inner.ledger.store().charge_by_n(ack.token, key, lane.n).await;
            stored.map_err(|error| refusal::store(&error))?.map(|stored| stored.charged)
        };
        lanes.push((lane.clone(), stored));
    }
    Ok(Proof { bytes: bytes.to_vec(), lanes })
}

/// The token's content id, by a chain in which the signer has a right.
fn root(ack: &Verified<Acknowledgement>, chains: &[Arc<Capability>]) -> Option<Digest> {
    let signed_below = |chain: &&Arc<Capability>| chain.keys().iter().any(|key| *key == ack.signer());
    chains.iter().find(signed_below).map(|chain| chain.token().id())
}
