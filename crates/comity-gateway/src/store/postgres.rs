//! The spend store in PostgreSQL, shared by the gateways of one node (rule 11).
//!
//! A round locks the gateway's own row (which tells whether its fence still stands), then the rows of tokens and subjects in
//! order, reads what it does not know, lets the book decide, and writes set by set, in one transaction at READ COMMITTED.
//! The safety lies in the locks and the constraints; the lease decides only when somebody else may take away a fence.
//! What a commit came to whose answer was lost is read back from the gateway's own row, which counts rounds.
//!
//! `docs/operating/replicas.md` says what other engines with PostgreSQL's wire protocol need.

/// Seconds of the database's clock: the only one that all gateways have in common.
macro_rules! now {
    () => {
        "CAST(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) AS BIGINT)"
    };
}

mod agreed;
mod beat;
mod credited;
mod granted;
mod guarded;
mod kept;
mod passes;
mod planned;
mod read;
mod readers;
mod round;
mod rows;
mod stops;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comity_wire::{Digest, TokenId};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqlSafeStr as _};

use self::readers::Readers;

use super::{Answer, Beat, Needs, Rounds, StoreError};
use crate::spend::{Account, Book, HoldId, LaneKey, Slot};

/// How often bringing the tables up to date is tried: another gateway may do it at the same moment.
const MIGRATE_TRIES: u32 = 20;
/// Accounts that are remembered from round to round.
const ACCOUNTS_MAX: usize = 10_000;
/// A gateway that is not heard of for this long loses its fence. It says that it lives three times as often.
pub const LEASE_S: u32 = 10;

/// How long is waited for the database.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For a connection, a read, or a round with all its tries.
    pub answer: Duration,
    /// To learn what a commit came to whose answer was lost.
    pub doubt: Duration,
    pub lease_s: u32,
}

impl Default for Waits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(5), doubt: Duration::from_secs(20), lease_s: LEASE_S }
    }
}

/// The store of a gateway that is not alone.
pub struct Postgres {
    options: PgConnectOptions,
    waits: Waits,
    /// The connection of rounds. Dropped, not mended, when something is odd: its locks then go with it.
    writer: tokio::sync::Mutex<Option<PgConnection>>,
    readers: Readers,
    fence: AtomicI64,
    /// The number of the next hold.
    next: AtomicU64,
    known: Mutex<Known>,
}

/// What was read in earlier rounds and is right as long as its version is.
#[derive(Default)]
struct Known {
    accounts: HashMap<TokenId, KnownAccount>,
    clock: u64,
}

struct KnownAccount {
    version: i64,
    account: Account,
    used_at: u64,
}

