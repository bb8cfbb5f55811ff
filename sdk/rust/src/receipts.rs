//! What a receipt proves, checked from the receipt, the node's certificate and the tariff alone.

use comity_token::directory::Directory;
use comity_wire::object::{Basis, NodeCertificate, Receipt, Roster, Tariff};
use comity_wire::{Exact, Signed, Unverified, Verified};

use crate::lane::ReceiptFault;

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
    let node = signed.unverified().node;
    let certificate = directory.certificate(node).ok_or(NotAReceipt::Node(node))?;
    verify_under(signed, &certificate)
}

/// Verifies a receipt under one certificate, which may be older than the one that the federation shows now.
///
/// # Errors
/// [`NotAReceipt`].
pub fn verify_under(signed: Signed<Receipt>, certificate: &NodeCertificate) -> Result<Verified<Receipt>, NotAReceipt> {
    let (node, at) = (signed.unverified().node, signed.unverified().at);
    if certificate.node != node {
        return Err(NotAReceipt::Node(node));
    }
    let keys: Vec<_> = certificate.receipt_keys_at(at).copied().collect();
    signed.verify_any(&keys).map_err(|source| NotAReceipt::Key { node, at, source })
}

/// A certificate that was kept as evidence, verified under the roster again. `None` where the bytes are another kind.
///
/// # Errors
/// [`Unverified`].
pub(crate) fn certificate(bytes: &[u8], roster: &Roster) -> Option<Result<Verified<NodeCertificate>, Unverified>> {
    let signed = Signed::<NodeCertificate>::decode(bytes).ok()?;
    let org = roster.organisation(signed.unverified().org)?;
    roster.may_certify(org.id, signed.unverified().node).then(|| signed.verify(&org.key))
}

/// Whether a receipt that stands alone adds up: its own charge, in the lane's exact sum that it states, is what its meters
/// cost (rule 5).
///
/// # Errors
/// [`ReceiptFault::Price`].
pub fn check_alone(receipt: &Receipt, tariff: &Tariff) -> Result<(), ReceiptFault> {
    if receipt.basis == Basis::Nothing && receipt.charge.is_zero() {
        return Ok(());
    }
    let exact = tariff.exact(receipt.op, &receipt.meters).map_err(|_| ReceiptFault::Price)?;
    let before = receipt.exact_total().and_then(|sum| sum.checked_sub(exact)).ok_or(ReceiptFault::Price)?;
    let charge = before.ceil().and_then(|before| receipt.total.checked_sub(before));
    let is_whole = Exact::checked_add(before, exact).and_then(Exact::ceil) == Some(receipt.total);
    if is_whole && charge == Some(receipt.charge) { Ok(()) } else { Err(ReceiptFault::Price) }
}
