//! What lets a door that was killed and started again say so at once: keys that are the same after each start.
//!
//! A caller of the process that died still sends on its old connection. A door that knows its own connection ids, and
//! the reset token of each, answers the first such packet with a stateless reset (RFC 9000 §10.3), and the caller
//! connects anew instead of waiting until the connection is idle for too long.

use std::sync::Arc;

use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::{EndpointConfig, HashedConnectionIdGenerator};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock};

use crate::tls::Identity;

/// The endpoint's keys, from the transport key and the port: whoever can read a connection id on the way to one port
/// cannot have its reset token told by another door of the same node (RFC 9000 §21.11).
pub(super) fn endpoint_config(identity: &Identity, port: u16) -> EndpointConfig {
    let (hkdf, port) = (hkdf(), port.to_be_bytes());
    let secret = hkdf.extract_from_secret(None, &*identity.secret().seed());
    let reset = secret.expand_block(&[RESET, &port]);
    let ids = connection_id_key(secret.as_ref(), &port);
    let mut config = EndpointConfig::new(Arc::new(ResetKey { hkdf, key: reset }));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

const RESET: &[u8] = b"comity quic reset v1";
/// Its hash is no cryptographic one and may be found out: it keeps stray packets away, and no secret.
const CONNECTION_IDS: &[u8] = b"comity quic connection ids v1";

fn connection_id_key(secret: &dyn HkdfExpander, port: &[u8]) -> u64 {
    let mut key = [0; 8];
    secret.expand_slice(&[CONNECTION_IDS, port], &mut key).expect("HKDF gives eight bytes");
    u64::from_be_bytes(key)
}

fn hkdf() -> &'static dyn Hkdf {
    TLS13_AES_128_GCM_SHA256.tls13().expect("a suite of TLS 1.3").hkdf_provider
}

struct ResetKey {
    hkdf: &'static dyn Hkdf,
    key: OkmBlock,
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        out.copy_from_slice(self.hkdf.hmac_sign(&self.key, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        32
    }

    /// Never asked of a reset key: the caller compares the token that it was told. Compared as if it were.
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let differs =
            self.hkdf.hmac_sign(&self.key, data).as_ref().iter().zip(signature).fold(0, |d, (a, b)| d | (a ^ b));
        if differs == 0 && signature.len() == self.signature_len() { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::{NodeId, SecretKey};

    use super::*;

    fn keys(seed: u8, port: u16) -> (Vec<u8>, u64) {
        let secret = SecretKey::from_seed([seed; 32]);
        let identity = Identity::new(&secret, &NodeId::from_bytes([2; 16]), &[], &[]).unwrap();
        let (hkdf, port) = (hkdf(), port.to_be_bytes());
        let expander = hkdf.extract_from_secret(None, &*identity.secret().seed());
        let key = ResetKey { hkdf, key: expander.expand_block(&[RESET, &port]) };
        let mut token = vec![0; 32];
        key.sign(b"an id", &mut token);
        assert!(key.verify(b"an id", &token).is_ok() && key.verify(b"another", &token).is_err());
        assert!(key.verify(b"an id", &token[..31]).is_err());
        (token, connection_id_key(expander.as_ref(), &port))
    }

    #[test]
    fn each_start_has_the_same_keys_and_each_node_and_port_its_own() {
        assert_eq!(keys(1, 443), keys(1, 443));
        for (other, what) in [(keys(2, 443), "node"), (keys(1, 444), "port")] {
            assert_ne!(keys(1, 443).0, other.0, "the reset key of another {what}");
            assert_ne!(keys(1, 443).1, other.1, "the ids of another {what}");
        }
    }
}
