//! What a scan found: counts, never text.

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_wire::object::Flags;

use crate::category::Category;

/// Counts per category and per rule. Counters stop at their maximum rather than wrap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    counts: [u32; Category::COUNT],
    rules: BTreeMap<Arc<str>, u32>,
    scanned_bytes: u64,
    unscanned_bytes: u64,
}

impl Findings {
    /// Flags of one category.
    #[must_use]
    pub fn count(&self, category: Category) -> u32 {
        self.counts[category.index()]
    }

    /// Categories that were flagged, with their counts, in the order of their numbers.
    pub fn categories(&self) -> impl Iterator<Item = (Category, u32)> + '_ {
        Category::ALL.into_iter().map(|category| (category, self.count(category))).filter(|(_, count)| *count > 0)
    }

    /// Rules that were hit, as `pack/rule`, with their counts.
    pub fn rules(&self) -> impl Iterator<Item = (&str, u32)> + '_ {
        self.rules.iter().map(|(rule, count)| (rule.as_ref(), *count))
    }

    /// Whether nothing was flagged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.rules.is_empty()
    }

    /// Bytes of text that were looked at.
    #[must_use]
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes
    }

    /// Bytes of text above the bound of one scan, which nobody looked at.
    #[must_use]
    pub fn unscanned_bytes(&self) -> u64 {
        self.unscanned_bytes
    }

    /// Adds what another scan found, as of a prompt and its answer.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        for (rule, more) in &other.rules {
            let count = self.rules.entry(Arc::clone(rule)).or_default();
            *count = count.saturating_add(*more);
        }
        self.scanned_bytes = self.scanned_bytes.saturating_add(other.scanned_bytes);
        self.unscanned_bytes = self.unscanned_bytes.saturating_add(other.unscanned_bytes);
    }

    /// The counts as a receipt carries them: by number, zero left out.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags(self.categories().map(|(category, count)| (category.number(), count)).collect())
    }

    pub(crate) fn flag(&mut self, category: Category, rule: &Arc<str>) {
        let count = &mut self.counts[category.index()];
        *count = count.saturating_add(1);
        let count = self.rules.entry(Arc::clone(rule)).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn saw(&mut self, bytes: u64) {
        self.scanned_bytes = self.scanned_bytes.saturating_add(bytes);
    }

    pub(crate) fn passed_over(&mut self, bytes: u64) {
        self.unscanned_bytes = self.unscanned_bytes.saturating_add(bytes);
    }
}
