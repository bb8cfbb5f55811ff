//! The register of what an operator does by hand (spec/11-access.md §11.9): who stopped, granted, took back, removed or configured what, when
//! and why, as a hash-linked log whose links are sealed with those of applications and cases.
//!
//! Promises: each line of another store is entered once, in order, as it was when it was entered; a line that was changed, taken out or put in
//! late since then is found by [`compare`]. Leaves to others: reading those stores.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::{Digest, GrantId, Timestamp};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::event::{Linked, Recorded};
use crate::id::Salt;
use crate::seal::Found;
use crate::store::StoreError;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Lines that are entered in one transaction.
pub const ENTER_MAX: usize = 256;
/// An act that is entered so long after the moment that it names came late: a node enters within a minute what is done at it, and a command
/// what it does where no node runs.
pub const LATE_S: u64 = 3_600;
/// Bytes of one act as it is stored.
pub const ACT_BYTES_MAX: usize = 16 << 10;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Deed {
    /// The register begins: the acts before were there when it did.
    Begin,
    /// A model, a project or the node was stopped; with `now` also what was running.
    Stop {
        /// In words.
        target: String,
        /// Whether what was running was ended.
        now: bool,
    },
    /// It is let in again.
    Resume {
        /// In words.
        target: String,
    },
    /// A project that the filter had suspended was let in again.
    Lift {
        /// In words.
        target: String,
    },
    /// After a case that did not stand: what the policy would hold of a project passes.
    LetPass {
        /// In words.
        target: String,
        /// Of the filter.
        category: String,
        /// From then on it is held again.
        until: Timestamp,
    },
    /// It is held again before that.
    EndPass {
        /// In words.
        target: String,
        /// Of the filter.
        category: String,
    },
    /// A grant without an application.
    Grant {
        /// Which.
        grant: GrantId,
        /// The content id of the signed grant.
        content: Digest,
        /// Whose.
        subject: String,
    },
    /// A grant was taken back, for good.
    TakeBack {
        /// Which.
        grant: GrantId,
    },
    /// Texts of calls were removed before their days were over.
    RemoveTexts {
        /// Which were meant, in words.
        of: String,
        /// How many calls.
        calls: u64,
        /// Over their receipts' ids.
        receipts: Digest,
    },
    /// Texts of calls are kept whatever their days.
    HoldTexts {
        /// The hold's number.
        hold: u64,
        /// Which are meant, in words.
        of: String,
    },
    /// A hold ended.
    ReleaseTexts {
        /// Its number.
        hold: u64,
    },
    /// What the node goes by from a start or a reload on: a policy, the rules of its filter.
    Configure {
        /// In words.
        what: String,
        /// Of what it is.
        digest: Digest,
    },
    /// Another log of decisions was begun.
    Renew {
        /// Its number.
        log: u64,
    },
}

impl Deed {
    /// As `kind` says them.
    const KINDS: [&'static str; 13] = [
        "begin",
        "stop",
        "resume",
        "lift",
        "let-pass",
        "end-pass",
        "grant",
        "take-back",
        "remove-texts",
        "hold-texts",
        "release-texts",
        "configure",
        "renew",
    ];
}

/// A line of another store, as the register has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which log of which store.
    pub source: String,
    /// Its number there, from 1.
    pub line: u64,
    /// When, as it says.
    pub at: Timestamp,
    /// Who.
    pub author: String,
    /// What.
    pub deed: Deed,
    /// Why.
    pub reason: String,
}

/// One act of the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// From 1, without gaps.
    pub n: u64,
    /// When, as whoever did it said.
    pub at: Timestamp,
    /// When it came into the register; never before the act before.
    pub entered: Timestamp,
    /// Who.
    pub author: String,
    /// What.
    pub deed: Deed,
    /// Why.
    pub reason: String,
    /// What it is a copy of.
    pub source: String,
    /// Its number there.
    pub line: u64,
    /// Link of the act before; of the first, zeros.
    pub before: Digest,
    /// So that it cannot be found by its link.
    pub salt: Salt,
}

