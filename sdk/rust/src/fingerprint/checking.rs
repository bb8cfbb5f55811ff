//! A model is asked again what its fingerprint was asked.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use comity_probe::fingerprint::{FALSE_ALARM, Likeness, Reference, Verdict};
use comity_probe::{Answer, Read};
use comity_wire::object::Manifest;
use comity_wire::{Amount, Digest, ModelId, Timestamp};
use serde::{Deserialize, Serialize};

use super::taking::{shuffled, without_tokens};
use super::{Fingerprint, NotAFingerprint, list, place};
use crate::client::Client;
use crate::compare::{Bounds, CompareError, Comparison, Ended, Grid, Progress, Row, Setting};

/// What answers are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Tokens and their log-probabilities: a change of a few hundredths shows.
    Tokens,
    /// The text alone: a good copy of a model says the same.
    Words,
}

impl By {
    pub(super) fn answer(self, read: &Read) -> Answer {
        match self {
            Self::Tokens => read.answer(),
            Self::Words => read.words(),
        }
    }
}

/// A check under way, in a folder.
pub struct Checking {
    comparison: Comparison,
    fingerprint: Fingerprint,
}

/// Something that the owner says in public, which was otherwise when the fingerprint was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub what: String,
    pub then: String,
    pub now: String,
}

/// What a check came to, for programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub model: ModelId,
    /// When the fingerprint was taken, and when it was checked.
    pub taken: (Timestamp, Timestamp),
    pub checked: Option<(Timestamp, Timestamp)>,
    pub by: By,
    pub likeness: Likeness,
    /// How often at most it says "changed" of a model that did not.
    pub false_alarm: f64,
    /// What the owner changed openly.
    pub openly: Vec<Change>,
    pub asked: u64,
    pub of: u64,
    pub charge_ucr: Amount,
    /// Of the answers.
    pub receipts: Vec<Digest>,
}

impl Report {
    pub fn verdict(&self) -> Verdict {
        self.likeness.verdict
    }
}

/// A thing that a manifest says, by its name.
type Said = (&'static str, fn(&Manifest) -> String);

/// What stands otherwise in the manifest now: of its own version, and of what makes the release.
pub fn openly(fingerprint: &Fingerprint, now: &Manifest, id: Digest) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut differs = |what: &str, then: Option<String>, now: String| {
        if then.as_ref() != Some(&now) {
            let then = then.unwrap_or_else(|| "not in the file".to_owned());
            changes.push(Change { what: what.to_owned(), then, now });
        }
    };
    if fingerprint.manifest == id {
        return changes;
    }
    let card = fingerprint.card.as_ref();
    let version = |manifest: &Manifest| manifest.version.to_string();
    differs("manifest version", card.map(version), version(now));
    if fingerprint.release != now.release.digest() {
        differs("release", Some(fingerprint.release.to_string()), now.release.digest().to_string());
        let of: [Said; 5] = [
            ("weights", |card| card.release.weights.to_string()),
            ("number format", |card| card.release.dtype.to_string()),
            ("tokenizer", |card| card.release.tokenizer.to_string()),
            ("template", |card| card.release.template.to_string()),
            ("lineage", |card| {
                card.lineage
                    .iter()
                    .map(|line| format!("{:?} of {}", line.relation, line.model))
                    .collect::<Vec<_>>()
                    .join(", ")
            }),
        ];
        for (what, of) in of.into_iter().filter(|_| card.is_some()) {
            differs(what, card.map(of), of(now));
        }
    }
    changes
}

impl Checking {
    /// Makes the folder, or takes up the one that is there. `alternatives`: how many the owner's rules give now; fewer than then,
    /// and words are compared.
    ///
    /// # Errors
    /// [`CompareError`]: a folder that is of something else, or in use.
    pub fn create(
        folder: &Path,
        fingerprint: Fingerprint,
        alternatives: u8,
        entropy: [u8; 32],
        now: Timestamp,
    ) -> Result<Self, CompareError> {
        let asked = |fields| Grid {
            models: vec![fingerprint.model.clone()],
            prompts: fingerprint.prompts(),
            settings: vec![Setting { name: "default".to_owned(), system: None, fields }],
            repeats: 1,
        };
        let then = fingerprint.fields.get("top_logprobs").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let words = || shuffled(&asked(without_tokens(&fingerprint.fields)), "check", 0);
        let tokens = || shuffled(&asked(fingerprint.fields.clone()), "check", 0);
        let grid = if then > 0 && u64::from(alternatives) < then { words() } else { tokens() };
        // One that was begun under other rules goes on as it was begun.
        let begun = match Comparison::open(folder) {
            Err(CompareError::None { .. }) => None,
            begun => Some(begun?.grid().clone()).filter(|begun| [words(), tokens()].contains(begun)),
        };
        let comparison = Comparison::create(folder, &begun.unwrap_or(grid), entropy, now)?;
        Ok(Self { comparison, fingerprint })
    }

