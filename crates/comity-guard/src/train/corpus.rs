//! Synthetic data: templates, and words that fill them, from a seed.
//!
//! ```toml
//! [slots]
//! city = ["Ghent", "Osaka"]
//!
//! [[set]]
//! category = "cbrn"          # left out: harmless
//! kind = "asking for it"     # named in the evaluation sheet
//! weight = 10                # how often, beside the other sets
//! templates = ["How would someone reach {city}?"]
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Example;
use super::random::Random;
use crate::category::Category;

/// Sets of templates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// Name → words.
    pub slots: BTreeMap<String, Vec<String>>,
    /// The sets.
    #[serde(rename = "set")]
    pub sets: Vec<Set>,
}

/// Templates of one kind of text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// What they are; left out: harmless.
    pub category: Option<Category>,
    /// Which kind of text.
    pub kind: String,
    /// How often, beside the other sets.
    pub weight: usize,
    /// Texts with `{slot}` in them.
    pub templates: Vec<String>,
    /// Whether its texts stand around others, as harmless sentences do.
    #[serde(default)]
    pub filler: bool,
    /// Whether `{noise}` is made-up words, numbers and other scripts.
    #[serde(default)]
    pub noise: bool,
}

/// Why a corpus was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadCorpus {
    /// Not TOML of the right shape.
    #[error("corpus cannot be read")]
    Toml(#[from] Box<toml::de::Error>),
    /// A set without templates or weight, or no sets at all, or none that stand around others.
    #[error("corpus has nothing in `{kind}`")]
    Empty {
        /// Which set.
        kind: String,
    },
    /// A template that names a slot which is not there, or has no words.
    #[error("template `{template}` has a slot that is not there")]
    Slot {
        /// The template.
        template: String,
    },
}

/// Whether texts are roughened, so that what is learned does not hang on single words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rough {
    /// As written.
    No,
    /// Words left out and letters exchanged now and then: for training.
    Yes,
}

impl Corpus {
    /// Reads and checks a corpus.
    ///
    /// # Errors
    /// When it is misshapen, or a template names what is not there.
    pub fn from_toml(text: &str) -> Result<Self, BadCorpus> {
        let corpus: Self = toml::from_str(text).map_err(Box::new)?;
        if !corpus.sets.iter().any(|set| set.filler) {
            return Err(BadCorpus::Empty { kind: "filler".into() });
        }
        for set in &corpus.sets {
            if set.templates.is_empty() || set.weight == 0 {
                return Err(BadCorpus::Empty { kind: set.kind.clone() });
            }
            for template in &set.templates {
                let known = |slot: &str| {
                    slot == "noise" && set.noise || corpus.slots.get(slot).is_some_and(|words| !words.is_empty())
                };
                if !slots(template).is_some_and(|slots| slots.iter().all(|slot| known(slot))) {
                    return Err(BadCorpus::Slot { template: template.clone() });
                }
            }
        }
        Ok(corpus)
    }

    /// `count` examples.
    #[must_use]
    pub fn examples(&self, seed: u64, count: usize, rough: Rough) -> Vec<Example> {
        let mut random = Random::new(seed);
        let all: usize = self.sets.iter().map(|set| set.weight).sum();
        let one = |_| {
            let mut ticket = random.below(all);
            let set = self.sets.iter().find(|set| {
                let found = ticket < set.weight;
                ticket = ticket.saturating_sub(set.weight);
                found
            });
            self.example(set.expect("a ticket below all weights"), &mut random, rough)
        };
        (0..count).map(one).collect()
    }

    fn example(&self, set: &Set, random: &mut Random, rough: Rough) -> Example {
        let mut sentences = vec![self.fill(one(&set.templates, random), random)];
        // Some texts are one sentence; others say more of the same, or stand among harmless ones.
        if random.percent(25) {
            sentences.push(self.fill(one(&set.templates, random), random));
        }
        if random.percent(40) {
            let fillers: Vec<&Set> = self.sets.iter().filter(|set| set.filler).collect();
            for _ in 0..=random.below(2) {
                let filler = *random.of(&fillers);
                let sentence = self.fill(one(&filler.templates, random), random);
                let at = random.below(sentences.len() + 1);
                sentences.insert(at, sentence);
            }
        }
        let mut text = sentences.join(" ");
        if rough == Rough::Yes {
            text = roughen(&text, random);
        }
        Example { text, category: set.category, kind: set.kind.clone() }
    }

