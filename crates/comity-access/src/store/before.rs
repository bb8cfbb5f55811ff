//! Cases as they were kept before there was one store for all processes: a SQLite file in each home. Taken over once, at a start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comity_wire::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

use super::StoreError;
use super::sql::sixteen;
use crate::case::store::{Cases, Excerpt};
use crate::case::{Case, CaseId};

/// What became of such a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Cases that it had, and that are in the store now.
    pub cases: usize,
    /// Those that stay where they are: their logs do not hold, or the store has another log under their id.
    pub left: Vec<CaseId>,
}

/// Takes over the cases of a file, where there is one, and puts it aside under the name `….taken`. Whatever ends it early, the next
/// start does the rest: a case that is in the store already is only compared.
///
/// What was seen goes over, too, and is wiped from the file: its time ends in the store.
///
/// # Errors
/// [`StoreError`]; the file is as it was.
pub async fn take_cases(file: &Path, into: &dyn Cases) -> Result<Taken, StoreError> {
    if !file.exists() {
        return Ok(Taken::default());
    }
    let options = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(Duration::from_secs(10))
        .pragma("secure_delete", "ON")
        .pragma("trusted_schema", "OFF");
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let taken = take(&pool, into).await;
    // The last connection leaves nothing in the log beside the file.
    pool.close().await;
    let taken = taken?;
    if taken.left.is_empty() {
        aside(file).map_err(|error| StoreError::Database(error.into()))?;
    }
    Ok(taken)
}

async fn take(pool: &SqlitePool, into: &dyn Cases) -> Result<Taken, StoreError> {
    let mut taken = Taken::default();
    let ids: Vec<(Vec<u8>,)> = sqlx::query_as("SELECT id FROM access_case ORDER BY id").fetch_all(pool).await?;
    for (id,) in ids {
        let id = CaseId(sixteen(id, "a case's id")?);
        let sql = "SELECT bytes FROM case_event WHERE id = $1 ORDER BY n";
        let events: Vec<(Vec<u8>,)> = sqlx::query_as(sql).bind(id.0.to_vec()).fetch_all(pool).await?;
        let read = Case::read(events.iter().map(|(bytes,)| bytes.as_slice())).ok();
        let Some(case) = read.filter(|case| case.id() == id) else {
            taken.left.push(id);
            continue;
        };
        let sql = "SELECT sealed, until FROM case_excerpt WHERE id = $1";
        let excerpt: Option<(Vec<u8>, i64)> = sqlx::query_as(sql).bind(id.0.to_vec()).fetch_optional(pool).await?;
        let excerpt =
            excerpt.map(|(sealed, until)| Excerpt { sealed, until: Timestamp(u64::try_from(until).unwrap_or(0)) });
        into.case_take(&case, excerpt.as_ref()).await?;
        // It may have gone on there since an earlier attempt, and begins as it does here.
        let stands = into.case(id).await?.is_some_and(|there| there.events().starts_with(case.events()));
        if !stands {
            taken.left.push(id);
            continue;
        }
        sqlx::query("DELETE FROM case_excerpt WHERE id = $1").bind(id.0.to_vec()).execute(pool).await?;
        taken.cases += 1;
    }
    Ok(taken)
}

fn aside(file: &Path) -> std::io::Result<()> {
    let with = |name: &Path, end: &str| {
        let mut name = OsString::from(name);
        name.push(end);
        PathBuf::from(name)
    };
    let to = with(file, ".taken");
    for end in ["-wal", "-shm", ""] {
        let from = with(file, end);
        if from.exists() {
            std::fs::rename(from, with(&to, end))?;
        }
    }
    Ok(())
}