impl Postgres {
    /// Connects, brings the tables up to date and takes the next fence. `url` is a secret and stands in no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, Waits::default()).await
    }

    /// # Errors
    /// [`StoreError`].
    pub async fn open_with(url: &str, waits: Waits) -> Result<Self, StoreError> {
        let unreadable = |_| StoreError::Refused { why: "its address is not postgres://USER@HOST/DATABASE".into() };
        let options: PgConnectOptions = url.parse().map_err(unreadable)?;
        let options = options.application_name("comity-gateway").disable_statement_logging();
        let store = Self {
            options,
            waits,
            writer: tokio::sync::Mutex::new(None),
            readers: Readers::default(),
            fence: AtomicI64::new(0),
            next: AtomicU64::new(0),
            known: Mutex::default(),
        };
        store.migrate().await?;
        store.join().await?;
        Ok(store)
    }

    /// The start that this one is.
    pub fn fence(&self) -> i64 {
        self.fence.load(Ordering::SeqCst)
    }

    /// Without the advisory lock that other engines lack: who comes second at the same moment fails and looks again.
    async fn migrate(&self) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let mut connection = self.within(self.connect()).await?;
            let mut migrator = Migrator::with_migrations(migrations());
            migrator.set_locking(false);
            match migrator.run_direct(None, &mut connection, false).await {
                Ok(()) => return Ok(()),
                Err(error) if tries == MIGRATE_TRIES => return Err(error.into()),
                Err(_) => tokio::time::sleep(round::pause(tries)).await,
            }
            tries += 1;
        }
    }

    async fn join(&self) -> Result<(), StoreError> {
        let lease_s = i64::from(self.waits.lease_s);
        let joining = self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                let fence: i64 = sqlx::query_scalar("UPDATE spend_fence SET fence = fence + 1 RETURNING fence")
                    .fetch_one(&mut *tx)
                    .await?;
                let sql = concat!("INSERT INTO replica (fence, round, expires_at) VALUES ($1, 0, ", now!(), " + $2)");
                sqlx::query(sql).bind(fence).bind(lease_s).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(fence)
            }
            .boxed()
        });
        let fence: i64 = joining.await?;
        self.fence.store(fence, Ordering::SeqCst);
        let first = HoldId::first_of(u64::try_from(fence).map_err(|_| StoreError::Unreadable { what: "fence" })?);
        self.next.store(first.number(), Ordering::SeqCst);
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, StoreError> {
        let mut connection = self.options.connect().await?;
        set_up(&mut connection, self.waits).await?;
        Ok(connection)
    }

    /// Asks on a connection beside that of rounds; one that did not answer well is not asked again.
    fn ask<'a, T: Send + 'a>(
        &'a self,
        ask: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'a,
    ) -> Answer<'a, T> {
        let asking = async move {
            let mut reader = self.readers.take(self).await?;
            let answer = ask(reader.connection()).await?;
            reader.keep();
            Ok(answer)
        };
        self.within(asking).boxed()
    }

    /// A network that loses bytes tells nobody.
    async fn within<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        tokio::time::timeout(self.waits.answer, asked).await.unwrap_or(Err(StoreError::Timeout))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keep(&mut self, token: TokenId, version: i64, account: Account) {
        self.clock += 1;
        self.accounts.insert(token, KnownAccount { version, account, used_at: self.clock });
        if self.accounts.len() > ACCOUNTS_MAX {
            // Rarely, and then many at once.
            let floor = self.clock.saturating_sub(ACCOUNTS_MAX as u64 / 2);
            self.accounts.retain(|_, known| known.used_at > floor);
        }
    }
}

/// A statement that waits for ever would keep its locks for ever; one whose gateway has gone is ended by the server.
async fn set_up(connection: &mut PgConnection, waits: Waits) -> Result<(), sqlx::Error> {
    let ms = waits.answer.as_millis();
    let sql = format!(
        "SET statement_timeout = {ms}; SET lock_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}"
    );
    connection.execute(sqlx::AssertSqlSafe(sql)).await?;
    Ok(())
}

