//! Taking a backup while the house works.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comity_clearing::ops;
use comity_ledger::books::{PgSnapshot, sqlite_copy};
use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::manifest::Entry;
use super::{KEYS, Manifest, POSTGRES_COPY, PUBLIC, SETTINGS, SQLITE_COPY, Stored, postgres, probe};
use crate::failure::{Failure, While as _};
use crate::home::{self, Home, Role};
use crate::settings::{HouseSettings, Kept};
use crate::shell;

/// How often it is told how far the copy is.
const TELL: Duration = Duration::from_secs(5);
/// The newest backup of a home, for `comity clearing doctor`.
const LAST: &str = "last-backup.json";

/// A backup that was taken.
#[derive(Debug, Serialize)]
pub struct Last {
    pub backup: PathBuf,
    /// Keep it elsewhere: whoever has the folder can write another manifest, but not one of this digest.
    pub manifest_sha256: Digest,
    #[serde(flatten)]
    pub manifest: Manifest,
}

/// What a home remembers of its newest backup.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastBackup {
    pub backup: PathBuf,
    pub made_at: Timestamp,
    pub manifest_sha256: Digest,
}

impl LastBackup {
    /// `None` where none was taken from this home.
    pub fn read(home: &Home) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(home.file(LAST)).ok()?).ok()
    }
}

/// Copies the books and what stands beside them into the new folder `out`.
///
/// # Errors
/// [`Failure`]; the folder then has no manifest, and is no backup.
pub async fn take(home: &Home, out: &Path, with_keys: bool) -> Result<Last, Failure> {
    if home.card.role != Role::House {
        return Err(Failure::new(format!("{} is not a clearing house's home", home.path.display())));
    }
    let kept = HouseSettings::read(home)?.books.kept(home)?;
    if let Kept::Sqlite(path) = &kept
        && !path.exists()
    {
        return Err(Failure::new(format!("there are no books at {}", path.display()))
            .hint("start the house once; or say in clearing.toml where its books are"));
    }
    make(out)?;
    let made_at = shell::now();
    let (store, copy, facts) = match &kept {
        Kept::Sqlite(path) => {
            let into = out.join(SQLITE_COPY);
            telling(&into, std::fs::metadata(path).map_or(0, |about| about.len()), async {
                sqlite_copy(&kept.database()?, &into).await.while_(format!("cannot copy {}", path.display()))
            })
            .await?;
            close(&into)?;
            let database = comity_ledger::Database::sqlite_at_rest(&into);
            let states = ops::migrations(&database).await?;
            let mut conn = database.connect().await?;
            let facts = ops::facts(&mut conn.db(), &states).await.while_("cannot read the copy")?;
            conn.close().await?;
            (Stored::Sqlite, SQLITE_COPY, facts)
        }
        Kept::Postgres(address) => {
            let into = out.join(POSTGRES_COPY);
            let database = kept.database()?;
            let states = ops::migrations(&database).await?;
            let mut snapshot = PgSnapshot::open(&database).await.while_("cannot read the books in PostgreSQL")?;
            let facts = ops::facts(&mut snapshot.db(), &states).await.while_("cannot read the books in PostgreSQL")?;
            let name = snapshot.name().to_owned();
            telling(&into, 0, postgres::dump(address, &name, &into)).await?;
            snapshot.close().await?;
            close(&into)?;
            std::fs::File::open(&into)?.sync_all()?;
            (Stored::Postgres, POSTGRES_COPY, facts)
        }
    };
    eprintln!("copied and checked: {} transfers, {} entries of the log", facts.transfers, facts.sealed);
    let (beside, left_out) = beside(home, out, with_keys)?;
    let files = std::iter::once(copy.to_owned()).chain(beside);
    let manifest = Manifest {
        form: Manifest::form().to_owned(),
        house: home.card.organisation,
        node: home.card.node,
        made_at,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        store,
        schema: facts.schema,
        transfers: facts.transfers,
        sealed: facts.sealed,
        log: facts.log,
        restored: facts.restored,
        files: files.map(|file| Entry::of(out, &file)).collect::<Result<_, _>>()?,
        left_out,
    };
    let manifest_sha256 = manifest.write(out)?;
    let backup = std::path::absolute(out)?;
    let last = LastBackup { backup: backup.clone(), made_at, manifest_sha256 };
    home::write(&home.file(LAST), &serde_json::to_vec_pretty(&last)?)?;
    Ok(Last { backup, manifest_sha256, manifest })
}

/// Copies what stands beside the books; what was copied, and what was left out.
fn beside(home: &Home, out: &Path, with_keys: bool) -> Result<(Vec<String>, Vec<String>), Failure> {
    let there = |name: &&str| home.file(name).exists();
    let mut copied: Vec<String> = PUBLIC.iter().copied().filter(there).map(str::to_owned).collect();
    let mut secret: Vec<String> = Some(SETTINGS).filter(there).map(str::to_owned).into_iter().collect();
    let mut keys: Vec<String> = std::fs::read_dir(home.file(KEYS))
        .while_(format!("cannot read {}", home.file(KEYS).display()))?
        .filter_map(|entry| Some(format!("{KEYS}/{}", entry.ok()?.file_name().to_str()?)))
        .collect();
    keys.sort();
    secret.extend(keys);
    let (probes, mut people) = probe::files(home)?;
    copied.extend(probes);
    let left_out = if with_keys {
        make(&out.join(KEYS))?;
        copied.append(&mut secret);
        copied.append(&mut people);
        Vec::new()
    } else {
        secret.extend((!people.is_empty()).then(|| probe::PEOPLE.to_owned()));
        secret
    };
    copied.retain(|name| !probe::may_go(name) || home.file(name).exists());
    for name in &copied {
        let bytes = zeroize::Zeroizing::new(home.read(name)?);
        let path = out.join(name);
        if let Some(folder) = path.parent() {
            super::closed_folder(folder).while_(format!("cannot make {}", folder.display()))?;
        }
        write_private(&path, &bytes)?;
    }
    Ok((copied, left_out))
}

/// A new folder that nobody else can look into.
fn make(out: &Path) -> Result<(), Failure> {
    if out.exists() {
        return Err(Failure::new(format!("{} is there already", out.display()))
            .hint("each backup is a folder of its own: name one that is not there, as --out house-2027-05-03"));
    }
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(out).while_(format!("cannot make {}", out.display()))
}

/// Writes a new file that nobody else can read, to the disk.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let doing = || format!("cannot write {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).while_(doing())?;
    file.write_all(bytes).and_then(|()| file.sync_all()).while_(doing())
}

/// Closes a file to others that another program made.
fn close(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .while_(format!("cannot close {} to others", path.display()))?;
    Ok(())
}

/// Says now and then how far a copy is. `whole` is 0 where nobody knows.
async fn telling<T>(path: &Path, whole: u64, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TELL, TELL);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => {
                let mib = |bytes: u64| bytes >> 20;
                let so_far = mib(std::fs::metadata(path).map_or(0, |about| about.len()));
                match whole {
                    0 => eprintln!("{so_far} MiB so far"),
                    whole => eprintln!("{so_far} MiB so far, of at most {}", mib(whole)),
                }
            }
        }
    }
}
