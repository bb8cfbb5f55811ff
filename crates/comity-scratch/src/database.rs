//! A database for one test, in the cluster that `cargo xtask test postgres` started, or in one that somebody named.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::wire::Far;

/// Where the address of the cluster is read.
pub const VARIABLE: &str = "COMITY_TEST_POSTGRES";
/// Who fills what others are copied from; any number that nobody else of the cluster uses.
const LOCK: i64 = 0x636f_6d69_7479;

/// A database that nobody else uses. It is gone when this is dropped, whoever is still connected.
pub struct Database {
    cluster: String,
    name: String,
}

impl Database {
    /// Makes one.
    ///
    /// # Panics
    /// Without a cluster: a test that needs one must not pass because it was not run.
    pub async fn create() -> Self {
        let database = Self::named();
        let create = format!("CREATE DATABASE {}", database.name);
        database.say(create).await.expect("the cluster makes a database");
        database
    }

    fn named() -> Self {
        let mut number = [0; 8];
        getrandom::fill(&mut number).expect("the system has randomness");
        Self { cluster: cluster(), name: format!("comity_{}", u64::from_be_bytes(number)) }
    }

    /// Makes one that has what `fill` brings: it is called once for all tests of a program, with the address of a database that the
    /// others are copied from. Dozens of migrations take longer than most tests. An engine that copies no databases has each filled.
    ///
    /// # Panics
    /// As [`Database::create`], and where `fill` does.
    pub async fn filled<F: Future<Output = ()>>(name: &str, fill: impl Fn(String) -> F) -> Self {
        let cluster = cluster();
        let template = format!("comity_{name}_{:016x}", program());
        let mut held = connect(&cluster).await.expect("the cluster answers");
        // Whoever else is filling it: all tests of a program start at once, each in a process of its own.
        let lock = format!("SELECT pg_advisory_lock({LOCK})");
        if held.execute(AssertSqlSafe(lock)).await.is_err() {
            let database = Self::create().await;
            fill(database.url()).await;
            return database;
        }
        let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
        let found = sqlx::query(sql).bind(&template).fetch_optional(&mut held).await.expect("the cluster's databases");
        if found.is_none() {
            // Under another name until it is whole: a test that dies here leaves nothing that looks like it.
            let half = Self::create().await;
            fill(half.url()).await;
            let rename = format!("ALTER DATABASE {} RENAME TO {template}", half.name);
            match held.execute(AssertSqlSafe(rename)).await {
                Ok(_) => std::mem::forget(half),
                // Where the lock is none, another one was quicker, or nothing can be renamed: the copy below shows which.
                Err(_) => drop(half),
            }
        }
        held.close().await.expect("the lock is let go");
        let database = Self::named();
        let create = format!("CREATE DATABASE {} TEMPLATE {template}", database.name);
        if database.say(create).await.is_ok() {
            return database;
        }
        // There is none to be dropped.
        std::mem::forget(database);
        let database = Self::create().await;
        fill(database.url()).await;
        database
    }

    /// Its address.
    pub fn url(&self) -> String {
        let Address { authority, query } = Address::of(&self.cluster);
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        format!("postgres://{authority}/{}{query}", self.name)
    }

    /// Where its server listens.
    pub fn far(&self) -> Far {
        let Address { authority, query } = Address::of(&self.cluster);
        let folder = query.split('&').find_map(|part| part.strip_prefix("host="));
        if let Some(folder) = folder.filter(|folder| folder.starts_with('/')) {
            return Far::Socket(std::path::Path::new(folder).join(".s.PGSQL.5432"));
        }
        let host = authority.rsplit('@').next().unwrap_or(authority);
        Far::Tcp(if host.contains(':') { host.to_owned() } else { format!("{host}:5432") })
    }

    /// Its address through a TCP port of this machine, where a [`crate::Wire`] listens.
    pub fn url_by(&self, port: u16) -> String {
        let Address { authority, .. } = Address::of(&self.cluster);
        let user = authority.rsplit_once('@').map_or("comity", |(user, _)| user);
        format!("postgres://{user}@127.0.0.1:{port}/{}?sslmode=disable", self.name)
    }

