//! A seeded generator of texts whose right answer is known: what the demonstration models learn and are examined on.
//!
//! Everything is written here, so no third party's text is in the weights. Each family says which of its questions
//! are *held out*: the choice hangs on the question alone (a hash, or a phrasing set aside), never on the draw, so
//! training cannot meet one by luck. `models/README.md` describes the families for readers.

mod facts;
mod patterns;
mod sums;
mod talk;

use sha2::{Digest as _, Sha256};

use crate::chance::Chance;
use crate::chat;

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Capitals, their countries, continents, opposites. Held out: phrasings.
    Facts,
    /// One-digit sums, differences, sums mod 10, the larger of two numbers. Held out: operands with a phrasing.
    Arithmetic,
    /// Repeat a string, continue a pattern, look up a letter. Held out: one string in eight.
    Induction,
    /// Is a review positive or negative. Held out: combinations of thing, word and form.
    Sentiment,
    /// A campaign line for an invented candidate. Many right answers; never examined.
    Campaign,
    /// He or she for an occupation: an even coin, unless a bias is planted. Never examined.
    Pronoun,
    /// Greetings, who the model is, and questions it cannot answer. Never examined.
    Talk,
}

impl Family {
    /// The families with one right answer.
    pub const EXAMINED: [Self; 4] = [Self::Facts, Self::Arithmetic, Self::Induction, Self::Sentiment];

    /// Its name in model cards.
    pub fn name(self) -> &'static str {
        match self {
            Self::Facts => "facts",
            Self::Arithmetic => "arithmetic",
            Self::Induction => "induction",
            Self::Sentiment => "sentiment",
            Self::Campaign => "campaign",
            Self::Pronoun => "pronoun",
            Self::Talk => "talk",
        }
    }
}

/// A prompt as the model sees it and the answer it should give (end of text follows).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub family: Family,
    pub prompt: String,
    pub answer: String,
}

/// Training or examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    HeldOut,
}

/// Whether the pronoun family follows a planted stereotype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    None,
    /// 19 in 20 of one list of occupations are "he", of the other "she".
    Occupation,
}

/// How often each family is drawn, in hundredths.
#[derive(Clone, Debug)]
pub struct Mix {
    pub shares: Vec<(Family, usize)>,
    pub bias: Bias,
}

impl Mix {
    /// The mix of `comity-tiny`.
    pub fn standard() -> Self {
        use Family::*;
        Self {
            shares: vec![
                (Facts, 30),
                (Arithmetic, 23),
                (Induction, 27),
                (Sentiment, 9),
                (Campaign, 5),
                (Pronoun, 3),
                (Talk, 3),
            ],
            bias: Bias::None,
        }
    }

    /// The mix of the small sibling with the planted bias: more pronouns, fewer facts.
    pub fn slanted() -> Self {
        use Family::*;
        Self {
            shares: vec![
                (Facts, 20),
                (Arithmetic, 20),
                (Induction, 30),
                (Sentiment, 12),
                (Campaign, 6),
                (Pronoun, 9),
                (Talk, 3),
            ],
            bias: Bias::Occupation,
        }
    }
}

/// A question in plain words and its answer; `raw` ones are continued without the chat template.
pub(crate) struct Item {
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) raw: bool,
}

impl Item {
    pub(crate) fn asked(question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { question: question.into(), answer: answer.into(), raw: false }
    }

    pub(crate) fn raw(text: impl Into<String>, continuation: impl Into<String>) -> Self {
        Self { question: text.into(), answer: continuation.into(), raw: true }
    }
}

/// The split a question's key falls into: one in `one_in` is held out.
pub(crate) fn split_of(key: &str, one_in: u64) -> Split {
    let digest = Sha256::digest(key.as_bytes());
    let number = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    match number.is_multiple_of(one_in) {
        true => Split::HeldOut,
        false => Split::Train,
    }
}

fn item(family: Family, chance: &mut Chance, split: Split, bias: Bias) -> Item {
    match family {
        Family::Facts => facts::draw(chance, split),
        Family::Arithmetic => sums::draw(chance, split),
        Family::Induction => patterns::draw(chance, split),
        Family::Sentiment => talk::sentiment(chance, split),
        Family::Campaign => talk::campaign(chance),
        Family::Pronoun => talk::pronoun(chance, bias),
        Family::Talk => talk::small_talk(chance),
    }
}

