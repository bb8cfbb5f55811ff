//! Copies of the books for a backup, taken while others write.
//!
//! Of SQLite: `VACUUM INTO` on a connection of its own. It reads one snapshot; a writer in WAL mode does not wait for it, and
//! only the log grows until it is done. Of PostgreSQL the copy is `pg_dump`'s; what is counted beside it is counted in the
//! snapshot that `pg_dump` is told of ([`PgSnapshot`]).

use std::path::Path;

use crate::db::{Conn, Database, Db, Kind, query};
use crate::store::StoreError;

/// Complaints of SQLite that are shown.
const COMPLAINTS_MAX: usize = 20;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    #[error("cannot read the books")]
    Store(#[from] StoreError),
    #[error("cannot write the copy")]
    File(#[from] std::io::Error),
    #[error("the path of the copy is not UTF-8")]
    Path,
    #[error("SQLite finds the copy broken: {}", complaints.join("; "))]
    Broken { complaints: Vec<String> },
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Writes a whole copy of SQLite books to `into`, which must not exist. When it returns the copy is on the disk, and SQLite
/// has found it sound. Dropping it leaves a file that is none.
///
/// # Errors
/// [`BackupError`].
///
/// # Panics
/// Where the books are not SQLite's.
pub async fn sqlite_copy(database: &Database, into: &Path) -> Result<(), BackupError> {
    assert_eq!(database.kind(), Kind::Sqlite, "PostgreSQL's books are copied by pg_dump");
    let path = into.to_str().ok_or(BackupError::Path)?;
    if into.exists() {
        return Err(std::io::Error::from(std::io::ErrorKind::AlreadyExists).into());
    }
    let mut conn = database.connect().await?;
    query("VACUUM INTO ?").bind(path).execute(&mut conn.db()).await?;
    conn.close().await?;
    std::fs::File::open(into)?.sync_all()?;
    let folder = into.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(folder)?.sync_all()?;
    let mut conn = Database::sqlite_at_rest(into).connect().await?;
    let complaints = integrity(&mut conn.db(), "integrity_check").await?;
    conn.close().await?;
    if complaints.is_empty() { Ok(()) } else { Err(BackupError::Broken { complaints }) }
}

/// What SQLite's own check (`integrity_check`, or `quick_check` which leaves indexes out) finds wrong; nothing of PostgreSQL,
/// which checks its pages as it reads them.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn integrity(db: &mut Db<'_>, check: &'static str) -> Result<Vec<String>, sqlx::Error> {
    if db.kind() == Kind::Postgres {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {check} AS said FROM pragma_{check} LIMIT {COMPLAINTS_MAX}");
    let rows = query(sql).fetch_all(db).await?;
    let said = rows.iter().map(|row| row.text("said")).collect::<Result<Vec<_>, _>>()?;
    let dangling = query("SELECT \"table\" AS said FROM pragma_foreign_key_check LIMIT 1").fetch_all(db).await?;
    let dangling = dangling.iter().map(|row| Ok(format!("a row of {} names one that is not there", row.text("said")?)));
    let dangling = dangling.collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(said.into_iter().filter(|said| said != "ok").chain(dangling).collect())
}

/// An open snapshot of PostgreSQL books, by the name under which `pg_dump --snapshot` finds it. It lives until it is closed.
pub struct PgSnapshot {
    conn: Conn,
    name: String,
}

impl PgSnapshot {
    /// # Errors
    /// [`sqlx::Error`].
    pub async fn open(database: &Database) -> Result<Self, sqlx::Error> {
        let mut conn = database.connect().await?;
        for sql in ["SET idle_in_transaction_session_timeout = 0", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"] {
            query(sql).execute(&mut conn.db()).await?;
        }
        let row = query("SELECT CAST(pg_export_snapshot() AS TEXT) AS name").fetch_one(&mut conn.db()).await?;
        Ok(Self { name: row.text("name")?, conn })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn db(&mut self) -> Db<'_> {
        self.conn.db()
    }

    /// # Errors
    /// [`sqlx::Error`].
    pub async fn close(mut self) -> Result<(), sqlx::Error> {
        query("ROLLBACK").execute(&mut self.conn.db()).await?;
        self.conn.close().await
    }
}
