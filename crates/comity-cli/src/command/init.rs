//! `comity init`: a profile, and a member key to register at the clearing house.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use comity_sdk::Profile;
use comity_sdk::seal::change::{Way, read_member};
use comity_sdk::seal::file::Seal;
use comity_wire::{ProjectId, SecretKey};

use crate::keys;
use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
pub struct Init {
    /// The federation's roster.cbor, from somebody you trust
    #[arg(long)]
    roster: PathBuf,
    /// A hub or node to ask for models, https://host:port; may be given more than once
    #[arg(long, required = true)]
    entry: Vec<String>,
    /// Your project at the clearing house, proj-…
    #[arg(long)]
    project: Option<ProjectId>,
    /// The clearing house, where it is not found through the federation
    #[arg(long)]
    house: Option<String>,
    /// How your keys are kept. Left out: on a terminal the keyring where there is one, else you are asked; elsewhere open
    #[arg(long, value_enum)]
    keys: Option<Keys>,
}

/// A way of keeping keys, as it is chosen.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Keys {
    /// Sealed; the keyring of the operating system opens them
    Keyring,
    /// Sealed; a passphrase opens them
    Passphrase,
    /// In files that only you may read
    Open,
}

const ASK_FOR_A_ROSTER: &str = "ask your federation for its roster.cbor";

impl Init {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let home = session.home.as_path();
        let file = home.join(Profile::FILE);
        if file.exists() {
            return Err(Failure::new(
                format!("{} exists already", file.display()),
                "edit it, or choose another --home",
            ));
        }
        // Before anything is written: a page of an error saved as `roster.cbor` is found out here.
        let roster = std::fs::read(&self.roster).map_err(|error| {
            Failure::new(format!("cannot read {}: {error}", self.roster.display()), ASK_FOR_A_ROSTER)
        })?;
        comity_sdk::token::directory::File::new(&roster).map_err(|error| {
            Failure::new(format!("{} is not a roster that stands: {error}", self.roster.display()), ASK_FOR_A_ROSTER)
        })?;
        std::fs::create_dir_all(home)?;
        std::fs::write(home.join("roster.cbor"), roster)?;
        let key = home.join("member.key");
        let seal = if Seal::path(home).exists() {
            session.seal()?
        } else {
            self.seal(session, key.exists().then_some(key.as_path()))?
        };
        let member = if key.exists() {
            SecretKey::from_seed(*read_member(&key, seal.as_ref()).map_err(comity_sdk::Error::from)?)
        } else {
            session::write_key_sealed(&key, &session::random(), seal)?
        };
        let profile = Profile {
            roster: "roster.cbor".into(),
            entry: self.entry,
            house: self.house,
            project: self.project,
            member_key: Some("member.key".into()),
            mandate: None,
            limits: comity_sdk::profile::Limits::default(),
        };
        std::fs::write(&file, toml::to_string(&profile)?)?;
        say(&format!("profile: {}\nyour member key: {}", file.display(), member.public()));
        keys::tell(home, &Profile::load(home)?);
        note(
            "next: `comity login`, or have the clearing house add this key to your project; then `comity models search`",
        );
        Ok(())
    }
    /// Makes the seal that was chosen, before there is a key to close.
    fn seal(
        &self,
        session: &Session,
        member: Option<&std::path::Path>,
    ) -> Result<Option<comity_sdk::seal::DataKey>, Failure> {
        let change = |way| keys::change(&session.home, member, None, way, session.failpoint());
        match self.keys {
            Some(Keys::Open) => Ok(None),
            Some(Keys::Keyring) => change(Way::Keyring),
            Some(Keys::Passphrase) => change(Way::Passphrase(session.source.new_passphrase()?)),
            None if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() => Ok(None),
            None => match change(Way::Keyring) {
                Ok(key) => Ok(key),
                Err(_) => {
                    note(
                        "there is no keyring that answers: a passphrase seals your keys (--keys open leaves them open)",
                    );
                    change(Way::Passphrase(session.source.new_passphrase()?))
                }
            },
        }
    }
}
