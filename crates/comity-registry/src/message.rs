//! What two replicas say to each other on `/comity/sync/1` (spec/03-manifest.md §3), in Comity-CBOR: one array per
//! message, its first item the message's number. Every list is a page with a bound; what did not fit is asked for again.

use comity_wire::cbor::{Limits, MalformedKind, Reader, Writer, scan};
use comity_wire::{Digest, Malformed, OrgId, RosterId};

use crate::feed::SignedHead;
use crate::proof;

/// The largest message.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A page of objects or rosters closes once it holds this much.
pub const PAGE_BYTES: usize = 2 * 1024 * 1024;
pub const DIGESTS_MAX: usize = 1024;
pub const POSITIONS_MAX: usize = 1024;
pub const HEADS_MAX: usize = 256;
pub const PROOFS_MAX: usize = 64;
pub const ROSTERS_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Hello(Hello),
    /// HELLO's answer said that we lack rosters: those after this version.
    Rosters {
        after: u64,
    },
    /// VECTOR: the authors' numbers, in order of their ids, behind this one.
    Vector {
        after: Option<OrgId>,
    },
    /// WANT_HEADS.
    Heads {
        orgs: Vec<OrgId>,
    },
    /// WANT_OBJECTS: indexes by SHA-256, signed objects by content id.
    Objects {
        digests: Vec<Digest>,
    },
    Proofs {
        after: Option<(OrgId, u32)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Hello(Hello),
    Rosters {
        rosters: Vec<Vec<u8>>,
    },
    Vector {
        positions: Vec<Position>,
        more: bool,
    },
    Heads {
        heads: Vec<SignedHead>,
    },
    /// What is in neither list did not fit: ask again.
    Objects {
        objects: Vec<(Digest, Vec<u8>)>,
        missing: Vec<Digest>,
    },
    Proofs {
        proofs: Vec<(SignedHead, SignedHead)>,
        more: bool,
    },
    /// Another federation, or a request that is not understood.
    Refused,
}

/// What two replicas compare before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub federation: RosterId,
    pub roster_version: u64,
    pub vector_root: Digest,
    pub proofs_root: Digest,
}

/// An author's newest complete head: its number and the first 8 bytes of its content id, so that a fork shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub org: OrgId,
    pub epoch: u32,
    pub seq: u64,
    pub head: [u8; 8],
}

impl Position {
    pub fn number(&self) -> (u32, u64) {
        (self.epoch, self.seq)
    }
}

const LIMITS: Limits = Limits { bytes_max: FRAME_BYTES_MAX, items_max: 16 * 1024, tagged: false };

impl Request {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Hello(hello) => hello.encode(&mut w),
            Self::Rosters { after } => {
                w.array(2);
                w.uint(1);
                w.uint(*after);
            }
            Self::Vector { after } => {
                w.array(1 + usize::from(after.is_some()));
                w.uint(2);
                after.iter().for_each(|org| w.bytes(org.as_bytes()));
            }
            Self::Heads { orgs } => {
                w.array(2);
                w.uint(3);
                w.array(orgs.len());
                orgs.iter().for_each(|org| w.bytes(org.as_bytes()));
            }
            Self::Objects { digests } => {
                w.array(2);
                w.uint(4);
                w.array(digests.len());
                digests.iter().for_each(|digest| w.bytes(digest.as_bytes()));
            }
            Self::Proofs { after } => {
                w.array(1 + 2 * usize::from(after.is_some()));
                w.uint(5);
                if let Some((org, epoch)) = after {
                    w.bytes(org.as_bytes());
                    w.uint(u64::from(*epoch));
                }
            }
        }
        w.into_bytes()
    }

    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = start(bytes)?;
        let length = r.array()?;
        let request = match (r.uint()?, length) {
            (0, 5) => Self::Hello(Hello::decode(&mut r)?),
            (1, 2) => Self::Rosters { after: r.uint()? },
            (2, 1) => Self::Vector { after: None },
            (2, 2) => Self::Vector { after: Some(OrgId(r.array_bytes()?)) },
            (3, 2) => Self::Heads { orgs: list(&mut r, HEADS_MAX, |r| r.array_bytes().map(OrgId))? },
            (4, 2) => Self::Objects { digests: list(&mut r, DIGESTS_MAX, |r| r.array_bytes().map(Digest))? },
            (5, 1) => Self::Proofs { after: None },
            (5, 3) => Self::Proofs { after: Some((OrgId(r.array_bytes()?), r.value()?)) },
            _ => return Err(Malformed::value(0, "sync request")),
        };
        r.end().map(|()| request)
    }
}

