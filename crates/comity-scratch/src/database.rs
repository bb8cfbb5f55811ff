//! A database for one test, in the cluster that `cargo xtask test postgres` started.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

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
        Self::copy_of("template1").await
    }

    /// Makes one that has what `fill` brings: it is called once for all tests of a program, with the address of a database that the
    /// others are copied from. Dozens of migrations take longer than most tests.
    ///
    /// # Panics
    /// As [`Database::create`], and where `fill` does.
    pub async fn filled<F: Future<Output = ()>>(name: &str, fill: impl FnOnce(String) -> F) -> Self {
        let cluster = cluster();
        let template = format!("comity_{name}_{:016x}", program());
        let mut held = connect(&cluster).await.expect("the cluster answers");
        // Whoever else is filling it: all tests of a program start at once, each in a process of its own.
        let lock = format!("SELECT pg_advisory_lock({LOCK})");
        held.execute(AssertSqlSafe(lock)).await.expect("the cluster's lock");
        let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
        let found = sqlx::query(sql).bind(&template).fetch_optional(&mut held).await.expect("the cluster's databases");
        if found.is_none() {
            // Under another name until it is whole: a test that dies here leaves nothing that looks like it.
            let half = Self::copy_of("template1").await;
            fill(half.url()).await;
            let rename = format!("ALTER DATABASE {} RENAME TO {template}", half.name);
            held.execute(AssertSqlSafe(rename)).await.expect("nobody is connected once it is filled");
            std::mem::forget(half);
        }
        held.close().await.expect("the lock is let go");
        Self::copy_of(&template).await
    }

    async fn copy_of(template: &str) -> Self {
        let mut number = [0; 8];
        getrandom::fill(&mut number).expect("the system has randomness");
        let database = Self { cluster: cluster(), name: format!("comity_{}", u64::from_be_bytes(number)) };
        let create = format!("CREATE DATABASE {} TEMPLATE {template}", database.name);
        database.say(create).await.expect("the cluster makes a database");
        database
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.cluster.replacen("/postgres?", &format!("/{}?", self.name), 1)
    }

    /// The folder with the socket that its server listens on.
    pub fn socket(&self) -> std::path::PathBuf {
        let (_, folder) = self.cluster.split_once("host=").expect("the cluster is reached by a socket");
        std::path::Path::new(folder).join(".s.PGSQL.5432")
    }

    /// Its address through a TCP port of this machine, where a [`crate::Wire`] listens.
    pub fn url_by(&self, port: u16) -> String {
        format!("postgres://comity@127.0.0.1:{port}/{}?sslmode=disable", self.name)
    }

    /// Says a statement to the cluster, beside the database.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn say(&self, sql: String) -> Result<(), sqlx::Error> {
        say(&self.cluster, sql).await
    }
}

fn cluster() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{VARIABLE} is not set: this test needs a PostgreSQL. `cargo xtask test postgres` starts one and runs all such \
             tests; `cargo xtask postgres` starts one and prints the variable"
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
            say(&cluster, format!("{end}'{name}'")).await?;
            say(&cluster, format!("DROP DATABASE {name} WITH (FORCE)")).await
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
