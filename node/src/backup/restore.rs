//! Putting a backup back into a home that has no books.
//!
//! Nothing that is there is overwritten: keys, certificates and the memory of the log that a home still has are newer than any
//! backup's. The books are whole in their place or not there at all, and know from then on that they came back.

use std::path::{Path, PathBuf};

use comity_clearing::{LOG_FORGOTTEN, ops};
use comity_ledger::{Database, books};
use serde::Serialize;

use super::take::write_private;
use super::{KEYS, Manifest, POSTGRES_COPY, PUBLIC, SETTINGS, SQLITE_COPY, Stored, postgres, probe};
use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::service::turn::Turn;
use crate::settings::{Address, BOOKS_FILE, HouseSettings, Kept};
use crate::shell;

/// The memory of what the log signed last.
const CHECKPOINT: &str = "log.checkpoint";
/// The house's copy of all feeds, its own among them.
const NETWORK: &str = "network.sqlite";

/// What an operator says of it.
#[derive(Debug)]
pub struct Restore<'a> {
    pub from: &'a Path,
    pub home: &'a Path,
    /// Where the books of a PostgreSQL backup go, if not where the home says.
    pub store: Option<Address>,
    /// `log.checkpoint` of the house's home as it was last.
    pub checkpoint: Option<&'a Path>,
}

/// What came back.
#[derive(Debug, Serialize)]
pub struct Returned {
    pub books: String,
    pub restored: ops::Restored,
    pub transfers: u64,
    /// Files that the home had not.
    pub put: Vec<String>,
    /// Whose move is next, in order.
    pub next: Vec<String>,
}

/// Verifies a backup, puts back what is missing in the home, then the books.
///
/// # Errors
/// [`Failure`]; the home then has no books.
pub async fn restore(ask: Restore<'_>) -> Result<Returned, Failure> {
    let Restore { from, home, store, checkpoint } = ask;
    let manifest = Manifest::read(from)?;
    eprintln!(
        "the backup is whole: {} files, {} transfers, made at {}",
        manifest.files.len(),
        manifest.transfers,
        manifest.made_at
    );
    let is_new = !home.join("organisation.json").exists();
    if is_new {
        make(home)?;
    }
    let put = put_missing(&manifest, from, home)?;
    let home = Home::open(home)?;
    if (home.card.organisation, home.card.node) != (manifest.house, manifest.node) {
        return Err(Failure::new(format!(
            "{} is the home of {}, and the backup is of {}",
            home.path.display(),
            home.card.organisation,
            manifest.house
        ))
        .hint("restore into the house's own home, or into a folder that is not there"));
    }
    let _turn = Turn::now(&home)?;
    let kept = place(&manifest, &home, store)?;
    let restored = match &kept {
        Kept::Sqlite(path) => sqlite(&manifest, from, path).await?,
        Kept::Postgres(address) => server(&manifest, from, address, &kept.database()?).await?,
    };
    remember(&home, checkpoint)?;
    let needs_epoch = !home.file(NETWORK).exists();
    let mut next = Vec::new();
    if needs_epoch {
        home.feed_forgotten()?;
    }
    let missing: Vec<_> = manifest.left_out.iter().filter(|name| !home.file(name).exists()).cloned().collect();
    if !missing.is_empty() {
        next.push(format!("put back what the backup has not, from where you keep it: {}", missing.join(", ")));
    }
    if let (Kept::Postgres(_), true) = (&kept, !home.file(SETTINGS).exists()) {
        next.push("say in clearing.toml where the books are now ([books] store_file = \"keys/books.url\")".into());
    }
    if needs_epoch {
        next.push(format!(
            "this home knows nothing of the feed that the house wrote: `comity clearing renew --home {} --restored`, with \
             keys/organisation.key put back for it, begins the feed's next epoch; without it the house does not start",
            home.path.display()
        ));
    }
    next.extend(after(&home, &manifest, restored));
    if put.iter().any(|name| probe::is_part(name)) {
        next.push(format!(
            "the probes know what they knew at {}: once no process of theirs runs elsewhere, `comity clearing probe init --home {}`, \
             then `status`, then `run`",
            manifest.made_at,
            home.path.display()
        ));
    }
    Ok(Returned { books: kept.name(), restored, transfers: manifest.transfers, put, next })
}

/// What is to be done once the books are back.
fn after(home: &Home, manifest: &Manifest, restored: ops::Restored) -> Vec<String> {
    let home = home.path.display();
    let (from, to) = (manifest.made_at, restored.restored_at);
    vec![
        format!("start the house: `comity clearing run --home {home} …`"),
        format!(
            "`comity clearing log show --home {home}`: where it says `stopped`, bring the newer log.checkpoint or a newer backup, \
             or end the log with `comity clearing log restart --home {home} --why …`"
        ),
        format!("`comity ledger audit --home {home}`"),
        format!(
            "say again what you said between {from} and {to}: awards and acts of officers, projects, members, freezes. \
             Revocations come back from the federation's copy of your list: look whether all of them did"
        ),
        "tokens that were drawn in that time bind the house still (rule 9): nodes claim again by themselves within the hour, and \
         what is not in the books is paid from suspense"
            .to_owned(),
    ]
}

fn make(home: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(home).while_(format!("cannot make {}", home.display()))?;
    #[cfg(unix)]
    std::fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .while_(format!("cannot close {} to others", home.display()))?;
    Ok(())
}

