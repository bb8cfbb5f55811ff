//! How the keys of a home folder are opened and kept, as a person meets it: passphrases, the keyring, and what is said of it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comity_sdk::Profile;
use comity_sdk::client::Failpoint;
use comity_sdk::seal::change::{Folder, Means, State, Way};
use comity_sdk::seal::file::{Cost, Passphrase, Seal, passphrase_file};
use comity_sdk::seal::keyring::System;
use comity_sdk::seal::{DataKey, SealError};

use crate::printer::{Failure, note};
use crate::session;

/// Where the passphrase of a sealed profile comes from.
#[derive(Clone, Default)]
pub enum Source {
    /// Whoever sits at the terminal.
    #[default]
    Terminal,
    File(PathBuf),
    /// A program that has it already.
    Given(Passphrase),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Terminal => "Terminal",
            Self::File(_) => "File",
            Self::Given(_) => "Given",
        })
    }
}

impl Source {
    /// A file that is named, else `COMITY_PASSPHRASE_FILE`, else the terminal.
    pub fn new(file: Option<PathBuf>) -> Self {
        let named = file.or_else(|| std::env::var_os("COMITY_PASSPHRASE_FILE").map(PathBuf::from));
        named.map_or(Self::Terminal, Self::File)
    }

    pub(crate) fn passphrase(&self) -> Result<Passphrase, SealError> {
        match self {
            Self::Given(passphrase) => Ok(passphrase.clone()),
            Self::File(path) => passphrase_file(path),
            Self::Terminal => asked("passphrase of your keys: "),
        }
    }

    /// One for keys that nobody can open without it from now on.
    pub(crate) fn new_passphrase(&self) -> Result<Passphrase, Failure> {
        if !matches!(self, Self::Terminal) {
            return Ok(self.passphrase().map_err(comity_sdk::Error::from)?);
        }
        let first = asked("a passphrase for your keys: ").map_err(comity_sdk::Error::from)?;
        if first != asked("once more: ").map_err(comity_sdk::Error::from)? {
            return Err(Failure::new("the two are not the same", "nothing was changed: run it again"));
        }
        Ok(first)
    }
}

/// Typed at the terminal, without being shown.
fn asked(prompt: &str) -> Result<Passphrase, SealError> {
    // One in the background of a job must not wait for somebody who is not there.
    if !std::io::stdin().is_terminal() {
        return Err(SealError::NoPassphrase);
    }
    rpassword::prompt_password(prompt).map(Passphrase::new).map_err(|_| SealError::NoPassphrase)
}

/// Opens a folder's seal; `None` where it has none.
///
/// # Errors
/// [`SealError`].
pub(crate) fn unlock(home: &Path, source: &Source) -> Result<Option<DataKey>, SealError> {
    Seal::read(home)?.map(|seal| seal.unlock(home, &System, || source.passphrase())).transpose()
}

/// Keeps a folder's keys another way.
///
/// # Errors
/// [`SealError`].
pub(crate) fn change(
    home: &Path,
    member: Option<&Path>,
    key: Option<DataKey>,
    way: Way,
    failpoint: &Failpoint,
) -> Result<Option<DataKey>, Failure> {
    let at = |point: &'static str| failpoint(point);
    let means = Means { keyring: &System, entropy: Arc::new(session::random), cost: Cost::NEW, at: &at };
    Ok(Folder { home, member }.change(key, way, &means).map_err(comity_sdk::Error::from)?)
}

/// Says how the keys of a folder are kept.
pub(crate) fn tell(home: &Path, profile: &Profile) {
    match (Folder { home, member: profile.member_key.as_deref() }).state() {
        Ok(state) => note(said(state)),
        Err(error) => note(&Failure::from(comity_sdk::Error::from(error)).to_string()),
    }
}

pub(crate) fn said(state: State) -> &'static str {
    match state {
        State::Keyring => "keys     sealed; the keyring of this computer opens them",
        State::Passphrase => "keys     sealed; your passphrase opens them",
        State::Open => {
            "keys     open, in files that only you may read: whoever gets at them spends as you. comity wallet seal --keyring, or --passphrase, seals them"
        }
        State::Half => "keys     some are not sealed, a change was cut short: run the same comity wallet seal again",
    }
}
