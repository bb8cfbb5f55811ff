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
mod stops;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comity_wire::cbor::{Decode, Encode, Limits};
use comity_wire::merkle::Frontier;
use comity_wire::object::Tier;
use comity_wire::{Amount, Digest, GrantId, Op, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;
use sqlx::error::ErrorKind;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqlSafeStr as _, Sqlite as Db};
use tokio::sync::{MappedMutexGuard, MutexGuard};

use super::{Answer, GRANTS_MAX, Store, StoreError, StoredCharge, withdrawn};
use crate::spend::{Account, Charged, Evidence, Lane, LaneKey, Pace, Recent, Rule, SEQ_SPAN, Slot, Write};

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

/// Tables that charges write to, in the order in which they refer to one another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rows {
    Spent,
    Lane,
    Charge,
    Pace,
    Run,
}

impl Rows {
    const ALL: [Self; 5] = [Self::Spent, Self::Lane, Self::Charge, Self::Pace, Self::Run];

    fn of(write: &Write) -> Option<Self> {
        match write {
            Write::Spent { .. } => Some(Self::Spent),
            Write::Lane { .. } => Some(Self::Lane),
            Write::Charge { .. } => Some(Self::Charge),
            Write::Pace { .. } => Some(Self::Pace),
            Write::Run { .. } => Some(Self::Run),
            _ => None,
        }
    }

    /// Rows of one statement. Each number of rows is a text of its own, which stays prepared.
    const fn most(self) -> usize {
        match self {
            Self::Spent | Self::Pace | Self::Run => 4,
            Self::Lane | Self::Charge => 16,
        }
    }

    /// Before the rows, one row, after the rows.
    const fn sql(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Spent => (
                "INSERT INTO spent (token, id, amount) VALUES ",
                "(?, ?, ?)",
                " ON CONFLICT DO UPDATE SET amount = excluded.amount; ",
            ),
            Self::Lane => (
                "INSERT INTO lane (token, leaf, lane, n, seq_highest, total, remainder, meters, flags, frontier, acknowledged_n, \
                 acknowledged, acknowledgement, claimed_n, claimed_acknowledged_n) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                " ON CONFLICT DO UPDATE SET n = excluded.n, seq_highest = excluded.seq_highest, total = excluded.total, \
                 remainder = excluded.remainder, meters = excluded.meters, flags = excluded.flags, frontier = excluded.frontier, \
                 acknowledged_n = excluded.acknowledged_n, acknowledged = excluded.acknowledged, \
                 acknowledgement = excluded.acknowledgement, claimed_n = excluded.claimed_n, \
                 claimed_acknowledged_n = excluded.claimed_acknowledged_n; ",
            ),
            Self::Charge => (
                "INSERT INTO charge (token, leaf, lane, seq, item, n, authority, charge, total, receipt_id, receipt, evidence, \
                 signature) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "; ",
            ),
            Self::Pace => (
                "INSERT INTO pace (subject, policy, tier, op, seconds, begun, requests, tokens) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?)",
                " ON CONFLICT DO UPDATE SET begun = excluded.begun, requests = excluded.requests, tokens = excluded.tokens; ",
            ),
            Self::Run => planned::RUN_SQL,
        }
    }
}

/// The prepared texts that are kept: as many as there are numbers of rows in one call.
const STATEMENTS_MAX: usize = 128;

/// Statements that go to the connection's thread together: to wake it, and be woken by it, costs more than they do. A batch of
/// charges of lanes that are known is one of them, from `BEGIN` to `COMMIT`: a statement that fails ends the call, so nothing
/// after it is run.
#[derive(Default)]
struct Call<'w> {
    sql: String,
    fence: Option<i64>,
    last: Option<Rows>,
    rows: Vec<&'w Write>,
}

impl<'w> Call<'w> {
    /// Begins a transaction, and compares the fence: one that has moved on makes the column null, which the table refuses.
    fn begin(fence: i64) -> Self {
        let sql =
            "BEGIN IMMEDIATE; UPDATE spend_fence SET commits = commits + 1, fence = CASE fence WHEN ? THEN fence END; ";
        Self { sql: sql.to_owned(), fence: Some(fence), ..Self::default() }
    }

