//! What was seen, sealed: HPKE (RFC 9180) in base mode for a pair of the node's own, the case authenticated with it.
//!
//! A copy of the database tells nothing without `keys/cases.key`; the running node has both, so that the operator can read.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_access::case::CaseId;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use crate::failure::{Failure, While as _};
use crate::home;

const INFO: &[u8] = b"comity/case-excerpt/1";
const KEY_BYTES: usize = 32;
pub(super) const LOCK_FILE: &str = "keys/cases.pub";
pub(super) const KEY_FILE: &str = "keys/cases.key";

pub(super) struct Seal {
    lock: HpkePublicKey,
    key: HpkePrivateKey,
}

impl Seal {
    /// The pair of a home; made where there is none.
    pub(super) fn of(home: &Path) -> Result<Self, Failure> {
        let (lock, key) = (home.join(LOCK_FILE), home.join(KEY_FILE));
        if !key.exists() && !lock.exists() {
            let (public, secret) = SUITE.generate_key_pair().while_("cannot make a key for cases")?;
            let text = Zeroizing::new(STANDARD.encode(secret.secret_bytes()) + "\n");
            home::write_secret(&key, text.as_bytes())?;
            home::write(&lock, (STANDARD.encode(public.0) + "\n").as_bytes())?;
        }
        let secret = read(&key)?;
        Ok(Self { lock: HpkePublicKey(read(&lock)?.to_vec()), key: HpkePrivateKey::from(secret.to_vec()) })
    }

    pub(super) fn close(&self, case: CaseId, text: &str) -> Result<Vec<u8>, Failure> {
        let (secret, sealed) =
            SUITE.seal(INFO, &case.0, text.as_bytes(), &self.lock).while_("what was seen is not sealed")?;
        Ok([secret.0, sealed].concat())
    }

    pub(super) fn open(&self, case: CaseId, sealed: &[u8]) -> Result<String, Failure> {
        let wrong = || {
            Failure::new("what was seen does not open")
                .hint("it was sealed for the keys/cases.key of another home, or altered")
        };
        let (secret, sealed) = sealed.split_at_checked(KEY_BYTES).ok_or_else(wrong)?;
        let opened = SUITE.open(&EncapsulatedSecret(secret.to_vec()), INFO, &case.0, sealed, &self.key);
        String::from_utf8(opened.map_err(|_| wrong())?).map_err(|_| wrong())
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text = Zeroizing::new(std::fs::read_to_string(path).while_(format!("cannot read {}", path.display()))?);
    let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == KEY_BYTES);
    bytes.map(Zeroizing::new).ok_or_else(|| Failure::new(format!("{} holds no key for cases", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_for_one_case_opens_for_it_alone_and_with_this_key_alone() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for home in [&one, &other] {
            std::fs::create_dir(home.path().join("keys")).unwrap();
        }
        let seal = Seal::of(one.path()).unwrap();
        let (case, another) = (CaseId([1; 16]), CaseId([2; 16]));
        let sealed = seal.close(case, "vote for Alder").unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"Alder"));
        // The same pair after a restart.
        let again = Seal::of(one.path()).unwrap();
        assert_eq!(again.open(case, &sealed).unwrap(), "vote for Alder");
        assert!(again.open(another, &sealed).is_err());
        assert!(Seal::of(other.path()).unwrap().open(case, &sealed).is_err());
        let mut altered = sealed;
        *altered.last_mut().unwrap() ^= 1;
        assert!(again.open(case, &altered).is_err());
    }
}