    fn fill(&self, template: &str, random: &mut Random) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, from)) = rest.split_once('{') {
            let (slot, after) = from.split_once('}').expect("read with its slots closed");
            text.push_str(before);
            match self.slots.get(slot) {
                Some(words) => text.push_str(one(words, random)),
                None => noise(&mut text, random),
            }
            rest = after;
        }
        text.push_str(rest);
        text
    }
}

fn one<'t>(texts: &'t [String], random: &mut Random) -> &'t str {
    random.of(texts).as_str()
}

/// The names of a template's slots; `None` where one is not closed.
fn slots(template: &str) -> Option<Vec<&str>> {
    let mut slots = Vec::new();
    let mut rest = template;
    while let Some((_, from)) = rest.split_once('{') {
        let (slot, after) = from.split_once('}')?;
        slots.push(slot);
        rest = after;
    }
    Some(slots)
}

/// Made-up words, numbers, another script.
fn noise(text: &mut String, random: &mut Random) {
    const SYLLABLES: &[&str] =
        &["ka", "lo", "mer", "ti", "ash", "un", "dre", "vo", "il", "sten", "qui", "pha", "rog", "y", "eb"];
    const OTHERS: &[&str] =
        &["日本語", "привет", "x=3;", "{}", "—", "θεός", "0x1f", "نور", "3.14", "</div>", "München", "🙂"];
    for at in 0..6 + random.below(40) {
        if at > 0 {
            text.push(' ');
        }
        match random.below(10) {
            0 => text.push_str(&random.below(100_000).to_string()),
            1 => text.push_str(OTHERS[random.below(OTHERS.len())]),
            _ => (0..=random.below(4)).for_each(|_| text.push_str(SYLLABLES[random.below(SYLLABLES.len())])),
        }
    }
}

/// One word of twelve left out; in one of fifty, two letters change places.
fn roughen(text: &str, random: &mut Random) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        if random.percent(8) {
            continue;
        }
        if random.percent(2) && word.chars().count() > 3 {
            let mut letters: Vec<char> = word.chars().collect();
            let at = 1 + random.below(letters.len() - 2);
            letters.swap(at, at - 1);
            words.push(letters.into_iter().collect());
        } else {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[slots]\nx = [\"one\", \"two\"]\n[[set]]\nkind = \"a\"\nweight = 1\nfiller = true\n";

    #[test]
    fn a_corpus_is_filled_the_same_by_the_same_seed() {
        let corpus = Corpus::from_toml(&format!("{SMALL}templates = [\"say {{x}} now\"]")).expect("good");
        let texts = |seed| corpus.examples(seed, 50, Rough::Yes);
        assert_eq!(texts(1), texts(1));
        assert_ne!(texts(1), texts(2));
        assert!(corpus.examples(1, 50, Rough::No).iter().all(|example| {
            (example.text.starts_with("say one now") || example.text.starts_with("say two now"))
                && !example.text.contains('{')
        }));
    }

    #[test]
    fn a_misshapen_corpus_is_refused() {
        let read = |rest: &str| Corpus::from_toml(&format!("{SMALL}{rest}"));
        assert!(matches!(read("templates = []"), Err(BadCorpus::Empty { .. })));
        assert!(matches!(read("templates = [\"{y}\"]"), Err(BadCorpus::Slot { .. })));
        assert!(matches!(read("templates = [\"{x\"]"), Err(BadCorpus::Slot { .. })));
        assert!(matches!(read("templates = [\"{noise}\"]"), Err(BadCorpus::Slot { .. })));
        assert!(matches!(read("templates = [\"x\"]\nother = 1"), Err(BadCorpus::Toml(_))));
    }
}
