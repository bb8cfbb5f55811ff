//! Agreements to an owner's terms of use (spec/03-manifest.md §9).

use comity_wire::object::Agreement;
use comity_wire::time::SKEW_S;
use comity_wire::{OrgId, SecretKey, Signed, Timestamp, Verified, cose};

use crate::chain::Capability;
use crate::denied::Denied;

/// # Panics
/// Where it names no project.
pub fn sign_agreement(agreement: &Agreement, key: &SecretKey) -> Verified<Agreement> {
    cose::sign(agreement, key)
}

/// Verifies the agreement of a token's root holder, at an organisation (F-12). Whether the token lives is asked elsewhere.
///
/// # Errors
/// [`Denied`].
pub fn verify_agreement(
    bytes: &[u8],
    capability: &Capability,
    org: OrgId,
    now: Timestamp,
) -> Result<Verified<Agreement>, Denied> {
    let agreement = Signed::<Agreement>::decode(bytes)?.verify(capability.root_holder())?;
    let token = capability.token();
    if agreement.token != token.id {
        return Err(Denied::OtherToken { found: agreement.token, expected: token.id });
    }
    if agreement.org != org || agreement.subject != token.subject {
        return Err(Denied::OtherProject);
    }
    if agreement.at.since(now).max(now.since(agreement.at)) > SKEW_S {
        return Err(Denied::Stale { created: agreement.at, now });
    }
    Ok(agreement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Directory;
    use crate::chain::{Trust, verify};
    use crate::world::*;
    use comity_wire::Code;

    #[test]
    fn the_root_holder_agrees_for_its_project_now() {
        let directory = base().directory();
        let trust = Trust { directory: &directory as &dyn Directory, node: LAB_NODE, now: NOW };
        let chain = verify(&crate::chains::usual(1), &trust).unwrap();
        let usual = || Agreement { subject: chain.token().subject.clone(), ..agreement() };
        let code = |agreement: &Agreement, signer: &str| {
            let signed = sign_agreement(agreement, &secret(signer));
            verify_agreement(signed.bytes(), &chain, LAB, NOW).map(|_| ()).map_err(|denied| denied.code())
        };
        assert_eq!(code(&usual(), "pi"), Ok(()));
        assert_eq!(code(&usual(), "student"), Err(Code::WrongKey), "a delegate does not agree for the project");
        let other = comity_wire::TokenId([1; 16]);
        assert_eq!(code(&Agreement { token: other, ..usual() }, "pi"), Err(Code::WrongKey));
        assert_eq!(code(&Agreement { org: UNI, ..usual() }, "pi"), Err(Code::NotYours));
        assert_eq!(code(&Agreement { subject: text("sub-of-another"), ..usual() }, "pi"), Err(Code::NotYours));
        assert_eq!(code(&Agreement { at: NOW.minus(61), ..usual() }, "pi"), Err(Code::Stale));
        assert_eq!(code(&Agreement { at: NOW.plus(61), ..usual() }, "pi"), Err(Code::Stale));
        assert_eq!(code(&Agreement { at: NOW.minus(60), ..usual() }, "pi"), Ok(()));
    }
}
