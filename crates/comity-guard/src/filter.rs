//! Packs compiled: one automaton for all phrases, one bounded expression per pattern; and the classifier beside them.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::category::Category;
use crate::findings::Findings;
use crate::fold::fold;
use crate::limit;
use crate::linear::Classifier;
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
    /// Two packs of one name, or one that has the classifier's.
    #[error("pack `{pack}` is given twice, or has a name that is taken")]
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

    /// The same packs, and a classifier beside them.
    #[must_use]
    pub fn with_classifier(self, classifier: Classifier) -> Self {
        let compiled = Arc::unwrap_or_clone(self.inner);
        Self { inner: Arc::new(Compiled { classifier: Some(classifier), ..compiled }) }
    }

    /// The packs and the classifier that come with the binary.
    #[must_use]
    pub fn builtin() -> Self {
        let packs = Self::new(&RulePack::builtin()).expect("the built-in packs compile");
        packs.with_classifier(Classifier::builtin())
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
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) rules: Vec<CompiledRule>,
    /// Phrases, and what patterns cannot do without; `None` when there is neither.
    pub(crate) words: Option<AhoCorasick>,
    /// What each of them stands for.
    pub(crate) stands_for: Vec<StandsFor>,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) classifier: Option<Classifier>,
    /// What the classifier's findings are called, by category.
    pub(crate) linear: [Arc<str>; Category::COUNT],
}

/// What a word of the automaton says when it is found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StandsFor {
    /// A phrase of this rule.
    Phrase(usize),
    /// This pattern may match.
    Pattern(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) regex: Regex,
    pub(crate) rule: usize,
    /// Whether it can match only around one of its words; else it is tried everywhere.
    pub(crate) needs_word: bool,
    /// Bytes of its longest match.
    pub(crate) bytes_max: usize,
}

#[derive(Debug, Clone)]
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

        let mut compiled = Self {
            rules: Vec::new(),
            words: None,
            stands_for: Vec::new(),
            patterns: Vec::new(),
            classifier: None,
            linear: Category::ALL.map(|category| format!("{CLASSIFIER}/{category}").into()),
        };
        let mut words = Vec::new();
        for (number, pack) in packs.iter().enumerate() {
            if pack.name == CLASSIFIER || packs[..number].iter().any(|before| before.name == pack.name) {
                return Err(BadFilter::Twice { pack: pack.name.clone() });
            }
            for rule in &pack.rules {
                let (at, id) = (compiled.rules.len(), format!("{}/{}", pack.name, rule.id));
                for phrase in &rule.phrases {
                    words.push(folded(phrase, &id)?.into_bytes());
                    compiled.stands_for.push(StandsFor::Phrase(at));
                }
                for pattern in &rule.patterns {
                    let (regex, bytes_max, needed) = bounded(pattern, &id)?;
                    let needs_word = !needed.is_empty();
                    compiled.stands_for.extend(needed.iter().map(|_| StandsFor::Pattern(compiled.patterns.len())));
                    words.extend(needed);
                    compiled.patterns.push(Pattern { regex, rule: at, needs_word, bytes_max });
                }
                compiled.rules.push(CompiledRule { id: id.into(), category: rule.category });
            }
        }
        if !words.is_empty() {
            // Standard, not leftmost: overlapping search is what lets a rule see its phrase inside another rule's.
            // The fastest form takes kilobytes for each word.
            let kind = (words.len() <= FAST_WORDS_MAX).then_some(AhoCorasickKind::DFA);
            let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(kind).build(&words);
            compiled.words = Some(automaton.map_err(|error| BadFilter::Phrases(Box::new(error)))?);
        }
        Ok(compiled)
    }
}

/// The name that stands in place of a pack's in what the classifier found.
const CLASSIFIER: &str = "linear";

fn within(what: &'static str, found: usize, max: usize) -> Result<(), BadFilter> {
    if found > max { Err(BadFilter::TooMany { what, found, max }) } else { Ok(()) }
}

fn folded(phrase: &str, rule: &str) -> Result<String, BadFilter> {
    let phrase = fold(phrase).trim().to_owned();
    if phrase.chars().any(char::is_alphanumeric) { Ok(phrase) } else { Err(BadFilter::Blank { rule: rule.to_owned() }) }
}

/// Compiles a pattern whose matches have a least length of 1 and a greatest that a stream can keep back.
/// Beside it the bytes of its longest match, and the words one of which each match holds; none where there are no such.
fn bounded(pattern: &str, rule: &str) -> Result<(Regex, usize, Vec<Vec<u8>>), BadFilter> {
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
        Some(bytes) if bytes <= limit::MATCH_BYTES_MAX => Ok((regex, bytes, needed(&parsed).unwrap_or_default())),
        _ => Err(BadFilter::Unbounded { rule: rule() }),
    }
}

/// Words one of which stands in whatever the expression matches: those of the part whose shortest word is longest. One
/// pass finds all words of all patterns, and each pattern is then tried around its own.
fn needed(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let found = match hir.kind() {
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Capture(capture) => needed(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => needed(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(needed).max_by_key(|words| shortest(words)),
        HirKind::Alternation(parts) => {
            parts.iter().map(needed).collect::<Option<Vec<_>>>().map(|words| words.into_iter().flatten().collect())
        }
        HirKind::Class(Class::Unicode(class)) if class.ranges().iter().all(|range| range.len() <= 10) => Some(
            class.ranges().iter().flat_map(|range| range.start()..=range.end()).map(|c| c.to_string().into()).collect(),
        ),
        HirKind::Repetition(_) | HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => None,
    };
    // One letter is found everywhere and spares nothing; a digit, or a mark such as `@`, is not.
    let is_rare =
        |word: &Vec<u8>| word.len() > 1 || !word.iter().any(|byte| byte.is_ascii_alphabetic() || *byte == b' ');
    found.filter(|words| words.iter().all(is_rare) && words.len() <= NEEDED_MAX)
}

fn shortest(words: &[Vec<u8>]) -> usize {
    words.iter().map(Vec::len).min().unwrap_or(0)
}

/// Words of an automaton in its fastest form.
const FAST_WORDS_MAX: usize = 1_000;
/// A pattern that needs one of more words than this is tried everywhere.
const NEEDED_MAX: usize = 64;
