//! Cases in one SQLite file of the node's home: events as they were hashed, and what was seen, sealed, with its end.
//!
//! The statements are such that PostgreSQL takes them too. Nothing here decides: a [`Case`] does, and an event that somebody else
//! wrote first is [`StoreError::Raced`], after which the case is read again.

use std::path::Path;
use std::time::Duration;

use comity_wire::Timestamp;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row as _, SqlSafeStr as _};

use super::act::State;
use super::event::Event;
use super::id::CaseId;
use super::machine::Case;
use crate::event::{Broken, Recorded};

/// Cases that are listed.
pub const LIST_MAX: u32 = 1_000;
/// Bytes of a sealed excerpt.
pub const EXCERPT_BYTES_MAX: usize = 16 << 10;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: u32 = 2;

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("cannot reach the cases")]
    Database(#[from] sqlx::Error),
    #[error("cannot bring the cases up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("{case} was changed meanwhile; read it again")]
    Raced { case: CaseId },
    #[error("{case} is not one that this program wrote")]
    Broken {
        case: CaseId,
        #[source]
        broken: Broken,
    },
    #[error("the cases hold what they cannot hold: {what}")]
    Unreadable { what: &'static str },
}

/// What was seen, sealed by whoever has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    pub sealed: Vec<u8>,
    /// Deleted after this.
    pub until: Timestamp,
}

/// The cases of a node.
pub struct Cases {
    pool: SqlitePool,
}

/// What a list is asked for.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Of one project.
    pub subject: Option<String>,
    /// Those that have not ended.
    pub undecided: bool,
}

