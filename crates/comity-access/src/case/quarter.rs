//! What an owner publishes of its cases: counts of a quarter that is over, in which nobody can be found.
//!
//! What is counted is what happened within the quarter, by its time: it stands still once the quarter is over, so that nothing is
//! learnt from two publications of one. A count is shown where at least [`Statistics::LEAST`] projects stand behind it: five
//! cases of one project are that project's. Since what was opened and what was decided in a quarter are different cases, no
//! count that is left out is found by subtracting others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use comity_wire::cbor::{List, Text};
use comity_wire::object::{CaseCounts, Statistics};
use comity_wire::{OrgId, Timestamp};

use super::act::Kind;
use super::machine::Case;

/// Categories of one publication; where there are more, those with most cases opened.
const ROWS_MAX: usize = 64;
/// Bytes of a category that is published.
const CATEGORY_BYTES_MAX: usize = 256;

/// Three months, by UTC: `2026-q4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quarter {
    year: u16,
    /// 1 to 4.
    quarter: u8,
}

/// A text that names no quarter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a quarter: it is written 2026-q4")]
pub struct NotAQuarter;

impl Quarter {
    /// The one that a time is in.
    pub fn of(at: Timestamp) -> Self {
        let text = at.to_string();
        let year = text[..4].parse().unwrap_or(u16::MAX);
        let month: u8 = text[5..7].parse().unwrap_or(12);
        Self { year, quarter: month.div_ceil(3) }
    }

    /// The one before it.
    #[must_use]
    pub const fn before(self) -> Self {
        match self.quarter {
            1 => Self { year: self.year.saturating_sub(1), quarter: 4 },
            quarter => Self { year: self.year, quarter: quarter - 1 },
        }
    }

    const fn after(self) -> Self {
        match self.quarter {
            4 => Self { year: self.year + 1, quarter: 1 },
            quarter => Self { year: self.year, quarter: quarter + 1 },
        }
    }

    /// Its first second.
    pub fn begins(self) -> Timestamp {
        let date = format!("{:04}-{:02}-01", self.year, 3 * self.quarter - 2);
        Timestamp::of_date(&date).expect("the first of a month is a day")
    }

    /// The first second after it.
    pub fn ends(self) -> Timestamp {
        self.after().begins()
    }
}

impl fmt::Display for Quarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-q{}", self.year, self.quarter)
    }
}

impl FromStr for Quarter {
    type Err = NotAQuarter;

    fn from_str(text: &str) -> Result<Self, NotAQuarter> {
        let (year, quarter) = text.split_once("-q").ok_or(NotAQuarter)?;
        let found =
            Self { year: year.parse().map_err(|_| NotAQuarter)?, quarter: quarter.parse().map_err(|_| NotAQuarter)? };
        let is_one = (1970..9999).contains(&found.year) && (1..=4).contains(&found.quarter);
        if is_one && found.to_string() == text { Ok(found) } else { Err(NotAQuarter) }
    }
}

/// Who stands behind each count of each category.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    categories: BTreeMap<String, BTreeMap<Kind, Count>>,
}

#[derive(Clone, Debug, Default)]
struct Count {
    cases: u64,
    /// No more than are needed to show it.
    projects: BTreeSet<String>,
}

impl Tally {
    /// Counts what happened in a case within the quarter.
    pub fn count(&mut self, case: &Case, quarter: Quarter) {
        let within = quarter.begins()..quarter.ends();
        let Some(category) = case.seen().first().map(|seen| seen.category.as_str()) else { return };
        for event in case.events().iter().map(|recorded| recorded.event()).filter(|event| within.contains(&event.at)) {
            let kinds = self.categories.entry(category.to_owned()).or_default();
            let count = kinds.entry(event.act.kind()).or_default();
            count.cases += 1;
            if count.projects.len() < Statistics::LEAST as usize {
                count.projects.insert(case.subject().to_owned());
            }
        }
    }

    /// What is published of it, once the quarter is over.
    pub fn statistics(self, org: OrgId, quarter: Quarter, now: Timestamp) -> Option<Statistics> {
        if now < quarter.ends() {
            return None;
        }
        let mut rows: Vec<CaseCounts> =
            self.categories.into_iter().filter_map(|(name, kinds)| row(name, &kinds)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.opened));
        rows.truncate(ROWS_MAX);
        rows.sort_by(|one, next| one.category.as_str().cmp(next.category.as_str()));
        Some(Statistics {
            org,
            period: Text::new(quarter.to_string()).expect("a quarter has seven characters"),
            issued_at: now,
            rows: List::new(rows).expect("no more than there may be"),
        })
    }
}

fn row(category: String, kinds: &BTreeMap<Kind, Count>) -> Option<CaseCounts> {
    let shown = |kind: Kind| {
        let count = kinds.get(&kind)?;
        (count.projects.len() as u64 >= Statistics::LEAST).then_some(count.cases)
    };
    let row = CaseCounts {
        category: Text::<CATEGORY_BYTES_MAX>::new(category).ok()?,
        opened: shown(Kind::Open),
        upheld: shown(Kind::Uphold),
        cleared: shown(Kind::Clear),
        appealed: shown(Kind::Appeal),
        overturned: shown(Kind::Overturn),
        lapsed: shown(Kind::Lapse),
    };
    let is_shown =
        [row.opened, row.upheld, row.cleared, row.appealed, row.overturned, row.lapsed].iter().any(Option::is_some);
    is_shown.then_some(row)
}

