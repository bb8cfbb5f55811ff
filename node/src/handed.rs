//! A folder that holds what an owner's node kept of one project (spec/11-access.md §11.10): how it is filled, and how it is checked with
//! nothing but a roster.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path};

use comity_wire::object::{Export, NodeCertificate, Roster, RosterFile};
use comity_wire::{Digest, NodeId, OrgId, Signed, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::failure::{Failure, While as _};
use crate::home::write_secret;

/// What lists the others.
pub const LIST: &str = "export.json";
/// Who stands for it.
pub const SIGNED: &str = "export.cose";
pub const CERTIFICATE: &str = "node-certificate.cbor";
/// Bytes of a list that is checked, of a signature, and of a roster.
const LIST_BYTES_MAX: u64 = 64 << 20;
const READ_BYTES: usize = 64 << 10;
/// What is in no export, whatever it says of itself.
pub const OUTSIDE: [&str; 3] = [
    "lines of the access log and of traces, which lie where the node's operator sends them",
    "backups of the node",
    "removals of texts whose days were over, which name no project",
];

/// `export.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handed {
    pub project: String,
    pub node: NodeId,
    pub organisation: OrgId,
    /// When it was begun. What the node has kept of the project since may be in it, or not.
    pub began: Timestamp,
    /// When it was gathered, and signed.
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
    pub files: Vec<Part>,
    /// Whether the node says that nothing is missing.
    pub complete: bool,
    pub missing: Vec<Missing>,
    /// What no export has.
    pub outside: Vec<String>,
}

/// A file of the folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub name: String,
    /// Lines, where it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    pub bytes: u64,
    pub sha256: Digest,
}

/// What the node knows of, and did not hand over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    pub what: String,
    pub why: String,
}

/// The folder while it is filled.
pub struct Filling<'a> {
    folder: &'a Path,
    pub files: Vec<Part>,
    pub missing: Vec<Missing>,
}

/// A file of lines while it grows: what is exported is never held in memory as a whole.
pub struct Lines {
    name: String,
    file: std::io::BufWriter<File>,
    hash: sha2::Sha256,
    lines: u64,
    bytes: u64,
}

impl<'a> Filling<'a> {
    /// Makes the folder, readable by this account alone.
    ///
    /// # Errors
    /// [`Failure`] where it is there already.
    pub fn begin(folder: &'a Path) -> Result<Self, Failure> {
        if folder.exists() {
            return Err(Failure::new(format!("{} is there already", folder.display())).hint("name a new folder"));
        }
        std::fs::create_dir_all(folder).while_(format!("cannot make {}", folder.display()))?;
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .while_(format!("cannot close {} to others", folder.display()))?;
        Ok(Self { folder, files: Vec::new(), missing: Vec::new() })
    }

    /// A whole file.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(name);
        if let Some(within) = path.parent() {
            std::fs::create_dir_all(within).while_(format!("cannot write {}", path.display()))?;
        }
        write_secret(&path, bytes)?;
        let (bytes, sha256) = (bytes.len() as u64, Digest::of(bytes));
        self.files.push(Part { name: name.to_owned(), lines: None, bytes, sha256 });
        Ok(())
    }

    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn lines(&self, name: &str) -> Result<Lines, Failure> {
        let path = self.folder.join(name);
        write_secret(&path, b"")?;
        let file = File::options().append(true).open(&path).while_(format!("cannot write {}", path.display()))?;
        let (file, hash) = (std::io::BufWriter::new(file), sha2::Sha256::new());
        Ok(Lines { name: name.to_owned(), file, hash, lines: 0, bytes: 0 })
    }

    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn close(&mut self, lines: Lines) -> Result<(), Failure> {
        let Lines { name, file, hash, lines, bytes } = lines;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).while_(format!("cannot write {name}"))?;
        let sha256 = Digest(hash.finalize().into());
        self.files.push(Part { name, lines: Some(lines), bytes, sha256 });
        Ok(())
    }

    pub fn lacks(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.missing.push(Missing { what: what.into(), why: why.into() });
    }
}

impl Lines {
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn add(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.file.write_all(&line).while_(format!("cannot write {}", self.name))?;
        self.hash.update(&line);
        self.lines += 1;
        self.bytes += line.len() as u64;
        Ok(())
    }