    pub fn grid(&self) -> &Grid {
        self.comparison.grid()
    }

    pub fn comparison(&self) -> &Comparison {
        &self.comparison
    }

    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn reads(&self) -> Vec<(usize, Read)> {
        self.comparison.rows().filter_map(read).collect()
    }

    /// By tokens as long as both sides list them.
    fn by(&self, reads: &[(usize, Read)]) -> By {
        let now = reads.is_empty() || list(reads.iter().map(|(_, read)| read));
        if now && self.fingerprint.lists_tokens() { By::Tokens } else { By::Words }
    }

    /// Asks what has no answer, until it is known that the model has changed or nothing is left.
    ///
    /// # Errors
    /// [`CompareError`] where a row cannot be kept.
    pub async fn run(
        &mut self,
        client: &Client,
        bounds: Bounds,
        wanted: &(dyn Fn() -> bool + Sync),
        told: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Ended, CompareError> {
        let mut reads = self.reads();
        let references = [By::Tokens, By::Words].map(|by| (by, self.fingerprint.reference(by).ok()));
        let lists = self.fingerprint.lists_tokens();
        let is_sure = |reads: &[(usize, Read)]| {
            let by = if lists && list(reads.iter().map(|(_, read)| read)) { By::Tokens } else { By::Words };
            let reference = references.iter().find(|(known, _)| *known == by).and_then(|(_, known)| known.as_ref());
            reference.is_some_and(|reference| compared(reference, by, reads).verdict == Verdict::Changed)
        };
        let sure = AtomicBool::new(is_sure(&reads));
        let goes_on = || wanted() && !sure.load(Ordering::Relaxed);
        let mut heard = |row: &Row, progress: Progress| {
            reads.extend(read(row));
            sure.fetch_or(is_sure(&reads), Ordering::Relaxed);
            told(progress);
        };
        let (ended, _) = self.comparison.run(client, bounds, &goes_on, &mut heard).await?;
        // What it was asked to do is done.
        Ok(if ended == Ended::Stopped && wanted() { Ended::All } else { ended })
    }

    /// What the answers so far come to. `now`: the manifest as it stands, with its id.
    ///
    /// # Errors
    /// [`NotAFingerprint::Reference`].
    pub fn report(&self, now: Option<(&Manifest, Digest)>) -> Result<Report, NotAFingerprint> {
        let (reads, fingerprint) = (self.reads(), &self.fingerprint);
        let by = self.by(&reads);
        let likeness = compared(&fingerprint.reference(by)?, by, &reads);
        let mut openly = now.map_or_else(Vec::new, |(manifest, id)| openly(fingerprint, manifest, id));
        let answered = || self.comparison.rows().filter(|row| row.error.is_none());
        let other = answered().filter_map(|row| row.release).find(|release| *release != fingerprint.release);
        if let Some(other) = other.filter(|_| openly.iter().all(|change| change.what != "release")) {
            let (then, now) = (fingerprint.release.to_string(), other.to_string());
            openly.push(Change { what: "release".to_owned(), then, now });
        }
        let receipts = self.comparison.receipts();
        let at = || receipts.iter().map(|(receipt, _)| receipt.unverified().at);
        Ok(Report {
            model: fingerprint.model.clone(),
            taken: (fingerprint.from, fingerprint.until),
            checked: at().min().zip(at().max()),
            by,
            likeness,
            false_alarm: FALSE_ALARM,
            openly,
            asked: self.comparison.done(),
            of: self.grid().len(),
            charge_ucr: self.comparison.spent(),
            receipts: receipts.iter().map(|(receipt, _)| receipt.id()).collect(),
        })
    }
}

fn read(row: &Row) -> Option<(usize, Read)> {
    let (_, body) = row.exchange.as_ref().filter(|_| row.error.is_none())?;
    Some((place(&row.prompt)?, Read::whole(body.as_bytes())))
}

fn compared(reference: &Reference, by: By, reads: &[(usize, Read)]) -> Likeness {
    let answers: Vec<(usize, Answer)> = reads.iter().map(|(at, read)| (*at, by.answer(read))).collect();
    reference.compare(answers.iter().map(|(at, answer)| (*at, answer)))
}
