//! What is done to the house, and to what keeps its books, while it is asked.

use std::time::Duration;

use comity_ledger::Database;
use comity_scratch::{Far, Wire};

use super::cluster::Cluster;
use super::power;
use crate::Chance;
use crate::torture::Store;

/// One of them a cycle, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SQLite: what was not synced is gone, or torn.
    PowerCut,
    /// SQLite: no file grows for a while.
    DiskFull,
    /// PostgreSQL: `pg_ctl stop -m immediate`, then it is started again.
    ServerStops,
    /// PostgreSQL: COMMIT happens and its answer does not come.
    AnswerLost,
    /// The clock is set by days, forward and back.
    ClockJumps,
    /// 200 at once want what is enough for a few.
    LastCredit,
    /// All that was answered is asked again, many times at once.
    Replays,
}

impl Fault {
    pub const fn of(store: Store) -> &'static [Self] {
        match store {
            Store::Sqlite => &[Self::PowerCut, Self::DiskFull, Self::ClockJumps, Self::LastCredit, Self::Replays],
            Store::Postgres => {
                &[Self::ServerStops, Self::AnswerLost, Self::ClockJumps, Self::LastCredit, Self::Replays]
            }
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::PowerCut => "power cut",
            Self::DiskFull => "disk full",
            Self::ServerStops => "server stops",
            Self::AnswerLost => "answer lost",
            Self::ClockJumps => "clock jumps",
            Self::LastCredit => "last credit",
            Self::Replays => "replays",
        }
    }
}

/// How much SQLite promises at COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// As it ships.
    Full,
    /// The planted bug: COMMIT is answered before it is on the disk.
    Normal,
}

/// What keeps the books of one run.
pub(super) enum Books {
    Sqlite {
        folder: tempfile::TempDir,
        synchronous: Synchronous,
        /// The power is one for all files of a process.
        _alone: tokio::sync::MutexGuard<'static, ()>,
    },
    Postgres {
        cluster: Cluster,
        wire: Wire,
    },
}

static POWER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A lost answer is given up after this, so that a cycle takes no minute.
const ANSWER_WAIT: Duration = Duration::from_millis(400);
/// A server that has just been stopped may take longer.
const RECOVERY_WAIT: Duration = Duration::from_secs(30);

impl Books {
    pub(super) async fn new(store: Store, synchronous: Synchronous) -> Self {
        match store {
            Store::Sqlite => {
                power::register();
                let _alone = POWER.lock().await;
                Self::Sqlite { folder: tempfile::tempdir().expect("a folder"), synchronous, _alone }
            }
            Store::Postgres => {
                let cluster = Cluster::start();
                let wire = Wire::to(Far::Socket(cluster.socket())).await;
                Self::Postgres { cluster, wire }
            }
        }
    }

    /// As the house is to find them; `fault` is what is about to happen to it.
    pub(super) fn database(&self, fault: Option<Fault>) -> Database {
        match self {
            Self::Sqlite { folder, synchronous, .. } => {
                let Database::Sqlite(options) = Database::sqlite(folder.path().join("house.db")) else {
                    unreachable!("a path is SQLite's")
                };
                let options = options.vfs(power::VFS);
                Database::Sqlite(match synchronous {
                    Synchronous::Full => options,
                    Synchronous::Normal => options.synchronous(sqlx::sqlite::SqliteSynchronous::Normal),
                })
            }
            Self::Postgres { cluster, wire } => {
                let (url, wait) = match fault {
                    Some(Fault::AnswerLost) => (Cluster::url_by(wire.port()), ANSWER_WAIT),
                    _ => (cluster.url(), RECOVERY_WAIT),
                };
                let Database::Postgres(options, _) = Database::postgres(&url).expect("an address") else {
                    unreachable!("an address is PostgreSQL's")
                };
                Database::Postgres(options, wait)
            }
        }
    }

    /// Begins, whilst the house is asked.
    pub(super) fn strike(&self, fault: Fault) {
        match (self, fault) {
            (Self::Sqlite { .. }, Fault::PowerCut) => power::cut(),
            (Self::Sqlite { .. }, Fault::DiskFull) => power::fill(true),
            (Self::Postgres { cluster, .. }, Fault::ServerStops) => cluster.stop_immediately(),
            (Self::Postgres { wire, .. }, Fault::AnswerLost) => wire.deafen(),
            _ => {}
        }
    }

    /// Ends, with the house gone: how many writes were not on the disk.
    pub(super) fn mend(&self, fault: Fault, chance: &mut Chance) -> usize {
        match (self, fault) {
            (Self::Sqlite { folder, .. }, Fault::PowerCut) => return power::restore(folder.path(), chance),
            (Self::Sqlite { .. }, Fault::DiskFull) => power::fill(false),
            (Self::Postgres { cluster, .. }, Fault::ServerStops) => cluster.up(),
            (Self::Postgres { wire, .. }, Fault::AnswerLost) => wire.mend(),
            _ => {}
        }
        0
    }
}
