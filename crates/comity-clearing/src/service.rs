//! The house as a running thing: its database, its heartbeat, and what callers ask of it.

mod acts;
pub(crate) mod amie;
mod answers;
mod awards;
pub mod central;
mod challenges;
mod claims;
mod counts;
mod credits;
mod decisions;
mod dispatch;
mod disputes;
mod exchange;
pub mod findings;
mod gathered;
mod issuing;
mod lists;
pub(crate) mod log;
mod logins;
mod mandates;
mod nodes;
pub(crate) mod oversight;
mod owners;
mod payouts;
pub(crate) mod periods;
mod persons;
mod prices;
mod projects;
mod proposals;
mod quotes;
pub(crate) mod read;
mod recharge;
pub(crate) mod replicas;
mod reports;
mod reservations;
mod sample;
pub(crate) mod standing;
mod vital;
mod writeoff;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use comity_ledger::group_commit::JobFuture;
use comity_ledger::{Committer, Database, Db, Reader, Reading, StoreError, books};
use comity_token::Directory;
use comity_wire::api::clearing::HouseReply;
use comity_wire::{PublicKey, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers::Turns;
use crate::brought::Brought;
use crate::config::{Config, Keys};
use crate::failure::Failure;
use crate::ops::Restored;
use crate::settlement::Calendar;
use crate::store;

pub use acts::ActReply;
pub use claims::{Contradiction, Swept};
pub use disputes::Dispute;
pub use issuing::IssuerView;
pub use owners::{OwnerShow, ReasonRow, TermsRow};
pub use payouts::{For, Remittance, RemittanceRow, RemittanceSet};
pub use periods::ClosedPeriod;
pub use prices::PriceRow;
pub use read::Account;
pub use recharge::{RecoveryRow, ScheduleShow};
pub use replicas::{FeedHead, FeedNewest, REPLICAS_MAX, Replica, SEEN_EVERY_S};
pub(crate) use reports::trial_rows;
use reservations::Reserving;
pub use vital::Vital;

/// What time it is. Only the shell has a clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// Called at named points. Does nothing in a house; a crash test's own binary ends the process in it.
pub type Failpoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// The hook of everything that is not a crash test.
pub fn no_failpoint() -> Failpoint {
    Arc::new(|_| {})
}

/// A clearing house. Cheap to clone.
#[derive(Clone)]
pub struct Clearing {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    keys: Keys,
    directory: Arc<dyn Directory>,
    clock: Clock,
    failpoint: Failpoint,
    committer: Committer,
    reserving: Reserving,
    memberships: reservations::Memberships,
    /// Quotes whose signature was verified: one serves many reservations.
    quotes_known: quotes::Known,
    quotes_pace: quotes::Pace,
    reader: Reader,
    /// As the books had it at this process's last beat or sweep.
    calendar: Mutex<Calendar>,
    /// Whether these books came back from a backup, and when they did last.
    restored: Option<Restored>,
    /// The directory's version up to which its certificates were looked through.
    directory_seen: AtomicU64,
    /// The end of the month for which every node has been asked for a count.
    counted: AtomicU64,
    standing: RwLock<standing::Newest>,
    log: log::Sequencer,
    /// When the sequencer looked last.
    log_turned: Mutex<tokio::time::Instant>,
    probe: vital::Probe,
    /// How many flags of a project are too many, over all owners.
    volume_limits: comity_guard::volume::Limits,
    /// Who is believed of persons.
    issuers: RwLock<Arc<logins::Issuers>>,
    turns: Turns,
    /// Credit notes that are decided now, or wait.
    brought: Brought,
    retired: AtomicBool,
    /// The keys that the house may sell with.
    issuing: RwLock<BTreeSet<PublicKey>>,
    /// Nothing of this process's is published.
    silent: AtomicBool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why a house cannot open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("cannot open the clearing house's database")]
    Database(#[from] sqlx::Error),
    #[error("cannot bring the clearing house's database up to date")]
    Store(#[from] StoreError),
    #[error("cannot read or begin the clearing house's books")]
    Begin(#[source] Failure),
    #[error("the operating system gives no thread to write the books in")]
    Thread(#[source] std::io::Error),
}

/// How often the house looks whether a month is to be counted.
const COUNTS_EVERY_S: u64 = 3_600;
/// How often the house looks for escrows that time has done something to.
const SWEEP_EVERY_S: u64 = 300;

impl Clearing {
    /// Opens the house's database, makes or mends its tables, beats once, and sees to a fresh revocation list. Its tasks
    /// (writer, heartbeat, certificates, sweep, standing) run until [`Clearing::shutdown`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: Config,
        database: Database,
        keys: Keys,
        directory: Arc<dyn Directory>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        Self::open_with(config, database, keys, directory, clock, no_failpoint()).await
    }

    /// [`Clearing::open`] with a failpoint.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_with(
        config: Config,
        database: Database,
        keys: Keys,
        directory: Arc<dyn Directory>,
        clock: Clock,
        failpoint: Failpoint,
    ) -> Result<Self, OpenError> {
        books::migrate(&database, store::migrations()).await?;
        let reader = Reader::open(&database).await?;
        let mut reading = reader.acquire().await?;
        let calendar = store::house::calendar(&mut reading.db()).await.map_err(OpenError::Begin)?;
        let restored = store::ops::restored(&mut reading.db()).await.map_err(OpenError::Begin)?;
        drop(reading);
        let (committer, writer) = Committer::open(database).await?;
        let reserving = reservations::reserving(committer.clone(), Arc::clone(&failpoint));
        let inner = Inner {
            config,
            keys,
            directory,
            clock,
            failpoint,
            committer,
            reserving,
            memberships: reservations::memberships(reader.clone()),
            quotes_known: quotes::Known::default(),
            quotes_pace: quotes::Pace::default(),
            reader,
            calendar: Mutex::new(calendar),
            restored,
            directory_seen: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            standing: RwLock::default(),
            log: log::Sequencer::default(),
            log_turned: Mutex::new(tokio::time::Instant::now()),
            probe: vital::Probe::default(),
            volume_limits: oversight::limits(),
            issuers: RwLock::default(),
            turns: Turns::default(),
            brought: Brought::default(),
            retired: AtomicBool::new(false),
            issuing: RwLock::default(),
            silent: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let house = Self { inner: Arc::new(inner) };
        // The writer outlives the calls that use it: it stops when told, after what is queued.
        let writing = writer.run_apart(house.inner.stop.clone().cancelled_owned()).map_err(OpenError::Thread)?;
        house.inner.tasks.spawn(writing);
        house.beat().await.map_err(OpenError::Begin)?;
        house.issuing_look().await.map_err(OpenError::Begin)?;
        house.standing_begin().await.map_err(OpenError::Begin)?;
        house.certificates_look().await.map_err(OpenError::Begin)?;
        house.prices_begin().await.map_err(OpenError::Begin)?;
        house.every(Calendar::BEAT_S, "heartbeat", |house| async move { house.beat().await });
        house.every(Calendar::BEAT_S, "issuing", |house| async move { house.issuing_look().await });
        house.every(Calendar::BEAT_S, "certificates", |house| async move { house.certificates_look().await });
        house.every(SWEEP_EVERY_S, "sweep", |house| async move { house.sweep().await.map(drop) });
        house.every(COUNTS_EVERY_S, "counts", |house| async move { house.counts_turn().await.map(drop) });
        house.every(COUNTS_EVERY_S, "oversight", |house| async move { house.oversight_turn().await });
        house.every(Calendar::BEAT_S, "standing", |house| async move { house.standing_renew().await.map(drop) });
        // A log that does not go on keeps no house from its work: it says so, and waits for its operator.
        if let Err(failure) = house.log_turn().await {
            tracing::error!(error = %crate::failure::chain(&failure), "the log stands still");
        }
        house.every(log::EVERY_S, "log", |house| async move {
            let turn = house.log_turn().await;
            house.log_turned();
            turn
        });
        house.inner.tasks.close();
        Ok(house)
    }

    /// Stops the tasks and waits until what was queued is written. Calls after it are refused with 503.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.wait().await;
        self.inner.reader.close().await;
    }

    pub fn now(&self) -> Timestamp {
        (self.inner.clock)()
    }

    pub fn directory(&self) -> &Arc<dyn Directory> {
        &self.inner.directory
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// What everybody may know of the house: since when it takes claims, and whether its books came back from a backup, so
    /// that nodes say again what they said since.
    pub fn about(&self) -> HouseReply {
        let open_since = self.calendar().spans().last().map_or_else(|| self.now(), |span| span.0);
        HouseReply { house: self.inner.config.org, open_since, restored: self.inner.restored }
    }

    /// Says that the house takes claims now. A gap of more than 120 s between two beats is closed time (rule 8).
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written; the calendar in memory then stays behind too.
    pub async fn beat(&self) -> Result<(), Failure> {
        let now = self.now();
        let beat = self.write(move |conn| Box::pin(async move { store::house::beat_in_tx(conn, now).await }));
        *self.inner.calendar.lock().unwrap_or_else(PoisonError::into_inner) = beat.await?;
        Ok(())
    }

    /// Takes the calendar over as the books have it: other replicas beat too. What is in memory may lack their newest beats, at most
    /// those since this one's own last; so it never counts time as open in which nobody was.
    pub(super) async fn calendar_look(&self) -> Result<(), Failure> {
        let calendar = store::house::calendar(&mut self.read().await?.db()).await?;
        *self.inner.calendar.lock().unwrap_or_else(PoisonError::into_inner) = calendar;
        Ok(())
    }

    /// Whether the house can read its books and its writer runs.
    ///
    /// # Errors
    /// [`Failure`] saying which.
    pub async fn health(&self) -> Result<(), Failure> {
        if self.inner.stop.is_cancelled() {
            return Err(Failure::NotWritten { cause: "the house is shutting down".into() });
        }
        let mut conn = self.read().await?;
        store::house::calendar(&mut conn.db()).await.map(drop)
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.inner.reader
    }

    fn calendar(&self) -> Calendar {
        self.inner.calendar.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn fail(&self, point: &'static str) {
        (self.inner.failpoint)(point);
    }

    /// Runs `work` in the next group commit.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: for<'c, 'd> FnOnce(&'c mut Db<'d>) -> JobFuture<'c, Result<T, Failure>> + Clone + Send + 'static,
    {
        Ok(self.inner.committer.run(work).await?)
    }

    pub(crate) async fn read(&self) -> Result<Reading, Failure> {
        Ok(self.inner.reader.acquire().await?)
    }

    /// Runs `work` every `seconds` until the house stops. A failure is told and tried again the next time.
    fn every<F, W>(&self, seconds: u64, what: &'static str, work: W)
    where
        F: Future<Output = Result<(), Failure>> + Send,
        W: Fn(Self) -> F + Send + 'static,
    {
        let house = self.clone();
        self.inner.tasks.spawn(async move {
            let stop = house.inner.stop.clone();
            let period = Duration::from_secs(seconds);
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    _ = ticks.tick() => {}
                }
                if let Err(failure) = work(house.clone()).await {
                    tracing::error!(task = what, error = %crate::failure::chain(&failure), "the house's own work failed");
                }
            }
        });
    }
}
