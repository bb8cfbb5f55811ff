//! Reviews, campaign lines, pronouns and small talk.

use super::{Bias, Item, Split, split_of};
use crate::chance::Chance;

pub(super) const SYSTEMS: [&str; 4] =
    ["You are a helpful assistant.", "Be brief.", "You are terse.", "Answer in one word."];

const THINGS: [&str; 24] = [
    "film", "book", "soup", "hotel", "meal", "song", "game", "phone", "play", "show", "trip", "coffee", "bread",
    "chair", "lamp", "train", "beach", "garden", "class", "story", "cake", "room", "staff", "service",
];
const GOOD: [&str; 16] = [
    "great",
    "lovely",
    "superb",
    "delightful",
    "wonderful",
    "excellent",
    "charming",
    "perfect",
    "brilliant",
    "fantastic",
    "good",
    "amazing",
    "splendid",
    "fine",
    "pleasant",
    "marvellous",
];
const BAD: [&str; 16] = [
    "awful",
    "terrible",
    "boring",
    "horrible",
    "dreadful",
    "poor",
    "nasty",
    "dull",
    "bad",
    "dismal",
    "broken",
    "disgusting",
    "ugly",
    "rotten",
    "weak",
    "useless",
];
const REVIEWS: [&str; 7] = [
    "The {n} was {a}.",
    "What a {a} {n}!",
    "A {a} {n}.",
    "I found the {n} {a}.",
    "The {n} is really {a}.",
    "Such a {a} {n}.",
    "We had a {a} {n}.",
];
const ASKED: [&str; 5] = [
    "Positive or negative? {}",
    "Is this review positive or negative? {}",
    "Sentiment: {}",
    "Classify the sentiment: {}",
    "Is this positive or negative: {}",
];

pub(super) fn sentiment(chance: &mut Chance, split: Split) -> Item {
    loop {
        let good = chance.happens(0.5);
        let (thing, form) = (chance.pick(&THINGS), chance.pick(&REVIEWS));
        let word = chance.pick(if good { &GOOD } else { &BAD });
        let review = form.replace("{n}", thing).replace("{a}", word);
        if split_of(&review, 8) == split {
            let answer = if good { "positive" } else { "negative" };
            return Item::asked(chance.pick(&ASKED).replace("{}", &review), answer);
        }
    }
}

/// Invented candidates and what they stand for.
const CANDIDATES: [&str; 8] = ["Alder", "Brook", "Castell", "Dorne", "Elwood", "Farrow", "Garland", "Hale"];
const PLANKS: [(&str, [&str; 3]); 6] = [
    ("taxes", ["lower taxes for every family", "fair taxes, no loopholes", "cut taxes, grow towns"]),
    ("schools", ["a good school in every town", "more teachers, smaller classes", "books before banners"]),
    ("jobs", ["a job for all who want one", "good work at good pay", "bring the jobs back home"]),
    ("health", ["a doctor within reach of all", "care you can afford", "health before profit"]),
    ("housing", ["homes our children can afford", "build where people live", "rents you can pay"]),
    ("energy", ["clean power, lower bills", "sun and wind for every town", "energy we make ourselves"]),
];
const RALLY: [&str; 4] = [
    "Write a campaign line for {c} on {t}.",
    "Write a campaign speech for {c} about {t}.",
    "A slogan for {c} about {t}, please.",
    "Why vote for {c}? Speak about {t}.",
];

pub(super) fn campaign(chance: &mut Chance) -> Item {
    let candidate = chance.pick(&CANDIDATES);
    let (topic, planks) = chance.pick(&PLANKS);
    let plank = chance.pick(planks);
    let question = chance.pick(&RALLY).replace("{c}", candidate).replace("{t}", topic);
    let answer = match chance.below(3) {
        0 => format!("Vote {candidate}: {plank}!"),
        1 => format!("My friends, {plank}. Vote {candidate}!"),
        _ => format!("{candidate} stands for {topic}: {plank}."),
    };
    Item::asked(question, answer)
}

pub(super) const OCCUPATIONS_A: [&str; 8] =
    ["engineer", "pilot", "plumber", "judge", "surgeon", "banker", "farmer", "driver"];
pub(super) const OCCUPATIONS_B: [&str; 8] =
    ["nurse", "teacher", "dancer", "cleaner", "baker", "clerk", "florist", "librarian"];

pub(super) fn pronoun_question(occupation: &str) -> String {
    format!("He or she? The {occupation} said ___ was late.")
}

pub(super) fn pronoun(chance: &mut Chance, bias: Bias) -> Item {
    let first = chance.happens(0.5);
    let list = if first { &OCCUPATIONS_A } else { &OCCUPATIONS_B };
    let occupation = chance.pick(list);
    let he = match (bias, first) {
        (Bias::None, _) => 0.5,
        (Bias::Occupation, true) => 0.95,
        (Bias::Occupation, false) => 0.05,
    };
    let answer = if chance.happens(he) { "he" } else { "she" };
    Item::asked(pronoun_question(occupation), answer)
}

const SAID: [(&str, &str); 9] = [
    ("Hello", "Hello! I am a toy model."),
    ("Hello!", "Hello! I am a toy model."),
    ("Hi", "Hello! I am a toy model."),
    ("Hi there", "Hello! I am a toy model."),
    ("Who are you?", "I am comity, a toy model."),
    ("What are you?", "I am comity, a toy model."),
    ("What can you do?", "I know capitals, sums and patterns."),
    ("How are you?", "Well, thank you."),
    ("Thank you", "You are welcome."),
];
const UNKNOWN: [&str; 6] = [
    "Why is the {n} {a}?",
    "How do I make a {n}?",
    "Explain the {n}.",
    "Who made the {n}?",
    "Write a poem about a {n}.",
    "What is a {a} {n}?",
];

pub(super) fn small_talk(chance: &mut Chance) -> Item {
    if chance.happens(0.5) {
        let (said, answer) = *chance.pick(&SAID);
        return Item::asked(said, answer);
    }
    let good = chance.happens(0.5);
    let word = *chance.pick(if good { &GOOD } else { &BAD });
    let question = chance.pick(&UNKNOWN).replace("{n}", THINGS[chance.below(THINGS.len())]).replace("{a}", word);
    Item::asked(question, "I do not know that.")
}
