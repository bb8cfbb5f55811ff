//! What a door's X.509 certificate says to us: its Ed25519 key and the NodeCertificate it carries.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::der_parser::{Oid, oid};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The private extension that carries a NodeCertificate: under the arc that RFC 5612 sets aside, until the project has
/// an enterprise number of its own. Not critical, so that foreign tools pass over it.
pub(super) const EXTENSION: &[u64] = &[1, 3, 6, 1, 4, 1, 32473, 67, 1];
const EXTENSION_OID: Oid<'static> = oid!(1.3.6.1.4.1.32473.67.1);

/// A NodeCertificate larger than this is not read.
pub const NODE_CERTIFICATE_BYTES_MAX: usize = 8 << 10;

/// `AlgorithmIdentifier` Ed25519 and a bit string of 32 bytes: the only form there is (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What was read out of a peer's certificate. The key is proven by the handshake; the NodeCertificate is only claimed,
/// until somebody verifies it under the roster and finds this key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    pub key: [u8; 32],
    /// Opaque here; absent where the peer carries none.
    pub node_certificate: Option<Vec<u8>>,
}

/// Why a certificate says nothing to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the peer's certificate is not X.509")]
    NotX509,
    #[error("the peer's key is not Ed25519")]
    NotEd25519,
    #[error("the node certificate in the peer's certificate is malformed, doubled or too large")]
    Extension,
}

impl PeerCertificate {
    /// # Errors
    /// [`Unreadable`].
    pub fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Unreadable::NotX509)?;
        if !rest.is_empty() {
            return Err(Unreadable::NotX509);
        }
        let spki = certificate.tbs_certificate.subject_pki.raw;
        let key = spki.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
        let key = key.ok_or(Unreadable::NotEd25519)?;
        let extension = certificate.tbs_certificate.get_extension_unique(&EXTENSION_OID);
        let node_certificate = match extension.map_err(|_| Unreadable::Extension)? {
            Some(extension) => Some(octets(extension.value).ok_or(Unreadable::Extension)?.to_vec()),
            None => None,
        };
        Ok(Self { key, node_certificate })
    }

    /// The key alone, as a raw public key shows it (RFC 7250): it carries no NodeCertificate.
    ///
    /// # Errors
    /// [`Unreadable::NotEd25519`] for anything but an Ed25519 key in its one form.
    pub fn read_raw(spki: &[u8]) -> Result<Self, Unreadable> {
        let key = spki.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
        Ok(Self { key: key.ok_or(Unreadable::NotEd25519)?, node_certificate: None })
    }

    pub(crate) fn of_chain(chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        Self::read(chain?.first()?).ok()
    }

    pub(super) fn spki(&self) -> SubjectPublicKeyInfoDer<'static> {
        spki(&self.key).into()
    }
}

/// `SubjectPublicKeyInfo` of an Ed25519 key.
pub(super) fn spki(key: &[u8; 32]) -> Vec<u8> {
    [&SPKI_PREFIX[..], key].concat()
}

/// A DER octet string around `bytes`.
pub(super) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len();
    let mut der = vec![0x04];
    match len {
        0..=0x7f => der.push(len as u8),
        0x80..=0xff => der.extend([0x81, len as u8]),
        _ => der.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    der.extend_from_slice(bytes);
    der
}

/// The bytes in a DER octet string; only the form that [`octet_string`] writes.
fn octets(der: &[u8]) -> Option<&[u8]> {
    let start = match *der.get(1)? {
        0..=0x7f => 2,
        0x81 => 3,
        0x82 => 4,
        _ => return None,
    };
    let bytes = der.get(start..)?;
    (bytes.len() <= NODE_CERTIFICATE_BYTES_MAX && octet_string(bytes) == der).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_octet_string_reads_back_at_every_length_form_and_in_no_other() {
        for len in [0, 1, 127, 128, 255, 256, NODE_CERTIFICATE_BYTES_MAX] {
            let bytes = vec![7; len];
            assert_eq!(octets(&octet_string(&bytes)), Some(&bytes[..]));
        }
        assert_eq!(octets(&octet_string(&vec![7; NODE_CERTIFICATE_BYTES_MAX + 1])), None);
        assert_eq!(octets(&[0x04, 0x81, 0x01, 0x07]), None);
        assert_eq!(octets(&[0x04, 0x02, 0x07]), None);
        assert_eq!(octets(&[0x05, 0x01, 0x07]), None);
        assert_eq!(octets(&[]), None);
    }
}
