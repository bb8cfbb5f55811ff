//! What a witness is asked and decides (C2SP `tlog-witness`): pure, with what it remembers as an input.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Checkpoint, Note, NoteError, PROOF_STEPS_MAX, VerifierKey, goes_on};
use crate::digest::Digest;
use crate::merkle;

/// The body of `add-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the asker thinks the witness cosigned last.
    pub old: u64,
    pub proof: Vec<Digest>,
    pub note: Note,
}

/// Why a witness does not cosign, as the standard tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCosigned {
    /// 400.
    #[error("the request is not one: {0}")]
    Form(String),
    /// 403.
    #[error("the checkpoint is not its log's")]
    Unsigned(#[source] NoteError),
    /// 404.
    #[error("no log of that origin is watched here")]
    Unknown,
    /// 409: ask again from here.
    #[error("the last checkpoint that was cosigned has size {size}")]
    Conflict { size: u64 },
    /// 422: the log has another past than the one that was cosigned, or the proof is wrong.
    #[error("the log does not go on from size {old} to {size} as it was cosigned")]
    Inconsistent { old: u64, size: u64 },
}

impl NotCosigned {
    pub const fn status(&self) -> u16 {
        match self {
            Self::Form(_) => 400,
            Self::Unsigned(_) => 403,
            Self::Unknown => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent { .. } => 422,
        }
    }
}

impl AddCheckpoint {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old);
        for step in &self.proof {
            text.push_str(&STANDARD.encode(step.0));
            text.push('\n');
        }
        format!("{text}\n{}", self.note).into_bytes()
    }

    /// # Errors
    /// [`NotCosigned::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCosigned> {
        let wrong = |what: &str| NotCosigned::Form(what.to_owned());
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or_else(|| wrong("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or_else(|| wrong("no old size"))?;
        let number = old.parse::<u64>().ok().filter(|number| number.to_string() == old);
        let step = |line: &str| STANDARD.decode(line).ok().and_then(|step| step.try_into().ok()).map(Digest);
        let proof = lines.map(step).collect::<Option<Vec<_>>>().ok_or_else(|| wrong("a line of the proof"))?;
        if proof.len() > PROOF_STEPS_MAX {
            return Err(wrong("too many lines of proof"));
        }
        let note = Note::parse(note.as_bytes()).map_err(|error| NotCosigned::Form(error.to_string()))?;
        Ok(Self { old: number.ok_or_else(|| wrong("its old size"))?, proof, note })
    }

    /// Judges the request for the log of `key`, of which `newest` was cosigned last. What comes back is to be remembered
    /// before it is cosigned.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub fn judge(&self, key: &VerifierKey, newest: Option<&Checkpoint>) -> Result<Checkpoint, NotCosigned> {
        let checkpoint = self.note.verify(key).map_err(NotCosigned::Unsigned)?;
        let size = checkpoint.size;
        if self.old > size {
            return Err(NotCosigned::Form(format!("old {} is above the checkpoint's {size}", self.old)));
        }
        let (known, before) = newest.map_or_else(|| (0, merkle::empty_root()), |newest| (newest.size, newest.root));
        if self.old != known {
            return Err(NotCosigned::Conflict { size: known });
        }
        let empty = size == 0 && checkpoint.root != merkle::empty_root();
        if empty || !goes_on(known, &before, size, &checkpoint.root, &self.proof) {
            return Err(NotCosigned::Inconsistent { old: known, size });
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Growing, KeyUse, Steps, Tiles};
    use super::*;
    use crate::key::SecretKey;

    struct Log {
        tree: Growing,
        key: SecretKey,
    }

    impl Log {
        fn checkpoint(&self) -> Checkpoint {
            Checkpoint { origin: "log".into(), size: self.tree.size(), root: self.tree.root() }
        }

        fn ask(&self, old: u64) -> AddCheckpoint {
            let mut tiles = Tiles::default();
            for (tile, bytes) in self.tree.changed() {
                tiles.insert(tile, tile.width_at(self.tree.size()), &bytes).unwrap();
            }
            let proof = Steps::consistency(old, self.tree.size()).unwrap().of(&tiles).unwrap();
            AddCheckpoint { old, proof, note: Note::sign(&self.checkpoint(), &self.key).unwrap() }
        }
    }

    #[test]
    fn a_witness_cosigns_what_goes_on_and_refuses_a_fork() {
        let key = SecretKey::from_seed([1; 32]);
        let vkey = VerifierKey::new("log", KeyUse::Log, key.public()).unwrap();
        let mut log = Log { tree: Growing::default(), key: key.clone() };
        (0..5_u8).for_each(|at| log.tree.push(&[at]));
        let first = log.ask(0).judge(&vkey, None).unwrap();
        let mut fork = Log { tree: log.tree.clone(), key: key.clone() };
        (5..9_u8).for_each(|at| log.tree.push(&[at]));
        let asked = log.ask(5);
        assert_eq!(AddCheckpoint::parse(&asked.to_bytes()).unwrap(), asked);
        let second = asked.judge(&vkey, Some(&first)).unwrap();
        assert_eq!(second, log.checkpoint());
        assert_eq!(log.ask(9).judge(&vkey, Some(&second)).unwrap(), second, "the same again");

        assert_eq!(log.ask(0).judge(&vkey, Some(&first)), Err(NotCosigned::Conflict { size: 5 }));
        (5..12_u8).for_each(|_| fork.tree.push(b"other"));
        let inconsistent = fork.ask(9).judge(&vkey, Some(&second));
        assert_eq!(inconsistent, Err(NotCosigned::Inconsistent { old: 9, size: 12 }));
        let stranger = VerifierKey::new("log", KeyUse::Log, SecretKey::from_seed([2; 32]).public()).unwrap();
        assert!(matches!(log.ask(0).judge(&stranger, None), Err(NotCosigned::Unsigned(_))));
        let mut shrunk = log.ask(9);
        shrunk.old = 10;
        assert_eq!(shrunk.judge(&vkey, Some(&second)).unwrap_err().status(), 400);
        for bent in ["old 05\n\n", "old\n\n", "new 5\n\n", "old 5\nAAAA\n\n"] {
            let bytes = [bent.as_bytes(), asked.note.to_string().as_bytes()].concat();
            assert_eq!(AddCheckpoint::parse(&bytes).unwrap_err().status(), 400, "{bent:?}");
        }
    }
}
