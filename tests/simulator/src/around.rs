//! What a part of the world is handed when it acts: its clock, chance, the net, the truth.

use comity_wire::Timestamp;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::bugs::Bugs;
use crate::net::{Message, Net};
use crate::truth::Truth;

pub(crate) struct Around<'a> {
    /// By the clock of whoever acts.
    pub(crate) now: Timestamp,
    pub(crate) chance: &'a mut Chance,
    pub(crate) net: &'a mut Net,
    pub(crate) truth: &'a mut Truth,
    pub(crate) bugs: &'a dyn Bugs,
    /// The adversary has had its turn: nothing fails any more.
    pub(crate) calm: bool,
}

impl Around<'_> {
    pub(crate) fn send(&mut self, message: Message) {
        self.net.send(message);
    }

    /// One time in `of` something fails, until it is calm.
    pub(crate) fn strikes(&mut self, of: u64) -> bool {
        self.chance.one_in(of) && !self.calm
    }
}

/// Seeded.
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// One time in `of`.
    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }

    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
