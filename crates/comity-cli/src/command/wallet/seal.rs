//! `comity wallet seal`.

use std::path::PathBuf;

use comity_sdk::Profile;
use comity_sdk::seal::change::Way;
use comity_sdk::seal::file::Seal as Sealed;

use crate::keys::{self, Source};
use crate::printer::Failure;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Seal {
    #[command(flatten)]
    way: Chosen,
    /// A file with the passphrase that opens them from now on; left out: the terminal is asked, or --passphrase-file has it where they are not
    /// under a passphrase yet
    #[arg(long, value_name = "FILE", requires = "passphrase")]
    new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Chosen {
    /// Sealed; the keyring of the operating system opens them, once you are logged in
    #[arg(long)]
    keyring: bool,
    /// Sealed; a passphrase opens them, also another one than before
    #[arg(long)]
    passphrase: bool,
    /// In files that only you may read
    #[arg(long)]
    open: bool,
}

impl Seal {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let profile = Profile::load(&session.home)?;
        let asks = Sealed::read(&session.home).map_err(comity_sdk::Error::from)?.is_some_and(|seal| seal.asks());
        let key = session.seal()?;
        let way = if self.way.passphrase {
            let source = match (self.new_passphrase_file, asks) {
                (Some(file), _) => Source::File(file),
                (None, true) => Source::Terminal,
                (None, false) => session.source.clone(),
            };
            Way::Passphrase(source.new_passphrase()?)
        } else if self.way.keyring {
            Way::Keyring
        } else {
            Way::Open
        };
        keys::change(&session.home, profile.member_key.as_deref(), key, way, session.failpoint())?;
        keys::tell(&session.home, &profile);
        Ok(())
    }
}
