//! What a scan found: counts, never text.

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_wire::object::Flags;

use crate::category::Category;
use crate::linear::{Band, Scores};

/// Counts per category and per rule. Counters stop at their maximum rather than wrap.
///
/// A category's count is the greater of what rules matched and of the passages that the classifier took for it: both
/// speak of the same text, so they are not added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    counts: [u32; Category::COUNT],
    by_rules: [u32; Category::COUNT],
    by_classifier: [u32; Category::COUNT],
    bands: [Option<Band>; Category::COUNT],
    scores: Scores,
    rules: BTreeMap<Arc<str>, (Category, u32)>,
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

    /// How sure that is; `None` where nothing was flagged. A rule that matched is sure.
    #[must_use]
    pub fn band(&self, category: Category) -> Option<Band> {
        let by_rule = (self.by_rules[category.index()] > 0).then_some(Band::High);
        by_rule.max(self.bands[category.index()])
    }

    /// What the classifier made of the worst passage, in thousandths; rules have no part in it.
    #[must_use]
    pub fn score(&self, category: Category) -> u16 {
        self.scores.of_category(category)
    }

    /// Flags of one category that rules raised.
    #[must_use]
    pub fn by_rules(&self, category: Category) -> u32 {
        self.by_rules[category.index()]
    }

    /// Rules that were hit, as `pack/rule`, with their counts. The classifier's passages stand among them as
    /// `linear/category`.
    pub fn rules(&self) -> impl Iterator<Item = (&str, u32)> + '_ {
        self.rules.iter().map(|(rule, (_, count))| (rule.as_ref(), *count))
    }

    /// Those of one category.
    pub fn rules_of(&self, category: Category) -> impl Iterator<Item = (&str, u32)> + '_ {
        let of = self.rules.iter().filter(move |(_, (of, _))| *of == category);
        of.map(|(rule, (_, count))| (rule.as_ref(), *count))
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
        let counts = [
            (&mut self.counts, &other.counts),
            (&mut self.by_rules, &other.by_rules),
            (&mut self.by_classifier, &other.by_classifier),
        ];
        for (count, more) in counts.into_iter().flat_map(|(counts, more)| counts.iter_mut().zip(more)) {
            *count = count.saturating_add(*more);
        }
        for (band, other) in self.bands.iter_mut().zip(other.bands) {
            *band = (*band).max(other);
        }
        self.scores = self.scores.max(other.scores);
        for (rule, (category, more)) in &other.rules {
            let (_, count) = self.rules.entry(Arc::clone(rule)).or_insert((*category, 0));
            *count = count.saturating_add(*more);
        }
        self.scanned_bytes = self.scanned_bytes.saturating_add(other.scanned_bytes);
        self.unscanned_bytes = self.unscanned_bytes.saturating_add(other.unscanned_bytes);
    }

    /// Adds what somebody else made of the same text: the greater counts, since both speak of the same words.
    pub fn beside(&mut self, other: &Self) {
        for (count, theirs) in self.counts.iter_mut().zip(other.counts) {
            *count = (*count).max(theirs);
        }
        for (band, theirs) in self.bands.iter_mut().zip(other.bands) {
            *band = (*band).max(theirs);
        }
        for (rule, (category, more)) in &other.rules {
            let (_, count) = self.rules.entry(Arc::clone(rule)).or_insert((*category, 0));
            *count = count.saturating_add(*more);
        }
    }

    /// The counts as a receipt carries them: by number, zero left out.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags(self.categories().map(|(category, count)| (category.number(), count)).collect())
    }

    pub(crate) fn flag(&mut self, category: Category, rule: &Arc<str>) {
        let at = category.index();
        self.by_rules[at] = self.by_rules[at].saturating_add(1);
        self.counts[at] = self.by_rules[at].max(self.by_classifier[at]);
        let (_, count) = self.rules.entry(Arc::clone(rule)).or_insert((category, 0));
        *count = count.saturating_add(1);
    }

    /// What the classifier has found by now in the text of this scan, in place of what it had found before.
    pub(crate) fn judged(&mut self, category: Category, passages: u32, band: Option<Band>, rule: &Arc<str>) {
        let at = category.index();
        self.by_classifier[at] = passages;
        self.bands[at] = band;
        self.counts[at] = self.by_rules[at].max(passages);
        if passages > 0 {
            self.rules.insert(Arc::clone(rule), (category, passages));
        }
    }

    /// Another server's word on one text.
    pub(crate) fn moderated(&mut self, category: Category, band: Band, rule: &Arc<str>) {
        let at = category.index();
        self.counts[at] = self.counts[at].saturating_add(1);
        self.bands[at] = self.bands[at].max(Some(band));
        let (_, count) = self.rules.entry(Arc::clone(rule)).or_insert((category, 0));
        *count = count.saturating_add(1);
    }

    pub(crate) fn scored(&mut self, scores: Scores) {
        self.scores = scores;
    }

    pub(crate) fn saw(&mut self, bytes: u64) {
        self.scanned_bytes = self.scanned_bytes.saturating_add(bytes);
    }

    pub(crate) fn passed_over(&mut self, bytes: u64) {
        self.unscanned_bytes = self.unscanned_bytes.saturating_add(bytes);
    }
}
