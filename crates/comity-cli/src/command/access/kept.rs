//! What a researcher's home keeps of an application: where it is, the salts of who stands behind it, and the newest link that was seen.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use comity_sdk::client::access::Identity;
use comity_wire::api::access::Application;
use comity_wire::{Digest, ModelId};
use serde::{Deserialize, Serialize};

use super::show;
use crate::printer::{Failure, say};
use crate::session::{self, Session};

const FOLDER: &str = "applications";

/// One file of the folder, readable by nobody else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) id: String,
    /// One of the models, which says whose node it is at.
    pub(super) model: ModelId,
    pub(super) identity: Identity,
    /// Zeros before it was seen.
    pub(super) head: Digest,
}

impl Kept {
    fn path(home: &Path, id: &str) -> PathBuf {
        home.join(FOLDER).join(format!("{id}.json"))
    }

    pub(super) fn write(&self, home: &Path) -> Result<(), Failure> {
        write(&Self::path(home, &self.id), self)
    }

    /// Forgets what was never begun: the node has said so. Where no answer came, or the node's store gave none, it may have been begun
    /// all the same.
    pub(super) fn forget_if(&self, error: &comity_sdk::Error, home: &Path) {
        if error.code().is_some_and(|code| code.status() < 500) {
            let _ = std::fs::remove_file(Self::path(home, &self.id));
        }
    }

    pub(super) fn write_head(&self, home: &Path, head: Digest) -> Result<(), Failure> {
        if self.head == head { Ok(()) } else { Self { head, ..self.clone() }.write(home) }
    }

    pub(super) fn all(home: &Path) -> Result<Vec<Self>, Failure> {
        let folder = home.join(FOLDER);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path)?;
            serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(
                    format!("{} cannot be read: {error}", path.display()),
                    "put it back from a backup, or move it away",
                )
            })
        };
        paths.iter().map(read).collect()
    }

    /// The one that is named, or the only one.
    pub(super) fn find(home: &Path, id: Option<&str>) -> Result<Self, Failure> {
        let mut all = Self::all(home)?;
        match (id, all.len()) {
            (Some(id), _) => all.into_iter().find(|kept| kept.id == id).ok_or_else(|| {
                Failure::new(format!("this home has no application {id}"), "`comity access status` lists them")
            }),
            (None, 1) => Ok(all.remove(0)),
            (None, 0) => Err(Failure::new("you have not applied for anything", "comity access apply MODEL")),
            (None, _) => Err(Failure::new(
                "there are several applications",
                "say which: app-…, as `comity access status` lists them",
            )),
        }
    }

    /// Whether the owner's log still goes through the newest link that was seen.
    pub(super) fn check(&self, seen: &Application) -> Result<(), Failure> {
        let mut before = Digest::ZERO;
        let is_whole = seen.events.iter().all(|event| {
            let link = std::mem::replace(&mut before, event.link);
            event.text.as_deref().is_none_or(|text| follows(text, link, event.link))
        });
        let is_kept = self.head == Digest::ZERO || seen.events.iter().any(|event| event.link == self.head);
        if is_whole && is_kept && seen.head == before {
            return Ok(());
        }
        Err(Failure::new(
            format!(
                "the owner's log of {} no longer goes through what you have seen before ({}): it was rewritten",
                self.id, self.head
            ),
            "keep the file in the folder applications/ of your home, and ask the owner how that came about",
        ))
    }

    /// Keeps the newest link, and shows it.
    pub(super) fn seen(&self, session: &Session, seen: &Application, json: bool) -> Result<(), Failure> {
        self.check(seen)?;
        self.write_head(&session.home, seen.head)?;
        say(&if json { serde_json::to_string_pretty(seen)? } else { show::application(seen, session::now()) });
        Ok(())
    }
}

/// A file that nobody else can read, whole or not at all; its folder is made where it is not there.
pub(super) fn write(path: &Path, what: &impl Serialize) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let put = || {
        std::fs::create_dir_all(path.parent().unwrap_or(path))?;
        let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(what).expect("it has a JSON form"))?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    put().map_err(|error| {
        Failure::new(format!("cannot write {}: {error}", path.display()), "make room, or mend its rights")
    })
}

/// Whether an event's bytes have its link, and carry the one of the event before (spec/11-access.md §11.4).
fn follows(text: &str, before: Digest, link: Digest) -> bool {
    let said = serde_json::from_str::<serde_json::Value>(text).ok();
    let carries = said.is_some_and(|said| said["before"].as_str() == Some(before.to_string().as_str()));
    carries && Digest::of_parts(&[b"comity/v1/access-event\0", text.as_bytes()]) == link
}