impl Reply {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Hello(hello) => hello.encode(&mut w),
            Self::Rosters { rosters } => {
                w.array(2);
                w.uint(1);
                w.array(rosters.len());
                rosters.iter().for_each(|roster| w.bytes(roster));
            }
            Self::Vector { positions, more } => {
                w.array(3);
                w.uint(2);
                w.array(positions.len());
                for position in positions {
                    w.array(4);
                    w.bytes(position.org.as_bytes());
                    w.uint(u64::from(position.epoch));
                    w.uint(position.seq);
                    w.bytes(&position.head);
                }
                w.bool(*more);
            }
            Self::Heads { heads } => {
                w.array(2);
                w.uint(3);
                w.array(heads.len());
                heads.iter().for_each(|head| head.encode(&mut w));
            }
            Self::Objects { objects, missing } => {
                w.array(3);
                w.uint(4);
                w.array(objects.len());
                for (digest, bytes) in objects {
                    w.array(2);
                    w.bytes(digest.as_bytes());
                    w.bytes(bytes);
                }
                w.array(missing.len());
                missing.iter().for_each(|digest| w.bytes(digest.as_bytes()));
            }
            Self::Proofs { proofs, more } => {
                w.array(3);
                w.uint(5);
                w.array(proofs.len());
                proofs.iter().for_each(|(a, b)| proof::encode(&mut w, (a, b)));
                w.bool(*more);
            }
            Self::Refused => {
                w.array(1);
                w.uint(15);
            }
        }
        w.into_bytes()
    }

    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = start(bytes)?;
        let length = r.array()?;
        let reply = match (r.uint()?, length) {
            (0, 5) => Self::Hello(Hello::decode(&mut r)?),
            (1, 2) => Self::Rosters { rosters: list(&mut r, ROSTERS_MAX, |r| r.bytes().map(<[u8]>::to_vec))? },
            (2, 3) => Self::Vector { positions: list(&mut r, POSITIONS_MAX, position)?, more: r.bool()? },
            (3, 2) => Self::Heads { heads: list(&mut r, HEADS_MAX, SignedHead::decode)? },
            (4, 3) => Self::Objects {
                objects: list(&mut r, DIGESTS_MAX, object)?,
                missing: list(&mut r, DIGESTS_MAX, |r| r.array_bytes().map(Digest))?,
            },
            (5, 3) => Self::Proofs { proofs: list(&mut r, PROOFS_MAX, proof::decode)?, more: r.bool()? },
            (15, 1) => Self::Refused,
            _ => return Err(Malformed::value(0, "sync reply")),
        };
        r.end().map(|()| reply)
    }
}

impl Hello {
    fn encode(&self, w: &mut Writer) {
        w.array(5);
        w.uint(0);
        w.bytes(self.federation.as_bytes());
        w.uint(self.roster_version);
        w.bytes(self.vector_root.as_bytes());
        w.bytes(self.proofs_root.as_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            federation: RosterId(r.array_bytes()?),
            roster_version: r.uint()?,
            vector_root: Digest(r.array_bytes()?),
            proofs_root: Digest(r.array_bytes()?),
        })
    }
}

fn start(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    scan(bytes, LIMITS)?;
    Ok(Reader::new(bytes))
}

fn list<T>(
    r: &mut Reader<'_>,
    max: usize,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let at = r.position();
    let length = r.array()?;
    if length > max {
        return Err(Malformed::new(at, MalformedKind::TooManyItems));
    }
    (0..length).map(|_| item(r)).collect()
}

fn position(r: &mut Reader<'_>) -> Result<Position, Malformed> {
    four(r)?;
    Ok(Position { org: OrgId(r.array_bytes()?), epoch: r.value()?, seq: r.uint()?, head: r.array_bytes()? })
}

fn four(r: &mut Reader<'_>) -> Result<(), Malformed> {
    let at = r.position();
    if r.array()? == 4 { Ok(()) } else { Err(Malformed::value(at, "position")) }
}

fn object(r: &mut Reader<'_>) -> Result<(Digest, Vec<u8>), Malformed> {
    let at = r.position();
    if r.array()? != 2 {
        return Err(Malformed::value(at, "object of a page"));
    }
    Ok((Digest(r.array_bytes()?), r.bytes()?.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> Vec<Request> {
        let hello = Hello {
            federation: RosterId([1; 16]),
            roster_version: 300,
            vector_root: Digest([2; 32]),
            proofs_root: Digest([3; 32]),
        };
        vec![
            Request::Hello(hello),
            Request::Rosters { after: 7 },
            Request::Vector { after: None },
            Request::Vector { after: Some(OrgId([4; 16])) },
            Request::Heads { orgs: vec![OrgId([5; 16]); 3] },
            Request::Objects { digests: vec![Digest([6; 32]); DIGESTS_MAX] },
            Request::Proofs { after: None },
            Request::Proofs { after: Some((OrgId([7; 16]), 2)) },
        ]
    }

    #[test]
    fn messages_read_back_as_they_were_written() {
        for request in requests() {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
        }
        let head = SignedHead { head: vec![1; 300], writer: vec![2; 200] };
        let position = Position { org: OrgId([1; 16]), epoch: 1, seq: 900, head: [9; 8] };
        for reply in [
            Reply::Rosters { rosters: vec![vec![1; 9], vec![]] },
            Reply::Vector { positions: vec![position; POSITIONS_MAX], more: true },
            Reply::Heads { heads: vec![head.clone(); HEADS_MAX] },
            Reply::Objects { objects: vec![(Digest([1; 32]), vec![5; 70])], missing: vec![Digest([2; 32])] },
            Reply::Proofs { proofs: vec![(head.clone(), head.clone()); PROOFS_MAX], more: false },
            Reply::Refused,
        ] {
            assert_eq!(Reply::from_bytes(&reply.to_bytes()), Ok(reply));
        }
    }

    #[test]
    fn a_page_beyond_its_bound_is_refused() {
        let long = Request::Objects { digests: vec![Digest([6; 32]); DIGESTS_MAX + 1] };
        assert!(Request::from_bytes(&long.to_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_decoders_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::from_bytes(&bytes);
            let _ = Reply::from_bytes(&bytes);
            let _ = SignedHead::from_gossip(&bytes);
        }
    }
}
