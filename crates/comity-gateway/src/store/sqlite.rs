//! The spend store in one SQLite file: WAL, synchronous=FULL, STRICT tables, one writer. Never on a network file system.
//!
//! Batches of charges go straight to the file on their caller's thread ([`batch`]), everything else through sqlx.
//!
//! What a commit has appended to the log is copied into the file beside the writer, which no caller waits for
//! ([`checkpoint`]).
//!
//! The writer holds an OS lock on `<file>.lock` for as long as it lives, and its fence: the file counts starts, and every
//! transaction compares that count with its own (rule 11).

mod agreed;
mod batch;
mod checkpoint;
mod credited;
mod granted;
mod guarded;
mod kept;
mod passes;
mod planned;
mod read;
mod stops;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comity_wire::{Digest, GrantId, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _, SqlSafeStr as _};
use tokio::sync::{MappedMutexGuard, MutexGuard};

use self::read::{
    amount, digest, id, int, read_array, read_charge, read_charged, read_digest, read_key, read_lane, read_pace,
    read_slot, uint,
};
use super::{Answer, GRANTS_MAX, Store, StoreError, StoredCharge, withdrawn};
use crate::spend::{Account, LaneKey, Pace, Rule, SEQ_SPAN, Slot, Write};

/// How long a statement waits for a reader's or a backup's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS_MAX: u32 = 4;

/// Who writes the file: one at a time, behind one lock.
struct Writers {
    /// `None` after a batch that failed, until the next connects.
    batches: Option<rusqlite::Connection>,
    others: SqliteConnection,
}

impl Writers {
    /// The connection is out of its place until `work` has ended well: else it is dropped, and SQLite undoes what was begun.
    fn batch(
        &mut self,
        path: &Path,
        work: impl FnOnce(&rusqlite::Connection) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let connection = self.batches.take().map_or_else(|| batch::connect(path), Ok)?;
        work(&connection)?;
        self.batches = Some(connection);
        Ok(())
    }
}

/// The store of a node that sells.
pub struct Sqlite {
    writers: checkpoint::Place,
    path: PathBuf,
    /// How sqlx connects to write.
    writes: SqliteConnectOptions,
    readers: SqlitePool,
    fence: i64,
    checkpoints: checkpoint::Due,
    /// Locked until it is dropped.
    _lock: File,
}

impl Sqlite {
    /// Locks the file, brings its tables up to date and takes the next fence.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock_path = path.with_added_extension("lock");
        let locked = |source| StoreError::Locked { path: lock_path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(locked)?;
        lock.try_lock().map_err(|error| locked(std::io::Error::from(error)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("trusted_schema", "OFF");
        let writes = options.clone().pragma("wal_autocheckpoint", "0");
        let mut writer = SqliteConnection::connect_with(&writes).await?;
        Migrator::with_migrations(migrations()).run_direct(None, &mut writer, false).await?;
        let fence = sqlx::query_scalar("UPDATE spend_fence SET fence = fence + 1 RETURNING fence")
            .fetch_one(&mut writer)
            .await?;
        let beside = SqliteConnection::connect_with(&options).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS_MAX).connect_with(options.read_only(true)).await?;
        let writers = Writers { batches: Some(batch::connect(path)?), others: writer };
        let writers = Arc::new(tokio::sync::Mutex::new(writers));
        let checkpoints = checkpoint::start(beside, writers.clone());
        Ok(Self { writers, path: path.to_owned(), writes, readers, fence, checkpoints, _lock: lock })
    }

    /// The count of starts that this one is.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    #[cfg(test)]
    pub(crate) async fn temp_store(&self) -> i64 {
        let writers = self.writers.lock().await;
        writers.batches.as_ref().unwrap().query_row("PRAGMA temp_store", [], |row| row.get(0)).unwrap()
    }

    /// Puts one in its place that does not know the tables.
    #[cfg(test)]
    pub(crate) async fn break_others(&self) {
        self.writers.lock().await.others = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    }

    /// sqlx's connection that writes, for as long as nobody else does.
    async fn writer(&self) -> MappedMutexGuard<'_, SqliteConnection> {
        MutexGuard::map(self.writers.lock().await, |writers| &mut writers.others)
    }

    async fn write_all(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut writers = self.writers.lock().await;
        writers.batch(&self.path, |connection| batch::write(connection, writes, self.fence))?;
        drop(writers);
        self.checkpoints.written(writes.len());
        Ok(())
    }

