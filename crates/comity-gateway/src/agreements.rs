//! Terms of use that this owner asks for, and which project agreed to which (spec/03-manifest.md §9).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use comity_wire::object::TermsOfUse;
use comity_wire::{Digest, Malformed};

/// All of them in memory; the store bounds how many there are.
#[derive(Default)]
pub(crate) struct Agreements {
    texts: RwLock<HashMap<Digest, Arc<TermsOfUse>>>,
    by_subject: RwLock<HashMap<String, Arc<[Digest]>>>,
}

impl Agreements {
    /// # Errors
    /// [`Malformed`] where it is no text of terms.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, Malformed> {
        let terms = TermsOfUse::from_bytes(bytes)?;
        let digest = terms.digest();
        self.texts.write().unwrap_or_else(PoisonError::into_inner).entry(digest).or_insert_with(|| Arc::new(terms));
        Ok(digest)
    }

    pub(crate) fn get(&self, terms: &Digest) -> Option<Arc<TermsOfUse>> {
        self.texts.read().unwrap_or_else(PoisonError::into_inner).get(terms).cloned()
    }

    pub(crate) fn agree(&self, subject: &str, terms: Digest) {
        let mut by_subject = self.by_subject.write().unwrap_or_else(PoisonError::into_inner);
        let known = by_subject.entry(subject.to_owned()).or_default();
        if !known.contains(&terms) {
            *known = known.iter().copied().chain([terms]).collect();
        }
    }

    /// What a project agreed to, in no order.
    pub(crate) fn of(&self, subject: &str) -> Arc<[Digest]> {
        self.by_subject.read().unwrap_or_else(PoisonError::into_inner).get(subject).cloned().unwrap_or_default()
    }
}
