//! A node's own X.509 certificate over its transport key, and the server configuration of a door.
//!
//! Nobody signs the certificate but the key itself: callers trust the key because a NodeCertificate names it. For
//! tools that know nothing of Comity a certificate from an authority may stand beside it, chosen by server name.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use comity_wire::{NodeId, SecretKey};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, PKCS_ED25519, SanType};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;

use super::certificate::{EXTENSION, NODE_CERTIFICATE_BYTES_MAX, octet_string, spki};
use super::{ALPN_QUIC, alpn, provider};

/// What a door proves itself with.
#[derive(Clone, Debug)]
pub struct Identity {
    key: [u8; 32],
    secret: SecretKey,
    certified: Arc<CertifiedKey>,
}

/// A certificate from an authority, for foreign tools: PEM chain, PEM key, and the server names it is shown for.
pub struct CaCertificate {
    pub chain_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    pub names: Vec<String>,
}

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("'{name}' cannot stand in a certificate")]
    Name { name: String, source: rcgen::Error },
    #[error("node certificate has {bytes} bytes, at most {NODE_CERTIFICATE_BYTES_MAX} fit")]
    NodeCertificate { bytes: usize },
    #[error("cannot make the certificate of the transport key")]
    Make { source: rcgen::Error },
    #[error("the authority's certificate or key is not PEM: {detail}")]
    Pem { detail: String },
    #[error("TLS does not take the certificate")]
    Tls { source: rustls::Error },
}

impl Identity {
    /// A certificate for `node-….comity.invalid`, `localhost`, `127.0.0.1` and `extra_names` (host names or
    /// addresses), carrying `node_certificate`. The same input gives the same key and names, not the same bytes.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn new(
        transport: &SecretKey,
        node: &NodeId,
        node_certificate: &[u8],
        extra_names: &[String],
    ) -> Result<Self, IdentityError> {
        if node_certificate.len() > NODE_CERTIFICATE_BYTES_MAX {
            return Err(IdentityError::NodeCertificate { bytes: node_certificate.len() });
        }
        let make = |source| IdentityError::Make { source };
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8(transport));
        let key_pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519).map_err(make)?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = names(node, extra_names)?;
        params.distinguished_name.push(DnType::CommonName, node.to_string());
        // Dates here mean nothing to us: the NodeCertificate's do. Foreign tools want some.
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        if !node_certificate.is_empty() {
            let content = octet_string(node_certificate);
            params.custom_extensions.push(CustomExtension::from_oid_content(EXTENSION, content));
        }
        let certificate = params.self_signed(&key_pair).map_err(make)?.der().clone();
        let certified = certified(vec![certificate], PrivateKeyDer::Pkcs8(pkcs8))?;
        Ok(Self { key: *transport.public().as_bytes(), secret: transport.clone(), certified })
    }

    /// The transport key that callers must find.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// What a door derives its other keys from.
    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    pub fn certificate_der(&self) -> &[u8] {
        &self.certified.cert[0]
    }

    /// TLS 1.3 only, HTTP/2 and HTTP/1.1, no early data, no client certificates.
    ///
    /// # Errors
    /// [`IdentityError::Pem`] or [`IdentityError::Tls`] where the authority's certificate does not serve.
    pub fn server_config(&self, ca: Option<&CaCertificate>) -> Result<Arc<ServerConfig>, IdentityError> {
        let ca = ca.map(CaCertificate::load).transpose()?;
        let resolver = Resolver { own: self.certified.clone(), ca };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| IdentityError::Tls { source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = alpn();
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// For the QUIC door: the key alone and no certificate (RFC 7250), ALPN `comity/1`, no early data, which could be
    /// replayed, and no client certificates: a request's signature says who asks. A ticket spares a caller that comes back
    /// the proof of the key; it stands for nothing else.
    ///
    /// # Errors
    /// [`IdentityError::Tls`].
    pub fn raw_key_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let shown = vec![CertificateDer::from(spki(&self.key))];
        let raw = Arc::new(CertifiedKey::new(shown, self.certified.key.clone()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| IdentityError::Tls { source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(raw)));
        config.alpn_protocols = vec![ALPN_QUIC.to_vec()];
        config.max_early_data_size = 0;
        config.session_storage = ServerSessionMemoryCache::new(TICKETS_MAX);
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

/// Sessions that the QUIC door remembers; the oldest is forgotten, and its caller proves the key again.
const TICKETS_MAX: usize = 4_096;

impl CaCertificate {
    fn load(&self) -> Result<(BTreeSet<String>, Arc<CertifiedKey>), IdentityError> {
        let pem = |e: rustls::pki_types::pem::Error| IdentityError::Pem { detail: e.to_string() };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.chain_pem).collect::<Result<_, _>>().map_err(pem)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem).map_err(pem)?;
        let names = self.names.iter().map(|n| n.to_ascii_lowercase()).collect();
        Ok((names, certified(chain, key)?))
    }
}

/// Shows the authority's certificate for its names, ours for every other name and for none.
#[derive(Debug)]
struct Resolver {
    own: Arc<CertifiedKey>,
    ca: Option<(BTreeSet<String>, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        match &self.ca {
            Some((names, ca)) if asked.is_some_and(|name| names.contains(&name)) => Some(ca.clone()),
            _ => Some(self.own.clone()),
        }
    }
}

fn names(node: &NodeId, extra: &[String]) -> Result<Vec<SanType>, IdentityError> {
    let mut sans = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let own = [format!("{node}.comity.invalid"), "localhost".to_owned()];
    for name in own.iter().chain(extra) {
        let san = match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => {
                let dns = name.as_str().try_into();
                SanType::DnsName(dns.map_err(|source| IdentityError::Name { name: name.clone(), source })?)
            }
        };
        if !sans.contains(&san) {
            sans.push(san);
        }
    }
    Ok(sans)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, IdentityError> {
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).map_err(|source| IdentityError::Tls { source })
}

/// RFC 8410: version 0, Ed25519, the seed in an octet string.
fn pkcs8(key: &SecretKey) -> Vec<u8> {
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    [&PREFIX[..], &key.seed()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::PeerCertificate;

    fn identity(node_certificate: &[u8]) -> Result<Identity, IdentityError> {
        let key = SecretKey::from_seed([1; 32]);
        Identity::new(&key, &NodeId::from_bytes([2; 16]), node_certificate, &["door.example.org".into()])
    }

    #[test]
    fn the_certificate_names_the_key_and_carries_the_node_certificate() {
        for carried in [&b"one"[..], &[9; 300]] {
            let identity = identity(carried).unwrap();
            let peer = PeerCertificate::read(identity.certificate_der()).unwrap();
            assert_eq!(&peer.key, SecretKey::from_seed([1; 32]).public().as_bytes());
            assert_eq!(peer.node_certificate.as_deref(), Some(carried));
        }
        let bare = identity(&[]).unwrap();
        assert_eq!(PeerCertificate::read(bare.certificate_der()).unwrap().node_certificate, None);
    }

    #[test]
    fn a_node_certificate_that_is_too_large_is_refused_before_it_is_served() {
        let error = identity(&[0; NODE_CERTIFICATE_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, IdentityError::NodeCertificate { .. }));
    }
}
