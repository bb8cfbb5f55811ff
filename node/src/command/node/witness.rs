//! `comity node witness`: cosigns a house's log, as c2sp.org/tlog-witness has it.
//!
//! The witness dials, since an owner often can only dial out: it fetches the newest checkpoint and the proof that it goes on
//! from the one it cosigned last, judges both by the standard's rules, makes the new one durable, and only then hands out its
//! line. One process at a time: between looking and remembering nobody else may remember.

use std::path::{Path, PathBuf};

use comity_http::dial::Client;
use comity_wire::Digest;
use comity_wire::api::clearing::{CosignatureRequest, LogConsistency};
use comity_wire::log::{AddCheckpoint, Checkpoint, KeyUse, Line, NotCosigned, Note, VerifierKey};
use http::Method;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::keystore::KeyName;
use crate::log::{DoorArguments, Source, read_maybe, write_durably};
use crate::shell;

#[derive(Debug, clap::Args)]
pub struct Witness {
    /// The home folder that `init` made
    #[arg(long)]
    home: PathBuf,
    /// Print this node's witness key, for the house's operator and for auditors
    #[arg(long, conflicts_with_all = ["door", "key"])]
    show_key: bool,
    /// The log's key (name+id+key), as the house's operator gave it out
    #[arg(long, value_name = "VKEY", required_unless_present = "show_key")]
    key: Option<VerifierKey>,
    #[command(flatten)]
    door: DoorArguments,
}

impl Witness {
    /// # Errors
    /// [`Failure`] where the log cannot be had, or does not go on from what was cosigned.
    pub async fn run(self) -> Result<String, Failure> {
        let home = Home::open(&self.home)?;
        let secret = home.keys.read_or_create(KeyName::Witness)?;
        let name = format!("comity/{}/witness", home.card.node);
        if self.show_key {
            return Ok(VerifierKey::new(&name, KeyUse::Cosigner, secret.public())?.to_string());
        }
        let (Some(key), Some(door)) = (self.key, self.door.client()?) else {
            return Err(Failure::new("no log to witness").hint("name --door, --door-key and --key"));
        };
        let memory = Memory::open(&home.file("witness"), &key)?;
        let newest = memory.read()?;
        let ask = ask(&door, newest.as_ref()).await?;
        let checkpoint = match ask.judge(&key, newest.as_ref()) {
            Ok(checkpoint) => checkpoint,
            Err(refused) => return Err(memory.refuse(&ask, refused)),
        };
        memory.write(&ask.note)?;
        let line = Line::cosign(ask.note.text(), &name, &secret, shell::now())?;
        let request = CosignatureRequest { size: checkpoint.size, line: line.to_string() };
        let posted = door.call::<serde_json::Value>(Method::POST, "/v1/log/cosignatures", Some(&request)).await;
        posted.while_("the cosignature was made, and the house did not take it")?;
        Ok(format!("{} {} {}", checkpoint.origin, checkpoint.size, checkpoint.root))
    }
}

/// The newest checkpoint, and the proof that it goes on from `newest`.
async fn ask(door: &Client, newest: Option<&Checkpoint>) -> Result<AddCheckpoint, Failure> {
    let note = Source::Door(door.clone()).note().await?;
    let size = Checkpoint::parse(note.text())?.size;
    let old = newest.map_or(0, |newest| newest.size);
    if old == 0 || old >= size {
        return Ok(AddCheckpoint { old, proof: Vec::new(), note });
    }
    let path = format!("/v1/log/consistency?from={old}&to={size}");
    let shown: LogConsistency = door.call(Method::GET, &path, None::<&()>).await?;
    Ok(AddCheckpoint { old, proof: shown.proof, note })
}

/// What the witness cosigned last of one log: `witness/<digest of the origin>.checkpoint`, as the log signed it.
struct Memory {
    path: PathBuf,
    key: VerifierKey,
    /// Held until the process ends with it.
    _lock: std::fs::File,
}

impl Memory {
    fn open(folder: &Path, key: &VerifierKey) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).while_(format!("cannot make {}", folder.display()))?;
        let name = Digest::of(key.name().as_bytes()).to_string();
        let lock = folder.join(format!("{name}.lock"));
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.while_(format!("cannot open {}", lock.display()))?;
        file.try_lock().while_("another witness of this log is at work in this home")?;
        Ok(Self { path: folder.join(format!("{name}.checkpoint")), key: key.clone(), _lock: file })
    }

    fn read(&self) -> Result<Option<Checkpoint>, Failure> {
        let doing = || format!("cannot use {}", self.path.display());
        let Some(bytes) = read_maybe(&self.path).while_(doing())? else { return Ok(None) };
        let note = Note::parse(&bytes).while_(doing())?;
        note.verify(&self.key).map(Some).while_(doing())
    }

    fn write(&self, note: &Note) -> Result<(), Failure> {
        let doing = format!("cannot remember the checkpoint in {}: nothing was cosigned", self.path.display());
        write_durably(&self.path, note.to_string().as_bytes()).while_(doing)
    }

    /// Keeps what proves a fork.
    fn refuse(&self, ask: &AddCheckpoint, refused: NotCosigned) -> Failure {
        let NotCosigned::Inconsistent { old, size } = refused else {
            return Failure::from(refused)
                .hint("nothing was cosigned; the house or its key is another one, or it stands at an older state");
        };
        let kept = self.path.with_extension(format!("fork-{size}"));
        if let Err(error) = write_durably(&kept, ask.note.to_string().as_bytes()) {
            return Failure::new(format!("the log forked, and {} cannot be written", kept.display())).because(error);
        }
        Failure::new(format!("the log does not go on from size {old} to {size}: nothing was cosigned")).hint(format!(
            "{} and {} were both signed by the house, and no log has both: show them to everybody",
            self.path.display(),
            kept.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::SecretKey;
    use comity_wire::log::Growing;

    use super::*;

    fn signed(entries: &[&[u8]], key: &SecretKey) -> AddCheckpoint {
        let mut tree = Growing::default();
        entries.iter().for_each(|entry| tree.push(entry));
        let checkpoint = Checkpoint { origin: "log".into(), size: tree.size(), root: tree.root() };
        AddCheckpoint { old: 2, proof: Vec::new(), note: Note::sign(&checkpoint, key).unwrap() }
    }

    #[test]
    fn what_was_cosigned_is_remembered_and_a_fork_is_kept_with_it() {
        let home = tempfile::tempdir().unwrap();
        let secret = SecretKey::from_seed([1; 32]);
        let key = VerifierKey::new("log", KeyUse::Log, secret.public()).unwrap();
        let first = signed(&[b"a", b"b"], &secret);
        let fork = signed(&[b"a", b"c"], &secret);
        {
            let memory = Memory::open(home.path(), &key).unwrap();
            assert_eq!(memory.read().unwrap(), None);
            memory.write(&first.note).unwrap();
            assert!(Memory::open(home.path(), &key).is_err(), "one at a time");
        }
        let memory = Memory::open(home.path(), &key).unwrap();
        let newest = memory.read().unwrap();
        assert_eq!(newest.as_ref().unwrap().size, 2);
        assert!(first.judge(&key, newest.as_ref()).is_ok(), "the same again");
        let failure = memory.refuse(&fork, fork.judge(&key, newest.as_ref()).unwrap_err()).to_string();
        assert!(failure.contains("both signed by the house"), "{failure}");
        assert_eq!(std::fs::read_to_string(memory.path.with_extension("fork-2")).unwrap(), fork.note.to_string());
        assert_eq!(memory.read().unwrap(), newest, "and nothing else is remembered");
    }
}
