//! Packs compiled: one automaton for all phrases, one bounded expression per pattern.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Regex, RegexBuilder};

use crate::category::Category;
use crate::findings::Findings;
use crate::fold::fold;
use crate::limit;
use crate::pack::RulePack;
use crate::scanner::Scanner;

/// Compiled packs. Cheap to clone, shared by all requests.
#[derive(Debug, Clone)]
pub struct Filter {
    inner: Arc<Compiled>,
}

/// Why packs could not be made into a filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadFilter {
    /// Two packs of one name.
    #[error("pack `{pack}` is given twice")]
    Twice {
        /// The pack.
        pack: String,
    },
    /// Too many of something.
    #[error("{found} {what}, at most {max} in a filter")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many were found.
        found: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A phrase that folds to nothing.
    #[error("rule `{rule}` has a phrase without a letter or digit")]
    Blank {
        /// The rule.
        rule: String,
    },
    /// A pattern that is no regular expression, or whose automaton is too large.
    #[error("rule `{rule}` has a pattern that cannot be compiled")]
    Pattern {
        /// The rule.
        rule: String,
        /// Why not.
        #[source]
        source: Box<regex::Error>,
    },
    /// A pattern that may match at no length, so everywhere.
    #[error("rule `{rule}` has a pattern that matches the empty text")]
    MatchesNothing {
        /// The rule.
        rule: String,
    },
    /// A pattern whose match may be longer than a stream keeps back.
    #[error(
        "rule `{rule}` has a pattern without an upper length of {} bytes; write {{0,40}} for * or +",
        limit::MATCH_BYTES_MAX
    )]
    Unbounded {
        /// The rule.
        rule: String,
    },
    /// The automaton of all phrases could not be built.
    #[error("the phrases cannot be compiled")]
    Phrases(#[source] Box<aho_corasick::BuildError>),
}

impl Filter {
    /// Compiles packs; none gives a filter that flags nothing.
    ///
    /// # Errors
    /// When a pattern cannot be bounded or compiled, or there is more than the bounds of [`limit`] allow.
    pub fn new(packs: &[RulePack]) -> Result<Self, BadFilter> {
        Compiled::new(packs).map(|compiled| Self { inner: Arc::new(compiled) })
    }

    /// What a whole text holds.
    #[must_use]
    pub fn scan(&self, text: &str) -> Findings {
        let mut scanner = self.scanner();
        scanner.push(text);
        scanner.finish()
    }

    /// A scan of a text that comes in chunks.
    #[must_use]
    pub fn scanner(&self) -> Scanner {
        Scanner::new(Arc::clone(&self.inner))
    }
}

/// What all scans share.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) rules: Vec<CompiledRule>,
    /// `None` when there is no phrase at all.
    pub(crate) phrases: Option<AhoCorasick>,
    /// Phrase number → rule number.
    pub(crate) phrase_rule: Vec<usize>,
    /// Expression and rule number.
    pub(crate) patterns: Vec<(Regex, usize)>,
}

#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) id: Arc<str>,
    pub(crate) category: Category,
}

impl Compiled {
    fn new(packs: &[RulePack]) -> Result<Self, BadFilter> {
        let count = |of: fn(&crate::pack::Rule) -> usize| packs.iter().flat_map(|pack| &pack.rules).map(of).sum();
        within("rules", count(|_| 1), limit::RULES_MAX)?;
        within("phrases", count(|rule| rule.phrases.len()), limit::PHRASES_MAX)?;
        within("patterns", count(|rule| rule.patterns.len()), limit::PATTERNS_MAX)?;

        let mut compiled = Self { rules: Vec::new(), phrases: None, phrase_rule: Vec::new(), patterns: Vec::new() };
        let mut phrases = Vec::new();
        for (number, pack) in packs.iter().enumerate() {
            if packs[..number].iter().any(|before| before.name == pack.name) {
                return Err(BadFilter::Twice { pack: pack.name.clone() });
            }
            for rule in &pack.rules {
                let (at, id) = (compiled.rules.len(), format!("{}/{}", pack.name, rule.id));
                for phrase in &rule.phrases {
                    phrases.push(folded(phrase, &id)?);
                    compiled.phrase_rule.push(at);
                }
                for pattern in &rule.patterns {
                    compiled.patterns.push((bounded(pattern, &id)?, at));
                }
                compiled.rules.push(CompiledRule { id: id.into(), category: rule.category });
            }
        }
        if !phrases.is_empty() {
            // Standard, not leftmost: overlapping search is what lets a rule see its phrase inside another rule's.
            let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&phrases);
            compiled.phrases = Some(automaton.map_err(|error| BadFilter::Phrases(Box::new(error)))?);
        }
        Ok(compiled)
    }
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), BadFilter> {
    if found > max { Err(BadFilter::TooMany { what, found, max }) } else { Ok(()) }
}

fn folded(phrase: &str, rule: &str) -> Result<String, BadFilter> {
    let phrase = fold(phrase).trim().to_owned();
    if phrase.chars().any(char::is_alphanumeric) { Ok(phrase) } else { Err(BadFilter::Blank { rule: rule.to_owned() }) }
}

/// Compiles a pattern whose matches have a least length of 1 and a greatest that a stream can keep back.
fn bounded(pattern: &str, rule: &str) -> Result<Regex, BadFilter> {
    let rule = || rule.to_owned();
    let regex = RegexBuilder::new(pattern)
        .size_limit(limit::PATTERN_MEMORY_MAX)
        .dfa_size_limit(limit::PATTERN_MEMORY_MAX)
        .build()
        .map_err(|source| BadFilter::Pattern { rule: rule(), source: Box::new(source) })?;
    let parsed = regex_syntax::parse(pattern).expect("what compiles also parses");
    if parsed.properties().minimum_len().unwrap_or(0) == 0 {
        return Err(BadFilter::MatchesNothing { rule: rule() });
    }
    match parsed.properties().maximum_len() {
        Some(bytes) if bytes <= limit::MATCH_BYTES_MAX => Ok(regex),
        _ => Err(BadFilter::Unbounded { rule: rule() }),
    }
}