    /// Where SQLite has undone a transaction by itself (no room, a disk that fails), sqlx still counts it and begins no
    /// other: the connection is dropped, not mended.
    async fn mend<T>(&self, writer: &mut SqliteConnection, written: &Result<T, StoreError>) {
        if let Err(StoreError::Database(_)) = written {
            match SqliteConnection::connect_with(&self.writes).await {
                Ok(fresh) => *writer = fresh,
                Err(error) => tracing::warn!(%error, "the spend store's file cannot be opened again"),
            }
        }
    }
}

/// Forward only, numbered, small.
fn migrations() -> Vec<Migration> {
    let spend = include_str!("../../migrations/0001_spend.sql").into_sql_str();
    let pace = include_str!("../../migrations/0002_pace.sql").into_sql_str();
    let trial = include_str!("../../migrations/0003_trial.sql").into_sql_str();
    let house = include_str!("../../migrations/0004_house.sql").into_sql_str();
    let guard = include_str!("../../migrations/0005_guard.sql").into_sql_str();
    let stops = include_str!("../../migrations/0006_stops.sql").into_sql_str();
    let withdrawn = include_str!("../../migrations/0007_withdrawn.sql").into_sql_str();
    let plans = include_str!("../../migrations/0008_plans.sql").into_sql_str();
    let credits = include_str!("../../migrations/0009_credits.sql").into_sql_str();
    let kept = include_str!("../../migrations/0010_kept.sql").into_sql_str();
    let grant_log = include_str!("../../migrations/0011_grant_log.sql").into_sql_str();
    let agreed = include_str!("../../migrations/0012_agreed.sql").into_sql_str();
    let pass = include_str!("../../migrations/0013_pass.sql").into_sql_str();
    let asked = include_str!("../../migrations/0014_asked.sql").into_sql_str();
    vec![
        Migration::new(1, "spend".into(), MigrationType::Simple, spend, false),
        Migration::new(2, "pace".into(), MigrationType::Simple, pace, false),
        Migration::new(3, "trial".into(), MigrationType::Simple, trial, false),
        Migration::new(4, "house".into(), MigrationType::Simple, house, false),
        Migration::new(5, "guard".into(), MigrationType::Simple, guard, false),
        Migration::new(6, "stops".into(), MigrationType::Simple, stops, false),
        Migration::new(7, "withdrawn".into(), MigrationType::Simple, withdrawn, false),
        Migration::new(8, "plans".into(), MigrationType::Simple, plans, false),
        Migration::new(9, "credits".into(), MigrationType::Simple, credits, false),
        Migration::new(10, "kept".into(), MigrationType::Simple, kept, false),
        Migration::new(11, "grant_log".into(), MigrationType::Simple, grant_log, false),
        Migration::new(12, "agreed".into(), MigrationType::Simple, agreed, false),
        Migration::new(13, "pass".into(), MigrationType::Simple, pass, false),
        Migration::new(14, "asked".into(), MigrationType::Simple, asked, false),
    ]
}