/// Forward only, numbered, small.
fn migrations() -> Vec<Migration> {
    let spend = include_str!("../../migrations/postgres/0001_spend.sql").into_sql_str();
    let pace = include_str!("../../migrations/postgres/0002_pace.sql").into_sql_str();
    let house = include_str!("../../migrations/postgres/0003_house.sql").into_sql_str();
    let guard = include_str!("../../migrations/postgres/0004_guard.sql").into_sql_str();
    let stops = include_str!("../../migrations/postgres/0005_stops.sql").into_sql_str();
    let withdrawn = include_str!("../../migrations/postgres/0006_withdrawn.sql").into_sql_str();
    let plans = include_str!("../../migrations/postgres/0007_plans.sql").into_sql_str();
    let credits = include_str!("../../migrations/postgres/0008_credits.sql").into_sql_str();
    let kept = include_str!("../../migrations/postgres/0009_kept.sql").into_sql_str();
    let grant_log = include_str!("../../migrations/postgres/0010_grant_log.sql").into_sql_str();
    let agreed = include_str!("../../migrations/postgres/0011_agreed.sql").into_sql_str();
    let pass = include_str!("../../migrations/postgres/0012_pass.sql").into_sql_str();
    let asked = include_str!("../../migrations/postgres/0013_asked.sql").into_sql_str();
    vec![
        Migration::new(1, "spend".into(), MigrationType::Simple, spend, false),
        Migration::new(2, "pace".into(), MigrationType::Simple, pace, false),
        Migration::new(3, "house".into(), MigrationType::Simple, house, false),
        Migration::new(4, "guard".into(), MigrationType::Simple, guard, false),
        Migration::new(5, "stops".into(), MigrationType::Simple, stops, false),
        Migration::new(6, "withdrawn".into(), MigrationType::Simple, withdrawn, false),
        Migration::new(7, "plans".into(), MigrationType::Simple, plans, false),
        Migration::new(8, "credits".into(), MigrationType::Simple, credits, false),
        Migration::new(9, "kept".into(), MigrationType::Simple, kept, false),
        Migration::new(10, "grant_log".into(), MigrationType::Simple, grant_log, false),
        Migration::new(11, "agreed".into(), MigrationType::Simple, agreed, false),
        Migration::new(12, "pass".into(), MigrationType::Simple, pass, false),
        Migration::new(13, "asked".into(), MigrationType::Simple, asked, false),
    ]
}

impl Rounds for Postgres {
    fn round<'a>(
        &'a self,
        needs: &'a Needs,
        decide: &'a mut (dyn FnMut(&mut Book) -> super::Decided + Send),
    ) -> Answer<'a, ()> {
        self.run(needs, decide).boxed()
    }

    fn rejoin(&self) -> Answer<'_, ()> {
        self.join().boxed()
    }

    fn beat(&self) -> Answer<'_, Beat> {
        self.beat_once().boxed()
    }

    fn leave(&self) -> Answer<'_, ()> {
        self.leave_now()
    }

    fn news(&self) -> Answer<'_, u64> {
        self.ask(move |connection| {
            async move {
                let news: i64 = sqlx::query_scalar("SELECT news FROM spend_fence").fetch_one(connection).await?;
                u64::try_from(news).map_err(|_| StoreError::Unreadable { what: "news" })
            }
            .boxed()
        })
    }

    fn is_open(&self, token: TokenId, key: LaneKey, slot: Slot) -> Answer<'_, bool> {
        self.ask(move |connection| async move {
            let sql = "SELECT 1::BIGINT FROM hold WHERE token = $1 AND leaf = $2 AND lane = $3 AND seq = $4 AND item = $5";
            let query = sqlx::query_scalar::<_, i64>(sql).bind(token.0.to_vec()).bind(key.leaf.0.to_vec());
            let query = query.bind(i64::from(key.lane)).bind(rows::int(slot.seq)).bind(i64::from(slot.item));
            Ok(query.fetch_optional(connection).await?.is_some())
        }.boxed())
    }

    fn claim_begin(&self, token: TokenId) -> Answer<'_, bool> {
        let fence = self.fence();
        self.ask(move |connection| {
            async move {
                let sql = "INSERT INTO claiming (token, fence) VALUES ($1, $2) \
                       ON CONFLICT (token) DO UPDATE SET fence = excluded.fence WHERE claiming.fence = excluded.fence";
                let query = sqlx::query(sql).bind(token.0.to_vec()).bind(fence);
                Ok(query.execute(connection).await?.rows_affected() == 1)
            }
            .boxed()
        })
    }

    fn claim_end(&self, token: TokenId) -> Answer<'_, ()> {
        let fence = self.fence();
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("DELETE FROM claiming WHERE token = $1 AND fence = $2");
                query.bind(token.0.to_vec()).bind(fence).execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn tell(&self) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }
}

fn id(token: &TokenId) -> Vec<u8> {
    token.0.to_vec()
}

fn digest(digest: &Digest) -> Vec<u8> {
    digest.0.to_vec()
}
