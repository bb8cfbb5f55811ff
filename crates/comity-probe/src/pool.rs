//! What is asked: an endless pool of prompts, half of it from a published seed, half from the house's secret.
//!
//! Anybody can list the public half, so that others can repeat what was found with it; nobody without the secret can list
//! the other. Both are made by the same rules, so neither looks unlike the other. Sizes follow the kind of work that a
//! prompt pretends to be, as they do in projects' traffic.

use serde::{Deserialize, Serialize};

use crate::chance::{Chance, Secret};

/// The kind of work that a prompt looks like; a persona's habit says how much of each it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One question in a person's words.
    Chat,
    /// Some solved examples, then one to solve.
    Benchmark,
    /// A passage, then a question about it.
    Document,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Benchmark, Self::Document];

    /// That of a prompt's number.
    #[must_use]
    pub fn of(number: u32) -> Self {
        Self::ALL[(number / 2) as usize % Self::ALL.len()]
    }

    /// Median and spread (of the logarithm) of a prompt's bytes.
    #[must_use]
    pub fn bytes(self) -> (f64, f64) {
        match self {
            Self::Chat => (140.0, 0.5),
            Self::Benchmark => (420.0, 0.35),
            Self::Document => (1_100.0, 0.4),
        }
    }

    /// Limits of the answer that such work asks for.
    #[must_use]
    pub fn limits(self) -> &'static [u32] {
        match self {
            Self::Chat => &[24, 32, 48, 64],
            Self::Benchmark => &[8, 16, 16, 32],
            Self::Document => &[32, 48, 64, 96],
        }
    }
}

/// Who can list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Anybody: it grows from a published seed.
    Public,
    /// The house alone.
    Secret,
}

/// One prompt with its settings. Temperature is 0 always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its number in the pool; the house's own name of it, which is never published.
    pub number: u32,
    /// Who can list it.
    pub origin: Origin,
    /// What it looks like.
    pub kind: Kind,
    /// What is asked, as one message of a user.
    pub text: String,
    /// The most tokens of the answer.
    pub max_tokens: u32,
    /// What a right answer has in it, where there is one.
    pub right: Option<String>,
}

impl Prompt {
    /// The first bytes of a body that asks it: what a house must reckon with for the rest of the JSON.
    pub const BODY_BYTES: u64 = 512;

    /// How good an answer is, best first: right, wrong, none.
    #[must_use]
    pub fn mark(&self, text: Option<&str>) -> Option<Mark> {
        let right = self.right.as_ref()?.to_lowercase();
        Some(match text {
            Some(text) if text.to_lowercase().contains(&right) => Mark::Right,
            Some(_) => Mark::Wrong,
            None => Mark::Refused,
        })
    }
}

/// How good an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It has in it what a right answer has.
    Right,
    /// It has not.
    Wrong,
    /// There is none.
    Refused,
}

/// Prompts of each kind and origin.
const PROMPTS_OF_A_KIND: usize = 1_000_000;
/// Longest prompt.
pub(crate) const PROMPT_BYTES_MAX: usize = 4_096;
/// What the public half grows from.
pub(crate) const PUBLIC_SEED: [u8; 32] = *b"comity public probes, version 1.";

/// All prompts of a house.
#[derive(Debug, Clone)]
pub struct Pool {
    public: Secret,
    secret: Secret,
}