/// Puts back every file but the books that the home has not.
fn put_missing(manifest: &Manifest, from: &Path, home: &Path) -> Result<Vec<String>, Failure> {
    let is_ours = |name: &str| {
        let is_key =
            name.strip_prefix(KEYS).and_then(|rest| rest.strip_prefix('/')).is_some_and(|key| !key.contains('/'));
        PUBLIC.contains(&name) || name == SETTINGS || is_key
    };
    // What the probes of this home know is newer, and does not go with what they knew then.
    let has_probes = home.join(probe::FOLDER).exists();
    let is_probes = |name: &str| probe::is_part(name) && !has_probes;
    let mut put = Vec::new();
    for entry in manifest.files.iter().filter(|entry| is_ours(&entry.path) || is_probes(&entry.path)) {
        let into = home.join(&entry.path);
        if into.exists() {
            continue;
        }
        if let Some(folder) = into.parent() {
            super::closed_folder(folder).while_(format!("cannot make {}", folder.display()))?;
        }
        let bytes = std::fs::read(manifest.file(from, &entry.path)?)?;
        write_private(&into, &zeroize::Zeroizing::new(bytes))?;
        put.push(entry.path.clone());
    }
    Ok(put)
}

/// Where the books go; nothing may be there.
fn place(manifest: &Manifest, home: &Home, store: Option<Address>) -> Result<Kept, Failure> {
    match (manifest.store, store) {
        (Stored::Sqlite, Some(_)) => {
            Err(Failure::new("the backup's books are SQLite's, and --store names a PostgreSQL")
                .hint("restore without --store, then `comity clearing migrate --to postgres://…`"))
        }
        (Stored::Sqlite, None) => {
            let path = home.file(BOOKS_FILE);
            for name in [BOOKS_FILE, "clearing.sqlite-wal", "clearing.sqlite-shm"] {
                if home.file(name).exists() {
                    return Err(Failure::new(format!("{} is there, and is not overwritten", home.file(name).display()))
                        .hint("stop the house and move clearing.sqlite, -wal and -shm away together; keep them until the audit holds"));
                }
            }
            Ok(Kept::Sqlite(path))
        }
        (Stored::Postgres, Some(address)) => Ok(Kept::Postgres(address)),
        (Stored::Postgres, None) => match HouseSettings::read(home)?.books.kept(home)? {
            kept @ Kept::Postgres(_) => Ok(kept),
            Kept::Sqlite(_) => {
                Err(Failure::new("the backup's books are PostgreSQL's, and nothing says where they shall go")
                    .hint("--store-file FILE with the address of an empty database, or [books] in clearing.toml"))
            }
        },
    }
}

/// In a file beside its place, until everything is right.
async fn sqlite(manifest: &Manifest, from: &Path, path: &Path) -> Result<ops::Restored, Failure> {
    let part = path.with_extension("sqlite.part");
    for name in side_files(&part) {
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let copy = manifest.file(from, SQLITE_COPY)?;
    std::fs::copy(&copy, &part).while_(format!("cannot write {}", part.display()))?;
    #[cfg(unix)]
    std::fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let at_rest = Database::sqlite_at_rest(&part);
    let mut conn = at_rest.connect().await?;
    let complaints = books::integrity(&mut conn.db(), "integrity_check").await?;
    conn.close().await?;
    if !complaints.is_empty() {
        return Err(Failure::new("SQLite finds the copy broken").because(complaints.join("; ")));
    }
    let restored = mark(manifest, &Database::sqlite(&part)).await?;
    std::fs::File::open(&part)?.sync_all()?;
    std::fs::rename(&part, path).while_(format!("cannot write {}", path.display()))?;
    std::fs::File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    Ok(restored)
}

fn side_files(part: &Path) -> [PathBuf; 3] {
    let with = |end: &str| PathBuf::from(format!("{}{end}", part.display()));
    [with(""), with("-wal"), with("-shm")]
}

async fn server(
    manifest: &Manifest,
    from: &Path,
    address: &Address,
    database: &Database,
) -> Result<ops::Restored, Failure> {
    if !ops::is_empty(database).await.while_("cannot reach the PostgreSQL that the books shall go to")? {
        return Err(Failure::new(
            "the PostgreSQL that the books shall go to has tables already, and they are not overwritten",
        )
        .hint("CREATE DATABASE another one, and name that"));
    }
    postgres::load(address, &manifest.file(from, POSTGRES_COPY)?).await?;
    mark(manifest, database).await
}

/// Holds the books against the manifest, brings them up to date, and notes in them that they came back.
async fn mark(manifest: &Manifest, database: &Database) -> Result<ops::Restored, Failure> {
    let states = ops::migrations(database).await?;
    let mut conn = database.connect().await?;
    let facts = ops::facts(&mut conn.db(), &states).await.while_("cannot read what came back")?;
    conn.close().await?;
    if (facts.schema, facts.transfers, facts.sealed, facts.log)
        != (manifest.schema, manifest.transfers, manifest.sealed, manifest.log)
    {
        return Err(Failure::new("what came back is not what the manifest says")
            .because(format!("{} transfers, {} entries of the log", facts.transfers, facts.sealed)));
    }
    ops::migrate(database).await.while_("cannot bring the books up to date")?;
    Ok(ops::restored_put(database, manifest.made_at, shell::now()).await?)
}

/// The home's own memory stays; else the one that was named; else the house is told that it does not know.
fn remember(home: &Home, checkpoint: Option<&Path>) -> Result<(), Failure> {
    let path = home.file(CHECKPOINT);
    match checkpoint {
        _ if path.exists() => Ok(()),
        Some(checkpoint) => {
            let note = std::fs::read(checkpoint).while_(format!("cannot read {}", checkpoint.display()))?;
            comity_wire::log::Note::parse(&note).while_(format!("{} is no checkpoint", checkpoint.display()))?;
            write_private(&path, &note)
        }
        None => write_private(&path, LOG_FORGOTTEN),
    }
}
