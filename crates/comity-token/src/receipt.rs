//! A node's evidence, verified under its certificate (spec/06-metering.md §6, spec/07-settlement.md §3).

use comity_wire::object::{Claim, Final, NodeCertificate, Receipt};
use comity_wire::{NodeId, Signed, Verified};

use crate::denied::Denied;

/// A receipt is judged at its own time: the key must have been a receipt key then.
///
/// # Errors
/// [`Denied`].
pub fn verify_receipt(bytes: &[u8], certificate: &NodeCertificate) -> Result<Verified<Receipt>, Denied> {
    let signed = Signed::<Receipt>::decode(bytes)?;
    let at = signed.unverified().at;
    let receipt = signed.verify_any(certificate.receipt_keys_at(at))?;
    same_node(receipt.node, certificate)?;
    Ok(receipt)
}

/// Finals stand under any receipt key of the node's certificate, whatever the time.
///
/// # Errors
/// [`Denied`].
pub fn verify_final(bytes: &[u8], certificate: &NodeCertificate) -> Result<Verified<Final>, Denied> {
    let signed = Signed::<Final>::decode(bytes)?;
    let verified = signed.verify_any(certificate.receipt_keys.iter().map(|entry| &entry.key))?;
    same_node(verified.node, certificate)?;
    Ok(verified)
}

/// Claims stand as finals do.
///
/// # Errors
/// [`Denied`].
pub fn verify_claim(bytes: &[u8], certificate: &NodeCertificate) -> Result<Verified<Claim>, Denied> {
    let signed = Signed::<Claim>::decode(bytes)?;
    let verified = signed.verify_any(certificate.receipt_keys.iter().map(|entry| &entry.key))?;
    same_node(verified.node, certificate)?;
    Ok(verified)
}

fn same_node(found: NodeId, certificate: &NodeCertificate) -> Result<(), Denied> {
    let expected = certificate.node;
    if found == expected { Ok(()) } else { Err(Denied::OtherNode { found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::*;
    use comity_wire::{Code, cose};

    #[test]
    fn a_receipt_is_judged_at_its_own_time() {
        let certificate = certificate(LAB, LAB_NODE, "lab");
        let code = |receipt: &Receipt, signer: &str| {
            let signed = cose::sign(receipt, &secret(signer));
            verify_receipt(signed.bytes(), &certificate).map(|_| ()).map_err(|denied| denied.code())
        };
        assert_eq!(code(&receipt(), "lab receipt"), Ok(()));
        assert_eq!(code(&receipt(), "lab transport"), Err(Code::WrongKey));
        assert_eq!(code(&Receipt { at: NOW.plus(51 * DAY_S), ..receipt() }, "lab receipt"), Err(Code::WrongKey));
        assert_eq!(code(&Receipt { node: UNI_NODE, ..receipt() }, "lab receipt"), Err(Code::WrongIssuer));
    }

    #[test]
    fn a_final_stands_whatever_the_time() {
        let certificate = certificate(LAB, LAB_NODE, "lab");
        let late = Final { token: TOKEN, node: LAB_NODE, lanes: Default::default(), at: NOW.plus(900 * DAY_S) };
        let signed = |signer| cose::sign(&late, &secret(signer)).bytes().to_vec();
        assert!(verify_final(&signed("lab receipt"), &certificate).is_ok());
        assert!(verify_final(&signed("uni receipt"), &certificate).is_err());
    }
}