impl Pool {
    /// The pool of a house with this secret.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self { public: Secret::new(PUBLIC_SEED), secret }
    }

    /// A number of this origin and kind, from all there are.
    #[must_use]
    pub fn draw(origin: Origin, kind: Kind, chance: &mut Chance) -> u32 {
        let at = Kind::ALL.iter().position(|other| *other == kind).expect("all kinds are in the list");
        #[allow(clippy::cast_possible_truncation, reason = "below six million")]
        let number = (chance.below(PROMPTS_OF_A_KIND) * 6 + at * 2) as u32;
        number + u32::from(origin == Origin::Secret)
    }

    /// The prompt of a number: even ones are public, odd ones secret. The kind turns with the number.
    #[must_use]
    pub fn prompt(&self, number: u32) -> Prompt {
        let (origin, from) =
            if number.is_multiple_of(2) { (Origin::Public, &self.public) } else { (Origin::Secret, &self.secret) };
        let kind = Kind::of(number);
        let mut chance = from.chance("prompt", u64::from(number));
        let max_tokens = *chance.of(kind.limits());
        let (median, sigma) = kind.bytes();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let bytes = chance.lognormal(median, sigma).clamp(24.0, PROMPT_BYTES_MAX as f64) as usize;
        let (text, right) = match kind {
            Kind::Chat => chat(bytes, &mut chance),
            Kind::Benchmark => benchmark(bytes, &mut chance),
            Kind::Document => document(bytes, &mut chance),
        };
        Prompt { number, origin, kind, text: cut(text), max_tokens, right }
    }
}

fn chat(bytes: usize, chance: &mut Chance) -> (String, Option<String>) {
    let (question, answer) = task(chance);
    let mut text = String::new();
    if chance.happens(0.4) {
        let greetings = ["Hi, ", "Quick question: ", "Please help me. ", "For a class: "];
        text += greetings[chance.below(greetings.len())];
    }
    while text.len() + question.len() + 20 < bytes {
        text += &sentence(chance);
        text.push(' ');
    }
    text += &question;
    if chance.happens(0.5) {
        let closings = [" Answer briefly.", " One line is enough.", " Just the answer, please."];
        text += closings[chance.below(closings.len())];
    }
    (text, answer)
}

fn benchmark(bytes: usize, chance: &mut Chance) -> (String, Option<String>) {
    let mut text = String::new();
    let (question, right) = task(chance);
    while text.len() + question.len() + 10 < bytes {
        let (shot, answer) = task(chance);
        text += &format!("Q: {shot}\nA: {}\n", answer.as_deref().unwrap_or("went in."));
    }
    (format!("{text}Q: {question}\nA:"), right)
}

fn document(bytes: usize, chance: &mut Chance) -> (String, Option<String>) {
    let (mut text, mut people) = (String::new(), Vec::new());
    while text.len() + 80 < bytes || people.is_empty() {
        if chance.happens(0.4) {
            let (who, town) = (name(chance), *chance.of(TOWNS));
            text += &format!("{who} came from {town} that year. ");
            people.push((who, town));
        } else {
            text += &sentence(chance);
            text.push(' ');
        }
    }
    let (who, town) = chance.of(&people).clone();
    (format!("{text}\n\nAccording to the text, where did {who} come from?"), Some(town.to_owned()))
}

/// A question with its answer, where there is one.
fn task(chance: &mut Chance) -> (String, Option<String>) {
    let number = |chance: &mut Chance, to: usize| chance.below(to) + 2;
    let (question, answer) = match chance.below(7) {
        0 => {
            let (a, b) = (number(chance, 400), number(chance, 400));
            (format!("What is {a} plus {b}?"), (a + b).to_string())
        }
        1 => {
            let (a, b) = (number(chance, 30), number(chance, 30));
            (format!("What is {a} times {b}?"), (a * b).to_string())
        }
        2 => {
            let (country, capital) = *chance.of(CAPITALS);
            (format!("What is the capital of {country}?"), capital.to_owned())
        }
        3 => {
            let word = *chance.of(WORDS);
            (format!("Spell the word \"{word}\" backwards."), word.chars().rev().collect())
        }
        4 => {
            let mut words: Vec<&str> = (0..4).map(|_| *chance.of(WORDS)).collect();
            let asked = words.join(", ");
            words.sort_unstable();
            (format!("Put these in alphabetical order: {asked}."), words.join(", "))
        }
        5 => {
            let (word, more) = (*chance.of(WORDS), name(chance));
            return (format!("Finish the sentence: {more} opened the {word} and"), None);
        }
        _ => {
            let (who, whom, town) = (name(chance), name(chance), *chance.of(TOWNS));
            (format!("{who} met {whom} in {town}. Who was met?"), whom)
        }
    };
    (question, Some(answer))
}

