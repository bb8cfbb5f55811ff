//! `comity wallet export|import`: a wallet goes to another computer in one sealed file.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use comity_sdk::seal::archive::{Archive, BYTES_MAX, Part, travelling};
use comity_sdk::seal::change::Way;
use comity_sdk::seal::file::Cost;
use comity_sdk::seal::{Sealer, journal_text};
use comity_sdk::{Client, Error, Profile};
use comity_wire::cbor::Bytes;

use crate::class::private;
use crate::command::init::Keys;
use crate::keys::{self, Source};
use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
pub struct Export {
    /// A new file
    file: PathBuf,
    /// A file with the passphrase that opens it; left out: the terminal is asked
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Ask no node and no house: what is open stays here alone, and `comity wallet finish` ends it
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, clap::Args)]
pub struct Import {
    /// What comity wallet export made
    file: PathBuf,
    /// How the keys are kept here. Left out: sealed, under the passphrase of the file
    #[arg(long, value_enum)]
    keys: Option<Keys>,
}

/// Folders that go along: no key is in them.
const FOLDERS: [&str; 2] = ["classes", "applications"];
const FILES_MAX: usize = 4_096;

impl Export {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let (profile, member) = session.profile()?;
        let source = self.new_passphrase_file.map_or(Source::Terminal, Source::File);
        let passphrase = source.new_passphrase()?;
        if !self.offline {
            client.refresh().await?;
            super::finish_with(&client, Vec::new(), super::Ends::Due).await;
        }
        let entries = client.entries(&session.home)?;
        let too_large = || Failure::new("a file is too large to go along", "4 MiB is the most");
        let roster = std::fs::read(&profile.roster)?;
        let carried = Profile {
            roster: "roster.cbor".into(),
            member_key: member.is_some().then(|| "member.key".into()),
            ..profile
        };
        let archive = Archive {
            profile: toml::to_string(&carried)?,
            roster: Part::new(roster).map_err(|_| too_large())?,
            member: member.map(|key| Bytes::new(*key.seed()).expect("32 bytes")),
            journal: travelling(entries).map_err(Error::from)?,
            files: files(&session.home)?,
        };
        let entropy: comity_sdk::seal::Entropy = Arc::new(session::random);
        let packed = archive.pack(&passphrase, Cost::NEW, &entropy).map_err(Error::from)?;
        let mut file =
            private(std::fs::OpenOptions::new().write(true).create_new(true)).open(&self.file).map_err(|error| {
                Failure::new(format!("cannot make {}: {error}", self.file.display()), "name a new file")
            })?;
        file.write_all(&packed)?;
        file.sync_all()?;
        let open = client.purses().await.iter().filter(|purse| purse.unfinished).count();
        say(&format!("{}: your key, your limits and every receipt, sealed", self.file.display()));
        if open > 0 {
            note(&format!("{open} tokens are open still, and stay with this computer: comity wallet finish ends them"));
        }
        note(
            "on the other computer: comity wallet import FILE. Both have one key then: comity whoami --revoke ends it at both",
        );
        Ok(())
    }
}

impl Import {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let home = &session.home;
        if std::fs::read_dir(home).is_ok_and(|mut files| files.next().is_some()) {
            return Err(Failure::new(format!("{} is not empty", home.display()), "name a new folder with --home"));
        }
        let mut file = std::fs::File::open(&self.file).map_err(|error| {
            Failure::new(format!("cannot read {}: {error}", self.file.display()), "name what comity wallet export made")
        })?;
        let mut packed = Vec::new();
        (&mut file).take(BYTES_MAX).read_to_end(&mut packed)?;
        let mut passphrase = None;
        let ask = || Ok(passphrase.insert(session.source.passphrase()?).clone());
        let archive = Archive::unpack(&packed, ask).map_err(Error::from)?;
        let way = match (self.keys, passphrase) {
            (Some(Keys::Open), _) => Way::Open,
            (Some(Keys::Keyring), _) => Way::Keyring,
            (_, Some(passphrase)) => Way::Passphrase(passphrase),
            (_, None) => unreachable!("it was opened with one"),
        };
        // Whole or not at all: a folder that is half there would be taken for a wallet.
        let new = beside(home);
        std::fs::create_dir_all(new.parent().unwrap_or(&new))?;
        std::fs::create_dir(&new).map_err(|error| {
            Failure::new(
                format!("cannot make {}: {error}", new.display()),
                "an import was cut short: remove it, and try again",
            )
        })?;
        put(&new, &archive, way, session)?;
        std::fs::rename(&new, home)?;
        say(&format!("{}: {} facts of the wallet's journal", home.display(), archive.journal.len()));
        let profile = Profile::load(home)?;
        keys::tell(home, &profile);
        note(
            "next: comity whoami. If the other computer is lost: comity login with a new key, and comity wallet revoke --lost",
        );
        Ok(())
    }
}

fn put(new: &Path, archive: &Archive, way: Way, session: &Session) -> Result<(), Failure> {
    let key = keys::change(new, None, None, way, session.failpoint())?;
    if let Some(member) = &archive.member {
        let seed =
            <[u8; 32]>::try_from(&**member).map_err(|_| Failure::new("no key has this size", "export it again"))?;
        session::write_key_sealed(&new.join("member.key"), &seed, key.clone())?;
    }
    let sealer = key.map(|key| Sealer::new(key, Arc::new(session::random)));
    // The one that is there is empty: it was made to be held while the seal was.
    std::fs::remove_file(Client::journal(new))?;
    write(&Client::journal(new), &journal_text(sealer.as_ref(), &archive.journal))?;
    write(&new.join("roster.cbor"), &archive.roster)?;
    for (name, bytes) in &archive.files {
        let path = Path::new(name);
        let is_below = path.components().all(|part| matches!(part, Component::Normal(_)))
            && FOLDERS.iter().any(|folder| path.starts_with(folder));
        if !is_below {
            return Err(Failure::new(format!("{name:?} does not belong into a wallet"), "export it again"));
        }
        std::fs::create_dir_all(new.join(path).parent().unwrap_or(new))?;
        write(&new.join(path), bytes)?;
    }
    let profile: Profile = toml::from_str(&archive.profile)?;
    Ok(profile.put(new)?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = private(std::fs::OpenOptions::new().write(true).create_new(true)).open(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

fn beside(home: &Path) -> PathBuf {
    let mut name = home.file_name().unwrap_or_default().to_owned();
    name.push(".import");
    home.with_file_name(name)
}

/// What stands in the folders that go along.
fn files(home: &Path) -> Result<BTreeMap<String, Part>, Failure> {
    let (mut found, mut folders) = (BTreeMap::new(), Vec::from(FOLDERS.map(PathBuf::from)));
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(home.join(&folder)) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            let part = Part::new(std::fs::read(entry.path())?);
            let (Ok(part), Some(name), true) = (part, path.to_str(), found.len() < FILES_MAX) else {
                note(&format!("{} does not go along: copy it by hand", path.display()));
                continue;
            };
            found.insert(name.to_owned(), part);
        }
    }
    Ok(found)
}
