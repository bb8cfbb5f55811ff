//! The roster's chain: version N+1 is signed by a threshold of N's signers and of its own, and every step is taken
//! (spec/02-keys.md §3; the rules of TUF's root role).

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_wire::object::{Roster, RosterFile};
use comity_wire::{Digest, Timestamp, Unverified};

/// The newest roster, and the steps that led to it as far as they are known.
#[derive(Clone, Debug)]
pub struct Chain {
    roster: Arc<Roster>,
    digest: Digest,
    steps: BTreeMap<u64, Arc<[u8]>>,
}

/// Why a roster file is not the next, or not a trust root at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotTheNext {
    #[error("roster cannot be read")]
    Unreadable { source: Unverified },
    #[error("roster of another federation")]
    Federation,
    #[error("roster version {given} where {expected} comes next; fetch every step")]
    Version { given: u64, expected: u64 },
    #[error("roster version {version} is signed by {signed} of its own signers, {threshold} are needed")]
    OwnThreshold { version: u64, signed: usize, threshold: u8 },
    #[error("roster version {version} is signed by {signed} signers of the version before, {threshold} are needed")]
    PreviousThreshold { version: u64, signed: usize, threshold: u8 },
    #[error("a new issuer key of {org} could be used within 48 h of its publication")]
    Hasty { org: comity_wire::OrgId },
    #[error("roster expired at {at}; ask its signers for a newer one")]
    Expired { at: Timestamp },
}

impl Chain {
    /// How many steps are kept for those who are behind.
    const STEPS_MAX: usize = 64;

    /// Starts from the pinned file: whoever pinned it vouches for its signers.
    ///
    /// # Errors
    /// [`NotTheNext`] where its own signers have not signed it.
    pub fn pinned(bytes: &[u8]) -> Result<Self, NotTheNext> {
        let (file, roster) = RosterFile::decode(bytes).map_err(|source| NotTheNext::Unreadable { source })?;
        own_threshold(&file, &roster)?;
        let steps = BTreeMap::from([(roster.version, Arc::from(bytes))]);
        Ok(Self { digest: file.id(), roster: Arc::new(roster), steps })
    }

    /// Takes the next step. Expiry of a step is not looked at: only the last one's counts ([`Chain::expired`]).
    ///
    /// # Errors
    /// [`NotTheNext`], and the chain is as it was.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(), NotTheNext> {
        let (file, roster) = RosterFile::decode(bytes).map_err(|source| NotTheNext::Unreadable { source })?;
        if roster.federation != self.roster.federation {
            return Err(NotTheNext::Federation);
        }
        let expected = self.roster.version + 1;
        if roster.version != expected {
            return Err(NotTheNext::Version { given: roster.version, expected });
        }
        let signed = file.count(&self.roster.signers);
        if signed < usize::from(self.roster.threshold) {
            let threshold = self.roster.threshold;
            return Err(NotTheNext::PreviousThreshold { version: roster.version, signed, threshold });
        }
        own_threshold(&file, &roster)?;
        if let Some(org) = roster.hasty_issuer(&self.roster) {
            return Err(NotTheNext::Hasty { org });
        }
        self.steps.insert(roster.version, Arc::from(bytes));
        if self.steps.len() > Self::STEPS_MAX {
            self.steps.pop_first();
        }
        self.digest = file.id();
        self.roster = Arc::new(roster);
        Ok(())
    }

    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// SHA-256 of the payload, whoever has signed it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn version(&self) -> u64 {
        self.roster.version
    }

    pub fn bytes(&self) -> &Arc<[u8]> {
        self.steps.last_key_value().map(|(_, bytes)| bytes).expect("a chain has its newest step")
    }

    /// The steps after a version, oldest first; none where the first of them is not kept any more.
    pub fn after(&self, version: u64) -> impl Iterator<Item = &Arc<[u8]>> {
        let complete = self.steps.contains_key(&version.saturating_add(1));
        self.steps.range(version.saturating_add(1)..).map(|(_, bytes)| bytes).take_while(move |_| complete)
    }

    /// # Errors
    /// [`NotTheNext::Expired`]: nothing new is taken in on the word of an expired roster.
    pub fn expired(&self, now: Timestamp) -> Result<(), NotTheNext> {
        let at = self.roster.expires_at;
        if now < at { Ok(()) } else { Err(NotTheNext::Expired { at }) }
    }
}

fn own_threshold(file: &RosterFile, roster: &Roster) -> Result<(), NotTheNext> {
    let signed = file.count(&roster.signers);
    if signed >= usize::from(roster.threshold) {
        return Ok(());
    }
    Err(NotTheNext::OwnThreshold { version: roster.version, signed, threshold: roster.threshold })
}

#[cfg(test)]
mod tests {
    use comity_wire::{RosterId, SecretKey};

    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    fn file(version: u64, federation: u8, threshold: u8, signers: &[u8], signed_by: &[u8]) -> Vec<u8> {
        let mut keys: Vec<_> = signers.iter().map(|n| key(*n).public()).collect();
        keys.sort_unstable();
        let roster = Roster {
            federation: RosterId([federation; 16]),
            version,
            issued_at: Timestamp(100),
            expires_at: Timestamp(1_000 * version),
            threshold,
            signers: keys.try_into().unwrap(),
            organisations: Default::default(),
            anchors: Default::default(),
        };
        let mut file = RosterFile::new(&roster);
        signed_by.iter().for_each(|n| file.sign(&key(*n)));
        file.to_bytes()
    }

    #[test]
    fn a_step_needs_both_thresholds() {
        let pinned = || Chain::pinned(&file(1, 1, 2, &[1, 2, 3], &[1, 2])).unwrap();
        // (version, federation, signers, who signed, whether it stands)
        type Case<'a> = (u64, u8, &'a [u8], &'a [u8], bool);
        let table: &[Case<'_>] = &[
            (2, 1, &[1, 2, 3], &[1, 3], true),
            (2, 1, &[3, 4, 5], &[2, 3, 4], true),
            (2, 1, &[3, 4, 5], &[3, 4], false),
            (2, 1, &[3, 4, 5], &[1, 2, 4], false),
            (2, 1, &[1, 2, 3], &[1], false),
            (3, 1, &[1, 2, 3], &[1, 2], false),
            (1, 1, &[1, 2, 3], &[1, 2], false),
            (2, 9, &[1, 2, 3], &[1, 2], false),
        ];
        for (version, federation, signers, signed, stands) in table {
            let mut chain = pinned();
            let outcome = chain.advance(&file(*version, *federation, 2, signers, signed));
            assert_eq!(outcome.is_ok(), *stands, "{version} {signers:?} {signed:?}: {outcome:?}");
            assert_eq!(chain.version(), if *stands { 2 } else { 1 });
        }
        assert!(Chain::pinned(&file(1, 1, 2, &[1, 2, 3], &[1])).is_err());
    }

    #[test]
    fn steps_are_kept_for_those_behind_and_the_last_expiry_counts() {
        let mut chain = Chain::pinned(&file(1, 1, 1, &[1], &[1])).unwrap();
        chain.advance(&file(2, 1, 1, &[1], &[1])).unwrap();
        chain.advance(&file(3, 1, 1, &[1], &[1])).unwrap();
        assert_eq!(chain.after(1).count(), 2);
        assert_eq!(chain.after(3).count(), 0);
        assert!(chain.expired(Timestamp(2_999)).is_ok());
        assert!(chain.expired(Timestamp(3_000)).is_err());
    }
}
