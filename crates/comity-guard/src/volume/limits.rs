//! The table of limits and purposes, as data.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Counted;
use crate::limit;

/// How much of what is too much, and what is expected under which purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    limits: [Limit; Counted::COUNT],
    expected: BTreeMap<String, BTreeSet<Counted>>,
}

/// Bounds of one thing that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// In 24 hours, for anyone.
    pub a_day: u64,
    /// In 24 hours, where no declared purpose expects it.
    pub unexpected_a_day: u64,
}

/// Why a table was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadLimits {
    /// Not TOML of the right shape.
    #[error("table of volume limits cannot be read")]
    Toml(#[from] Box<toml::de::Error>),
    /// Too large.
    #[error("table of volume limits has {bytes} bytes, at most {} are read", limit::PACK_BYTES_MAX)]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Something that is counted has no limit.
    #[error("nothing says how much of `{}` is too much", counted.name())]
    Missing {
        /// What.
        counted: Counted,
    },
    /// A limit of 0, or one for the unexpected above that for all.
    #[error("the limits of `{}` are no limits: 1 to `a_day` are unexpected", counted.name())]
    Order {
        /// Of what.
        counted: Counted,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[allow(dead_code, reason = "for who reads the file; each version has this shape")]
    version: u32,
    limit: BTreeMap<Counted, Limit>,
    #[serde(default)]
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    purposes: Vec<String>,
    expects: Vec<Counted>,
}

impl Limits {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// When it is misshapen, or leaves something without a limit.
    pub fn from_toml(text: &str) -> Result<Self, BadLimits> {
        if text.len() > limit::PACK_BYTES_MAX {
            return Err(BadLimits::TooLarge { bytes: text.len() });
        }
        let table: Table = toml::from_str(text).map_err(Box::new)?;
        let mut limits = [Limit { a_day: 0, unexpected_a_day: 0 }; Counted::COUNT];
        for counted in Counted::all() {
            let limit = *table.limit.get(&counted).ok_or(BadLimits::Missing { counted })?;
            if limit.unexpected_a_day == 0 || limit.unexpected_a_day > limit.a_day {
                return Err(BadLimits::Order { counted });
            }
            limits[counted.index()] = limit;
        }
        let mut expected: BTreeMap<String, BTreeSet<Counted>> = BTreeMap::new();
        for row in table.expected {
            for purpose in row.purposes {
                expected.entry(purpose).or_default().extend(&row.expects);
            }
        }
        Ok(Self { limits, expected })
    }

    /// The table that comes with the binary.
    #[must_use]
    pub fn builtin() -> Self {
        Self::from_toml(include_str!("../../packs/volume.toml")).expect("the built-in table is read by a test")
    }

    /// The limits of one thing.
    #[must_use]
    pub fn of(&self, counted: Counted) -> Limit {
        self.limits[counted.index()]
    }

    /// Whether one of these purposes explains it. Equality on whole names; a purpose that is not known explains nothing.
    #[must_use]
    pub fn expects(&self, purposes: &[&str], counted: Counted) -> bool {
        purposes.iter().any(|purpose| self.expected.get(*purpose).is_some_and(|expected| expected.contains(&counted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_read_and_a_misshapen_one_is_refused() {
        let builtin = Limits::builtin();
        let political = Counted::Flags(crate::Category::PoliticalPersuasion);
        assert!(builtin.expects(&["biology", "political_science"], political));
        assert!(!builtin.expects(&["biology", "political_scienc"], political) && !builtin.expects(&[], political));
        let text = include_str!("../../packs/volume.toml");
        assert!(matches!(Limits::from_toml(&text.replace("cbrn = {", "cbrm = {")), Err(BadLimits::Toml(_))));
        assert!(matches!(Limits::from_toml(&text.replace("a_day = 500,", "a_day = 5,")), Err(BadLimits::Order { .. })));
        assert!(matches!(
            Limits::from_toml(&text.replace("biased_tokens = {", "# biased_tokens = {")),
            Err(BadLimits::Missing { counted: Counted::BiasedTokens })
        ));
    }
}