impl Store for Sqlite {
    fn account(&self, token: TokenId) -> Answer<'_, Option<Account>> {
        async move {
            // One read transaction: a batch that commits meanwhile is seen whole or not at all.
            let mut tx = self.readers.begin().await?;
            let row = sqlx::query("SELECT root, closed, final, claims, pending FROM token WHERE token = ?").bind(id(&token));
            let Some(row) = row.fetch_optional(&mut *tx).await? else { return Ok(None) };
            let mut account = Account::new(token, read_digest(&row, "root")?);
            account.closed = row.try_get::<i64, _>("closed")? == 1;
            account.final_ = row.try_get("final")?;
            account.claims = uint(&row, "claims")?;
            account.pending = row.try_get("pending")?;
            for row in sqlx::query("SELECT at FROM superseded WHERE token = ?").bind(id(&token)).fetch_all(&mut *tx).await? {
                account.superseded.insert(read_digest(&row, "at")?);
            }
            for row in sqlx::query("SELECT leaf, lane, seq, item, created FROM asked WHERE token = ?").bind(id(&token)).fetch_all(&mut *tx).await? {
                account.asked(read_key(&row)?, read_slot(&row)?, Timestamp(uint(&row, "created")?));
            }
            for row in sqlx::query("SELECT id, amount FROM spent WHERE token = ?").bind(id(&token)).fetch_all(&mut *tx).await? {
                account.spent.insert(read_digest(&row, "id")?, amount(&row, "amount")?);
            }
            for row in sqlx::query("SELECT * FROM lane WHERE token = ?").bind(id(&token)).fetch_all(&mut *tx).await? {
                let (key, mut lane) = read_lane(&row)?;
                let recent = sqlx::query(
                    "SELECT seq, item, n, authority, total, receipt_id FROM charge WHERE token = ? AND leaf = ? AND lane = ? AND seq > ? \
                     UNION SELECT seq, item, n, authority, total, receipt_id FROM charge WHERE token = ? AND leaf = ? AND lane = ? AND n = ?",
                );
                let recent = recent
                    .bind(id(&token))
                    .bind(digest(&key.leaf))
                    .bind(i64::from(key.lane))
                    .bind(int(lane.seq_highest.saturating_sub(SEQ_SPAN)))
                    .bind(id(&token))
                    .bind(digest(&key.leaf))
                    .bind(i64::from(key.lane))
                    .bind(int(lane.n));
                for row in recent.fetch_all(&mut *tx).await? {
                    lane.recent.insert(read_slot(&row)?, read_charged(&row)?);
                }
                account.lanes.insert(key, Arc::new(lane));
            }
            Ok(Some(account))
        }
        .boxed()
    }

    fn write<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, ()> {
        self.write_all(writes).boxed()
    }

    fn charge(&self, token: TokenId, key: LaneKey, slot: Slot) -> Answer<'_, Option<StoredCharge>> {
        async move {
            let query =
                sqlx::query("SELECT * FROM charge WHERE token = ? AND leaf = ? AND lane = ? AND seq = ? AND item = ?");
            let query = query.bind(id(&token)).bind(digest(&key.leaf)).bind(i64::from(key.lane));
            let row = query.bind(int(slot.seq)).bind(i64::from(slot.item)).fetch_optional(&self.readers).await?;
            row.map(|row| read_charge(&row)).transpose()
        }
        .boxed()
    }

    fn charge_by_n(&self, token: TokenId, key: LaneKey, n: u64) -> Answer<'_, Option<StoredCharge>> {
        async move {
            let query = sqlx::query("SELECT * FROM charge WHERE token = ? AND leaf = ? AND lane = ? AND n = ?");
            let query = query.bind(id(&token)).bind(digest(&key.leaf)).bind(i64::from(key.lane)).bind(int(n));
            query.fetch_optional(&self.readers).await?.map(|row| read_charge(&row)).transpose()
        }
        .boxed()
    }

    fn history(&self, token: TokenId, key: LaneKey, count: u64) -> Answer<'_, Vec<Digest>> {
        async move {
            let query = sqlx::query(
                "SELECT receipt_id FROM charge WHERE token = ? AND leaf = ? AND lane = ? AND n <= ? ORDER BY n",
            );
            let query = query.bind(id(&token)).bind(digest(&key.leaf)).bind(i64::from(key.lane)).bind(int(count));
            query.fetch_all(&self.readers).await?.iter().map(|row| read_digest(row, "receipt_id")).collect()
        }
        .boxed()
    }

    fn chain(&self, leaf: Digest) -> Answer<'_, Option<Vec<u8>>> {
        async move {
            let query = sqlx::query_scalar("SELECT bytes FROM chain WHERE leaf = ?").bind(digest(&leaf));
            Ok(query.fetch_optional(&self.readers).await?)
        }
        .boxed()
    }

    fn chains(&self, token: TokenId) -> Answer<'_, Vec<(Digest, Vec<u8>)>> {
        async move {
            let rows = sqlx::query("SELECT leaf, bytes FROM chain WHERE token = ?")
                .bind(id(&token))
                .fetch_all(&self.readers)
                .await?;
            rows.iter().map(|row| Ok((read_digest(row, "leaf")?, row.try_get("bytes")?))).collect()
        }
        .boxed()
    }

    fn acknowledgement(&self, token: TokenId, ack: Digest) -> Answer<'_, Option<Vec<u8>>> {
        async move {
            let query = sqlx::query_scalar("SELECT bytes FROM acknowledgement WHERE token = ? AND id = ?");
            Ok(query.bind(id(&token)).bind(digest(&ack)).fetch_optional(&self.readers).await?)
        }
        .boxed()
    }

    fn tokens_due(&self) -> Answer<'_, Vec<TokenId>> {
        async move {
            let rows = sqlx::query(
                "SELECT token FROM lane WHERE n > claimed_n OR acknowledged_n > claimed_acknowledged_n \
                 UNION SELECT token FROM token WHERE (closed = 1 AND delivered = 0) OR pending IS NOT NULL",
            );
            let rows = rows.fetch_all(&self.readers).await?;
            rows.iter().map(|row| Ok(TokenId(read_array(row, "token")?))).collect()
        }
        .boxed()
    }

    fn final_delivered(&self, token: TokenId) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query =
                sqlx::query("UPDATE token SET delivered = 1 WHERE token = ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(id(&token)).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn tokens(&self) -> Answer<'_, Vec<TokenId>> {
        async move {
            let rows = sqlx::query("SELECT token FROM token").fetch_all(&self.readers).await?;
            rows.iter().map(|row| Ok(TokenId(read_array(row, "token")?))).collect()
        }
        .boxed()
    }

    fn final_forgotten(&self, token: TokenId) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query =
                sqlx::query("UPDATE token SET delivered = 0 WHERE token = ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(id(&token)).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn house_restored(&self, house: OrgId) -> Answer<'_, Option<Timestamp>> {
        async move {
            let query =
                sqlx::query_scalar::<_, i64>("SELECT restored_at FROM house WHERE org = ?").bind(house.0.to_vec());
            Ok(query.fetch_optional(&self.readers).await?.map(|at| Timestamp(at.unsigned_abs())))
        }
        .boxed()
    }

    fn house_restored_put(&self, house: OrgId, at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "INSERT INTO house (org, restored_at) SELECT ?, ? FROM spend_fence WHERE fence = ? \
                 ON CONFLICT (org) DO UPDATE SET restored_at = excluded.restored_at",
            );
            query.bind(house.0.to_vec()).bind(int(at.seconds())).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn is_final_delivered(&self, token: TokenId) -> Answer<'_, bool> {
        async move {
            let query = sqlx::query_scalar::<_, i64>("SELECT delivered FROM token WHERE token = ?").bind(id(&token));
            Ok(query.fetch_optional(&self.readers).await? == Some(1))
        }
        .boxed()
    }

    fn paces<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(Rule, u32, Pace)>> {
        async move {
            let query =
                sqlx::query("SELECT policy, tier, op, seconds, begun, requests, tokens FROM pace WHERE subject = ?");
            query.bind(subject.to_owned()).fetch_all(&self.readers).await?.iter().map(read_pace).collect()
        }
        .boxed()
    }

    fn paces_forget(&self, now: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query =
                sqlx::query("DELETE FROM pace WHERE begun + seconds <= ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(int(now.seconds())).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn asked_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query("DELETE FROM asked WHERE created < ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(int(before.seconds())).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn grant_put(&self, grant: Digest, subject: String, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "INSERT INTO access_grant (id, subject, bytes, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            );
            query.bind(digest(&grant)).bind(subject).bind(bytes).bind(int(at.seconds())).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn grants(&self) -> Answer<'_, Vec<Vec<u8>>> {
        async move {
            let query = sqlx::query_scalar("SELECT bytes FROM access_grant ORDER BY at, id LIMIT ?");
            Ok(query.bind(i64::try_from(GRANTS_MAX).expect("a small number")).fetch_all(&self.readers).await?)
        }
        .boxed()
    }

    fn grant_withdraw(&self, grant: GrantId, at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query("INSERT INTO grant_withdrawn (id, at) VALUES (?, ?) ON CONFLICT DO NOTHING");
            query.bind(grant.0.to_vec()).bind(int(at.seconds())).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn grants_withdrawn(&self) -> Answer<'_, Vec<(GrantId, Timestamp)>> {
        async move {
            let query = sqlx::query_as("SELECT id, at FROM grant_withdrawn ORDER BY at DESC, id LIMIT ?");
            let rows: Vec<(Vec<u8>, i64)> =
                query.bind(i64::try_from(GRANTS_MAX).expect("a small number")).fetch_all(&self.readers).await?;
            rows.into_iter().map(withdrawn).collect()
        }
        .boxed()
    }

    fn try_out(&self) -> Answer<'_, ()> {
        async move {
            // By the connection that charges, which waits for the disk: not on a thread that others wait for.
            let (writers, path) = (Arc::clone(&self.writers), self.path.clone());
            let tried = tokio::task::spawn_blocking(move || writers.blocking_lock().batch(&path, batch::try_out));
            tried.await.map_err(|_| StoreError::Unwell)??;
            // What was wrong with the file may have been wrong with this one.
            let fresh = SqliteConnection::connect_with(&self.writes).await?;
            self.writers.lock().await.others = fresh;
            self.checkpoints.written(1);
            Ok(())
        }
        .boxed()
    }
}
