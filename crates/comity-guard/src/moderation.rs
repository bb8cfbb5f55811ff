//! What another server's moderation says of a text, in our words: which of its categories is which of ours, and how sure that is.
//!
//! Its names and scores are its own; an owner says row by row what they count for (`[[moderation.map]]`, docs/operating/moderation.md).
//! A category without a row counts for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::category::Category;
use crate::findings::Findings;
use crate::linear::Band;

/// Rows of one map.
pub const ROWS_MAX: usize = 64;
/// Bytes of a name of theirs.
pub const NAME_BYTES_MAX: usize = 64;

/// One of their categories and what it counts for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// As they call it.
    pub theirs: String,
    /// Of ours.
    pub category: Category,
    /// From this score on it is a guess; left out: where they flag it.
    #[serde(default)]
    pub medium: Option<f64>,
    /// From this score on it is sure, and may block or suspend. Without scores what they flag has score 1.
    #[serde(default = "sure")]
    pub high: f64,
}

const fn sure() -> f64 {
    0.9
}

/// What they say of one text.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Verdict {
    /// Whether they flag it, by their names.
    #[serde(default)]
    pub categories: BTreeMap<String, bool>,
    /// How much, from 0 to 1.
    #[serde(default)]
    pub category_scores: BTreeMap<String, f64>,
}

/// Why rows are no map.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MapError {
    /// There is none.
    #[error("no row says what any of their categories counts for")]
    Empty,
    /// There are too many.
    #[error("more than {ROWS_MAX} rows")]
    TooMany,
    /// A name that cannot be one.
    #[error("'{0}' is no name of a category: 1 to {NAME_BYTES_MAX} letters, digits or any of /-_")]
    Name(String),
    /// A name that comes again.
    #[error("two rows say what '{0}' counts for")]
    Twice(String),
    /// Scores that contradict each other.
    #[error("the scores of '{0}' have to be between 0 and 1, medium not above high")]
    Scores(String),
}

/// Rows that were checked.
#[derive(Clone, Debug)]
pub struct Map(Vec<(Row, Arc<str>)>);

impl Map {
    /// # Errors
    /// [`MapError`] for the first row that cannot be.
    pub fn new(rows: Vec<Row>) -> Result<Self, MapError> {
        if rows.is_empty() {
            return Err(MapError::Empty);
        }
        if rows.len() > ROWS_MAX {
            return Err(MapError::TooMany);
        }
        let mut names = BTreeSet::new();
        for row in &rows {
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte);
            if row.theirs.is_empty() || row.theirs.len() > NAME_BYTES_MAX || !row.theirs.bytes().all(is_of_name) {
                return Err(MapError::Name(row.theirs.clone()));
            }
            if !names.insert(&row.theirs) {
                return Err(MapError::Twice(row.theirs.clone()));
            }
            let stands = |score: f64| (0.0..=1.0).contains(&score);
            if !stands(row.high) || row.medium.is_some_and(|medium| !stands(medium) || medium > row.high) {
                return Err(MapError::Scores(row.theirs.clone()));
            }
        }
        let rule = |row: &Row| Arc::from(format!("moderation/{}", row.theirs));
        Ok(Self(rows.into_iter().map(|row| (row.clone(), rule(&row))).collect()))
    }

    /// A server that speaks our names.
    #[must_use]
    pub fn of_our_names() -> Self {
        let row = |category: Category| Row { theirs: category.name().into(), category, medium: None, high: sure() };
        Self::new(Category::ALL.map(row).to_vec()).expect("our names are names")
    }

    /// Categories that something counts for.
    pub fn categories(&self) -> BTreeSet<Category> {
        self.0.iter().map(|(row, _)| row.category).collect()
    }

    /// Their names that count for something.
    pub fn theirs(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(row, _)| row.theirs.as_str())
    }

    /// What verdicts on the pieces of a text come to.
    #[must_use]
    pub fn findings(&self, verdicts: &[Verdict]) -> Findings {
        let mut findings = Findings::default();
        for verdict in verdicts {
            for (row, rule) in &self.0 {
                if let Some(band) = row.band(verdict) {
                    findings.moderated(row.category, band, rule);
                }
            }
        }
        findings
    }
}

