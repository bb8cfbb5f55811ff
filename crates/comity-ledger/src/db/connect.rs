//! Opening either database, and bringing its tables up to date.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, Postgres};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, SqlSafeStr as _};

use super::servers::{self, Servers};
use super::{Conn, Kind, query, within};
use crate::books;
use crate::store::StoreError;

/// Where books are kept. Of PostgreSQL the address is a secret: it stands in no message and cannot be printed.
#[expect(clippy::large_enum_variant, reason = "a process has a few of them")]
#[derive(Clone)]
pub enum Database {
    Sqlite(SqliteConnectOptions),
    /// With how long an answer is waited for.
    Postgres(Servers, Duration),
}

/// How long a statement may take on PostgreSQL, a lock be waited for, a transaction be idle, an answer be on its way: whoever
/// has gone holds nothing.
const WAIT: Duration = Duration::from_secs(10);
/// Pages that a connection of SQLite keeps at hand: 64 MiB. Ids are hashes, so what is written lies everywhere.
const CACHE: &str = "-65536";
/// How long a reading connection is waited for where there are several hosts.
const READER_WAIT: Duration = Duration::from_secs(3);
/// Readers at once; one more waits.
const READERS_MAX: u32 = 4;
/// How often bringing the tables up to date is tried: another house may do it at the same moment.
const MIGRATE_TRIES: u32 = 20;
const MIGRATE_PAUSE: Duration = Duration::from_millis(250);

/// Numbered texts, the same numbers for both engines.
#[derive(Clone, Debug, Default)]
pub struct Migrations(Vec<(i64, &'static str, &'static str, &'static str)>);

impl Migrations {
    /// One more: its number, its name, its text for SQLite and for PostgreSQL; an empty text is for one that an engine does
    /// not need.
    #[must_use]
    pub fn with(mut self, number: i64, name: &'static str, sqlite: &'static str, postgres: &'static str) -> Self {
        self.0.push((number, name, sqlite, postgres));
        self
    }

    /// Those up to `number`: the tables as they once were.
    #[must_use]
    pub fn until(mut self, number: i64) -> Self {
        self.0.retain(|(own, ..)| *own <= number);
        self
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|(number, ..)| *number)
    }

    pub(crate) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    fn of(&self, text: impl Fn(&'static str, &'static str) -> &'static str) -> Vec<Migration> {
        let one = |(number, name, sqlite, postgres): &(i64, &'static str, &'static str, &'static str)| {
            let sql = text(sqlite, postgres).into_sql_str();
            Migration::new(*number, (*name).into(), MigrationType::Simple, sql, false)
        };
        self.0.iter().filter(|(_, _, sqlite, postgres)| !text(sqlite, postgres).is_empty()).map(one).collect()
    }
}

/// A migration as a database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationState {
    pub number: i64,
    pub name: String,
    pub standing: MigrationStanding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationStanding {
    Applied,
    Pending,
    /// Another text was applied under its number, or it broke off.
    Differs,
    /// This program does not know it: a newer one was here.
    Unknown,
}

impl Database {
    /// One file, made where it is not there. Never on a network file system.
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        Self::Sqlite(books::connect_options(path))
    }

    /// A file that nobody writes, as a backup is: it is opened to be read, and not a byte of it changes.
    pub fn sqlite_at_rest(path: impl AsRef<Path>) -> Self {
        Self::Sqlite(SqliteConnectOptions::new().filename(path).read_only(true).immutable(true))
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(..) => Kind::Postgres,
        }
    }

    /// How each of `migrations` stands, and what else was applied; in the order of their numbers. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn migration_states(&self, migrations: &Migrations) -> Result<Vec<MigrationState>, StoreError> {
        let mut conn = self.connect().await?;
        let applied = applied(&mut conn).await?;
        conn.close().await?;
        let known = match self.kind() {
            Kind::Sqlite => migrations.of(|sqlite, _| sqlite),
            Kind::Postgres => migrations.of(|_, postgres| postgres),
        };
        let state = |number, name: &str, standing| MigrationState { number, name: name.to_owned(), standing };
        let of_known = known.iter().map(|migration| {
            let found = applied.iter().find(|(number, ..)| *number == migration.version);
            let standing = match found {
                None => MigrationStanding::Pending,
                Some((_, checksum, true)) if **checksum == *migration.checksum => MigrationStanding::Applied,
                Some(_) => MigrationStanding::Differs,
            };
            state(migration.version, &migration.description, standing)
        });
        let is_known = |number: i64| known.iter().any(|migration| migration.version == number);
        let others = applied.iter().filter(|(number, ..)| !is_known(*number));
        let others = others.map(|(number, ..)| state(*number, "", MigrationStanding::Unknown));
        let mut states: Vec<_> = of_known.chain(others).collect();
        states.sort_by_key(|state| state.number);
        Ok(states)
    }

    /// `postgres://USER:PASSWORD@HOST/DATABASE`, or several hosts with commas: then the one that is no standby.
    ///
    /// # Errors
    /// [`StoreError::Address`], which does not say it.
    pub fn postgres(url: &str) -> Result<Self, StoreError> {
        Ok(Self::Postgres(Servers::parse(url)?, WAIT))
    }

    /// # Errors
    /// [`sqlx::Error`].
    pub async fn connect(&self) -> Result<Conn, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(options) => Conn::Sqlite(options.clone().pragma("cache_size", CACHE).connect().await?),
            Self::Postgres(servers, wait) => {
                let connect = async {
                    let mut conn = servers.connect().await?;
                    set_up(&mut conn, *wait, "").await?;
                    prefer_indexes(&mut conn).await?;
                    Ok(conn)
                };
                Conn::Postgres(within(*wait, connect).await?, *wait)
            }
        })
    }

    /// Brings the tables up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn migrate(&self, migrations: &Migrations) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(options) => {
                let mut conn = options.connect().await?;
                run(migrations.of(|sqlite, _| sqlite), &mut conn).await?;
                // From the log into the file, so that a fresh database is more than an empty file beside a log.
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&mut conn).await?;
                Ok(())
            }
            // Without the advisory lock that other engines lack: who comes second at the same moment fails and looks again.
            Self::Postgres(servers, _) => {
                let mut tries = 0;
                loop {
                    let mut conn = servers.connect().await?;
                    match run(migrations.of(|_, postgres| postgres), &mut conn).await {
                        Ok(()) => return Ok(()),
                        Err(error) if tries == MIGRATE_TRIES => return Err(error.into()),
                        Err(_) => tokio::time::sleep(MIGRATE_PAUSE).await,
                    }
                    tries += 1;
                }
            }
        }
    }

    /// Connections that cannot write.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(crate) async fn readers(&self) -> Result<Readers, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(options) => {
                let options = options.clone().create_if_missing(false).pragma("query_only", "ON");
                let pool = SqlitePoolOptions::new().max_connections(READERS_MAX).test_before_acquire(false);
                Readers::Sqlite(pool.connect_with(options).await?)
            }
            Self::Postgres(servers, wait) => {
                let wait = *wait;
                // Finds the host that can be written, where there are several.
                within(wait, servers.connect()).await?.close().await?;
                let several = servers.are_several();
                // A host that is gone is not asked for long where there is another one.
                let patience = if several { wait.min(READER_WAIT) } else { wait };
                let pool = PgPoolOptions::new().max_connections(READERS_MAX).acquire_timeout(patience);
                let pool = pool.after_connect(move |conn, _| {
                    Box::pin(async move {
                        set_up(conn, wait, "; SET default_transaction_read_only = on").await?;
                        if several && servers::is_standby(conn).await? {
                            return Err(sqlx::Error::Io(std::io::Error::other("it is a standby")));
                        }
                        Ok(())
                    })
                });
                let (at, options) = servers.current();
                let pool = pool.connect_with(options).await?;
                Readers::Postgres(
                    PgReaders { pool, servers: servers.clone(), at: Arc::new(AtomicUsize::new(at)) },
                    wait,
                )
            }
        })
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "Sqlite({})", options.get_filename().display()),
            Self::Postgres(..) => f.write_str("Postgres(…)"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgReaders, Duration),
}