#[cfg(test)]
mod tests {
    use comity_wire::object::FilterAction;
    use comity_wire::{SecretKey, cose};

    use super::*;
    use crate::case::{Act, Actor, CaseId, Measure, Role, Seen, Settings};

    const ORG: OrgId = OrgId([7; 16]);

    fn quarter(text: &str) -> Quarter {
        text.parse().expect("a quarter")
    }

    /// One that is answered and decided at once.
    fn case(number: u8, subject: &str, category: &str, at: Timestamp, decided: Option<Act>) -> Case {
        let model = "lab/tiny".parse().expect("a model");
        let (category, rule, band) = (category.into(), "a/rule".into(), "high".into());
        let seen = Seen { model, category, rule, band, count: 1, action: FilterAction::Block };
        let actor = |id: &str, role| Actor { id: id.into(), role };
        let filter = actor("filter", Role::Bot);
        let what = (subject.to_owned(), seen);
        let settings = Settings::default();
        let mut case =
            Case::open(CaseId([number; 16]), what, None, (&filter, String::new()), at, &settings).expect("it opens");
        if let Some(act) = decided {
            let answer = Act::Answer { text: "no".into(), brought_by: None };
            case.act(answer, &actor(subject, Role::Project), at, &settings).expect("an answer");
            case.act(act, &actor("hanna", Role::Handler), at.plus(10), &settings).expect("a decision");
        }
        case
    }

    fn of(cases: &[Case], text: &str) -> Statistics {
        let mut tally = Tally::default();
        cases.iter().for_each(|case| tally.count(case, quarter(text)));
        tally.statistics(ORG, quarter(text), quarter(text).ends()).expect("it is over")
    }

    #[test]
    fn a_quarter_is_three_months() {
        let at = |date: &str| Timestamp::of_date(date).expect("a day");
        for (date, name) in
            [("2026-01-01", "2026-q1"), ("2026-03-31", "2026-q1"), ("2026-04-01", "2026-q2"), ("2026-12-31", "2026-q4")]
        {
            let found = Quarter::of(at(date));
            assert_eq!((found.to_string().as_str(), found), (name, quarter(name)));
        }
        let last = quarter("2026-q4");
        assert_eq!((last.begins(), last.ends()), (at("2026-10-01"), at("2027-01-01")));
        assert_eq!((last.before().to_string(), quarter("2027-q1").before()), ("2026-q3".into(), last));
        for text in ["2026-q5", "2026-q0", "2026-Q4", "26-q4", "2026-q04", "2026-4", "1969-q4", "", "2026-q4 "] {
            assert_eq!(text.parse::<Quarter>(), Err(NotAQuarter), "{text}");
        }
    }

    #[test]
    fn small_numbers_and_single_projects_are_not_shown() {
        let at = quarter("2026-q4").begins();
        let uphold = || Some(Act::Uphold { measure: Measure::Note, reason: "it was".into() });
        let clear = || Some(Act::Clear { reason: "no".into() });
        let mut cases = Vec::new();
        for number in 0..6_u8 {
            // Six projects; four of them upheld, two cleared.
            let decided = if number < 4 { uphold() } else { clear() };
            cases.push(case(number, &format!("sub-{number}"), "political", at, decided));
            // Six of one project.
            cases.push(case(100 + number, "sub-x", "cbrn", at, uphold()));
            // Four projects.
            if number < 4 {
                cases.push(case(200 + number, &format!("sub-{number}"), "cyber", at, None));
            }
        }
        let shown = of(&cases, "2026-q4");
        let rows: Vec<_> =
            shown.rows.iter().map(|row| (row.category.as_str(), row.opened, row.upheld, row.cleared)).collect();
        assert_eq!(rows, [("political", Some(6), None, None)], "four, two, one project, four projects");
        // The fifth shows it.
        cases.push(case(9, "sub-9", "political", at, uphold()));
        let row = &of(&cases, "2026-q4").rows[0];
        assert_eq!((row.opened, row.upheld, row.cleared, row.lapsed), (Some(7), Some(5), None, None));
        assert!(of(&cases, "2026-q3").rows.is_empty() && of(&cases, "2027-q1").rows.is_empty(), "each in its own");
        let key = SecretKey::from_seed([1; 32]);
        let signed = cose::try_sign(&of(&cases, "2026-q4"), &key).expect("it can be signed");
        assert!(!String::from_utf8_lossy(signed.bytes()).contains("sub-"));
    }

    #[test]
    fn what_happened_later_belongs_to_a_later_quarter_and_one_that_goes_on_is_not_published() {
        let late = quarter("2026-q3").ends().minus(5);
        let clear = || Some(Act::Clear { reason: "no".into() });
        let cases: Vec<Case> =
            (0..5).map(|number| case(number, &format!("sub-{number}"), "political", late, clear())).collect();
        let (before, after) = (of(&cases, "2026-q3"), of(&cases, "2026-q4"));
        assert_eq!((before.rows[0].opened, before.rows[0].cleared), (Some(5), None));
        assert_eq!((after.rows[0].opened, after.rows[0].cleared), (None, Some(5)));
        let now = quarter("2026-q4").ends().minus(1);
        assert!(Tally::default().statistics(ORG, quarter("2026-q4"), now).is_none());
        assert!(Tally::default().statistics(ORG, quarter("2026-q3"), now).is_some());
    }
}
