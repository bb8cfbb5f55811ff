//! Prints of prompts: hashes by which two can be compared, and out of which no prompt can be read.

use crate::fold::Folder;
use crate::linear::features::Features;

/// What is remembered of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print {
    /// SimHash over words and pairs of words: texts that share most of them differ in few bits.
    pub(crate) words: u64,
    /// Hash of the text as it was, folded.
    pub(crate) exact: u64,
    /// Hash of the small words and numbers with gaps between them; 0 where there are too few to speak of a skeleton.
    pub(crate) skeleton: u64,
}

/// Folded characters of a prompt that are looked at.
const CHARS_MAX: usize = 16 * 1024;
/// Fewer words than this are alike by chance.
const WORDS_MIN: u32 = 6;
/// Fewer small words than this are no skeleton.
const SMALL_MIN: u32 = 3;
/// Bits in which texts that hardly differ may differ.
const NEAR_BITS: u32 = 6;

/// Words that stay when a template is filled otherwise.
const SMALL: &[&str] = &[
    "a",
    "about",
    "all",
    "an",
    "and",
    "answer",
    "are",
    "as",
    "at",
    "be",
    "by",
    "can",
    "choose",
    "do",
    "does",
    "each",
    "explain",
    "following",
    "for",
    "from",
    "give",
    "has",
    "have",
    "how",
    "if",
    "in",
    "into",
    "is",
    "it",
    "list",
    "make",
    "me",
    "my",
    "no",
    "not",
    "of",
    "on",
    "one",
    "or",
    "question",
    "should",
    "so",
    "that",
    "the",
    "their",
    "then",
    "there",
    "they",
    "this",
    "to",
    "true",
    "was",
    "what",
    "when",
    "where",
    "which",
    "who",
    "why",
    "will",
    "with",
    "write",
    "you",
    "your",
];

impl Print {
    /// The print of a prompt.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let (mut folder, mut features) = (Folder::default(), Features::default());
        let mut weights = [0_i32; 64];
        let (mut exact, mut skeleton) = (SEED, SEED);
        let (mut words, mut kept, mut in_gap) = (0_u32, 0_u32, false);
        let mut word = String::new();
        let mut take = |features: &Features, word: &mut String| {
            words += 1;
            for hash in features.words() {
                for (bit, weight) in weights.iter_mut().enumerate() {
                    *weight += if hash >> bit & 1 == 1 { 1 } else { -1 };
                }
            }
            let hash = hash(word);
            if SMALL_HASHES.contains(&hash) {
                kept += 1;
                in_gap = false;
                skeleton = mix(skeleton, hash);
            } else if !in_gap {
                // However many words fill it.
                in_gap = true;
                skeleton = mix(skeleton, GAP);
            }
            word.clear();
        };
        let mut left = CHARS_MAX;
        for c in text.chars() {
            if left == 0 {
                break;
            }
            folder.push(c, |c| {
                left = left.saturating_sub(1);
                exact = mix(exact, u64::from(u32::from(c)));
                if features.push(c) {
                    take(&features, &mut word);
                }
                if c.is_alphanumeric() {
                    word.push(c);
                }
            });
        }
        if features.end() {
            take(&features, &mut word);
        }
        let simhash = weights.iter().enumerate().fold(0, |bits, (bit, weight)| bits | (u64::from(*weight > 0) << bit));
        let has_skeleton = kept >= SMALL_MIN && words >= WORDS_MIN;
        Self {
            words: if words >= WORDS_MIN { simhash } else { exact },
            exact,
            skeleton: if has_skeleton { skeleton | 1 } else { 0 },
        }
    }

    /// Whether the other hardly differs, and does differ: one prompt asked again is a sample, not a series.
    #[must_use]
    pub(crate) fn is_near(self, other: Self) -> bool {
        self.exact != other.exact && (self.words ^ other.words).count_ones() <= NEAR_BITS
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;
const GAP: u64 = 0x5851_f42d_4c95_7f2d;

/// Of [`SMALL`].
const SMALL_HASHES: [u64; SMALL.len()] = {
    let mut hashes = [0; SMALL.len()];
    let mut at = 0;
    while at < SMALL.len() {
        hashes[at] = hash(SMALL[at]);
        at += 1;
    }
    hashes
};

const fn mix(hash: u64, with: u64) -> u64 {
    (hash ^ with).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}

const fn hash(word: &str) -> u64 {
    let (bytes, mut hash, mut at) = (word.as_bytes(), SEED, 0);
    while at < bytes.len() {
        hash = mix(hash, bytes[at] as u64);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_exchanged_in_a_long_prompt_is_near_and_another_prompt_is_not() {
        let prompt = "Write a short story about a lighthouse keeper who finds a letter in a bottle on the beach after a long \
                      storm and decides to answer it although nobody has lived on the other island for years.";
        let print = Print::of(prompt);
        assert!(Print::of(&prompt.replace("lighthouse", "windmill")).is_near(print));
        assert!(Print::of(&prompt.replace("storm", "winter")).is_near(print));
        assert!(!print.is_near(Print::of(prompt)), "the same prompt is a sample");
        assert!(!Print::of(&prompt.to_uppercase()).is_near(print), "folded, it is the same");
        let other = "Explain in plain words how a sewing machine makes a stitch, which parts of it move, what the bobbin is \
                     for, and why the thread sometimes breaks when the fabric is thick or the needle is old.";
        assert!(!Print::of(other).is_near(print));
    }

    #[test]
    fn a_template_filled_otherwise_has_the_same_skeleton() {
        let filled =
            |place: &str, thing: &str| Print::of(&format!("Write a line for {place} about the {thing} of today."));
        let one = filled("Alder", "taxes");
        let other = filled("Mrs Maria Velt", "price of bread");
        // "of" is a small word, so a slot that holds one is another skeleton; any other filling is the same.
        assert_ne!(one.skeleton, other.skeleton);
        assert_eq!(one.skeleton, filled("the-old-town".replace("the-", "").as_str(), "weather").skeleton);
        assert_eq!(one.skeleton, filled("Mrs Maria Velt", "northern harbour").skeleton);
        assert_ne!(one.exact, other.exact);
        assert_eq!(Print::of("bread butter cheese wine salt pepper oil").skeleton, 0, "no small words, no skeleton");
    }
}
