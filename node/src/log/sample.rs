//! An auditor's sample as files: written from a running house, drawn and computed again from a copy of its log.
//!
//! `sample.json` says what was drawn from which checkpoint. Each settlement has a folder, `001` and so on in the order of the draw,
//! with a file for each part of its trail, what is signed also as it was signed, and `recomputation.json`.

use std::collections::HashSet;
use std::path::Path;

use comity_clearing::log::sample::{Sample, drawn, settlement};
use comity_clearing::log::trail::{Check, Trail, recompute};
use comity_wire::log::{Entry, Growing, Resource, VerifierKey, unbundle};
use comity_wire::object::Token;
use comity_wire::{Digest, Signed, TokenId};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Source;
use super::source::resources;
use crate::failure::Failure;

/// What the folder of a settlement has beside the parts of its trail.
const RECOMPUTATION: &str = "recomputation.json";
const SAMPLE: &str = "sample.json";

/// What came of a sample that was drawn again.
#[derive(Debug, Serialize)]
pub struct Redrawn {
    pub holds: bool,
    pub population: u64,
    pub items: usize,
    /// What does not hold, with the folder that it is about.
    pub breaks: Vec<Broken>,
}

#[derive(Debug, Serialize)]
pub struct Broken {
    pub folder: String,
    pub check: String,
    pub found: String,
}

/// Writes what was drawn. The folder must be new, or empty.
///
/// # Errors
/// [`Failure`] where it is neither, or cannot be written.
pub fn begin(folder: &Path, sample: &Sample) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| unwritten(folder, &error))?;
    let mut entries = std::fs::read_dir(folder).map_err(|error| unwritten(folder, &error))?;
    if entries.next().is_some() {
        let hint = "name a new folder: a sample is not written over another one";
        return Err(Failure::new(format!("{} is not empty", folder.display())).hint(hint));
    }
    write(&folder.join(SAMPLE), sample)
}

/// Writes the folder of the settlement that was drawn as the `turn`th, and says what was computed again.
///
/// # Errors
/// [`Failure`] where it cannot be written.
pub fn put(folder: &Path, turn: usize, trail: &Trail, sample: &Sample) -> Result<Vec<Check>, Failure> {
    let folder = folder.join(name(turn));
    std::fs::create_dir(&folder).map_err(|error| unwritten(&folder, &error))?;
    let Value::Object(parts) = serde_json::to_value(trail)? else { unreachable!("a trail is an object") };
    for (part, value) in &parts {
        write(&folder.join(format!("{part}.json")), value)?;
    }
    let signed = [("token", std::slice::from_ref(&trail.token.signed)), ("quote", &trail.quotes)];
    for (kind, all) in signed.into_iter().chain([("tariff", &trail.tariffs[..]), ("claim", &trail.claims[..])]) {
        for (at, bytes) in all.iter().enumerate() {
            let file = folder.join(format!("{kind}-{}.cbor", at + 1));
            std::fs::write(&file, &bytes[..]).map_err(|error| unwritten(&file, &error))?;
        }
    }
    let checks = recompute(trail, sample, None);
    write(&folder.join(RECOMPUTATION), &checks)?;
    Ok(checks)
}

