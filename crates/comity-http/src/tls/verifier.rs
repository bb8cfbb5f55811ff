//! Trust by key: a server is who it should be if its certificate's key is one that the caller already knows.
//!
//! Names, dates and signatures of the X.509 certificate are not looked at: only its key, and the proof in the
//! handshake that the server holds it.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, SignatureScheme,
};

use super::{PeerCertificate, alpn, provider};

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
        let provider = provider();
        let verifier = Arc::new(KeyVerifier { trusted: self.clone(), provider: provider.clone() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = alpn();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }
}

#[derive(Debug)]
struct KeyVerifier {
    trusted: TrustedKeys,
    provider: Arc<CryptoProvider>,
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
        let peer = PeerCertificate::read(end_entity).map_err(|e| untrusted(e.to_string()))?;
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
        let peer = PeerCertificate::read(cert).map_err(|e| untrusted(e.to_string()))?;
        let schemes = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &peer.spki(), dss, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
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
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let mut client = rustls::ClientConnection::new(trusted.client_config(), name).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
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
        let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        pkcs8.extend([9; 32]);
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(pkcs8.into());
        let key = provider().key_provider.load_private_key(key).unwrap();
        let shown = CertificateDer::from(identity(1).certificate_der().to_vec());
        let thief = Thief(Arc::new(rustls::sign::CertifiedKey::new(vec![shown], key)));
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
