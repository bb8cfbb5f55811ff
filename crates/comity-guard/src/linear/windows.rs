//! The windows of a text, one half after the other: a sum of rows for the half before and for this one.

use super::features::{Features, bucket, is_negative};
use super::{Band, Classifier, HALF_WORDS, LANES, Odds, Scores, WORDS_MIN};
use crate::category::Category;

/// Judges folded text as it comes. Holds one word and two sums.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    classifier: Classifier,
    features: Features,
    before: Half,
    half: Half,
    /// Whether the windows so far ended with what is summed now.
    judged: bool,
    worst: Option<Odds>,
    /// By category: windows in a band, and the highest band.
    found: [(u32, Option<Band>); Category::COUNT],
    /// Whether the window before was in a band: one passage lies in two windows and counts once.
    running: [bool; Category::COUNT],
}

#[derive(Debug, Clone, Default)]
struct Half {
    sum: [i32; LANES],
    features: u32,
    words: u32,
}

impl Windows {
    pub(crate) fn new(classifier: Classifier) -> Self {
        Self {
            classifier,
            features: Features::default(),
            before: Half::default(),
            half: Half::default(),
            judged: true,
            worst: None,
            found: [(0, None); Category::COUNT],
            running: [false; Category::COUNT],
        }
    }

    /// Takes the next folded character.
    #[inline]
    pub(crate) fn push(&mut self, c: char) {
        if self.features.push(c) {
            self.word();
        }
    }

    /// Ends the text.
    pub(crate) fn finish(&mut self) {
        if self.features.end() {
            self.word();
        }
        if !self.judged && self.before.words + self.half.words >= WORDS_MIN {
            self.judge();
        }
    }

    /// Flags of a category so far: passages, not windows.
    pub(crate) fn found(&self, category: usize) -> (u32, Option<Band>) {
        self.found[category]
    }

    pub(crate) fn scores(&self) -> Scores {
        Scores::of(self.worst.as_ref())
    }

    pub(crate) fn worst(&self) -> Option<Odds> {
        self.worst
    }

    fn word(&mut self) {
        let (weights, mut word) = (&*self.classifier.inner, Word::default());
        for hash in self.features.hashes() {
            word.add(*hash, &weights.rows, weights.buckets_log2);
        }
        self.half.take(&word);
        self.judged = false;
        if self.half.words == HALF_WORDS {
            self.judge();
            self.before = std::mem::take(&mut self.half);
        }
    }

    fn judge(&mut self) {
        self.judged = true;
        let mut sum = self.before.sum;
        for (sum, more) in sum.iter_mut().zip(self.half.sum) {
            *sum += more;
        }
        let weights = &self.classifier.inner;
        let odds = weights.odds(&sum, self.before.features + self.half.features);
        for (at, odds) in odds.iter().enumerate() {
            let band = weights.band(at, *odds);
            let (count, highest) = &mut self.found[at];
            *count = count.saturating_add(u32::from(band.is_some() && !self.running[at]));
            *highest = (*highest).max(band);
            self.running[at] = band.is_some();
        }
        let worst = self.worst.get_or_insert(odds);
        for (worst, odds) in worst.iter_mut().zip(odds) {
            *worst = worst.max(odds);
        }
    }
}

/// What one word adds. It has fewer than a hundred features of at most 128, which 16 bits hold: half the work of 32.
#[derive(Default)]
struct Word {
    sum: [i16; LANES],
    features: u16,
}

impl Word {
    #[inline(always)]
    fn add(&mut self, hash: u64, rows: &[[i8; LANES]], log2: u8) {
        let row = &rows[bucket(hash, log2)];
        // All bits where it counts against: `(w ^ m) - m` is then `-w`, without a branch that nobody can predict.
        let mask = -i16::from(is_negative(hash));
        for (sum, weight) in self.sum.iter_mut().zip(row) {
            *sum = sum.wrapping_add((i16::from(*weight) ^ mask).wrapping_sub(mask));
        }
        self.features = self.features.wrapping_add(1);
    }
}

impl Half {
    fn take(&mut self, word: &Word) {
        for (sum, more) in self.sum.iter_mut().zip(word.sum) {
            *sum += i32::from(more);
        }
        self.features += u32::from(word.features);
        self.words += 1;
    }
}