    pub fn count(&self) -> u64 {
        self.lines
    }
}

/// Whether a folder is what a node handed over; as the rule D-6 has it, in its order.
///
/// # Errors
/// [`Failure`] with the first thing that is not so.
pub fn check(folder: &Path, roster: &Roster) -> Result<Handed, Failure> {
    let text = bounded(&folder.join(LIST))?;
    let wrong = |what: String| Failure::new(what).hint("this is not what the node handed over: ask for it again");
    let handed: Handed = serde_json::from_slice(&text).while_(format!("{LIST} cannot be read"))?;
    let organisation = roster.organisation(handed.organisation);
    let organisation = organisation.ok_or_else(|| {
        wrong(format!("{} is not on the roster", handed.organisation))
            .hint("take a newer roster of the same federation")
    })?;
    let certificate = Signed::<NodeCertificate>::decode(&bounded(&folder.join(CERTIFICATE))?)?;
    let certificate = certificate.verify(&organisation.key).while_("the node's certificate does not hold")?;
    let signed = Signed::<Export>::decode(&bounded(&folder.join(SIGNED))?)?;
    let at = signed.unverified().at;
    let export = signed
        .verify_any(certificate.receipt_keys_at(at))
        .while_(format!("{SIGNED} is not signed under a receipt key of that certificate and that time"))?;
    let is_of = (certificate.org, certificate.node) == (handed.organisation, handed.node)
        && (export.node, export.at, export.subject.as_str()) == (handed.node, handed.at, handed.project.as_str());
    if export.contents != Digest::of(&text) || !is_of {
        return Err(wrong(format!("{LIST} is not what was signed")));
    }
    if export.complete != handed.complete || (handed.complete && !handed.missing.is_empty()) {
        return Err(wrong("it calls itself complete, and is not".to_owned()));
    }
    let mut expected: BTreeSet<String> = [LIST, SIGNED, CERTIFICATE].map(str::to_owned).into();
    for part in &handed.files {
        let path = Path::new(&part.name);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) || part.name.is_empty() {
            return Err(wrong(format!("{LIST} names {}, which is outside the folder", part.name)));
        }
        let (bytes, sha256) = measure(&folder.join(path)).while_(format!("{} cannot be read", part.name))?;
        if (bytes, sha256) != (part.bytes, part.sha256) {
            return Err(wrong(format!("{} is not as it was handed over", part.name)));
        }
        if !expected.insert(part.name.clone()) {
            return Err(wrong(format!("{LIST} names {} twice", part.name)));
        }
    }
    if let Some(stranger) = files(folder, "")?.into_iter().find(|name| !expected.contains(name)) {
        return Err(Failure::new(format!("{stranger} was not handed over with the rest"))
            .hint("somebody put it there: take it away to check the rest"));
    }
    Ok(handed)
}

/// A roster's file as it is pinned: it stands by its own threshold.
///
/// # Errors
/// [`Failure`] where it does not.
pub fn roster(path: &Path) -> Result<Roster, Failure> {
    let (file, roster) = RosterFile::decode(&bounded(path)?).while_(format!("{} is no roster", path.display()))?;
    if file.count(&roster.signers) < usize::from(roster.threshold) {
        return Err(Failure::new(format!("{} is not signed by enough of its signers", path.display())));
    }
    Ok(roster)
}

fn bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)).while_(wrong())?;
    if bytes.len() as u64 > LIST_BYTES_MAX {
        return Err(Failure::new(format!("{} is larger than {LIST_BYTES_MAX} bytes", path.display())));
    }
    Ok(bytes)
}

fn measure(path: &Path) -> std::io::Result<(u64, Digest)> {
    // A link could lead out of the folder, and to somebody else's file.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let (mut file, mut hash, mut length) = (File::open(path)?, sha2::Sha256::new(), 0);
    let mut part = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok((length, Digest(hash.finalize().into())));
        }
        hash.update(&part[..read]);
        length += read as u64;
    }
}

/// Names below the folder, with `/`.
fn files(folder: &Path, within: &str) -> Result<Vec<String>, Failure> {
    let here = folder.join(within);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&here).while_(format!("cannot read {}", here.display()))? {
        let entry = entry?;
        let name = format!("{within}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            found.extend(files(folder, &format!("{name}/"))?);
        } else {
            found.push(name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