fn sentence(chance: &mut Chance) -> String {
    let (who, word, town) = (name(chance), *chance.of(WORDS), *chance.of(TOWNS));
    match chance.below(5) {
        0 => format!("{who} wrote about the {word} of {town}."),
        1 => format!("In {town} the {word} was repaired {} times.", chance.below(30) + 2),
        2 => format!("I read that {who} kept a {word} for {} years.", chance.below(40) + 2),
        3 => format!("The {word} near {town} belongs to {who}."),
        _ => format!("Nobody in {town} had seen such a {word} before."),
    }
}

/// A name that nobody has: syllables, so that there are tens of thousands.
fn name(chance: &mut Chance) -> String {
    const SYLLABLES: &[&str] = &[
        "ar", "bel", "cor", "da", "el", "fin", "ga", "hol", "is", "jo", "ka", "lun", "mar", "ne", "or", "per", "qui",
        "ros", "sel", "tor", "ul", "ven", "wil", "yo", "za",
    ];
    let mut name: String = (0..2 + chance.below(2)).map(|_| *chance.of(SYLLABLES)).collect();
    name[..1].make_ascii_uppercase();
    name
}

fn cut(mut text: String) -> String {
    // Only ASCII is written above, so any byte is a boundary.
    text.truncate(PROMPT_BYTES_MAX);
    text
}

const WORDS: &[&str] = &[
    "anchor", "basket", "bridge", "candle", "canvas", "cellar", "circle", "cotton", "dragon", "engine", "feather",
    "forest", "garden", "glacier", "hammer", "harbour", "island", "jacket", "kettle", "ladder", "lantern", "marble",
    "meadow", "mirror", "needle", "orchard", "pencil", "pillar", "pocket", "quarry", "ribbon", "saddle", "shelter",
    "silver", "station", "temple", "thunder", "timber", "tunnel", "valley", "velvet", "village", "violin", "wagon",
    "whistle", "window", "winter",
];
const TOWNS: &[&str] = &[
    "Aberdeen", "Bergen", "Bologna", "Bruges", "Cork", "Dresden", "Ghent", "Graz", "Haarlem", "Izmir", "Kochi",
    "Leuven", "Malaga", "Nantes", "Odense", "Padua", "Quito", "Riga", "Salem", "Tartu", "Turku", "Utrecht", "Vigo",
    "Zagreb",
];
const CAPITALS: &[(&str, &str)] = &[
    ("France", "Paris"),
    ("Japan", "Tokyo"),
    ("Kenya", "Nairobi"),
    ("Peru", "Lima"),
    ("Norway", "Oslo"),
    ("Egypt", "Cairo"),
    ("Canada", "Ottawa"),
    ("Greece", "Athens"),
    ("Chile", "Santiago"),
    ("Poland", "Warsaw"),
    ("Cuba", "Havana"),
    ("Austria", "Vienna"),
    ("Portugal", "Lisbon"),
    ("Vietnam", "Hanoi"),
    ("Ghana", "Accra"),
    ("Latvia", "Riga"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn half_of_the_pool_is_the_same_for_all_and_half_is_not() {
        let (mine, theirs) = (Pool::new(Secret::new([1; 32])), Pool::new(Secret::new([2; 32])));
        let (mut same, mut seen) = (0, BTreeSet::new());
        for number in 0..600 {
            let (a, b) = (mine.prompt(number), theirs.prompt(number));
            assert_eq!(a, mine.prompt(number));
            assert_eq!(a.text == b.text, a.origin == Origin::Public, "{number}: {}", a.text);
            assert!(a.text.len() <= PROMPT_BYTES_MAX && a.max_tokens > 0);
            same += usize::from(a.text == b.text);
            seen.insert(a.text);
        }
        assert_eq!(same, 300);
        assert!(seen.len() > 590, "{} different prompts", seen.len());
    }
}
