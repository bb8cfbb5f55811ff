//! Facts: capitals both ways, continents, opposites. What is held out is the phrasing.

use super::{Item, Split};
use crate::chance::Chance;

/// Country, capital, continent.
const COUNTRIES: [(&str, &str, &str); 64] = [
    ("France", "Paris", "Europe"),
    ("Germany", "Berlin", "Europe"),
    ("Spain", "Madrid", "Europe"),
    ("Italy", "Rome", "Europe"),
    ("Portugal", "Lisbon", "Europe"),
    ("Greece", "Athens", "Europe"),
    ("Austria", "Vienna", "Europe"),
    ("Belgium", "Brussels", "Europe"),
    ("Ireland", "Dublin", "Europe"),
    ("Norway", "Oslo", "Europe"),
    ("Sweden", "Stockholm", "Europe"),
    ("Finland", "Helsinki", "Europe"),
    ("Denmark", "Copenhagen", "Europe"),
    ("Poland", "Warsaw", "Europe"),
    ("Hungary", "Budapest", "Europe"),
    ("Romania", "Bucharest", "Europe"),
    ("Bulgaria", "Sofia", "Europe"),
    ("Croatia", "Zagreb", "Europe"),
    ("Serbia", "Belgrade", "Europe"),
    ("Ukraine", "Kyiv", "Europe"),
    ("Estonia", "Tallinn", "Europe"),
    ("Latvia", "Riga", "Europe"),
    ("Lithuania", "Vilnius", "Europe"),
    ("Iceland", "Reykjavik", "Europe"),
    ("Switzerland", "Bern", "Europe"),
    ("England", "London", "Europe"),
    ("Russia", "Moscow", "Europe"),
    ("Albania", "Tirana", "Europe"),
    ("Japan", "Tokyo", "Asia"),
    ("China", "Beijing", "Asia"),
    ("India", "New Delhi", "Asia"),
    ("Thailand", "Bangkok", "Asia"),
    ("Vietnam", "Hanoi", "Asia"),
    ("Nepal", "Kathmandu", "Asia"),
    ("Iran", "Tehran", "Asia"),
    ("Iraq", "Baghdad", "Asia"),
    ("Turkey", "Ankara", "Asia"),
    ("Mongolia", "Ulaanbaatar", "Asia"),
    ("South Korea", "Seoul", "Asia"),
    ("Indonesia", "Jakarta", "Asia"),
    ("Pakistan", "Islamabad", "Asia"),
    ("Egypt", "Cairo", "Africa"),
    ("Kenya", "Nairobi", "Africa"),
    ("Ghana", "Accra", "Africa"),
    ("Nigeria", "Abuja", "Africa"),
    ("Morocco", "Rabat", "Africa"),
    ("Tunisia", "Tunis", "Africa"),
    ("Senegal", "Dakar", "Africa"),
    ("Uganda", "Kampala", "Africa"),
    ("Zambia", "Lusaka", "Africa"),
    ("Angola", "Luanda", "Africa"),
    ("Ethiopia", "Addis Ababa", "Africa"),
    ("Canada", "Ottawa", "North America"),
    ("Mexico", "Mexico City", "North America"),
    ("Cuba", "Havana", "North America"),
    ("Jamaica", "Kingston", "North America"),
    ("Brazil", "Brasilia", "South America"),
    ("Argentina", "Buenos Aires", "South America"),
    ("Chile", "Santiago", "South America"),
    ("Peru", "Lima", "South America"),
    ("Colombia", "Bogota", "South America"),
    ("Uruguay", "Montevideo", "South America"),
    ("Ecuador", "Quito", "South America"),
    ("Australia", "Canberra", "Oceania"),
];

const OPPOSITES: [(&str, &str); 24] = [
    ("hot", "cold"),
    ("big", "small"),
    ("fast", "slow"),
    ("up", "down"),
    ("left", "right"),
    ("day", "night"),
    ("light", "dark"),
    ("happy", "sad"),
    ("old", "young"),
    ("open", "closed"),
    ("rich", "poor"),
    ("strong", "weak"),
    ("early", "late"),
    ("wet", "dry"),
    ("full", "empty"),
    ("true", "false"),
    ("hard", "soft"),
    ("long", "short"),
    ("loud", "quiet"),
    ("clean", "dirty"),
    ("win", "lose"),
    ("love", "hate"),
    ("north", "south"),
    ("east", "west"),
];

/// Phrasings of one relation: those trained on, and those set aside.
struct Phrasings {
    train: &'static [&'static str],
    held_out: &'static [&'static str],
}

const CAPITAL: Phrasings = Phrasings {
    train: &[
        "What is the capital of {}?",
        "What's the capital of {}?",
        "Which city is the capital of {}?",
        "Name the capital of {}.",
        "Tell me the capital of {}.",
        "Capital of {}?",
        "What is the capital city of {}?",
        "What is {}'s capital?",
        "The capital of {} is which city?",
        "Do you know the capital of {}?",
        "{}: what is its capital?",
        "Please give me the capital of {}.",
        "I want to know the capital of {}.",
        "In one word, what is the capital of {}?",
        "Can you name the capital city of {}?",
    ],
    held_out: &[
        "Can you tell me the capital of {}?",
        "What city is the capital of {}?",
        "Name the capital city of {}.",
        "Please tell me the capital of {}.",
        "Do you know what the capital of {} is?",
    ],
};

const CAPITAL_OF: Phrasings = Phrasings {
    train: &[
        "{} is the capital of which country?",
        "Which country has the capital {}?",
        "Name the country whose capital is {}.",
        "What country is {} the capital of?",
        "{} is the capital of what country?",
        "Tell me which country {} is the capital of.",
    ],
    held_out: &["Which country is {} the capital of?", "Tell me the country whose capital is {}."],
};

const CONTINENT: Phrasings = Phrasings {
    train: &[
        "On which continent is {}?",
        "Which continent is {} in?",
        "What continent is {} on?",
        "Name the continent of {}.",
        "{} is on which continent?",
        "Tell me the continent of {}.",
    ],
    held_out: &["Which continent is {} on?", "What is the continent of {}?"],
};

const OPPOSITE: Phrasings = Phrasings {
    train: &[
        "What is the opposite of {}?",
        "Name the opposite of {}.",
        "Opposite of {}?",
        "Which word is the opposite of {}?",
        "Give the opposite of {}.",
        "What's the opposite of {}?",
    ],
    held_out: &["Tell me the opposite of {}.", "What word is the opposite of {}?"],
};

pub(super) fn draw(chance: &mut Chance, split: Split) -> Item {
    let (country, capital, continent) = *chance.pick(&COUNTRIES);
    if split == Split::Train && chance.happens(0.12) {
        return Item::raw(format!("The capital of {country} is"), format!(" {capital}."));
    }
    let (phrasings, about, answer) = match chance.below(100) {
        0..58 => (CAPITAL, country, capital),
        58..74 => (CAPITAL_OF, capital, country),
        74..87 => (CONTINENT, country, continent),
        _ => {
            let (one, other) = *chance.pick(&OPPOSITES);
            match chance.happens(0.5) {
                true => (OPPOSITE, one, other),
                false => (OPPOSITE, other, one),
            }
        }
    };
    let phrasing = match split {
        Split::Train => chance.pick(phrasings.train),
        Split::HeldOut => chance.pick(phrasings.held_out),
    };
    let mut question = phrasing.replace("{}", about);
    if split == Split::Train {
        if chance.happens(0.08) {
            question = question.to_lowercase();
        }
        if chance.happens(0.06) {
            question.pop();
        }
    }
    Item::asked(question, answer)
}
