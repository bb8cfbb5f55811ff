//! The spend store in one SQLite file: WAL, synchronous=FULL, STRICT tables, one writer. Never on a network file system.
//!
//! What a commit has appended to the log is copied into the file beside the writer, which no caller waits for
//! ([`checkpoint`]).
//!
//! The writer holds an OS lock on `<file>.lock` for as long as it lives, and its fence: the file counts starts, and every
//! transaction compares that count with its own (rule 11).

mod agreed;
mod checkpoint;
mod credited;
mod granted;
mod guarded;
mod kept;
mod passes;
mod planned;
mod read;
mod rows;
mod stops;

use std::fs::File;
use std::path::Path;
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
use self::rows::{Call, Rows, STATEMENTS_MAX, once_spent};
use super::{Answer, GRANTS_MAX, Store, StoreError, StoredCharge, withdrawn};
use crate::spend::{Account, LaneKey, Pace, Rule, SEQ_SPAN, Slot, Write};

/// How long a statement waits for a reader's or a backup's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS_MAX: u32 = 4;
/// More than a batch of charges appends to the log.
const TRIAL_BYTES: i64 = 1 << 20;

/// The store of a node that sells.
pub struct Sqlite {
    writer: checkpoint::Place,
    /// How the writer connects.
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
            .statement_cache_capacity(STATEMENTS_MAX)
            .pragma("trusted_schema", "OFF");
        // A statement that writes many rows keeps the pages as they were before it, in case it fails: in memory, since SQLite
        // would make a file for each commit.
        let writes = options.clone().pragma("wal_autocheckpoint", "0").pragma("temp_store", "MEMORY");
        let mut writer = SqliteConnection::connect_with(&writes).await?;
        Migrator::with_migrations(migrations()).run_direct(None, &mut writer, false).await?;
        let fence = sqlx::query_scalar("UPDATE spend_fence SET fence = fence + 1 RETURNING fence")
            .fetch_one(&mut writer)
            .await?;
        let beside = SqliteConnection::connect_with(&options).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS_MAX).connect_with(options.read_only(true)).await?;
        let writer = Arc::new(tokio::sync::Mutex::new(Some(writer)));
        let checkpoints = checkpoint::start(beside, writer.clone());
        Ok(Self { writer, writes, readers, fence, checkpoints, _lock: lock })
    }

    /// The count of starts that this one is.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    #[cfg(test)]
    pub(crate) async fn temp_store(&self) -> i64 {
        let mut writer = self.writer().await.unwrap();
        sqlx::query_scalar("PRAGMA temp_store").fetch_one(&mut *writer).await.unwrap()
    }

    /// The connection that writes, for as long as nobody else does.
    async fn writer(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, StoreError> {
        let mut place = self.writer.lock().await;
        if place.is_none() {
            *place = Some(SqliteConnection::connect_with(&self.writes).await?);
        }
        Ok(MutexGuard::map(place, |writer| writer.as_mut().expect("it is there or was put there")))
    }

    /// sqlx does not know of a transaction that a [`Call`] begins. So its connection is out of its place until that has
    /// ended well: whatever else becomes of it (an error, a caller that is gone), it is dropped, and SQLite undoes what
    /// was begun.
    async fn write_all(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut place = self.writer.lock().await;
        let mut writer = match place.take() {
            Some(writer) => writer,
            None => SqliteConnection::connect_with(&self.writes).await?,
        };
        write_by(&mut writer, writes, self.fence).await?;
        *place = Some(writer);
        drop(place);
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

/// One transaction. Where it does not end well, the connection must not be used again.
async fn write_by(writer: &mut SqliteConnection, writes: &[Write], fence: i64) -> Result<(), StoreError> {
    let mut call = Call::begin(fence);
    let writes = once_spent(writes);
    for run in writes.chunk_by(|one, next| Rows::of(one).is_some() && Rows::of(next).is_some()) {
        for rows in Rows::ALL {
            let of_table: Vec<_> = run.iter().filter(|write| Rows::of(write) == Some(rows)).copied().collect();
            for part in of_table.chunks(rows.most()) {
                if !call.takes(rows) {
                    std::mem::take(&mut call).run(writer).await?;
                }
                call.add(rows, part);
            }
        }
        if let [single] = run
            && Rows::of(single).is_none()
        {
            std::mem::take(&mut call).run(writer).await?;
            write_in_tx(writer, single).await?;
        }
    }
    call.commit(writer).await
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

async fn write_in_tx(tx: &mut SqliteConnection, write: &Write) -> Result<(), StoreError> {
    let query = match write {
        Write::Token { token, root } => {
            sqlx::query("INSERT INTO token (token, root) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(id(token))
                .bind(digest(root))
        }
        Write::Chain { token, leaf, bytes } => {
            sqlx::query("INSERT INTO chain (leaf, token, bytes, subject) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(digest(leaf))
                .bind(id(token))
                .bind(bytes.to_vec())
                .bind(super::kept::subject_of(bytes))
        }
        Write::Acknowledgement { token, id: ack, bytes } => {
            sqlx::query("INSERT INTO acknowledgement (token, id, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(id(token))
                .bind(digest(ack))
                .bind(bytes.clone())
        }
        Write::Closed { token } => sqlx::query("UPDATE token SET closed = 1 WHERE token = ?").bind(id(token)),
        Write::Final { token, bytes } => {
            sqlx::query("UPDATE token SET final = ? WHERE token = ?").bind(bytes.clone()).bind(id(token))
        }
        Write::Superseded { token, at } => {
            sqlx::query("INSERT INTO superseded (token, at) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(id(token))
                .bind(digest(at))
        }
        Write::Asked { token, key, slot, created } => {
            let sql = "INSERT INTO asked (token, leaf, lane, seq, item, created) VALUES (?, ?, ?, ?, ?, ?) \
                       ON CONFLICT DO UPDATE SET created = MAX(created, excluded.created)";
            let query = sqlx::query(sql).bind(id(token)).bind(digest(&key.leaf)).bind(i64::from(key.lane));
            query.bind(int(slot.seq)).bind(i64::from(slot.item)).bind(int(created.seconds()))
        }
        Write::Claim { token, number, pending } => {
            sqlx::query("DELETE FROM acknowledgement WHERE token = ?1 AND id NOT IN (SELECT acknowledgement FROM lane WHERE token = ?1 AND acknowledgement IS NOT NULL)")
                .bind(id(token))
                .execute(&mut *tx)
                .await?;
            let query = sqlx::query("UPDATE token SET claims = ?, pending = ? WHERE token = ?");
            query.bind(int(*number)).bind(pending.clone()).bind(id(token))
        }
        Write::Spent { .. } | Write::Lane { .. } | Write::Charge { .. } | Write::Pace { .. } | Write::Run { .. } => {
            unreachable!("a call of rows writes {write:?}")
        }
    };
    query.execute(tx).await?;
    Ok(())
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
            let mut writer = self.writer().await?;
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
            let mut writer = self.writer().await?;
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
            let mut writer = self.writer().await?;
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
            let mut writer = self.writer().await?;
            let query =
                sqlx::query("DELETE FROM pace WHERE begun + seconds <= ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(int(now.seconds())).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn asked_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await?;
            let query = sqlx::query("DELETE FROM asked WHERE created < ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(int(before.seconds())).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn grant_put(&self, grant: Digest, subject: String, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await?;
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
            let mut writer = self.writer().await?;
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
            let mut writer = self.writer().await?;
            // Two commits: what is put in and taken out in one is never written.
            sqlx::query("INSERT OR REPLACE INTO trial (id, bytes) VALUES (1, zeroblob(?))")
                .bind(TRIAL_BYTES)
                .execute(&mut *writer)
                .await?;
            sqlx::query("DELETE FROM trial").execute(&mut *writer).await?;
            drop(writer);
            self.checkpoints.written(1);
            Ok(())
        }
        .boxed()
    }
}
