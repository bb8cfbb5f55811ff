//! What a receipt proves, checked from the receipt, the node's certificate and the tariff alone.

use comity_token::directory::Directory;
use comity_token::request::{request_digest, response_digest};
use comity_wire::object::{Receipt, Tariff};
use comity_wire::{Exact, Signed, Verified};

use crate::lane::{Lane, ReceiptFault};

/// Why a receipt does not verify.
#[derive(Debug, thiserror::Error)]
pub enum NotAReceipt {
    #[error("not a receipt")]
    Form(#[source] comity_wire::Unverified),
    #[error("node {0} is not known to the federation: fetch its certificate first")]
    Node(comity_wire::NodeId),
    #[error("no receipt key of node {node} was valid at {at}")]
    Key { node: comity_wire::NodeId, at: comity_wire::Timestamp, source: comity_wire::Unverified },
}

/// Verifies a receipt under the certificate of the node it names, at the receipt's own time.
///
/// # Errors
/// [`NotAReceipt`].
pub fn verify(bytes: &[u8], directory: &dyn Directory) -> Result<Verified<Receipt>, NotAReceipt> {
    let signed = Signed::<Receipt>::decode(bytes).map_err(NotAReceipt::Form)?;
    let (node, at) = (signed.unverified().node, signed.unverified().at);
    let certificate = directory.certificate(node).ok_or(NotAReceipt::Node(node))?;
    let keys: Vec<_> = certificate.receipt_keys_at(at).copied().collect();
    signed.verify_any(&keys).map_err(|source| NotAReceipt::Key { node, at, source })
}

/// Whether the charge is what the meters cost: exact sums, rounded up once per lane (rule 5).
///
/// # Errors
/// [`ReceiptFault::Price`].
pub fn check_price(lane: &Lane, receipt: &Receipt, tariff: &Tariff) -> Result<(), ReceiptFault> {
    let exact = tariff.exact(receipt.op, &receipt.meters).map_err(|_| ReceiptFault::Price)?;
    let sum = Exact(lane.exact()).checked_add(exact).ok_or(ReceiptFault::Price)?;
    let holds = sum.ceil() == Some(receipt.total) && receipt.exact_total() == Some(sum);
    // An answer that rests on nothing is charged nothing, whatever the minimum.
    let nothing = receipt.basis == comity_wire::object::Basis::Nothing && receipt.charge.is_zero();
    if holds || nothing { Ok(()) } else { Err(ReceiptFault::Price) }
}

/// Whether a receipt is for these very bytes: the salted digests of request and response (rule 4).
///
/// # Errors
/// [`ReceiptFault::OtherRequest`] or [`ReceiptFault::Response`].
pub fn check_bytes(receipt: &Receipt, nonce: &[u8; 16], body: &[u8], response: &[u8]) -> Result<(), ReceiptFault> {
    if receipt.request != request_digest(nonce, body) {
        return Err(ReceiptFault::OtherRequest);
    }
    if receipt.response != response_digest(nonce, response) {
        return Err(ReceiptFault::Response);
    }
    Ok(())
}

/// The bytes of a stream that a receipt's response digest covers: each `data` payload and a line feed, without comments
/// (spec/06-metering.md §6).
pub fn stream_bytes<'a>(payloads: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    payloads.into_iter().flat_map(|payload| payload.bytes().chain([b'\n'])).collect()
}
