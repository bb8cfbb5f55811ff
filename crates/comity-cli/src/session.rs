//! What every command needs: the home folder, the profile, the keys, a client.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use comity_sdk::client::{Failpoint, World};
use comity_sdk::seal::change::read_member;
use comity_sdk::seal::{DataKey, LOST_KEY, Sealer, member_text};
use comity_sdk::{Client, Profile};
use comity_wire::{Digest, SecretKey, Timestamp};

use crate::keys::{self, Source};
use crate::printer::Failure;

/// Which home folder, and how its keys are opened.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Folder {
    /// A researcher's home folder [default: $COMITY_HOME, else ~/.config/comity]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// A file with the passphrase of sealed keys, for a job [default: $COMITY_PASSPHRASE_FILE, else the terminal is asked]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `--home`, else `COMITY_HOME`, else `~/.config/comity`.
pub(crate) fn home(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let below = |base: std::ffi::OsString, rest: &str| PathBuf::from(base).join(rest);
    let found = given
        .or_else(|| std::env::var_os("COMITY_HOME").map(PathBuf::from))
        .or_else(|| std::env::var_os("XDG_CONFIG_HOME").map(|base| below(base, "comity")))
        .or_else(|| std::env::var_os("HOME").map(|base| below(base, ".config/comity")));
    found.ok_or_else(|| Failure::new("no home folder is known", "name one with --home"))
}

pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// From the operating system.
///
/// # Panics
/// Where it gives none.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A researcher's home folder, and the world around it.
pub(crate) struct Session {
    pub(crate) home: PathBuf,
    pub(crate) source: Source,
    world: World,
    /// What opens the folder's keys: asked for once, though a command opens several clients.
    seal: OnceLock<Option<DataKey>>,
}

impl Session {
    pub(crate) fn new(home: PathBuf, source: Source, failpoint: Failpoint) -> Self {
        Self { home, source, world: World { failpoint, ..World::new(now, random) }, seal: OnceLock::new() }
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let (profile, member) = self.profile()?;
        Ok(Client::open(&self.home, profile, member, self.unlocked()?)?)
    }

    /// A client on another folder, for whoever it is handed to.
    pub(crate) fn client_at(
        &self,
        home: &Path,
        profile: Profile,
        member: Option<SecretKey>,
    ) -> Result<Client, Failure> {
        Ok(Client::open(home, profile, member, self.world.clone())?)
    }

    /// The profile as it stands, and its member key.
    pub(crate) fn profile(&self) -> Result<(Profile, Option<SecretKey>), Failure> {
        let profile = Profile::load(&self.home)?;
        let seal = self.seal()?;
        let read = |path: &Path| read_member(path, seal.as_ref()).map_err(comity_sdk::Error::from);
        let member = profile.member_key.as_deref().map(read).transpose()?;
        Ok((profile, member.map(|seed| SecretKey::from_seed(*seed))))
    }

    /// For commands that neither sign nor spend: they run beside a proxy that holds the wallet.
    pub(crate) fn look(&self) -> Result<Client, Failure> {
        let (profile, member) = self.profile()?;
        Ok(Client::look(&self.home, profile, member, self.unlocked()?)?)
    }

    /// What opens the folder's keys; `None` where they are not sealed.
    pub(crate) fn seal(&self) -> Result<Option<DataKey>, Failure> {
        if let Some(known) = self.seal.get() {
            return Ok(known.clone());
        }
        let key = keys::unlock(&self.home, &self.source).map_err(comity_sdk::Error::from)?;
        Ok(self.seal.get_or_init(|| key).clone())
    }

    pub(crate) fn failpoint(&self) -> &Failpoint {
        &self.world.failpoint
    }

    fn unlocked(&self) -> Result<World, Failure> {
        Ok(World { seal: self.seal()?, ..self.world.clone() })
    }
}

/// A client on a home folder (`--home`'s rules), and which folder that is. `look`: it signs nothing, and runs beside a program
/// that uses the wallet.
///
/// # Errors
/// [`Failure`].
pub fn open(given: Option<PathBuf>, source: Source, look: bool) -> Result<(PathBuf, Client), Failure> {
    let session = Session::new(home(given)?, source, std::sync::Arc::new(|_| {}));
    let client = if look { session.look()? } else { session.client()? };
    Ok((session.home, client))
}

/// A key file: 64 hexadecimal digits.
pub(crate) fn read_key(path: &Path) -> Result<SecretKey, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read the key {}: {error}", path.display()), LOST_KEY))?;
    let seed: Digest = text.trim().parse().map_err(|_| {
        Failure::new(format!("{} is not a key: a key file holds 64 hexadecimal digits", path.display()), LOST_KEY)
    })?;
    Ok(SecretKey::from_seed(seed.0))
}

/// Writes a new key, readable by its owner alone.
pub(crate) fn write_key(path: &Path, seed: &[u8; 32]) -> Result<SecretKey, Failure> {
    write_key_sealed(path, seed, None)
}

/// The same, closed with a data key where there is one.
pub(crate) fn write_key_sealed(path: &Path, seed: &[u8; 32], seal: Option<DataKey>) -> Result<SecretKey, Failure> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| {
        Failure::new(format!("cannot make the key {}: {error}", path.display()), "it may exist already")
    })?;
    let sealer = seal.map(|key| Sealer::new(key, std::sync::Arc::new(random)));
    file.write_all(member_text(sealer.as_ref(), seed).as_bytes())?;
    file.sync_all()?;
    Ok(SecretKey::from_seed(*seed))
}
