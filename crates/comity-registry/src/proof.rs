//! Equivocation: two heads of one writer that cannot both be true (spec/03-manifest.md §2).
//!
//! Either one number has two contents, or a head names another predecessor than the one its writer signed. A proof
//! freezes its epoch from the number that forked; only the organisation's key opens another epoch. Of several proofs for an
//! epoch the one with the lowest number is kept, so that replicas agree whatever the order in which they heard them.

use comity_wire::cbor::{Reader, Writer};
use comity_wire::object::Roster;
use comity_wire::{Digest, Malformed, OrgId};

use crate::feed::SignedHead;
use crate::verify::{self, HeadPair, Refused};

/// Two heads that contradict each other, and the number whose content is in doubt.
#[derive(Clone, Debug)]
pub struct Proof {
    first: SignedHead,
    second: SignedHead,
    org: OrgId,
    number: (u32, u64),
}

impl Proof {
    /// The contradiction between two heads of one author, if there is one.
    pub fn between(a: &HeadPair, b: &HeadPair) -> Option<Self> {
        let (a, b) = if a.0.number() <= b.0.number() { (a, b) } else { (b, a) };
        let (low, high) = (&a.0, &b.0);
        if low.org != high.org || low.epoch != high.epoch {
            return None;
        }
        let same_number = low.seq == high.seq && low.id() != high.id();
        let broken_link = low.seq.checked_add(1) == Some(high.seq) && high.previous != Some(low.id());
        (same_number || broken_link).then(|| Self {
            first: SignedHead::of(a),
            second: SignedHead::of(b),
            org: low.org,
            number: low.number(),
        })
    }

    /// Checks a proof that someone else made.
    ///
    /// # Errors
    /// [`Refused`] where a head is not believable; `Ok(None)` where both are, and do not contradict each other.
    pub fn verify(first: &SignedHead, second: &SignedHead, roster: &Roster) -> Result<Option<Self>, Refused> {
        let a = verify::head(&first.head, &first.writer, roster)?;
        let b = verify::head(&second.head, &second.writer, roster)?;
        Ok(Self::between(&a, &b))
    }

    pub fn org(&self) -> OrgId {
        self.org
    }

    /// The number from which the author's word counts for nothing.
    pub fn number(&self) -> (u32, u64) {
        self.number
    }

    pub fn heads(&self) -> (&SignedHead, &SignedHead) {
        (&self.first, &self.second)
    }

    /// What two replicas compare: whom, and where.
    pub(crate) fn mark(&self) -> [u8; 28] {
        let mut mark = [0; 28];
        mark[..16].copy_from_slice(self.org.as_bytes());
        mark[16..20].copy_from_slice(&self.number.0.to_be_bytes());
        mark[20..].copy_from_slice(&self.number.1.to_be_bytes());
        mark
    }

    /// `[[head, writer], [head, writer]]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        encode(&mut w, (&self.first, &self.second));
        w.into_bytes()
    }
}

pub(crate) fn encode(w: &mut Writer, (first, second): (&SignedHead, &SignedHead)) {
    w.array(2);
    first.encode(w);
    second.encode(w);
}

pub(crate) fn decode(r: &mut Reader<'_>) -> Result<(SignedHead, SignedHead), Malformed> {
    let at = r.position();
    if r.array()? != 2 {
        return Err(Malformed::value(at, "proof"));
    }
    Ok((SignedHead::decode(r)?, SignedHead::decode(r)?))
}

/// Digest over the marks of all proofs held.
pub(crate) fn root<'a>(proofs: impl Iterator<Item = &'a Proof>) -> Digest {
    let marks: Vec<u8> = proofs.flat_map(|proof| proof.mark()).collect();
    Digest::of(&marks)
}