impl Row {
    fn band(&self, verdict: &Verdict) -> Option<Band> {
        let is_flagged = verdict.categories.get(&self.theirs).copied().unwrap_or(false);
        let score = verdict.category_scores.get(&self.theirs).copied();
        let score = score.unwrap_or_else(|| f64::from(u8::from(is_flagged)));
        // A number that is none counts as the worst: never fail open.
        let score = if score.is_nan() { 1.0 } else { score };
        let is_guess = self.medium.map_or(is_flagged, |medium| score >= medium);
        // Being sure is enough, whatever they call flagged.
        let is_sure = score >= self.high && (is_flagged || self.medium.is_some());
        if is_sure { Some(Band::High) } else { is_guess.then_some(Band::Medium) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(theirs: &str, medium: Option<f64>, high: f64) -> Row {
        Row { theirs: theirs.into(), category: Category::Cbrn, medium, high }
    }

    fn verdict(flagged: Option<bool>, score: Option<f64>) -> Verdict {
        Verdict {
            categories: flagged.map(|flagged| ("x".to_owned(), flagged)).into_iter().collect(),
            category_scores: score.map(|score| ("x".to_owned(), score)).into_iter().collect(),
        }
    }

    #[test]
    fn a_score_is_a_guess_or_sure_as_the_row_says() {
        let band = |medium, high, flagged, score| row("x", medium, high).band(&verdict(flagged, score));
        let (guess, sure) = (Some(Band::Medium), Some(Band::High));
        // By what they flag.
        assert_eq!(band(None, 0.9, Some(false), Some(0.95)), None, "they do not flag it");
        assert_eq!(band(None, 0.9, Some(true), Some(0.5)), guess);
        assert_eq!(band(None, 0.9, Some(true), Some(0.9)), sure);
        assert_eq!(band(None, 0.9, Some(true), None), sure, "without a score a flag is 1");
        assert_eq!(band(None, 0.9, None, None), None);
        // By the score alone.
        assert_eq!(band(Some(0.3), 0.8, Some(false), Some(0.29)), None);
        assert_eq!(band(Some(0.3), 0.8, Some(false), Some(0.3)), guess);
        assert_eq!(band(Some(0.3), 0.8, None, Some(0.8)), sure);
        assert_eq!(band(Some(0.3), 0.8, None, Some(f64::NAN)), sure, "what is no number is the worst");
    }

    #[test]
    fn verdicts_on_pieces_are_counted_under_their_own_rule() {
        let map = Map::new(vec![row("x", None, 0.9), Row { category: Category::PersonalData, ..row("y", None, 0.9) }]);
        let map = map.unwrap();
        let findings =
            map.findings(&[verdict(Some(true), Some(0.5)), verdict(Some(true), Some(1.0)), Verdict::default()]);
        assert_eq!((findings.count(Category::Cbrn), findings.count(Category::PersonalData)), (2, 0));
        assert_eq!(findings.band(Category::Cbrn), Some(Band::High));
        assert_eq!(findings.rules().collect::<Vec<_>>(), [("moderation/x", 2)]);
        let mut here = Findings::default();
        here.moderated(Category::Cbrn, Band::Medium, &Arc::from("moderation/x"));
        here.beside(&findings);
        assert_eq!(here.count(Category::Cbrn), 2, "both speak of the same text: not added up");
        assert_eq!(here.band(Category::Cbrn), Some(Band::High));
    }

    #[test]
    fn a_row_that_cannot_be_is_no_map() {
        let new = |rows: Vec<Row>| Map::new(rows).unwrap_err();
        assert_eq!(new(Vec::new()), MapError::Empty);
        assert_eq!(new((0..=ROWS_MAX).map(|n| row(&format!("r{n}"), None, 0.9)).collect()), MapError::TooMany);
        assert_eq!(new(vec![row("", None, 0.9)]), MapError::Name(String::new()));
        assert_eq!(new(vec![row("a b", None, 0.9)]), MapError::Name("a b".into()));
        assert_eq!(new(vec![row("a", None, 0.9), row("a", None, 0.9)]), MapError::Twice("a".into()));
        assert_eq!(new(vec![row("a", None, 1.1)]), MapError::Scores("a".into()));
        assert_eq!(new(vec![row("a", Some(0.9), 0.8)]), MapError::Scores("a".into()));
        assert_eq!(new(vec![row("a", Some(f64::NAN), 0.8)]), MapError::Scores("a".into()));
        assert_eq!(Map::of_our_names().categories().len(), Category::COUNT);
    }
}
