//! Acknowledgements that a wallet believes given and its node has never kept.
//!
//! FIXME: the SDK notes an acknowledgement as given when the head of a stream comes, but the node keeps it with the stream's
//! charge. A node that dies in between has no acknowledgement, the wallet sends none again for a lane that stays idle, and
//! the owner waits for the challenge window. Once the SDK notes it with the receipt, this file goes.

use std::collections::BTreeMap;

use comity_node::shell;
use comity_sdk::door::Door;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::node::{AcknowledgeReply, AcknowledgeRequest, LanesReply};
use comity_wire::cbor::List;
use comity_wire::object::{AckLane, Acknowledgement, Receipt};
use comity_wire::{Digest, TokenId, cose};

use super::books::Kept;
use crate::Federation;
use crate::federation::chain;

/// Lanes that one acknowledgement may name.
const LANES_MAX: usize = 64;

/// Acknowledges each lane of `token` that the node holds unacknowledged receipts of, up to the newest that the wallet
/// holds; how many lanes these were.
pub(super) async fn again(door: &Door, kept: &Kept, token: TokenId) -> Result<usize, String> {
    let key = kept.keys.get(&token).ok_or("its key is not in the wallet")?;
    let path = format!("/comity/v1/lanes?token={token}");
    let held: LanesReply = door.get_signed(&path, key, &Federation::world()).await.map_err(|error| chain(&error))?;
    let mut newest = BTreeMap::<(Digest, u16), (Digest, &Receipt)>::new();
    for (id, receipt) in kept.receipts.iter().filter(|(_, receipt)| receipt.token == token) {
        let lane = newest.entry((receipt.leaf, receipt.lane)).or_insert((*id, receipt));
        if receipt.n > lane.1.n {
            *lane = (*id, receipt);
        }
    }
    let behind = held.lanes.iter().filter(|lane| lane.acknowledged < lane.total);
    let known = behind.filter_map(|lane| newest.get(&(lane.leaf, lane.lane)));
    let of = |(id, receipt): &(Digest, &Receipt)| {
        let Receipt { leaf, lane, n, total, .. } = **receipt;
        AckLane { leaf, lane, n, total, receipt: *id }
    };
    let lanes: Vec<_> = known.map(of).take(LANES_MAX).collect();
    let count = lanes.len();
    if count > 0 {
        let lanes = List::new(lanes).map_err(|_| "more lanes than an acknowledgement names")?;
        let signed = cose::sign(&Acknowledgement { token, lanes, at: shell::now() }, key);
        let acknowledgement = SignedBytes::new(signed.bytes()).expect("an acknowledgement is small");
        let ask = AcknowledgeRequest { acknowledgement };
        let _: AcknowledgeReply =
            door.post("/comity/v1/acknowledgements", &ask).await.map_err(|error| chain(&error))?;
    }
    Ok(count)
}
