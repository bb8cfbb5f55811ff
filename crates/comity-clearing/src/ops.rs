//! What an operator does to the books without the house: looks at them, holds them against each other, marks that they came
//! back from a backup. The house may be running beside it, or not.

use comity_ledger::db::MigrationState;
use comity_ledger::{Database, Reader, books};
pub use comity_wire::api::clearing::Restored;
use comity_wire::{Amount, Digest, OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::audit::{self, AuditReport};
use crate::failure::Failure;
use crate::reports::TrialRow;
use crate::settlement::Calendar;
use crate::store;

/// How far books have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The highest migration that was applied.
    pub schema: i64,
    pub transfers: u64,
    /// Entries of the log, and acts that wait to be.
    pub sealed: u64,
    pub waiting: u64,
    /// The newest checkpoint that was signed.
    pub log: Option<LogFacts>,
    pub signed_at: Option<Timestamp>,
    pub restored: Option<Restored>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFacts {
    pub epoch: u64,
    pub size: u64,
    pub root: Digest,
}

/// What the engine promises of a COMMIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub faults: Vec<String>,
    /// PostgreSQL's own clock.
    pub now: Option<Timestamp>,
}

/// A look at books that takes no time, however large they are.
#[derive(Clone, Debug)]
pub struct Glance {
    pub facts: Facts,
    pub server: Server,
    /// Credits less debits over all accounts, as kept with them: zero.
    pub sum_ucr: i64,
    /// When the house said last that it takes claims.
    pub beat_at: Option<Timestamp>,
    /// When the newest revocation list was signed.
    pub standing_at: Option<Timestamp>,
}

/// Each migration, as these books have it.
///
/// # Errors
/// [`Failure`].
pub async fn migrations(database: &Database) -> Result<Vec<MigrationState>, Failure> {
    Ok(books::migration_states(database, store::migrations()).await?)
}

/// Brings the tables up to date, as a house does when it starts.
///
/// # Errors
/// [`Failure`].
pub async fn migrate(database: &Database) -> Result<(), Failure> {
    Ok(books::migrate(database, store::migrations()).await?)
}

/// Whether there is no table at all.
///
/// # Errors
/// [`Failure`] where it cannot be reached.
pub async fn is_empty(database: &Database) -> Result<bool, Failure> {
    Ok(books::is_empty(database).await?)
}

/// How far the books have come, in what `db` sees of them.
///
/// # Errors
/// [`Failure`].
pub async fn facts(db: &mut comity_ledger::Db<'_>, states: &[MigrationState]) -> Result<Facts, Failure> {
    use comity_ledger::db::MigrationStanding::Pending;
    let applied = states.iter().filter(|state| state.standing != Pending);
    let schema = applied.clone().map(|state| state.number).max().unwrap_or(0);
    let with_restored = applied.clone().any(|state| state.number == store::RESTORED);
    store::ops::facts(db, schema, with_restored).await
}

/// # Errors
/// [`Failure`] where the books cannot be read.
pub async fn glance(database: &Database) -> Result<Glance, Failure> {
    let states = migrations(database).await?;
    let mut conn = database.connect().await?;
    let mut db = conn.db();
    let facts = facts(&mut db, &states).await?;
    let server = store::ops::server(&mut db).await?;
    let sum_ucr = store::ops::sum(&mut db).await?;
    let beat_at = store::house::calendar(&mut db).await?.spans().last().map(|span| span.1);
    let standing_at = store::house::standing_issued_at(&mut db).await?;
    conn.close().await?;
    Ok(Glance { facts, server, sum_ucr, beat_at, standing_at })
}

/// Whether `last` is so far after `now` that the clock must be wrong: deadlines would stand still until it comes back to it.
pub fn is_clock_behind(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_some_and(|last| last.since(now) > Calendar::GAP_S)
}

/// Takes the lock that writers take, and gives it back.
///
/// # Errors
/// [`Failure`] where these books cannot be written.
pub async fn writable(database: &Database) -> Result<(), Failure> {
    let mut conn = database.connect().await?;
    conn.write().await?.rollback().await?;
    conn.close().await?;
    Ok(())
}

/// What the engine finds wrong with its own pages: of SQLite, with `whole` of its indexes too.
///
/// # Errors
/// [`Failure`] where it cannot look.
pub async fn integrity(database: &Database, whole: bool) -> Result<Vec<String>, Failure> {
    let mut conn = database.connect().await?;
    let check = if whole { "integrity_check" } else { "quick_check" };
    let complaints = books::integrity(&mut conn.db(), check).await?;
    conn.close().await?;
    Ok(complaints)
}

/// [`crate::Clearing::audit`] of books without their house.
///
/// # Errors
/// [`Failure`] where they cannot be read.
pub async fn audit(database: &Database) -> Result<AuditReport, Failure> {
    let reader = Reader::open(database).await?;
    let report = audit::of(&reader).await;
    reader.close().await;
    report
}

/// All accounts by their codes, and their total.
///
/// # Errors
/// [`Failure`].
pub async fn trial_balance(database: &Database) -> Result<(Vec<TrialRow>, TrialRow), Failure> {
    let mut conn = database.connect().await?;
    // All of them, whenever they were posted.
    let rows = crate::service::trial_rows(&mut conn.db(), Timestamp(1 << 52)).await;
    conn.close().await?;
    rows
}

/// Notes in books that came back from a backup that they did: everybody who asks the house is told.
///
/// # Errors
/// [`Failure`].
pub async fn restored_put(database: &Database, backup_at: Timestamp, now: Timestamp) -> Result<Restored, Failure> {
    let mut conn = database.connect().await?;
    let mut tx = conn.write().await?;
    let restored = store::ops::restored_insert_in_tx(&mut tx.db(), backup_at, now).await?;
    tx.commit().await?;
    conn.close().await?;
    Ok(restored)
}

/// Who answers for the house, and how far the line of its feed has come: epoch and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    pub there: Vec<crate::Replica>,
    pub feed: Option<(u32, u64)>,
}

/// # Errors
/// [`Failure`] where the books cannot be read, or are older than replicas.
pub async fn replicas(database: &Database, now: Timestamp) -> Result<Replicas, Failure> {
    let mut conn = database.connect().await?;
    let there = store::replicas::there(&mut conn.db(), crate::service::replicas::gone(now)).await?;
    let feed = store::feed::newest(&mut conn.db()).await?.map(|head| (head.epoch, head.seq));
    conn.close().await?;
    Ok(Replicas { there, feed })
}

/// Owners who earned something and cannot be paid, since no terms hold for them, with what that is.
///
/// # Errors
/// [`Failure`] where the books cannot be read, or are older than owners' terms.
pub async fn owners_without_terms(database: &Database, now: Timestamp) -> Result<Vec<(OrgId, Amount)>, Failure> {
    let mut conn = database.connect().await?;
    let owners = store::owners::without_terms(&mut conn.db(), now).await;
    conn.close().await?;
    owners
}

/// Copies SQLite books into an empty PostgreSQL; how many rows of each table. `tell` hears of each table that is done.
///
/// # Errors
/// [`books::CopyError`]; then the PostgreSQL has tables and no row of these books.
pub async fn copy(
    from: &Database,
    to: &Database,
    tell: impl FnMut(&str, u64),
) -> Result<Vec<(String, u64)>, books::CopyError> {
    books::copy(from, to, store::migrations(), tell).await
}
