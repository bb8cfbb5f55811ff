//! Chance from a secret: whoever lacks the secret cannot tell what comes next, whoever has it gets the same again.

use std::fmt;

use comity_wire::Digest;

/// What the house's plan and its half of the prompts grow from. It is never written into findings, logs or messages.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret of 32 bytes of the machine's randomness.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A stream of its own for each use and number.
    #[must_use]
    pub fn chance(&self, label: &str, number: u64) -> Chance {
        let parts: [&[u8]; 4] = [b"comity-probe/chance/1\0", &self.0, &number.to_be_bytes(), label.as_bytes()];
        Chance { key: Digest::of_parts(&parts).0, block: [0; 32], blocks: 0, used: 32 }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A stream of draws: SHA-256 over a key and a counter, so that earlier and later draws tell nothing of each other.
#[derive(Clone)]
pub struct Chance {
    key: [u8; 32],
    block: [u8; 32],
    blocks: u64,
    used: usize,
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance(…)")
    }
}

impl Chance {
    fn next(&mut self) -> u64 {
        if self.used == self.block.len() {
            self.block = Digest::of_parts(&[&self.key, &self.blocks.to_be_bytes()]).0;
            self.blocks += 1;
            self.used = 0;
        }
        let eight = self.block[self.used..self.used + 8].try_into().expect("eight bytes");
        self.used += 8;
        u64::from_be_bytes(eight)
    }

    /// Uniform in `[0, 1)`, 53 bits.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `bound`; 0 where that is 0.
    #[allow(clippy::cast_possible_truncation, reason = "below the bound, which is a usize")]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of a list that is not empty.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// An index, as often as its weight says.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        let taken = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        taken.unwrap_or_else(|| weights.len().saturating_sub(1))
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Exponential with this mean: the gap to the next arrival of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    /// Log-normal, by its median and the deviation of its logarithm.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// Puts a list in random order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at + 1));
        }
    }
}