/// Readers of the host that can be written: what a standby has may be older than what was answered.
#[derive(Clone, Debug)]
pub(crate) struct PgReaders {
    pool: PgPool,
    servers: Servers,
    /// The host that the pool is of.
    at: Arc<AtomicUsize>,
}

impl PgReaders {
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.follow();
        match self.pool.acquire().await {
            // Somebody has to look which host it is now; the writer may have nothing to do.
            Err(_) if self.servers.are_several() => {
                self.servers.connect().await?.close().await?;
                self.follow();
                self.pool.acquire().await
            }
            done => done,
        }
    }

    /// To the host that was found to be the writable one.
    fn follow(&self) {
        let (current, options) = self.servers.current();
        if self.at.swap(current, Ordering::Relaxed) != current {
            self.pool.set_connect_options(options);
        }
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Number, digest and whether it came to its end, of all that was applied.
async fn applied(conn: &mut Conn) -> Result<Vec<(i64, Vec<u8>, bool)>, sqlx::Error> {
    let mut db = conn.db();
    let exists = match db.kind() {
        Kind::Sqlite => "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
        Kind::Postgres => "SELECT COUNT(to_regclass('_sqlx_migrations'))",
    };
    if query(exists).fetch_one(&mut db).await?.first()? == 0 {
        return Ok(Vec::new());
    }
    let sql =
        "SELECT version, checksum, CAST(CASE WHEN success THEN 1 ELSE 0 END AS BIGINT) AS done FROM _sqlx_migrations";
    let rows = query(sql).fetch_all(&mut db).await?;
    rows.iter().map(|row| Ok((row.int("version")?, row.blob("checksum")?, row.int("done")? == 1))).collect()
}

async fn run<C>(migrations: Vec<Migration>, conn: &mut C) -> Result<(), MigrateError>
where
    C: Migrate + sqlx::Connection,
{
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_locking(false);
    migrator.run_direct(None, conn, false).await
}

/// Has the writer look rows up by their keys alone. Its statements are planned once and kept; those that were planned while a table
/// was small would go on reading it whole until the server's next `ANALYZE`, which by then takes longer than all the rest.
/// Nothing is compiled: a small table without a key to look by would then have so high a cost that the server compiles the statement
/// first, which takes 20 to 60 ms.
/// An engine that does not know a setting does without.
async fn prefer_indexes(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    for setting in ["SET enable_seqscan = off", "SET jit = off"] {
        match conn.execute(setting).await {
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ours to set, whatever the server's defaults are; `COMMIT` is durable when it is answered.
async fn set_up(conn: &mut PgConnection, wait: Duration, more: &str) -> Result<(), sqlx::Error> {
    let ms = wait.as_millis();
    let sql = format!(
        "SET statement_timeout = {ms}; SET lock_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}; \
         SET synchronous_commit = on{more}"
    );
    conn.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}