/// An act as far as every version reads it: also one of a kind that a later one wrote.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) n: u64,
    entered: Timestamp,
    at: Timestamp,
    source: String,
    line: u64,
    before: Digest,
    link: Digest,
    /// What was done, where this version does not know it.
    later: Option<String>,
}

impl Linked for Act {
    const CONTEXT: &'static [u8] = b"comity/v1/operator-act\0";
}

impl Line {
    /// Behind the newest act.
    pub(crate) fn act(&self, newest: Option<&Place>, now: Timestamp, salt: Salt) -> Recorded<Act> {
        let Self { source, line, at, author, deed, reason } = self.clone();
        let (n, before, earliest) =
            newest.map_or((1, Digest::ZERO, Timestamp(0)), |newest| (newest.n + 1, newest.link, newest.entered));
        Recorded::new(Act { n, at, entered: now.max(earliest), author, deed, reason, source, line, before, salt })
    }

    fn is(&self, act: &Act) -> bool {
        let Self { source, line, at, author, deed, reason } = self;
        (source, line, at, author, deed, reason)
            == (&act.source, &act.line, &act.at, &act.author, &act.deed, &act.reason)
    }
}

/// Where the register rests.
pub trait Register: Send + Sync {
    /// Enters those of the lines, at most [`ENTER_MAX`], that are not there yet, in their order; how many. 0 also where another process was
    /// quicker.
    fn acts_enter<'a>(&'a self, lines: &'a [(Line, Salt)], now: Timestamp) -> Answer<'a, u64>;
    /// Acts above `n` as they are stored, in order.
    fn acts_after(&self, n: u64, most: u32) -> Answer<'_, Vec<(u64, Vec<u8>)>>;
    /// The highest number of a source's line that was entered; 0 where none was.
    fn acts_last<'a>(&'a self, source: &'a str) -> Answer<'a, u64>;
}

/// An act as it is stored; `None` for anything that no node would have written.
pub fn read(bytes: &[u8]) -> Option<Recorded<Act>> {
    Recorded::read(bytes)
}

impl From<&Recorded<Act>> for Place {
    fn from(recorded: &Recorded<Act>) -> Self {
        let Act { n, entered, at, source, line, before, .. } = recorded.event().clone();
        Self { n, entered, at, source, line, before, link: recorded.link(), later: None }
    }
}

/// Where an act stands, whatever was done; `None` for anything that no node would have written.
pub(crate) fn place(bytes: &[u8]) -> Option<Place> {
    if let Some(recorded) = read(bytes) {
        return Some(Place::from(&recorded));
    }
    /// A kind that this version does not know: what every act has beside its deed.
    #[derive(Deserialize)]
    struct Later {
        n: u64,
        at: Timestamp,
        entered: Timestamp,
        deed: Kind,
        source: String,
        line: u64,
        before: Digest,
    }
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let Later { n, at, entered, deed: Kind { kind }, source, line, before } = serde_json::from_slice(bytes).ok()?;
    let link = Digest::of_parts(&[Act::CONTEXT, bytes]);
    (!Deed::KINDS.contains(&kind.as_str())).then_some(Place {
        n,
        entered,
        at,
        source,
        line,
        before,
        link,
        later: Some(kind),
    })
}

/// What an act is that this version does not know: its number, and its kind as a later version wrote it.
pub fn later(bytes: &[u8]) -> Option<(u64, String)> {
    let place = place(bytes)?;
    Some((place.n, place.later?))
}

/// Where the register itself says something.
pub const OWN: &str = "register";