    /// A table comes once, and none before one that it refers to.
    fn takes(&self, rows: Rows) -> bool {
        self.last.is_none_or(|last| last < rows)
    }

    fn add(&mut self, rows: Rows, writes: &[&'w Write]) {
        let (before, row, after) = rows.sql();
        self.sql.push_str(before);
        for number in 0..writes.len() {
            self.sql.push_str(if number > 0 { ", " } else { "" });
            self.sql.push_str(row);
        }
        self.sql.push_str(after);
        self.rows.extend_from_slice(writes);
        self.last = Some(rows);
    }

    /// What there is, and the transaction's end.
    async fn commit(mut self, writer: &mut SqliteConnection) -> Result<(), StoreError> {
        self.sql.push_str("COMMIT");
        self.run(writer).await
    }

    async fn run(self, writer: &mut SqliteConnection) -> Result<(), StoreError> {
        if self.sql.is_empty() {
            return Ok(());
        }
        // Nothing in the text is anybody's: it is put together from the constants above.
        let query = sqlx::query(AssertSqlSafe(self.sql));
        let query = self.fence.into_iter().fold(query, sqlx::query::Query::bind);
        let query = self.rows.into_iter().fold(query, bind);
        let written = query.execute(writer).await;
        written.map_err(|error| if is_fence(&error) { StoreError::Fenced } else { error.into() })?;
        Ok(())
    }
}

fn is_fence(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| {
        error.kind() == ErrorKind::NotNullViolation && error.message().contains("spend_fence.fence")
    })
}

/// The writes with each `spent` row written once, in its first place and with its last amount: sixteen lanes of one token
/// all count in one row.
fn once_spent(writes: &[Write]) -> Vec<&Write> {
    let mut last = BTreeMap::new();
    for write in writes {
        if let Write::Spent { token, id, .. } = write {
            last.insert((*token, *id), write);
        }
    }
    let once = writes.iter().filter_map(|write| match write {
        Write::Spent { token, id, .. } => last.remove(&(*token, *id)),
        other => Some(other),
    });
    once.collect()
}

type Query = sqlx::query::Query<'static, Db, SqliteArguments>;

