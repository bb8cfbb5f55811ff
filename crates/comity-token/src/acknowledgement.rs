//! Acknowledgements: a holder's order to pay running totals (spec/06-metering.md §7, rule 7).

use comity_wire::object::Acknowledgement;
use comity_wire::{PublicKey, SecretKey, Signed, Unverified, Verified, cose};

use crate::chain::Capability;
use crate::denied::Denied;

/// # Panics
/// Where it names no lane, or its lanes do not ascend by (leaf, lane).
pub fn sign_acknowledgement(
    acknowledgement: &Acknowledgement,
    key: &SecretKey,
) -> Verified<Acknowledgement> {
    cose::sign(acknowledgement, key)
}

/// Verifies an acknowledgement of lanes that lie on one chain.
///
/// # Errors
/// As [`verify_acknowledgement_among`].
pub fn verify_acknowledgement(
    bytes: &[u8],
    capability: &Capability,
) -> Result<Verified<Acknowledgement>, Denied> {
    verify_acknowledgement_among(bytes, &[capability])
}

/// Verifies an acknowledgement under chains of one token: each lane's leaf must lie on one of them, and the signer must
/// hold that leaf or an ancestor of it.
///
/// # Errors
/// [`Denied`].
pub fn verify_acknowledgement_among(
    bytes: &[u8],
    chains: &[&Capability],
) -> Result<Verified<Acknowledgement>, Denied> {
    let signed = Signed::<Acknowledgement>::decode(bytes)?;
    let kid = *signed.kid();
    let keys = chains.iter().flat_map(|chain| chain.keys());
    let key = keys.into_iter().find(|key| key.as_bytes() == &kid);
    let key: PublicKey = *key.ok_or(Unverified::WrongKey {
        kind: "acknowledgement",
    })?;
    let verified = signed.verify(&key)?;
    for chain in chains {
        let expected = chain.token().id;
        if verified.token != expected {
            return Err(Denied::OtherToken {
                found: verified.token,
                expected,
            });
        }
    }
    for lane in &verified.lanes {
        let covers = |chain: &&Capability| {
            let leaf = chain.path().iter().position(|at| at.id == lane.leaf);
            let signer = chain.keys().iter().position(|holder| **holder == key);
            matches!((signer, leaf), (Some(signer), Some(leaf)) if signer <= leaf)
        };
        if !chains.iter().any(covers) {
            return Err(Denied::NotOnPath { leaf: lane.leaf });
        }
    }
    Ok(verified)
}