impl Cases {
    /// Opens the file and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            // What is deleted is not to be found in the file.
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF");
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).connect_with(options).await?;
        let mut connection = pool.acquire().await?;
        let sql = include_str!("../../migrations/cases/0001_cases.sql").into_sql_str();
        let migrations = vec![Migration::new(1, "cases".into(), MigrationType::Simple, sql, false)];
        Migrator::with_migrations(migrations).run_direct(None, &mut *connection, false).await?;
        drop(connection);
        Ok(Self { pool })
    }

    /// Writes down a case that was opened, with what was seen.
    ///
    /// # Errors
    /// [`StoreError::Raced`] where there is one of that id.
    pub async fn case_open(&self, case: &Case, excerpt: Option<&Excerpt>) -> Result<(), StoreError> {
        let id = case.id();
        let [first] = case.events() else { return Err(StoreError::Unreadable { what: "a case that is not new" }) };
        let mut tx = self.pool.begin().await?;
        let sql = "INSERT INTO access_case (id, subject, category, model, state, due_at) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT DO NOTHING";
        let seen = case.seen().first().ok_or(StoreError::Unreadable { what: "a case without what was seen" })?;
        let query = sqlx::query(sql).bind(id.0.to_vec()).bind(case.subject()).bind(&seen.category);
        let query = query.bind(seen.model.to_string()).bind(case.state().as_str()).bind(due(case));
        if query.execute(&mut *tx).await?.rows_affected() != 1 {
            return Err(StoreError::Raced { case: id });
        }
        event_put(&mut tx, id, first).await?;
        if let Some(excerpt) = excerpt {
            let sql = "INSERT INTO case_excerpt (id, sealed, until) VALUES ($1, $2, $3)";
            let query = sqlx::query(sql).bind(id.0.to_vec()).bind(&excerpt.sealed);
            query.bind(int(excerpt.until.seconds())).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Writes down the newest event of a case.
    ///
    /// # Errors
    /// [`StoreError::Raced`] where another one was first.
    pub async fn case_append(&self, case: &Case) -> Result<(), StoreError> {
        let id = case.id();
        let newest = case.events().last().ok_or(StoreError::Unreadable { what: "a case without events" })?;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        event_put(&mut tx, id, newest).await?;
        let sql = "UPDATE access_case SET state = $1, due_at = $2 WHERE id = $3";
        sqlx::query(sql).bind(case.state().as_str()).bind(due(case)).bind(id.0.to_vec()).execute(&mut *tx).await?;
        if case.excerpt().is_none() {
            sqlx::query("DELETE FROM case_excerpt WHERE id = $1").bind(id.0.to_vec()).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// One case, read and checked.
    ///
    /// # Errors
    /// [`StoreError::Broken`] where its log was changed.
    pub async fn case(&self, id: CaseId) -> Result<Option<Case>, StoreError> {
        let sql = "SELECT bytes FROM case_event WHERE id = $1 ORDER BY n";
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(id.0.to_vec()).fetch_all(&self.pool).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let case = Case::read(rows.iter().map(Vec::as_slice));
        let case = case.map_err(|broken| StoreError::Broken { case: id, broken })?;
        // A log under another case's id is whole in itself.
        if case.id() != id {
            return Err(StoreError::Broken { case: id, broken: Broken::Application { n: 1 } });
        }
        Ok(Some(case))
    }

    /// The newest cases first, at most [`LIST_MAX`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cases(&self, which: &Which) -> Result<Vec<Case>, StoreError> {
        let sql = "SELECT c.id FROM access_case c JOIN case_event e ON e.id = c.id AND e.n = 1 \
                   WHERE (CAST($1 AS TEXT) IS NULL OR c.subject = $1) AND ($2 = 0 OR c.due_at IS NOT NULL) \
                   ORDER BY e.at DESC, c.id LIMIT $3";
        let query = sqlx::query_scalar(sql).bind(which.subject.clone()).bind(i64::from(which.undecided));
        let ids: Vec<Vec<u8>> = query.bind(i64::from(LIST_MAX)).fetch_all(&self.pool).await?;
        let mut cases = Vec::with_capacity(ids.len());
        for id in ids {
            cases.extend(self.case(case_id(id)?).await?);
        }
        Ok(cases)
    }

    /// The case to which more of the same is added: of this project, category and model, and not decided.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn case_undecided(&self, subject: &str, category: &str, model: &str) -> Result<Option<Case>, StoreError> {
        let sql = "SELECT id FROM access_case WHERE subject = $1 AND category = $2 AND model = $3 AND state IN ($4, $5) \
                   ORDER BY id LIMIT 1";
        let query = sqlx::query_scalar(sql).bind(subject.to_owned()).bind(category.to_owned()).bind(model.to_owned());
        let query = query.bind(State::Open.as_str()).bind(State::ToDecide.as_str());
        let id: Option<Vec<u8>> = query.fetch_optional(&self.pool).await?;
        match id {
            Some(id) => self.case(case_id(id)?).await,
            None => Ok(None),
        }
    }

    /// Cases whose clock has run out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cases_due(&self, now: Timestamp) -> Result<Vec<CaseId>, StoreError> {
        let sql = "SELECT id FROM access_case WHERE due_at <= $1 ORDER BY due_at LIMIT $2";
        let query = sqlx::query_scalar(sql).bind(int(now.seconds())).bind(i64::from(LIST_MAX));
        let ids: Vec<Vec<u8>> = query.fetch_all(&self.pool).await?;
        ids.into_iter().map(case_id).collect()
    }

    /// Cases whose excerpt has to go.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn excerpts_due(&self, now: Timestamp) -> Result<Vec<CaseId>, StoreError> {
        let sql = "SELECT id FROM case_excerpt WHERE until <= $1 ORDER BY until LIMIT $2";
        let query = sqlx::query_scalar(sql).bind(int(now.seconds())).bind(i64::from(LIST_MAX));
        let ids: Vec<Vec<u8>> = query.fetch_all(&self.pool).await?;
        ids.into_iter().map(case_id).collect()
    }

    /// What was seen, as it was sealed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn excerpt(&self, id: CaseId) -> Result<Option<Excerpt>, StoreError> {
        let sql = "SELECT sealed, until FROM case_excerpt WHERE id = $1";
        let row = sqlx::query(sql).bind(id.0.to_vec()).fetch_optional(&self.pool).await?;
        row.map(|row| {
            let until = Timestamp(u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0));
            Ok(Excerpt { sealed: row.try_get(0)?, until })
        })
        .transpose()
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn event_put(tx: &mut sqlx::SqliteConnection, id: CaseId, recorded: &Recorded<Event>) -> Result<(), StoreError> {
    let event = recorded.event();
    // The number after the newest, and no other: who was first wins.
    let sql = "INSERT INTO case_event (id, n, at, bytes) SELECT $1, $2, $3, $4 \
               WHERE (SELECT COALESCE(MAX(n), 0) FROM case_event WHERE id = $1) = $2 - 1";
    let query = sqlx::query(sql).bind(id.0.to_vec()).bind(int(event.n)).bind(int(event.at.seconds()));
    let written = query.bind(recorded.bytes()).execute(tx).await?.rows_affected();
    if written == 1 { Ok(()) } else { Err(StoreError::Raced { case: id }) }
}

fn due(case: &Case) -> Option<i64> {
    case.due().map(|due| int(due.at.seconds()))
}

fn case_id(bytes: Vec<u8>) -> Result<CaseId, StoreError> {
    bytes.try_into().map(CaseId).map_err(|_| StoreError::Unreadable { what: "id" })
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
