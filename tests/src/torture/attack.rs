//! Attacks on a node that stays up: each has a story of its own, beside honest callers, and one count at the end.
//!
//! Whatever callers, model servers, disks and databases do: what was charged is what the receipts say, is no more than was
//! handed over, and never more than the token has; after quiet nothing is held; who is honest is answered again.

mod full;
mod liars;
mod partition;
mod raw;
mod readers;
mod scene;
mod server;
mod storm;

use std::collections::BTreeMap;

use super::{Store, Tally};
use crate::Chance;

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Streaming callers that hang up before, during and after, some of them with a reset.
    Storm,
    /// A model's server that lies about what it did, falls silent, breaks off, or speaks nonsense.
    Liars,
    /// Callers that take a few bytes now and then.
    Readers,
    /// A disk without room.
    Full,
    /// A database that is not reached, and whose answers are lost.
    Partition,
}

/// How large: a few seconds of the test command, or `cargo xtask torture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Small,
    /// With this many cycles, where there are cycles.
    Large(u32),
}

/// What a story has to tell beside the count: one JSON row.
pub type Facts = BTreeMap<&'static str, u64>;

impl Attack {
    pub const ALL: [Self; 5] = [Self::Storm, Self::Liars, Self::Readers, Self::Full, Self::Partition];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Liars => "liars",
            Self::Readers => "readers",
            Self::Full => "full",
            Self::Partition => "partition",
        }
    }

    /// A disk fills up under SQLite, a database is cut off as PostgreSQL.
    pub fn is_of(self, store: Store) -> bool {
        match self {
            Self::Full => store == Store::Sqlite,
            Self::Partition => store == Store::Postgres,
            Self::Storm | Self::Liars | Self::Readers => true,
        }
    }
}

impl std::str::FromStr for Attack {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|attack| attack.name() == text);
        found.ok_or_else(|| format!("'{text}' is none of storm, liars, readers, full, partition"))
    }
}

impl Size {
    const fn of<T: Copy>(self, small: T, large: T) -> T {
        match self {
            Self::Small => small,
            Self::Large(_) => large,
        }
    }

    const fn cycles(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Large(cycles) => cycles,
        }
    }
}

/// Plays one attack. `store` is where the node keeps its books.
///
/// # Panics
/// Where the federation cannot be set up.
pub async fn attack(attack: Attack, store: Store, size: Size, chance: &mut Chance, tally: &Tally) -> Facts {
    let database = store.made().await;
    let facts = match attack {
        Attack::Storm => storm::story(size, database.as_ref(), chance, tally).await,
        Attack::Liars => liars::story(database.as_ref(), tally).await,
        Attack::Readers => readers::story(size, database.as_ref(), chance, tally).await,
        Attack::Full => full::story(size, tally).await,
        Attack::Partition => {
            let database = database.as_ref().expect("a database is cut off where there is one: --store postgres");
            partition::story(size, database, chance, tally).await
        }
    };
    tally.acked();
    eprintln!("{}: {facts:?}", attack.name());
    facts
}