/// Holds the acts of the register, in order, against the lines of those sources that were read, and against each other.
pub fn compare(
    acts: &[(u64, Vec<u8>)],
    lines: &BTreeMap<(String, u64), Line>,
    sources: &BTreeSet<String>,
    now: Timestamp,
) -> Vec<Found> {
    let (mut found, mut in_register, mut newest) = (Vec::new(), BTreeSet::new(), None::<Place>);
    let mut has_begun = false;
    for (n, bytes) in acts {
        let Some(at_place) = place(bytes) else {
            found.push(Found::Unlinked { n: *n });
            continue;
        };
        let (before, last) = newest.as_ref().map_or((Digest::ZERO, 0), |newest| (newest.link, newest.n));
        if at_place.before != before || at_place.n != last + 1 {
            found.push(Found::Unlinked { n: *n });
        }
        newest = Some(at_place.clone());
        let Place { n, source, line, at, entered, .. } = at_place;
        // What a later version did is its own to compare.
        let act = read(bytes).map(|recorded| recorded.event().clone());
        let key = (source.clone(), line);
        if let Some(act) = act.as_ref().filter(|_| sources.contains(&source)) {
            match lines.get(&key) {
                None => found.push(Found::LineGone { n, source: source.clone(), line }),
                Some(now) if !now.is(act) => found.push(Found::LineChanged { n, source: source.clone(), line }),
                Some(_) => {}
            }
        }
        if has_begun && entered.since(at) > LATE_S {
            found.push(Found::LineLate { n, source, line, at, entered });
        }
        has_begun |= act.is_some_and(|act| act.deed == Deed::Begin);
        in_register.insert(key);
    }
    let waits = lines.iter().filter(|(place, line)| !in_register.contains(*place) && now.since(line.at) > LATE_S);
    found.extend(waits.map(|((source, line), _)| Found::NotEntered { source: source.clone(), line: *line }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn line(number: u64, reason: &str) -> Line {
        let deed = Deed::Stop { target: "model lab/tiny".into(), now: false };
        let (source, author) = ("stops".to_owned(), "hanna".to_owned());
        Line { source, line: number, at: NOW.plus(number), author, deed, reason: reason.into() }
    }

    fn begin() -> Line {
        Line { source: OWN.into(), line: 1, deed: Deed::Begin, ..line(0, "it begins") }
    }

    fn chain(lines: &[(Line, u64)]) -> Vec<(u64, Vec<u8>)> {
        let mut acts: Vec<Recorded<Act>> = Vec::new();
        for (line, after) in lines {
            let newest = acts.last().map(Place::from);
            acts.push(line.act(newest.as_ref(), line.at.plus(*after), Salt([7; 16])));
        }
        acts.iter().map(|act| (act.event().n, act.bytes().to_vec())).collect()
    }

    fn found(acts: &[(u64, Vec<u8>)], lines: &[Line], now: Timestamp) -> Vec<Found> {
        let lines = lines.iter().map(|line| ((line.source.clone(), line.line), line.clone())).collect();
        compare(acts, &lines, &BTreeSet::from(["stops".to_owned()]), now)
    }

    /// A kind that the list has not would let a bent act of it pass for a later version's.
    #[test]
    fn the_list_of_kinds_has_each() {
        let refused = serde_json::from_str::<Deed>(r#"{"kind":"?"}"#).unwrap_err().to_string();
        let kinds: Vec<&str> = refused.split('`').skip(3).step_by(2).collect();
        assert_eq!(kinds, Deed::KINDS, "{refused}");
    }

    /// What a later version of the program writes in the same register: passed over, and gone on from.
    #[test]
    fn an_act_of_a_kind_that_is_not_known_holds_up_nothing() {
        let lines = [begin(), line(1, "it leaks")].map(|line| (line, 30));
        let mut acts = chain(&lines);
        let newest = place(&acts[1].1).unwrap();
        let later = line(2, "so be it").act(Some(&newest), NOW.plus(40), Salt([7; 16]));
        let text = String::from_utf8(later.bytes().to_vec()).unwrap();
        let later = text.replace("\"kind\":\"stop\"", "\"kind\":\"start-anew\"").into_bytes();
        assert!(read(&later).is_none());
        let behind = place(&later).unwrap();
        acts.push((3, later.clone()));
        let next = line(3, "mended").act(Some(&behind), NOW.plus(60), Salt([7; 16]));
        acts.push((4, next.bytes().to_vec()));
        let known = [line(1, "it leaks"), line(2, "so be it"), line(3, "mended")];
        assert_eq!(found(&acts, &known, NOW.plus(90)), []);
        // Changed, it is found by the act behind it; and a kind that is known is read as it is, or not at all.
        acts[2].1 = String::from_utf8(later).unwrap().replace("so be it", "so it was").into_bytes();
        assert_eq!(found(&acts, &known, NOW.plus(90)), [Found::Unlinked { n: 4 }]);
        acts[2].1 = text.replace("\"now\":false", "\"now\":3").into_bytes();
        assert!(found(&acts, &known, NOW.plus(90)).contains(&Found::Unlinked { n: 3 }));
    }

    #[test]
    fn a_line_that_was_changed_taken_out_or_put_in_late_is_found() {
        let source = || "stops".to_owned();
        let lines = [line(1, "it leaks"), line(2, "mended"), line(3, "it leaks again")];
        let acts = chain(&[(begin(), 0), (line(1, "it leaks"), 30), (line(2, "mended"), 60)]);
        assert_eq!(found(&acts, &lines, NOW.plus(9)), [], "the third is entered within a minute");
        assert_eq!(found(&acts, &lines, NOW.plus(4 + LATE_S)), [Found::NotEntered { source: source(), line: 3 }]);
        let changed = [line(1, "a test"), line(2, "mended")];
        assert_eq!(found(&acts, &changed, NOW), [Found::LineChanged { n: 2, source: source(), line: 1 }]);
        assert_eq!(found(&acts, &lines[1..], NOW), [Found::LineGone { n: 2, source: source(), line: 1 }]);
        // What is put in with a time of long ago says so by when it was entered; what was there when the register began does not.
        let late = chain(&[(line(1, "it leaks"), 9 * LATE_S), (begin(), 9 * LATE_S), (line(2, "mended"), LATE_S + 1)]);
        let (at, entered) = (NOW.plus(2), NOW.plus(1 + 9 * LATE_S));
        assert_eq!(found(&late, &lines, NOW), [Found::LineLate { n: 3, source: source(), line: 2, at, entered }]);
    }

    #[test]
    fn an_act_that_does_not_follow_is_found() {
        let lines = [line(1, "it leaks"), line(2, "mended")];
        let whole = chain(&[(line(1, "it leaks"), 0), (line(2, "mended"), 0), (begin(), 9)]);
        let cut: Vec<_> = whole.iter().filter(|(n, _)| *n != 2).cloned().collect();
        assert_eq!(
            found(&cut, &lines, NOW),
            [Found::Unlinked { n: 3 }],
            "the line of the second waits to be entered: it is not an hour old"
        );
        let mut torn = whole.clone();
        torn[0].1.push(b' ');
        assert_eq!(found(&torn, &lines, NOW), [Found::Unlinked { n: 1 }, Found::Unlinked { n: 2 }]);
    }

    #[test]
    fn an_act_is_written_in_one_way() {
        let acts = chain(&[(line(1, "it leaks"), 30)]);
        let text = r#"{"n":1,"at":1800000001,"entered":1800000031,"author":"hanna","deed":{"kind":"stop","target":"model lab/tiny","now":false},"reason":"it leaks","source":"stops","line":1,"before":"0000000000000000000000000000000000000000000000000000000000000000","salt":"07070707070707070707070707070707"}"#;
        assert_eq!(std::str::from_utf8(&acts[0].1).unwrap(), text);
        assert_eq!(read(text.as_bytes()).unwrap().event().line, 1);
        assert!(read(text.replace("\"n\":1", "\"n\": 1").as_bytes()).is_none());
    }
}