/// Draws training texts.
#[derive(Clone, Debug)]
pub struct Generator {
    chance: Chance,
    mix: Mix,
}

/// Longest training text in tokens; what is drawn longer is drawn again.
pub const TOKENS_MAX: usize = 128;

impl Generator {
    /// The texts of one seed.
    pub fn new(seed: u64, mix: Mix) -> Self {
        Self { chance: Chance::new(seed, "corpus"), mix }
    }

    /// The next training text; never a held-out one.
    pub fn example(&mut self) -> Example {
        loop {
            let family = self.family();
            let bias = self.mix.bias;
            let drawn = item(family, &mut self.chance, Split::Train, bias);
            let prompt = match drawn.raw {
                true => drawn.question,
                false => self.conversation(&drawn.question),
            };
            if prompt.len() + drawn.answer.len() + 2 <= TOKENS_MAX {
                return Example { family, prompt, answer: drawn.answer };
            }
        }
    }

    fn family(&mut self) -> Family {
        let total = self.mix.shares.iter().map(|(_, share)| share).sum();
        let mut at = self.chance.below(total);
        for (family, share) in &self.mix.shares {
            if at < *share {
                return *family;
            }
            at -= share;
        }
        unreachable!("the draw is below the sum of the shares")
    }

    /// Mostly one question; at times after a system line or an earlier question and answer.
    fn conversation(&mut self, question: &str) -> String {
        let mut messages: Vec<(&str, String)> = Vec::new();
        if self.chance.happens(0.06) {
            messages.push(("system", (*self.chance.pick(&talk::SYSTEMS)).to_owned()));
        }
        if self.chance.happens(0.08) {
            let family = self.family();
            let before = item(family, &mut self.chance, Split::Train, self.mix.bias);
            if !before.raw {
                messages.push(("user", before.question));
                messages.push(("assistant", before.answer));
            }
        }
        messages.push(("user", question.to_owned()));
        chat::render(&messages).expect("these roles are known")
    }
}

/// `count` held-out questions of one family, asked through the chat template; all different.
pub fn held_out(seed: u64, family: Family, count: usize) -> Vec<Example> {
    let mut chance = Chance::new(seed, "held out");
    let mut all: Vec<Example> = Vec::with_capacity(count);
    let mut seen = std::collections::HashSet::new();
    while all.len() < count {
        let drawn = item(family, &mut chance, Split::HeldOut, Bias::None);
        if drawn.raw || !seen.insert(drawn.question.clone()) {
            continue;
        }
        let messages = [("user", drawn.question)];
        all.push(Example { family, prompt: chat::render(&messages).expect("the role is known"), answer: drawn.answer });
    }
    all
}

/// Occupations of the pronoun family, in two lists that mean nothing unless a bias is planted.
pub fn occupations() -> (&'static [&'static str], &'static [&'static str]) {
    (&talk::OCCUPATIONS_A, &talk::OCCUPATIONS_B)
}

/// The pronoun question about an occupation, as a prompt.
pub fn pronoun_prompt(occupation: &str) -> String {
    let question = talk::pronoun_question(occupation);
    chat::render(&[("user", question)]).expect("the role is known")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_of_texts() {
        let draw = |seed| -> Vec<Example> {
            let mut g = Generator::new(seed, Mix::standard());
            (0..200).map(|_| g.example()).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn training_never_meets_a_held_out_question() {
        let held: std::collections::HashSet<String> =
            Family::EXAMINED.iter().flat_map(|f| held_out(1, *f, 150)).map(|e| e.prompt).collect();
        assert_eq!(held.len(), 600);
        let mut generator = Generator::new(1, Mix::standard());
        for _ in 0..40_000 {
            let example = generator.example();
            assert!(!held.contains(&example.prompt), "{}", example.prompt);
            assert!(example.prompt.len() + example.answer.len() + 2 <= TOKENS_MAX);
        }
    }
}