/// Binds a row, in the order of its statement's columns.
fn bind(query: Query, write: &Write) -> Query {
    match write {
        Write::Spent { token, id: at, amount, .. } => query.bind(id(token)).bind(digest(at)).bind(amount.ucr()),
        Write::Lane { token, key, lane } => query
            .bind(id(token))
            .bind(digest(&key.leaf))
            .bind(i64::from(key.lane))
            .bind(int(lane.n))
            .bind(int(lane.seq_highest))
            .bind(lane.total.ucr())
            .bind(i64::from(lane.remainder))
            .bind(lane.meters.to_cbor())
            .bind(lane.flags.to_cbor())
            .bind(lane.frontier.roots().iter().flat_map(|root| root.0).collect::<Vec<u8>>())
            .bind(int(lane.acknowledged_n))
            .bind(lane.acknowledged.ucr())
            .bind(lane.acknowledgement.as_ref().map(digest))
            .bind(int(lane.claimed_n))
            .bind(int(lane.claimed_acknowledged_n)),
        Write::Charge { token, key, slot, charged, charge, receipt, evidence } => query
            .bind(id(token))
            .bind(digest(&key.leaf))
            .bind(i64::from(key.lane))
            .bind(int(slot.seq))
            .bind(i64::from(slot.item))
            .bind(int(charged.n))
            .bind(digest(&charged.authority))
            .bind(charge.ucr())
            .bind(charged.total.ucr())
            .bind(digest(&charged.receipt))
            .bind(receipt.clone())
            .bind(evidence.base.clone())
            .bind(evidence.signature.to_vec()),
        Write::Pace { key, pace } => query
            .bind(key.subject.clone())
            .bind(key.rule.policy.clone())
            .bind(i64::from(key.rule.tier.number()))
            .bind(key.rule.op.map_or(0, |op| i64::from(op.number())))
            .bind(i64::from(key.seconds))
            .bind(int(pace.begun.seconds()))
            .bind(i64::from(pace.requests))
            .bind(i64::try_from(pace.tokens).unwrap_or(i64::MAX)),
        Write::Run { key, row } => planned::run_bind(query, key, row),
        other => unreachable!("{other:?} is not one of a call's rows"),
    }
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

fn id(token: &TokenId) -> Vec<u8> {
    token.0.to_vec()
}

fn digest(digest: &Digest) -> Vec<u8> {
    digest.0.to_vec()
}

fn int(value: u64) -> i64 {
    i64::try_from(value).expect("wire numbers stay below 2^63")
}

fn uint(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

fn amount(row: &SqliteRow, column: &'static str) -> Result<Amount, StoreError> {
    Amount::new(row.try_get(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

fn read_array<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StoreError> {
    row.try_get::<Vec<u8>, _>(column)?.try_into().map_err(|_| StoreError::Unreadable { what: column })
}

fn read_digest(row: &SqliteRow, column: &'static str) -> Result<Digest, StoreError> {
    read_array(row, column).map(Digest)
}

fn small<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    T::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

/// A map of the wire; an empty one, which the wire leaves out, stands here as `a0`.
fn map<T: Decode + Default>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    if bytes == [0xa0] {
        return Ok(T::default());
    }
    let limits = Limits { bytes_max: 4096, items_max: 256, tagged: false };
    T::from_cbor(&bytes, limits).map_err(|_| StoreError::Unreadable { what: column })
}

fn read_lane(row: &SqliteRow) -> Result<(LaneKey, Lane), StoreError> {
    let key = LaneKey { leaf: read_digest(row, "leaf")?, lane: small(row, "lane")? };
    let n = uint(row, "n")?;
    let roots = row.try_get::<Vec<u8>, _>("frontier")?;
    let roots = roots.chunks_exact(32).map(|root| Digest(root.try_into().expect("chunks of 32"))).collect();
    let acknowledgement: Option<Vec<u8>> = row.try_get("acknowledgement")?;
    let acknowledgement = acknowledgement.map(|id| id.try_into().map(Digest)).transpose();
    let lane = Lane {
        n,
        seq_highest: uint(row, "seq_highest")?,
        total: amount(row, "total")?,
        remainder: small(row, "remainder")?,
        meters: map(row, "meters")?,
        flags: map(row, "flags")?,
        frontier: Frontier::from_parts(n, roots).ok_or(StoreError::Unreadable { what: "frontier" })?,
        acknowledged_n: uint(row, "acknowledged_n")?,
        acknowledged: amount(row, "acknowledged")?,
        acknowledgement: acknowledgement.map_err(|_| StoreError::Unreadable { what: "acknowledgement" })?,
        claimed_n: uint(row, "claimed_n")?,
        claimed_acknowledged_n: uint(row, "claimed_acknowledged_n")?,
        recent: Recent::default(),
    };
    Ok((key, lane))
}

fn read_pace(row: &SqliteRow) -> Result<(Rule, u32, Pace), StoreError> {
    let unreadable = |what| StoreError::Unreadable { what };
    let op = match uint(row, "op")? {
        0 => None,
        number => Some(Op::from_number(number).ok_or_else(|| unreadable("op"))?),
    };
    let tier = Tier::from_number(uint(row, "tier")?).ok_or_else(|| unreadable("tier"))?;
    let rule = Rule { policy: row.try_get("policy")?, tier, op };
    let begun = Timestamp(uint(row, "begun")?);
    Ok((rule, small(row, "seconds")?, Pace { begun, requests: small(row, "requests")?, tokens: uint(row, "tokens")? }))
}

fn read_slot(row: &SqliteRow) -> Result<Slot, StoreError> {
    Ok(Slot { seq: uint(row, "seq")?, item: small(row, "item")? })
}

fn read_charged(row: &SqliteRow) -> Result<Charged, StoreError> {
    Ok(Charged {
        authority: read_digest(row, "authority")?,
        n: uint(row, "n")?,
        total: amount(row, "total")?,
        receipt: read_digest(row, "receipt_id")?,
    })
}

fn read_charge(row: &SqliteRow) -> Result<StoredCharge, StoreError> {
    Ok(StoredCharge {
        slot: read_slot(row)?,
        charged: read_charged(row)?,
        receipt: row.try_get("receipt")?,
        evidence: Evidence { base: row.try_get("evidence")?, signature: read_array(row, "signature")? },
    })
}
