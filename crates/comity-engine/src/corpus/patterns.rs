//! Induction: repeat a string, go on with a pattern, look up a letter. Held out is each eighth string.

use super::{Item, Split, split_of};
use crate::chance::Chance;

const REPEAT: [&str; 6] = ["Repeat: {}", "Repeat {}", "Say {}", "Copy: {}", "Repeat after me: {}", "Echo: {}"];
const CONTINUE: [&str; 3] = ["Continue: {}", "What comes next: {}", "Go on: {}"];

pub(super) fn draw(chance: &mut Chance, split: Split) -> Item {
    loop {
        let (question, answer, key) = match chance.below(10) {
            0..5 => repeat(chance),
            5..8 => pattern(chance),
            _ => lookup(chance),
        };
        if split_of(&key, 8) == split {
            return Item::asked(question, answer);
        }
    }
}

fn letters(chance: &mut Chance, count: usize) -> String {
    (0..count).map(|_| char::from(b'a' + u8::try_from(chance.below(26)).expect("below 26"))).collect()
}

fn repeat(chance: &mut Chance) -> (String, String, String) {
    let words = match chance.below(10) {
        0..6 => 1,
        6..9 => 2,
        _ => 4,
    };
    let text = (0..words)
        .map(|_| {
            let count = if words == 1 { 3 } else { 1 } + chance.below(4);
            letters(chance, count)
        })
        .collect::<Vec<_>>()
        .join(" ");
    (chance.pick(&REPEAT).replace("{}", &text), text.clone(), text)
}

fn pattern(chance: &mut Chance) -> (String, String, String) {
    let mut alphabet: Vec<char> = ('a'..='z').collect();
    chance.shuffle(&mut alphabet);
    let period = 2 + chance.below(3);
    let shown = period + 1 + chance.below(period);
    let pattern: Vec<String> = (0..shown).map(|i| alphabet[i % period].to_string()).collect();
    let text = pattern.join(" ");
    let next = alphabet[shown % period].to_string();
    (chance.pick(&CONTINUE).replace("{}", &text), next, text)
}

fn lookup(chance: &mut Chance) -> (String, String, String) {
    let mut alphabet: Vec<char> = ('a'..='z').collect();
    chance.shuffle(&mut alphabet);
    let entries = 2 + chance.below(3);
    let digits: Vec<usize> = (0..entries).map(|_| chance.below(10)).collect();
    let listed: Vec<String> = (0..entries).map(|i| format!("{}={}", alphabet[i], digits[i])).collect();
    let listed = listed.join(", ");
    let asked = chance.below(entries);
    (format!("{listed}. What is {}?", alphabet[asked]), digits[asked].to_string(), listed)
}
