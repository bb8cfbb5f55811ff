//! What of a text is weighed: words, pairs of words, and the three to five letters in a row of a word with its borders.
//!
//! Characters come folded (`fold`). Letters and digits make words, digits all alike (a number's shape says more than the
//! number); anything else ends one. A word above [`WORD_CHARS_MAX`] is cut, which bounds what is held.

/// Letters of a word that are looked at together.
const WORD_CHARS_MAX: usize = 30;

/// Cuts folded text into words and gives the hash of each feature.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    /// A border, the letters, and room for the border behind.
    word: [u32; WORD_CHARS_MAX + 2],
    /// Letters so far.
    len: usize,
    /// Hash of the word before; 0 at the beginning of a text.
    before: u64,
    /// Of the word that was ended last.
    hashes: [u64; HASHES_MAX],
    hashes_len: usize,
    /// How many of them, at the beginning, are of words and pairs of words.
    words_len: usize,
}

/// A word of 30 letters has itself, a pair, and 30, 29 and 28 runs of letters.
const HASHES_MAX: usize = 2 + 30 + 29 + 28;

/// Marks where a word begins and ends; no character.
const BORDER: u32 = 0x11_0000;

/// Odd constants without a pattern; they are a part of the trained weights' form.
const K: u64 = 0x9e37_79b9_7f4a_7c15;
const SPREAD: u64 = 0x85eb_ca77_c2b2_ae63;
const UNIGRAM: u64 = 0x2545_f491_4f6c_dd1d;
const BIGRAM: u64 = 0xd6e8_feb8_6659_fd93;

impl Default for Features {
    fn default() -> Self {
        Self {
            word: [BORDER; WORD_CHARS_MAX + 2],
            len: 0,
            before: 0,
            hashes: [0; HASHES_MAX],
            hashes_len: 0,
            words_len: 0,
        }
    }
}

impl Features {
    /// Takes the next folded character; `true` where it ended a word, whose features are then [`Features::hashes`].
    #[inline]
    pub(crate) fn push(&mut self, c: char) -> bool {
        if c.is_ascii_lowercase() || (!c.is_ascii() && c.is_alphanumeric()) {
            self.letter(u32::from(c))
        } else if c.is_ascii_digit() {
            self.letter(u32::from('0'))
        } else if c == '\'' {
            // "don't" is one word, however its apostrophe is written or left out.
            false
        } else {
            self.end()
        }
    }

    /// The features of the word that was ended last.
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes[..self.hashes_len]
    }

    /// Those of the word itself and of its pair with the one before.
    pub(crate) fn words(&self) -> &[u64] {
        &self.hashes[..self.words_len]
    }

    #[inline]
    fn letter(&mut self, letter: u32) -> bool {
        self.len += 1;
        self.word[self.len] = letter;
        self.len == WORD_CHARS_MAX && self.end()
    }

    /// Ends the word, if there is one.
    pub(crate) fn end(&mut self) -> bool {
        if self.len == 0 {
            return false;
        }
        self.word[self.len + 1] = BORDER;
        let letters = &self.word[..self.len + 2];
        // A product for each letter; its turn says where in a run the letter stands.
        let mut parts = [0_u64; WORD_CHARS_MAX + 2];
        let mut word = UNIGRAM;
        for (part, letter) in parts.iter_mut().zip(letters) {
            *part = u64::from(*letter).wrapping_add(1).wrapping_mul(K);
            word = (word ^ *part).rotate_left(29).wrapping_mul(UNIGRAM);
        }
        let mut len = 0;
        let mut emit = |hash| {
            self.hashes[len] = spread(hash);
            len += 1;
        };
        emit(word);
        if self.before != 0 {
            emit(self.before.wrapping_mul(BIGRAM) ^ word);
        }
        self.words_len = 1 + usize::from(self.before != 0);
        let parts = &parts[..letters.len()];
        let three = |run: &[u64]| run[0] ^ run[1].rotate_left(17) ^ run[2].rotate_left(41);
        parts.windows(3).for_each(|run| emit(three(run)));
        parts.windows(4).for_each(|run| emit(three(run) ^ run[3].rotate_left(7)));
        parts.windows(5).for_each(|run| emit(three(run) ^ run[3].rotate_left(7) ^ run[4].rotate_left(53)));
        self.hashes_len = len;
        self.before = word | 1;
        self.len = 0;
        true
    }
}

/// Spreads a sum of products over all bits: the upper name the bucket, the lowest the sign.
#[inline]
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(SPREAD);
    hash ^ (hash >> 29)
}

/// The bucket of a feature among 2^`log2`.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a bucket's number has at most 24 bits")]
pub(crate) fn bucket(hash: u64, log2: u8) -> usize {
    (hash >> (64 - log2)) as usize
}

/// Whether a feature counts against its bucket: what shares a bucket by chance then cancels rather than adds.
#[inline]
pub(crate) fn is_negative(hash: u64) -> bool {
    hash & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<u64> {
        let (mut features, mut all) = (Features::default(), Vec::new());
        for c in text.chars() {
            if features.push(c) {
                all.extend(features.hashes());
            }
        }
        if features.end() {
            all.extend(features.hashes());
        }
        all
    }

    #[test]
    fn words_pairs_and_letters_are_weighed() {
        // `<a>`: itself, and three letters. `<ab>`: itself, the pair, 2 of three, 1 of four. `<abc>`: 3, 2 and 1.
        assert_eq!(of("a").len(), 2);
        assert_eq!(of("a ab").len(), 2 + 5);
        assert_eq!(of("abc").len(), 1 + 3 + 2 + 1);
        assert_eq!(of("a, ab").len(), of("a ab").len());
        assert_eq!(of("12 3"), of("34-5"));
        assert_eq!(of("don't"), of("dont"));
        assert_ne!(of("abc"), of("acb"));
        assert!(of("").is_empty() && of("...").is_empty());
    }

    #[test]
    fn a_long_word_is_cut_and_buckets_are_spread_evenly() {
        assert!(of(&"x".repeat(10_000)).len() < 40_000);
        let mut counts = [0_u32; 16];
        let mut negative = 0;
        for number in 0..20_000_u32 {
            let letters: String = (0..5).map(|at| char::from(b'a' + ((number / 6_u32.pow(at)) % 6) as u8)).collect();
            let hash = of(&letters)[0];
            counts[bucket(hash, 4)] += 1;
            negative += u32::from(is_negative(hash));
        }
        assert!(counts.iter().all(|count| (900..1_600).contains(count)), "{counts:?}");
        assert!((9_000..11_000).contains(&negative), "{negative}");
    }
}
