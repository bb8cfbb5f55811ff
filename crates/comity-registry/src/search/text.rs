//! The text index: an inverted one with whole-number scores, so that every replica ranks alike.

use std::collections::BTreeMap;

use comity_wire::ModelId;
use comity_wire::object::Summary;

/// Finds models by words.
pub trait SearchIndex: Default {
    fn put(&mut self, summary: &Summary);
    fn remove(&mut self, model: &ModelId);
    /// Models in which each term occurs, as a word or as the beginning of one, with their scores.
    fn find(&self, terms: &[String]) -> Vec<(ModelId, u64)>;
}

/// Words in lower case: letters and digits, split at everything else. Each counts once.
pub fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        if !terms.contains(&word) {
            terms.push(word);
        }
    }
    terms
}

/// Words to models with a weight: where a word stands decides how much it counts.
#[derive(Debug, Default)]
pub struct Inverted {
    postings: BTreeMap<String, BTreeMap<ModelId, u64>>,
    words: BTreeMap<ModelId, Vec<String>>,
}

const NAME: u64 = 8;
const TITLE: u64 = 6;
const TASK: u64 = 4;
const DESCRIPTION: u64 = 1;
/// A term that is only the beginning of a word counts half.
const WHOLE: u64 = 2;

impl SearchIndex for Inverted {
    fn put(&mut self, summary: &Summary) {
        self.remove(&summary.model);
        let mut weights: BTreeMap<String, u64> = BTreeMap::new();
        let mut add = |text: &str, weight: u64| {
            for word in terms(text) {
                *weights.entry(word).or_default() += weight;
            }
        };
        add(summary.model.as_str(), NAME);
        add(&summary.title, TITLE);
        summary.tasks.iter().for_each(|task| add(task, TASK));
        summary.languages.iter().for_each(|language| add(language, TASK));
        add(&summary.license, DESCRIPTION);
        add(&summary.description, DESCRIPTION);
        for (word, weight) in &weights {
            self.postings.entry(word.clone()).or_default().insert(summary.model.clone(), *weight);
        }
        self.words.insert(summary.model.clone(), weights.into_keys().collect());
    }

    fn remove(&mut self, model: &ModelId) {
        for word in self.words.remove(model).unwrap_or_default() {
            if let Some(postings) = self.postings.get_mut(&word) {
                postings.remove(model);
                if postings.is_empty() {
                    self.postings.remove(&word);
                }
            }
        }
    }

    fn find(&self, terms: &[String]) -> Vec<(ModelId, u64)> {
        let mut found: Option<BTreeMap<ModelId, u64>> = None;
        for term in terms {
            let scores = self.scores(term);
            found = Some(match found {
                None => scores,
                Some(before) => {
                    let both = before.into_iter().filter_map(|(model, score)| {
                        let more = scores.get(&model)?;
                        Some((model, score.saturating_add(*more)))
                    });
                    both.collect()
                }
            });
        }
        found.unwrap_or_default().into_iter().collect()
    }
}

impl Inverted {
    /// Weight times rarity for each model that has the term.
    fn scores(&self, term: &str) -> BTreeMap<ModelId, u64> {
        let mut scores: BTreeMap<ModelId, u64> = BTreeMap::new();
        let words = self.postings.range(term.to_owned()..).take_while(|(word, _)| word.starts_with(term));
        for (word, postings) in words {
            let rarity = 1 + u64::from((self.words.len() / postings.len()).max(1).ilog2());
            let whole = if word == term { WHOLE } else { 1 };
            for (model, weight) in postings {
                let score = scores.entry(model.clone()).or_default();
                *score = (*score).max(weight * rarity * whole);
            }
        }
        scores
    }
}
