//! `/comity/hello/1`: the first thing two nodes say. Each shows its NodeCertificate; the answer also brings the roster
//! steps that the asker lacks, since a newcomer's organisation may stand in none but the newest.

use comity_wire::cbor::{Limits, Reader, Writer, scan};
use comity_wire::{Malformed, PublicKey};
use libp2p::PeerId;

pub(crate) const REQUEST_BYTES_MAX: usize = 4 * 1024;
pub(crate) const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024 - 1;

pub(crate) struct Hello {
    pub(crate) certificate: Vec<u8>,
    pub(crate) roster_version: u64,
}

pub(crate) enum Answer {
    Welcome {
        certificate: Vec<u8>,
        rosters: Vec<Vec<u8>>,
    },
    /// Why not, for the operator on the other side.
    Refused {
        reason: String,
    },
}

impl Hello {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.array(2);
        w.bytes(&self.certificate);
        w.uint(self.roster_version);
        w.into_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        scan(bytes, Limits { bytes_max: REQUEST_BYTES_MAX, items_max: 3, tagged: false })?;
        let mut r = Reader::new(bytes);
        expect(r.array()?, 2)?;
        let hello = Self { certificate: r.bytes()?.to_vec(), roster_version: r.uint()? };
        r.end().map(|()| hello)
    }
}

impl Answer {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Welcome { certificate, rosters } => {
                w.array(2);
                w.bytes(certificate);
                w.array(rosters.len());
                rosters.iter().for_each(|roster| w.bytes(roster));
            }
            Self::Refused { reason } => {
                w.array(1);
                w.text(reason);
            }
        }
        w.into_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        scan(bytes, Limits { bytes_max: REPLY_BYTES_MAX, items_max: 64, tagged: false })?;
        let mut r = Reader::new(bytes);
        let answer = match r.array()? {
            1 => Self::Refused { reason: r.text()?.chars().take(200).collect() },
            length => {
                expect(length, 2)?;
                let certificate = r.bytes()?.to_vec();
                let count = r.array()?;
                let rosters = (0..count).map(|_| r.bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
                Self::Welcome { certificate, rosters }
            }
        };
        r.end().map(|()| answer)
    }
}

const fn expect(length: usize, expected: usize) -> Result<(), Malformed> {
    if length == expected { Ok(()) } else { Err(Malformed::value(0, "hello")) }
}

/// The Ed25519 key that a peer id is made of. Other kinds of keys have none.
pub(crate) fn key_of(peer: &PeerId) -> Option<PublicKey> {
    let multihash = peer.as_ref();
    // 0x00 is the identity hash: the digest is the key itself, in protobuf.
    let encoded = (multihash.code() == 0).then(|| multihash.digest())?;
    let key = libp2p::identity::PublicKey::try_decode_protobuf(encoded).ok()?;
    PublicKey::from_bytes(&key.try_into_ed25519().ok()?.to_bytes()).ok()
}
