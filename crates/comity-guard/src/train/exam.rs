//! An examination on data that neither weights nor bands were made from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Example;
use super::corpus::{BadCorpus, Corpus};
use crate::category::Category;
use crate::filter::Filter;
use crate::findings::Findings;
use crate::linear::Band;

/// Examples that the committed weights are trained on.
pub const TRAINED_ON: usize = 40_000;
/// Examples that their bands are set on.
pub const TUNED_ON: usize = 8_000;
/// Examples that they are examined on.
pub const EXAMINED_ON: usize = 8_000;
/// Seed of the examination.
pub const EXAM_SEED: u64 = 2026;

/// The kind of sets that are paragraphs of our own documentation.
const PROSE: &str = "technical prose";

/// A filter's answers, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// By category: texts of it, and how many of them were flagged as such.
    pub of_category: [Share; Category::COUNT],
    /// The same, flagged in the high band.
    pub surely: [Share; Category::COUNT],
    /// By category: harmless texts, and how many of them were flagged as it.
    pub harmless: [Share; Category::COUNT],
    /// The same, flagged in the high band.
    pub harmless_surely: [Share; Category::COUNT],
    /// By category: texts of other categories that were flagged as it.
    pub others: [u64; Category::COUNT],
    /// By kind of harmless text: how many were flagged as anything.
    pub kinds: BTreeMap<String, Share>,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// How many were flagged.
    pub flagged: u64,
    /// How many there were.
    pub of: u64,
}

impl Share {
    fn count(&mut self, flagged: bool) {
        self.flagged += u64::from(flagged);
        self.of += 1;
    }

    /// 0 to 1; 0 of nothing.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of examples")]
    pub fn rate(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.flagged as f64 / self.of as f64 }
    }
}

impl Marks {
    /// Of the texts that were flagged as a category, the share that were of it. It depends on the mix of the examples.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of examples")]
    pub fn precision(&self, category: Category) -> f64 {
        let at = category.index();
        let right = self.of_category[at].flagged;
        let all = right + self.harmless[at].flagged + self.others[at];
        if all == 0 { 0.0 } else { right as f64 / all as f64 }
    }
}

/// Examines a filter.
#[must_use]
pub fn examine(filter: &Filter, examples: &[Example]) -> Marks {
    let mut marks = Marks::default();
    for example in examples {
        let found = filter.scan(&example.text);
        marks.mark(example, &found);
    }
    marks
}

impl Marks {
    fn mark(&mut self, example: &Example, found: &Findings) {
        for category in Category::ALL {
            let at = category.index();
            let (flagged, surely) = (found.count(category) > 0, found.band(category) == Some(Band::High));
            match example.category {
                Some(own) if own == category => {
                    self.of_category[at].count(flagged);
                    self.surely[at].count(surely);
                }
                Some(_) => self.others[at] += u64::from(flagged),
                None => {
                    self.harmless[at].count(flagged);
                    self.harmless_surely[at].count(surely);
                }
            }
        }
        if example.category.is_none() {
            self.kinds.entry(example.kind.clone()).or_default().count(!found.is_clean());
        }
    }
}

/// The paraphrase attack: what is said without the words of any rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Paraphrases(pub BTreeMap<Category, Vec<String>>);

impl Paraphrases {
    /// Reads them.
    ///
    /// # Errors
    /// When it is not TOML of texts by category.
    pub fn from_toml(text: &str) -> Result<Self, BadCorpus> {
        Ok(toml::from_str(text).map_err(Box::new)?)
    }

    /// By category, how many a filter flags as such.
    #[must_use]
    pub fn seen(&self, filter: &Filter) -> BTreeMap<Category, Share> {
        let share = |(category, texts): (&Category, &Vec<String>)| {
            let mut share = Share::default();
            texts.iter().for_each(|text| share.count(filter.scan(text).count(*category) > 0));
            (*category, share)
        };
        self.0.iter().map(share).collect()
    }
}

/// Of the pairs of words in held-out templates, how many stand in training templates too: what the two share although no
/// template and no slot's word is in both.
#[must_use]
pub fn overlap(train: &Corpus, heldout: &Corpus) -> Share {
    let pairs = |corpus: &Corpus| -> BTreeSet<(String, String)> {
        let mut pairs = BTreeSet::new();
        // Prose is everyone's English; what is asked is whether orders were learned by heart.
        let orders = corpus.sets.iter().filter(|set| set.kind != PROSE);
        for template in orders.flat_map(|set| &set.templates) {
            let words: Vec<String> = template
                .split(|c: char| !c.is_alphanumeric() && c != '{' && c != '}')
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect();
            let plain = |word: &String| !word.starts_with('{');
            pairs.extend(
                words.windows(2).filter(|pair| pair.iter().all(plain)).map(|pair| (pair[0].clone(), pair[1].clone())),
            );
        }
        pairs
    };
    let seen = pairs(train);
    let mut share = Share::default();
    pairs(heldout).iter().for_each(|pair| share.count(seen.contains(pair)));
    share
}
