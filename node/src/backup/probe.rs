//! What the blind probes know (docs/operating/probes.md), in a backup: the journal and its snapshot, what was settled of findings, and, where
//! keys are wanted, their people, each with a key and a wallet. It is put back as a whole or not at all: its files belong together.

use std::path::Path;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::probe::{config, journal, report};

/// The folder of the probes, in a home and in a backup.
pub(super) const FOLDER: &str = "probe";
/// Their people: whoever has this folder asks as any of them.
pub(super) const PEOPLE: &str = "probe/people";
/// Files of probes in one backup.
pub(super) const FILES_MAX: usize = 20_000;
/// Folders in folders: `probe/people/00000/keys/member.key`.
const DEPTH_MAX: usize = 5;
/// What is being written and will have another name.
const UNFINISHED: [&str; 2] = [".new", ".part"];

/// What a home has of it, in the order in which it has to be copied while the probes run. What somebody decided is in the journal before its
/// word is taken away; a process cuts its journal once a snapshot has everything, so a snapshot that is copied after the journal lacks
/// nothing that is not in it; and a wallet has what the journal tells of.
pub(super) fn files(home: &Home) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut known = Vec::new();
    below(home, &format!("{FOLDER}/{}", report::DECIDED), 3, &mut known)?;
    for name in
        [config::FILE.to_owned(), format!("{FOLDER}/{}", journal::LINES), format!("{FOLDER}/{}", journal::WHOLE)]
    {
        if home.file(&name).is_file() {
            known.push(name);
        }
    }
    let mut people = Vec::new();
    below(home, PEOPLE, 3, &mut people)?;
    Ok((known, people))
}

/// The files below a folder, in the order of their names. What is neither a file nor a folder is none of ours.
fn below(home: &Home, folder: &str, depth: usize, files: &mut Vec<String>) -> Result<(), Failure> {
    let path = home.file(folder);
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.while_(format!("cannot read {}", path.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.while_(format!("cannot read {}", path.display()))?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        names.push((name, entry.file_type().while_(format!("cannot read {}", path.display()))?));
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, kind) in names {
        let name = format!("{folder}/{name}");
        if kind.is_dir() && depth > 0 {
            below(home, &name, depth - 1, files)?;
        } else if kind.is_file() && !UNFINISHED.iter().any(|end| name.ends_with(end)) {
            if files.len() >= FILES_MAX {
                return Err(Failure::new(format!("{} has more than {FILES_MAX} files", home.file(FOLDER).display()))
                    .hint("copy it another way, and move people away whose awards have ended"));
            }
            files.push(name);
        }
    }
    Ok(())
}

/// Whether a file may go while it is copied: a word that was heard meanwhile.
pub(super) fn may_go(name: &str) -> bool {
    name.strip_prefix(FOLDER).is_some_and(|rest| rest.trim_start_matches('/').starts_with(report::DECIDED))
}

/// Whether a backup's file is one of these; nothing else of its manifest goes into a home.
pub(super) fn is_part(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_plain = parts.all(|part| matches!(part, std::path::Component::Normal(_)));
    let depth = name.split('/').count();
    is_plain && (name == config::FILE || (name.starts_with(&format!("{FOLDER}/")) && depth <= DEPTH_MAX))
}
