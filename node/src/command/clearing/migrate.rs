//! `comity clearing migrate`.

use std::path::{Path, PathBuf};

use comity_clearing::ops;
use comity_ledger::Database;
use comity_ledger::db::MigrationStanding;
use serde_json::{Value, json};

use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::service::turn::Turn;
use crate::settings::{Address, BOOKS_FILE, BOOKS_MOVED, HOUSE_FILE, HouseSettings, Kept};

#[derive(Debug, clap::Args)]
pub struct Migrate {
    #[arg(long)]
    home: PathBuf,
    /// Only show them; an error where one is not applied
    #[arg(long)]
    check: bool,
    /// Copy the books out of SQLite into this empty PostgreSQL: postgres://… Where a password is in it, use --to-file
    #[arg(long, value_name = "URL", conflicts_with = "check")]
    to: Option<String>,
    /// A file with the same, that nobody else can read
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "to"])]
    to_file: Option<PathBuf>,
}

/// Where the new address is put for the house to find.
const URL_FILE: &str = "keys/books.url";

impl Migrate {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let home = Home::open(&self.home)?;
        let kept = HouseSettings::read(&home)?.books.kept(&home)?;
        if let Kept::Sqlite(path) = &kept
            && !path.exists()
        {
            return Err(Failure::new(format!("there are no books at {}", path.display()))
                .hint("a house's first start makes them; nothing is to be migrated before"));
        }
        let database = kept.database()?;
        if let Some(to) = Address::told(self.to, self.to_file.as_deref())? {
            return move_to(&home, &kept, &to).await;
        }
        let shown = show(&kept, &database).await?;
        let is_pending = shown["pending"] != 0;
        if self.check && is_pending {
            return Err(Failure::new("migrations are not applied")
                .because(shown.to_string())
                .hint("the next `run` applies them, or this command without --check"));
        }
        if self.check || !is_pending {
            return Ok(shown.to_string());
        }
        let _turn = Turn::now(&home)?;
        ops::migrate(&database).await.while_(format!("cannot bring {} up to date", kept.name()))?;
        Ok(show(&kept, &database).await?.to_string())
    }
}

async fn show(kept: &Kept, database: &Database) -> Result<Value, Failure> {
    let states = ops::migrations(database).await.while_(format!("cannot read {}", kept.name()))?;
    let is_strange = |standing| matches!(standing, MigrationStanding::Differs | MigrationStanding::Unknown);
    if let Some(state) = states.iter().find(|state| is_strange(state.standing)) {
        return Err(Failure::new(format!("migration {} of {} is not this program's", state.number, kept.name()))
            .hint("run the program that made these tables: books are never migrated backwards"));
    }
    let word = |standing| if standing == MigrationStanding::Applied { "applied" } else { "pending" };
    let rows: Vec<_> = states
        .iter()
        .map(|state| json!({ "number": state.number, "name": state.name, "state": word(state.standing) }))
        .collect();
    let pending = states.iter().filter(|state| state.standing == MigrationStanding::Pending).count();
    Ok(json!({ "books": kept.name(), "pending": pending, "migrations": rows }))
}

/// Everything into an empty PostgreSQL; then both are audited, and compared to the micro-credit, before the house is told.
async fn move_to(home: &Home, kept: &Kept, to: &Address) -> Result<String, Failure> {
    let Kept::Sqlite(path) = kept else {
        return Err(
            Failure::new("these books are in PostgreSQL already").hint("the database's own tools move them from there")
        );
    };
    let _turn = Turn::now(home)?;
    let (old, new) = (kept.database()?, Kept::Postgres(to.clone()).database()?);
    let tables =
        ops::copy(&old, &new, |table, rows| eprintln!("{table}: {rows}")).await.while_("nothing was copied")?;
    eprintln!("copied; both are audited and compared");
    compare(&old, &new).await.map_err(|failure| {
        failure.hint(
            "nothing was changed in the old books, and the house still uses them: drop the new database, and tell us",
        )
    })?;
    let told = tell(home, to)?;
    set_aside(path)?;
    for next in &told {
        eprintln!("next: {next}");
    }
    let rows: u64 = tables.iter().map(|(_, rows)| rows).sum();
    Ok(json!({ "tables": tables.len(), "rows": rows, "old_books": moved(path), "next": told }).to_string())
}

async fn compare(old: &Database, new: &Database) -> Result<(), Failure> {
    let (before, after) = (ops::audit(old).await?, ops::audit(new).await?);
    for (name, report) in [("old", &before), ("new", &after)] {
        if !report.holds {
            return Err(Failure::new(format!("the {name} books do not hold")).because(serde_json::to_string(report)?));
        }
    }
    let same_ledger = (before.ledger.root, before.ledger.transfers) == (after.ledger.root, after.ledger.transfers);
    if !same_ledger || before.totals != after.totals {
        return Err(Failure::new("the new books are not the old ones")
            .because(format!("{} and {}", before.ledger.root, after.ledger.root)));
    }
    let (before, after) = (ops::trial_balance(old).await?, ops::trial_balance(new).await?);
    if before != after {
        return Err(Failure::new("the trial balances differ").because(format!("{before:?} and {after:?}")));
    }
    let (before, after) = (ops::glance(old).await?, ops::glance(new).await?);
    if before.facts != after.facts {
        return Err(Failure::new("the logs differ").because(format!("{:?} and {:?}", before.facts, after.facts)));
    }
    Ok(())
}

/// Says in the home where its books are now; what is left to be said by its operator.
fn tell(home: &Home, to: &Address) -> Result<Vec<String>, Failure> {
    let mut next = Vec::new();
    let (url, settings) = (home.file(URL_FILE), home.file(HOUSE_FILE));
    if !url.exists() {
        home::write_secret(&url, to.exposed().as_bytes())?;
    }
    if !settings.exists() {
        home::write(&settings, format!("[books]\nstore_file = \"{URL_FILE}\"\n").as_bytes())?;
    }
    let is_told = HouseSettings::read(home)?.books.kept(home).is_ok_and(|kept| kept.is_at(to));
    if !is_told {
        next.push(format!(
            "put the new address into {} (mode 0600) and `[books] store_file = \"{URL_FILE}\"` into {}",
            url.display(),
            settings.display()
        ));
    }
    next.push(
        "start the house, and run `comity clearing doctor`; keep the old file until the next backup of the new books"
            .to_owned(),
    );
    Ok(next)
}

fn moved(path: &Path) -> PathBuf {
    path.with_file_name(BOOKS_MOVED)
}

/// The old books stay, under a name that no house opens.
fn set_aside(path: &Path) -> Result<(), Failure> {
    for end in ["", "-wal", "-shm"] {
        let from = path.with_file_name(format!("{BOOKS_FILE}{end}"));
        if from.exists() {
            let to = path.with_file_name(format!("{BOOKS_MOVED}{end}"));
            std::fs::rename(&from, &to).while_(format!("cannot rename {}", from.display()))?;
        }
    }
    Ok(())
}
