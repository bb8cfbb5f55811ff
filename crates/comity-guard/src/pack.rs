//! A rule pack: rules as data, checked when read.
//!
//! ```toml
//! name = "political"
//! version = 1
//! licence = "MIT OR Apache-2.0"
//!
//! [[rule]]
//! id = "vote-appeal"
//! category = "political_persuasion"
//! phrases = ["vote for"]              # whole words, in any case and any disguise that folding sees through
//! patterns = ['\bvote (yes|no)\b']    # a regular expression over folded text, of bounded length
//! ```

pub mod signed;

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::category::Category;
use crate::limit;

/// A named, versioned set of rules.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePack {
    /// Its name; rules are known as `name/id`.
    pub name: String,
    /// Goes up with each change.
    pub version: u32,
    /// SPDX expression of the rules' licence.
    pub licence: String,
    /// The rules.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One rule: hit by any of its phrases or patterns.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name within the pack; stable, since notices and appeals quote it.
    pub id: String,
    /// What it counts towards.
    pub category: Category,
    /// Whole words or runs of words.
    #[serde(default)]
    pub phrases: Vec<String>,
    /// Regular expressions over folded text.
    #[serde(default)]
    pub patterns: Vec<String>,
}

/// Why a pack was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadPack {
    /// Too many bytes.
    #[error("pack has {bytes} bytes, at most {} are read", limit::PACK_BYTES_MAX)]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Not TOML of the right shape.
    #[error("pack cannot be read")]
    Toml(#[from] Box<toml::de::Error>),
    /// A name that is empty, too long, or not lower-case words joined by dashes.
    #[error("`{name}` is no name: lower-case letters, digits and dashes, at most {}", limit::NAME_BYTES_MAX)]
    Name {
        /// The name.
        name: String,
    },
    /// Two rules of one id.
    #[error("rule `{rule}` stands in the pack twice")]
    Twice {
        /// The rule.
        rule: String,
    },
    /// A rule that can never be hit.
    #[error("rule `{rule}` has neither phrase nor pattern")]
    Empty {
        /// The rule.
        rule: String,
    },
    /// Too many phrases and patterns.
    #[error("rule `{rule}` has {entries} phrases and patterns, at most {}", limit::RULE_ENTRIES_MAX)]
    TooMany {
        /// The rule.
        rule: String,
        /// How many it has.
        entries: usize,
    },
    /// A phrase or pattern that is empty or too long.
    #[error("rule `{rule}` has an entry of {bytes} bytes; 1 to {} are allowed", limit::ENTRY_BYTES_MAX)]
    Entry {
        /// The rule.
        rule: String,
        /// How many bytes it has.
        bytes: usize,
    },
}

impl RulePack {
    /// Reads and checks a pack.
    ///
    /// # Errors
    /// When it is too large, misshapen, or names something twice, emptily or at too great a length.
    pub fn from_toml(text: &str) -> Result<Self, BadPack> {
        if text.len() > limit::PACK_BYTES_MAX {
            return Err(BadPack::TooLarge { bytes: text.len() });
        }
        let pack: Self = toml::from_str(text).map_err(Box::new)?;
        pack.check()?;
        Ok(pack)
    }

    /// The packs that come with the binary.
    #[must_use]
    pub fn builtin() -> Vec<Self> {
        let sources = [
            include_str!("../packs/political.toml"),
            include_str!("../packs/cbrn.toml"),
            include_str!("../packs/cyber.toml"),
            include_str!("../packs/personal.toml"),
            include_str!("../packs/extraction.toml"),
        ];
        sources.into_iter().map(|text| Self::from_toml(text).expect("built-in packs are read by a test")).collect()
    }

    fn check(&self) -> Result<(), BadPack> {
        name(&self.name)?;
        let mut seen = BTreeSet::new();
        for rule in &self.rules {
            name(&rule.id)?;
            if !seen.insert(&rule.id) {
                return Err(BadPack::Twice { rule: rule.id.clone() });
            }
            let entries = rule.phrases.len() + rule.patterns.len();
            if entries == 0 {
                return Err(BadPack::Empty { rule: rule.id.clone() });
            }
            if entries > limit::RULE_ENTRIES_MAX {
                return Err(BadPack::TooMany { rule: rule.id.clone(), entries });
            }
            for bytes in rule.phrases.iter().chain(&rule.patterns).map(String::len) {
                if bytes == 0 || bytes > limit::ENTRY_BYTES_MAX {
                    return Err(BadPack::Entry { rule: rule.id.clone(), bytes });
                }
            }
        }
        Ok(())
    }
}

fn name(name: &str) -> Result<(), BadPack> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > limit::NAME_BYTES_MAX || !name.chars().all(good) {
        return Err(BadPack::Name { name: name.chars().take(limit::NAME_BYTES_MAX).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(rules: &str) -> Result<RulePack, BadPack> {
        RulePack::from_toml(&format!("name = \"test\"\nversion = 1\nlicence = \"MIT\"\n{rules}"))
    }

    #[test]
    fn the_built_in_packs_are_read_and_cover_every_category() {
        let packs = RulePack::builtin();
        for category in Category::ALL {
            assert!(packs.iter().flat_map(|pack| &pack.rules).any(|rule| rule.category == category), "{category}");
        }
    }

    #[test]
    fn a_misshapen_pack_is_refused() {
        let rule = |id: &str, entries: &str| format!("[[rule]]\nid = \"{id}\"\ncategory = \"cbrn\"\n{entries}\n");
        assert!(pack(&rule("a", "phrases = [\"x\"]")).is_ok());
        assert!(matches!(pack(&rule("A", "phrases = [\"x\"]")), Err(BadPack::Name { .. })));
        assert!(matches!(pack(&rule("a", "")), Err(BadPack::Empty { .. })));
        assert!(matches!(pack(&rule("a", "phrases = [\"\"]")), Err(BadPack::Entry { .. })));
        assert!(matches!(pack(&rule("a", "words = [\"x\"]")), Err(BadPack::Toml(_))));
        assert!(matches!(pack(&rule("a", "phrases = [\"x\"]").replace("cbrn", "other")), Err(BadPack::Toml(_))));
        let twice = rule("a", "phrases = [\"x\"]").repeat(2);
        assert!(matches!(pack(&twice), Err(BadPack::Twice { .. })));
        let many = format!("phrases = [{}]", "\"x\",".repeat(limit::RULE_ENTRIES_MAX + 1));
        assert!(matches!(pack(&rule("a", &many)), Err(BadPack::TooMany { .. })));
        let long = format!("phrases = [\"{}\"]", "x".repeat(limit::ENTRY_BYTES_MAX + 1));
        assert!(matches!(pack(&rule("a", &long)), Err(BadPack::Entry { .. })));
        assert!(matches!(RulePack::from_toml(&" ".repeat(limit::PACK_BYTES_MAX + 1)), Err(BadPack::TooLarge { .. })));
    }
}
