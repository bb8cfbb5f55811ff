//! Trust by key: a server is who it should be if the key it shows is one that the caller already knows.
//!
//! Names, dates and signatures of an X.509 certificate are not looked at: only its key, and the proof in the
//! handshake that the server holds it. At a QUIC door the key comes bare, and a certificate is refused.

use std::fmt;
use std::sync::Arc;

use comity_wire::Digest;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, SignatureScheme,
};

use super::{ALPN_QUIC, PeerCertificate, SERVER_NAME, Unreadable, alpn, provider};

/// Whose keys a dialler takes. There is no "any".
#[derive(Clone, Debug)]
pub enum TrustedKeys {
    /// One of these Ed25519 transport keys. An empty list trusts nobody.
    Exactly(Vec<[u8; 32]>),
    /// Whom the judge admits: for a first contact, where the peer's NodeCertificate has to be held against the roster.
    Judge(Arc<dyn Judge>),
}

/// Decides on a peer that shows a key and, perhaps, a NodeCertificate. Called within the handshake: it must not block.
pub trait Judge: Send + Sync + fmt::Debug {
    /// `Ok` only if the NodeCertificate stands under the roster and names `key` among its transport keys.
    ///
    /// # Errors
    /// Why not, for the log.
    fn admit(&self, peer: &PeerCertificate) -> Result<(), String>;
}

/// The reason inside `CertificateError::Other`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Untrusted(String);

impl TrustedKeys {
    fn admit(&self, peer: &PeerCertificate) -> Result<(), String> {
        match self {
            Self::Exactly(keys) if keys.contains(&peer.key) => Ok(()),
            Self::Exactly(keys) if keys.is_empty() => Err("no key is trusted for this connection".into()),
            Self::Exactly(_) => Err("the server's key is not one that is certified to it".into()),
            Self::Judge(judge) => judge.admit(peer),
        }
    }

    /// TLS 1.3 only. No resumption: a ticket would stand in for the key check.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut config = self.config(Shown::Certificate);
        config.alpn_protocols = alpn();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// For QUIC: a bare key is wanted, and nothing else is taken. Tickets are kept under the server name, which is one for
    /// each set of keys, and in this configuration alone; so a ticket never stands in for a key that was not judged. No
    /// early data: it could be replayed.
    pub(crate) fn raw_key_config(&self) -> ClientConfig {
        let mut config = self.config(Shown::RawKey);
        config.alpn_protocols = vec![ALPN_QUIC.to_vec()];
        config.enable_early_data = false;
        config.resumption = match self {
            Self::Exactly(_) => Resumption::in_memory_sessions(TICKETS_MAX),
            // Whom it admits may change from one handshake to the next.
            Self::Judge(_) => Resumption::disabled(),
        };
        config
    }

    /// The server name that goes with [`TrustedKeys::raw_key_config`]: no host, and the same for the same keys.
    pub(crate) fn server_name(&self) -> String {
        let Self::Exactly(keys) = self else { return SERVER_NAME.to_owned() };
        let mut keys: Vec<&[u8]> = keys.iter().map(<[u8; 32]>::as_slice).collect();
        keys.sort_unstable();
        let digest = Digest::of_parts(&keys).to_string();
        format!("key-{}.comity.invalid", &digest[..32])
    }

    fn config(&self, shown: Shown) -> ClientConfig {
        let provider = provider();
        let verifier = Arc::new(KeyVerifier { trusted: self.clone(), shown, provider: provider.clone() });
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth()
    }
}

/// One node's, so few: it sends one with each handshake.
const TICKETS_MAX: usize = 8;

/// How a server shows its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Certificate,
    RawKey,
}

#[derive(Debug)]
struct KeyVerifier {
    trusted: TrustedKeys,
    shown: Shown,
    provider: Arc<CryptoProvider>,
}

impl KeyVerifier {
    fn read(&self, shown: &[u8]) -> Result<PeerCertificate, Unreadable> {
        match self.shown {
            Shown::Certificate => PeerCertificate::read(shown),
            Shown::RawKey => PeerCertificate::read_raw(shown),
        }
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer = self.read(end_entity).map_err(|e| untrusted(e.to_string()))?;
        self.trusted.admit(&peer).map_err(untrusted)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The key that was judged, not whatever else a second reader might find in the certificate.
        let peer = self.read(cert).map_err(|e| untrusted(e.to_string()))?;
        let schemes = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &peer.spki(), dss, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.shown == Shown::RawKey
    }
}

