//! `comity clearing backup|restore`.

use std::path::PathBuf;

use crate::backup;
use crate::failure::Failure;
use crate::home::Home;
use crate::settings::Address;

#[derive(Debug, clap::Args)]
pub struct Backup {
    #[arg(long)]
    home: PathBuf,
    /// The folder to make: nobody else can look into it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Copy keys/ and clearing.toml too: whoever has such a backup is the house
    #[arg(long)]
    with_keys: bool,
}

impl Backup {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let home = Home::open(&self.home)?;
        let last = backup::take(&home, &self.out, self.with_keys).await?;
        if !last.manifest.left_out.is_empty() {
            eprintln!(
                "not in it: {}. Keep copies of those elsewhere, or ask for --with-keys",
                last.manifest.left_out.join(", ")
            );
        }
        Ok(serde_json::to_string(&last)?)
    }
}

#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The backup's folder
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The house's home, without books; or a folder that is not there yet
    #[arg(long)]
    home: PathBuf,
    /// An empty PostgreSQL for books that were in one: postgres://… Where a password is in it, use --store-file
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A file with the same, that nobody else can read
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    store_file: Option<PathBuf>,
    /// log.checkpoint of the old home, as it was last: with it the log may go on. A home that has one keeps its own
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

impl Restore {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let store = Address::told(self.store, self.store_file.as_deref())?;
        let (from, home) = (self.from.as_path(), self.home.as_path());
        let ask = backup::Restore { from, home, store, checkpoint: self.checkpoint.as_deref() };
        let returned = backup::restore(ask).await?;
        eprintln!("what is next:");
        for (number, next) in returned.next.iter().enumerate() {
            eprintln!("{}. {next}", number + 1);
        }
        Ok(serde_json::to_string(&returned)?)
    }
}