/// Draws a sample again from a copy of the log, and computes every trail of it again.
///
/// # Errors
/// [`Failure`] where something cannot be read; what is wrong in it is in the answer.
pub async fn redraw(folder: &Path, source: &Source, key: &VerifierKey) -> Result<Redrawn, Failure> {
    let sample: Sample = read(&folder.join(SAMPLE))?;
    let mut breaks = Vec::new();
    let mut say = |folder: &str, check: &str, found: String| {
        breaks.push(Broken { folder: folder.to_owned(), check: check.to_owned(), found });
    };
    let log = Copy::of(source, key, &sample).await?;
    if log.root != sample.root {
        say("", "root", format!("the first {} entries of this log have the root {}", sample.size, log.root));
    }
    if log.settlements.len() as u64 != sample.population {
        say("", "population", format!("this log has {} settlements of that time", log.settlements.len()));
    }
    let places = drawn(&sample.root, &sample.seed, log.settlements.len() as u64, sample.n);
    let again: Vec<u64> =
        places.iter().filter_map(|place| log.settlements.get(usize::try_from(*place).ok()?)).copied().collect();
    if again != sample.items {
        say("", "draw", "this seed draws other settlements".to_owned());
    }
    for (turn, index) in sample.items.iter().enumerate() {
        let name = name(turn + 1);
        let trail = match trail(&folder.join(&name)) {
            Ok(trail) => trail,
            Err(failure) => {
                say(&name, "readable", failure.to_string());
                continue;
            }
        };
        if trail.proof.index != *index {
            say(&name, "draw", format!("entry {} was drawn, the folder is about {}", index, trail.proof.index));
        }
        for check in recompute(&trail, &sample, Some(key)).into_iter().filter(|check| !check.holds) {
            say(&name, &check.check, check.found);
        }
        if let Some(found) = log.lacks(&trail) {
            say(&name, "evidence_in_the_log", found);
        }
    }
    Ok(Redrawn { holds: breaks.is_empty(), population: sample.population, items: sample.items.len(), breaks })
}

/// What a copy of the log says, up to the checkpoint of a sample.
struct Copy {
    root: Digest,
    settlements: Vec<u64>,
    tokens: HashSet<(TokenId, Digest)>,
    claims: HashSet<Digest>,
}

impl Copy {
    async fn of(source: &Source, key: &VerifierKey, sample: &Sample) -> Result<Self, Failure> {
        let note = source.note().await?;
        let checkpoint = note.verify(key)?;
        if checkpoint.size < sample.size {
            let what = format!("the sample was drawn from {} entries, this log has {}", sample.size, checkpoint.size);
            return Err(Failure::new(what).hint("export the log again, into the same folder"));
        }
        let mut tree = Growing::default();
        let (mut settlements, mut tokens, mut claims) = (Vec::new(), HashSet::new(), HashSet::new());
        for resource in resources(checkpoint.size) {
            let Resource::Entries(index, width) = resource else { continue };
            let bytes = source.resource(resource).await?;
            for entry in unbundle(index, width, &bytes)? {
                if tree.size() == sample.size {
                    break;
                }
                if settlement(entry, sample.from, sample.to).is_some() {
                    settlements.push(tree.size());
                }
                match Entry::from_bytes(entry) {
                    Ok(Entry::Token(said)) => {
                        tokens.insert((said.token, said.content));
                    }
                    Ok(Entry::Claim(said)) => {
                        claims.insert(said.content);
                    }
                    _ => {}
                }
                tree.push(entry);
            }
        }
        Ok(Self { root: tree.root(), settlements, tokens, claims })
    }

    /// What a trail shows that was never logged.
    fn lacks(&self, trail: &Trail) -> Option<String> {
        let Ok(token) = Signed::<Token>::decode(&trail.token.signed) else { return Some("the token".into()) };
        if !self.tokens.contains(&(token.unverified().id, token.id())) {
            return Some("the log has no such token".into());
        }
        for claim in &trail.claims {
            let claim = Signed::<comity_wire::object::Claim>::decode(claim).ok()?;
            if !self.claims.contains(&claim.id()) {
                return Some("the log has no such claim".into());
            }
        }
        None
    }
}

/// The trail in a folder, put together from its parts.
fn trail(folder: &Path) -> Result<Trail, Failure> {
    let mut parts = Map::new();
    let unread = |error: &std::io::Error| unreadable(folder, error);
    for entry in std::fs::read_dir(folder).map_err(|error| unread(&error))? {
        let path = entry.map_err(|error| unread(&error))?.path();
        let is_part = path.extension().is_some_and(|end| end == "json") && !path.ends_with(RECOMPUTATION);
        if let Some(name) = path.file_stem().filter(|_| is_part) {
            parts.insert(name.to_string_lossy().into_owned(), read(&path)?);
        }
    }
    Ok(serde_json::from_value(Value::Object(parts))?)
}

fn name(turn: usize) -> String {
    format!("{turn:03}")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(serde_json::from_str(&text)?)
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, text).map_err(|error| unwritten(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}", path.display()))
}