    /// Says a statement to the cluster, beside the database.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn say(&self, sql: String) -> Result<(), sqlx::Error> {
        say(&self.cluster, sql).await
    }
}

/// An address, in the parts that are exchanged here.
struct Address<'a> {
    /// User, host and port.
    authority: &'a str,
    /// Without its mark; empty where there is none.
    query: &'a str,
}

impl<'a> Address<'a> {
    /// # Panics
    /// Where it is none.
    fn of(url: &'a str) -> Self {
        let (_, rest) = url.split_once("://").expect("postgres://USER@HOST/DATABASE");
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        Self { authority: place.split('/').next().unwrap_or(place), query }
    }
}

fn cluster() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{VARIABLE} is not set: this test needs a PostgreSQL. `cargo xtask test postgres` starts one and runs all such \
             tests; `cargo xtask postgres` starts one and prints the variable; or set it to the address of a server of yours"
        )
    })
}

/// Which program this is, built when: a server may outlive it, and what was filled by another one may not be what this one
/// would fill.
fn program() -> u64 {
    let path = std::env::current_exe().expect("a program knows itself");
    let built = std::fs::metadata(&path).and_then(|found| found.modified()).expect("a program is a file");
    let mut hasher = DefaultHasher::new();
    (path, built).hash(&mut hasher);
    hasher.finish()
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    options.disable_statement_logging().connect().await
}

async fn say(url: &str, sql: String) -> Result<(), sqlx::Error> {
    let mut connection = connect(url).await?;
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.close().await
}

impl Drop for Database {
    fn drop(&mut self) {
        let (cluster, name) = (self.cluster.clone(), self.name.clone());
        let drop = async move {
            // Whoever is connected goes first: to force them out takes the server a tenth of a second, however soon they are gone.
            let end = "SELECT COUNT(pg_terminate_backend(pid, 1000)) FROM pg_stat_activity WHERE datname = ";
            // Not every engine can, nor knows the next one's FORCE.
            let _ = say(&cluster, format!("{end}'{name}'")).await;
            match say(&cluster, format!("DROP DATABASE {name} WITH (FORCE)")).await {
                Ok(()) => Ok(()),
                Err(_) => say(&cluster, format!("DROP DATABASE {name}")).await,
            }
        };
        // The test's runtime may be ending: one of our own.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(drop)
        });
        if !matches!(dropped.join(), Ok(Ok(()))) && !std::thread::panicking() {
            panic!("the test's database {} was not dropped", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(cluster: &str) -> std::mem::ManuallyDrop<Database> {
        std::mem::ManuallyDrop::new(Database { cluster: cluster.into(), name: "one".into() })
    }

    #[test]
    fn an_address_is_read_in_its_parts() {
        let own = database("postgres://comity@localhost/postgres?host=/tmp/a/socket");
        assert_eq!(own.url(), "postgres://comity@localhost/one?host=/tmp/a/socket");
        assert!(matches!(own.far(), Far::Socket(path) if path.ends_with("a/socket/.s.PGSQL.5432")));
        assert_eq!(own.url_by(9), "postgres://comity@127.0.0.1:9/one?sslmode=disable");
        let named = database("postgres://ada:p%40ss@db.example:6543/postgres");
        assert_eq!(named.url(), "postgres://ada:p%40ss@db.example:6543/one");
        assert!(matches!(named.far(), Far::Tcp(place) if place == "db.example:6543"));
        assert_eq!(named.url_by(9), "postgres://ada:p%40ss@127.0.0.1:9/one?sslmode=disable");
        let bare = database("postgres://ada@db.example/postgres?sslmode=require");
        assert_eq!(bare.url(), "postgres://ada@db.example/one?sslmode=require");
        assert!(matches!(bare.far(), Far::Tcp(place) if place == "db.example:5432"));
    }
}
