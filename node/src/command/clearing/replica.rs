//! `comity clearing replica`: the home of one more replica of a house.

use std::path::PathBuf;

use comity_clearing::ops;

use crate::failure::{Failure, While as _};
use crate::home::{Home, Role};
use crate::settings::{HouseSettings, Kept};
use crate::shell;

#[derive(Debug, clap::Args)]
pub struct Replica {
    /// The house's first home
    #[arg(long)]
    home: PathBuf,
    /// The folder to make
    #[arg(long)]
    into: PathBuf,
}

impl Replica {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let home = Home::open(&self.home)?;
        if home.card.role != Role::House {
            return Err(Failure::new("this is no house's home").hint("for an owner's node: comity node replica"));
        }
        let settings = HouseSettings::read(&home)?;
        if settings.replica {
            return Err(Failure::new("this is a replica's home").hint("name the house's first home with --home"));
        }
        let Kept::Postgres(address) = settings.books.kept(&home)? else {
            return Err(Failure::new("replicas share a PostgreSQL, and the books of this house are in SQLite")
                .hint("comity clearing migrate --to postgres://…, first"));
        };
        let database = Kept::Postgres(address).database()?;
        // The line of the feed begins with the one process that has written it before.
        let replicas = ops::replicas(&database, shell::now()).await;
        let feed = replicas.while_("cannot see in the books how far the house's feed has come")?.feed;
        if feed.is_none() {
            return Err(Failure::new("the house has not published anything since its books are in PostgreSQL")
                .hint("start it once from its first home, with this program"));
        }
        let replica = home.replica(&self.into)?;
        eprintln!(
            "next: move {} to its machine, over a way that nobody else can read; put the address of the books where its clearing.toml \
             says; restart the house of {}, whose certificate now names both; then run this one",
            self.into.display(),
            self.home.display()
        );
        Ok(replica.keys.read(crate::keystore::KeyName::Transport)?.public().to_string())
    }
}
