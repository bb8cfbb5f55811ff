//! Arithmetic small enough for a toy: one-digit sums and differences, sums mod 10, the larger of two numbers.
//!
//! Held out is each fifth combination of operands and phrasing, and for `larger` each tenth pair of numbers whatever
//! the phrasing. The hundred one-digit pairs all occur in training in some phrasing: the family examines whether the
//! sum is known however it is asked, not whether addition was invented.

use super::{Item, Split, split_of};
use crate::chance::Chance;

const SUM: [&str; 9] = [
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "{a} + {b} = ?",
    "Compute {a} + {b}.",
    "{a} plus {b}?",
    "{a}+{b}",
    "{a} + {b}?",
    "What is the sum of {a} and {b}?",
    "How much is {a} + {b}?",
];
const MOD: [&str; 4] =
    ["What is {a} + {b} mod 10?", "{a} + {b} mod 10 = ?", "Compute {a} + {b} mod 10.", "What is ({a} + {b}) mod 10?"];
const DIFFERENCE: [&str; 5] =
    ["What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b} = ?", "Compute {a} - {b}.", "How much is {a} - {b}?"];
const LARGER: [&str; 4] = [
    "Which is larger, {a} or {b}?",
    "Which is bigger, {a} or {b}?",
    "What is the larger of {a} and {b}?",
    "Larger: {a} or {b}?",
];

pub(super) fn draw(chance: &mut Chance, split: Split) -> Item {
    loop {
        let kind = chance.below(100);
        let (a, b) = (chance.below(10), chance.below(10));
        let (phrasing, a, b, answer) = match kind {
            0..45 => (chance.pick(&SUM), a, b, a + b),
            45..62 => (chance.pick(&MOD), a, b, (a + b) % 10),
            62..80 => (chance.pick(&DIFFERENCE), a.max(b), a.min(b), a.abs_diff(b)),
            _ => {
                let (a, b) = (10 + chance.below(90), 10 + chance.below(90));
                if a == b {
                    continue;
                }
                (chance.pick(&LARGER), a, b, a.max(b))
            }
        };
        let question = phrasing.replace("{a}", &a.to_string()).replace("{b}", &b.to_string());
        let held = match kind {
            0..80 => split_of(&question, 5),
            _ => split_of(&format!("larger {} {}", a.min(b), a.max(b)), 10),
        };
        if held == split {
            return Item::asked(question, answer.to_string());
        }
    }
}
