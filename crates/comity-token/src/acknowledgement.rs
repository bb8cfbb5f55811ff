//! Acknowledgements: a holder's order to pay running totals (spec/06-metering.md §7, rule 7).

use comity_wire::object::Acknowledgement;
use comity_wire::{PublicKey, SecretKey, Signed, Unverified, Verified, cose};

use crate::chain::Capability;
use crate::denied::Denied;

/// # Panics
/// Where it names no lane, or its lanes do not ascend by (leaf, lane).
pub fn sign_acknowledgement(acknowledgement: &Acknowledgement, key: &SecretKey) -> Verified<Acknowledgement> {
    cose::sign(acknowledgement, key)
}

/// Verifies an acknowledgement of lanes that lie on one chain.
///
/// # Errors
/// As [`verify_acknowledgement_among`].
pub fn verify_acknowledgement(bytes: &[u8], capability: &Capability) -> Result<Verified<Acknowledgement>, Denied> {
    verify_acknowledgement_among(bytes, &[capability])
}

/// Verifies an acknowledgement under chains of one token: each lane's leaf must lie on one of them, and the signer must
/// hold that leaf or an ancestor of it.
///
/// # Errors
/// [`Denied`].
pub fn verify_acknowledgement_among(bytes: &[u8], chains: &[&Capability]) -> Result<Verified<Acknowledgement>, Denied> {
    let signed = Signed::<Acknowledgement>::decode(bytes)?;
    let kid = *signed.kid();
    let keys = chains.iter().flat_map(|chain| chain.keys());
    let key = keys.into_iter().find(|key| key.as_bytes() == &kid);
    let key: PublicKey = *key.ok_or(Unverified::WrongKey { kind: "acknowledgement" })?;
    let verified = signed.verify(&key)?;
    for chain in chains {
        let expected = chain.token().id;
        if verified.token != expected {
            return Err(Denied::OtherToken { found: verified.token, expected });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Directory;
    use crate::chain::{Trust, verify};
    use crate::world::*;
    use comity_wire::object::AckLane;
    use comity_wire::{Amount, Code, Digest};

    fn acknowledgement(leaf: Digest) -> Acknowledgement {
        let lane = AckLane { leaf, lane: 0, n: 3, total: Amount::from_ucr(99), receipt: Digest::of(b"receipt 3") };
        Acknowledgement { token: TOKEN, lanes: list(vec![lane]), at: NOW }
    }

    #[test]
    fn a_leaf_or_any_ancestor_may_acknowledge_and_nobody_else() {
        let directory = base().directory();
        let trust = Trust { directory: &directory as &dyn Directory, node: LAB_NODE, now: NOW };
        let chain = verify(&crate::chains::usual(3), &trust).unwrap();
        let code = |leaf, signer: &str| {
            let signed = sign_acknowledgement(&acknowledgement(leaf), &secret(signer));
            verify_acknowledgement(signed.bytes(), &chain).map(|_| ()).map_err(|denied| denied.code())
        };
        for signer in ["pi", "student", "job", "part"] {
            assert_eq!(code(chain.leaf(), signer), Ok(()), "{signer}");
        }
        assert_eq!(code(chain.leaf(), "stranger"), Err(Code::WrongKey));
        // A child must not order its parent to pay.
        assert_eq!(code(chain.token().id(), "part"), Err(Code::WrongKey));
        assert_eq!(code(Digest::ZERO, "pi"), Err(Code::WrongKey));
        let mut elsewhere = acknowledgement(chain.leaf());
        elsewhere.token = comity_wire::TokenId([1; 16]);
        let elsewhere = sign_acknowledgement(&elsewhere, &secret("pi"));
        assert_eq!(verify_acknowledgement(elsewhere.bytes(), &chain).unwrap_err().code(), Code::WrongKey);
    }

    #[test]
    fn an_ancestor_acknowledges_several_leaves_at_once() {
        let directory = base().directory();
        let trust = Trust { directory: &directory as &dyn Directory, node: LAB_NODE, now: NOW };
        let (short, long) = (crate::chains::usual(1), crate::chains::usual(3));
        let (short, long) = (verify(&short, &trust).unwrap(), verify(&long, &trust).unwrap());
        let mut lanes = [acknowledgement(short.leaf()).lanes[0].clone(), acknowledgement(long.leaf()).lanes[0].clone()];
        lanes.sort_by_key(|lane| lane.leaf);
        let both = Acknowledgement { token: TOKEN, lanes: list(lanes.to_vec()), at: NOW };
        let signed = sign_acknowledgement(&both, &secret("student"));
        assert!(verify_acknowledgement_among(signed.bytes(), &[&short, &long]).is_ok());
        assert!(verify_acknowledgement(signed.bytes(), &short).is_err());
        let by_job = sign_acknowledgement(&both, &secret("job"));
        assert_eq!(verify_acknowledgement_among(by_job.bytes(), &[&short, &long]).unwrap_err().code(), Code::WrongKey);
    }
}
