//! One TLS provider for the whole process, the node's own certificate, and trust by key.
//!
//! Two providers in one binary make every default `builder()` of rustls panic, so each configuration here names the
//! provider, and [`install`] makes it the default for the crates that ask for one.

mod certificate;
mod identity;
mod verifier;

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use certificate::{NODE_CERTIFICATE_BYTES_MAX, PeerCertificate, Unreadable};
pub use identity::{CaCertificate, Identity, IdentityError};
pub use verifier::{Judge, TrustedKeys};

/// The server name our dialler sends: never one that a certificate authority signs for, so a door answers with its
/// own certificate and not with the one beside it.
pub const SERVER_NAME: &str = "door.comity.invalid";

/// aws-lc-rs with the key exchanges we chose: the hybrid is offered last, so that a first flight stays small and a
/// peer that wants it can ask.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
        let kx_groups = vec![X25519, SECP256R1, SECP384R1, X25519MLKEM768];
        Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
    };
    PROVIDER.get_or_init(make).clone()
}

/// Makes [`provider`] the process default. First thing in `main` and in the Python module; a repeat does nothing.
pub fn install() {
    let _ = CryptoProvider::install_default(provider().as_ref().clone());
}

/// Of the QUIC door: one HTTP/1.1 request on each bidirectional stream (spec/09-http.md §9.7).
pub(crate) const ALPN_QUIC: &[u8] = b"comity/1";
const ALPN_H2: &[u8] = b"h2";
const ALPN_H1: &[u8] = b"http/1.1";

/// What both sides speak, the better first.
pub(crate) fn alpn() -> Vec<Vec<u8>> {
    vec![ALPN_H2.to_vec(), ALPN_H1.to_vec()]
}