fn untrusted(reason: String) -> Error {
    CertificateError::Other(OtherError(Arc::new(Untrusted(reason)))).into()
}

#[cfg(test)]
mod tests {
    use comity_wire::{NodeId, SecretKey};
    use rustls::pki_types::ServerName;

    use super::*;
    use crate::tls::{Identity, SERVER_NAME};

    fn identity(seed: u8) -> Identity {
        let key = SecretKey::from_seed([seed; 32]);
        Identity::new(&key, &NodeId::from_bytes([seed; 16]), b"certificate", &[]).unwrap()
    }

    /// Runs a whole handshake in memory.
    fn handshake(server: Arc<rustls::ServerConfig>, trusted: &TrustedKeys) -> Result<(), Error> {
        shake(server, trusted.client_config(), SERVER_NAME)
    }

    fn shake(server: Arc<rustls::ServerConfig>, client: Arc<ClientConfig>, name: &str) -> Result<(), Error> {
        kind(server, client, name).map(|_| ())
    }

    fn kind(
        server: Arc<rustls::ServerConfig>,
        client: Arc<ClientConfig>,
        name: &str,
    ) -> Result<rustls::HandshakeKind, Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(client, name).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.handshake_kind().unwrap())
    }

    fn signing_key(seed: u8) -> Arc<dyn rustls::sign::SigningKey> {
        let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        pkcs8.extend([seed; 32]);
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(pkcs8.into());
        provider().key_provider.load_private_key(key).unwrap()
    }

    fn ends(trusted: &TrustedKeys) -> String {
        let server = identity(1).server_config(None).unwrap();
        handshake(server, trusted).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn a_server_with_an_expected_key_is_taken_and_any_other_is_not() {
        let (own, other) = (*identity(1).key(), *identity(2).key());
        assert_eq!(ends(&TrustedKeys::Exactly(vec![own])), "ok");
        assert_eq!(ends(&TrustedKeys::Exactly(vec![other, own])), "ok");
        assert!(ends(&TrustedKeys::Exactly(vec![other])).contains("not one that is certified"));
    }

    fn raw_ends(server: Arc<rustls::ServerConfig>, trusted: &TrustedKeys) -> String {
        let client = Arc::new(trusted.raw_key_config());
        shake(server, client, &trusted.server_name()).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn a_bare_key_is_taken_if_it_is_expected_and_any_other_is_not() {
        let server = || identity(1).raw_key_config().unwrap();
        let (own, other) = (*identity(1).key(), *identity(2).key());
        assert_eq!(raw_ends(server(), &TrustedKeys::Exactly(vec![other, own])), "ok");
        let wrong = raw_ends(server(), &TrustedKeys::Exactly(vec![other]));
        assert!(wrong.contains("not one that is certified"), "{wrong}");
        assert!(raw_ends(server(), &TrustedKeys::Exactly(vec![])).contains("no key is trusted"));
    }

    #[test]
    fn where_a_bare_key_is_wanted_a_certificate_is_refused_and_the_other_way_round() {
        let trusted = TrustedKeys::Exactly(vec![*identity(1).key()]);
        let mut certificate = identity(1).server_config(None).unwrap().as_ref().clone();
        certificate.alpn_protocols = vec![ALPN_QUIC.to_vec()];
        assert_ne!(raw_ends(Arc::new(certificate), &trusted), "ok");
        let mut bare = identity(1).raw_key_config().unwrap().as_ref().clone();
        bare.alpn_protocols = alpn();
        assert_ne!(handshake(Arc::new(bare), &trusted), Ok(()));
        // A certificate that says it is a bare key.
        let shown = PeerCertificate::read_raw(identity(1).certificate_der());
        assert_eq!(shown, Err(Unreadable::NotEd25519));
    }

    #[test]
    fn a_bare_key_that_the_server_does_not_hold_is_refused() {
        let shown = PeerCertificate { key: *identity(1).key(), node_certificate: None }.spki();
        let shown = vec![CertificateDer::from(shown.as_ref().to_vec())];
        let thief = Arc::new(rustls::sign::CertifiedKey::new(shown, signing_key(9)));
        let thief = rustls::server::AlwaysResolvesServerRawPublicKeys::new(thief);
        let mut server = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(thief));
        server.alpn_protocols = vec![ALPN_QUIC.to_vec()];
        let said = raw_ends(Arc::new(server), &TrustedKeys::Exactly(vec![*identity(1).key()]));
        assert_eq!(said, Error::InvalidCertificate(CertificateError::BadSignature).to_string());
    }

    #[test]
    fn a_caller_that_comes_back_resumes_and_only_under_the_same_keys() {
        let server = identity(1).raw_key_config().unwrap();
        let trusted = TrustedKeys::Exactly(vec![*identity(1).key()]);
        let client = Arc::new(trusted.raw_key_config());
        let again = |client: &Arc<ClientConfig>, name: &str| kind(server.clone(), client.clone(), name).unwrap();
        assert_eq!(again(&client, &trusted.server_name()), rustls::HandshakeKind::Full);
        assert_eq!(again(&client, &trusted.server_name()), rustls::HandshakeKind::Resumed);
        let more = TrustedKeys::Exactly(vec![*identity(2).key(), *identity(1).key()]);
        assert_ne!(more.server_name(), trusted.server_name());
        let same = TrustedKeys::Exactly(vec![*identity(1).key(), *identity(2).key()]);
        assert_eq!(more.server_name(), same.server_name(), "order says nothing");
        assert_eq!(again(&client, &more.server_name()), rustls::HandshakeKind::Full);
        // Over TCP nobody resumes: each connection shows its key.
        let over_tcp = trusted.client_config();
        let door = identity(1).server_config(None).unwrap();
        for _ in 0..2 {
            let full = kind(door.clone(), over_tcp.clone(), SERVER_NAME).unwrap();
            assert_eq!(full, rustls::HandshakeKind::Full);
        }
    }

    #[test]
    fn an_empty_set_trusts_nobody() {
        assert!(ends(&TrustedKeys::Exactly(vec![])).contains("no key is trusted"));
    }

    #[test]
    fn a_server_that_shows_our_key_but_does_not_hold_it_is_refused() {
        // Another node's certificate, signed for with a key of one's own.
        #[derive(Debug)]
        struct Thief(Arc<rustls::sign::CertifiedKey>);
        impl rustls::server::ResolvesServerCert for Thief {
            fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
                Some(self.0.clone())
            }
        }
        let shown = CertificateDer::from(identity(1).certificate_der().to_vec());
        let thief = Thief(Arc::new(rustls::sign::CertifiedKey::new(vec![shown], signing_key(9))));
        let server = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(thief));
        let trusted = TrustedKeys::Exactly(vec![*identity(1).key()]);
        let error = handshake(Arc::new(server), &trusted).unwrap_err();
        assert_eq!(error, Error::InvalidCertificate(CertificateError::BadSignature));
    }

    #[test]
    fn a_key_that_is_not_ed25519_is_no_key_of_ours() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(PeerCertificate::read(certificate.der()), Err(super::super::Unreadable::NotEd25519));
        let server = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        assert!(handshake(Arc::new(server), &TrustedKeys::Exactly(vec![*identity(1).key()])).is_err());
    }

    #[test]
    fn a_judge_sees_key_and_node_certificate_and_its_no_is_final() {
        #[derive(Debug)]
        struct Wants(&'static [u8]);
        impl Judge for Wants {
            fn admit(&self, peer: &PeerCertificate) -> Result<(), String> {
                let carried = peer.node_certificate.as_deref() == Some(self.0);
                carried.then_some(()).ok_or_else(|| "not on the roster".into())
            }
        }
        assert_eq!(ends(&TrustedKeys::Judge(Arc::new(Wants(b"certificate")))), "ok");
        assert!(ends(&TrustedKeys::Judge(Arc::new(Wants(b"other")))).contains("not on the roster"));
    }

    #[test]
    fn a_certificate_of_an_authority_is_shown_for_its_names_only() {
        let foreign = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(vec!["door.example.org".into()]).unwrap();
        let ca = crate::tls::CaCertificate {
            chain_pem: params.self_signed(&foreign).unwrap().pem().into_bytes(),
            key_pem: foreign.serialize_pem().into_bytes(),
            names: vec!["door.example.org".into()],
        };
        let server = identity(1).server_config(Some(&ca)).unwrap();
        assert_eq!(handshake(server, &TrustedKeys::Exactly(vec![*identity(1).key()])), Ok(()));
    }
}
