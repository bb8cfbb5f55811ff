//! A database for one test, in the cluster that `cargo xtask test postgres` started.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

/// Where the address of the cluster is read.
pub const VARIABLE: &str = "COMITY_TEST_POSTGRES";

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
        let cluster = std::env::var(VARIABLE).unwrap_or_else(|_| {
            panic!(
                "{VARIABLE} is not set: this test needs a PostgreSQL. `cargo xtask test postgres` starts one and runs all \
                 such tests; `cargo xtask postgres` starts one and prints the variable"
            )
        });
        let mut number = [0; 8];
        getrandom::fill(&mut number).expect("the system has randomness");
        let name = format!("comity_{}", u64::from_be_bytes(number));
        let database = Self { cluster, name };
        database.say(format!("CREATE DATABASE {}", database.name)).await.expect("the cluster makes a database");
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

async fn say(url: &str, sql: String) -> Result<(), sqlx::Error> {
    let options: sqlx::postgres::PgConnectOptions = url.parse()?;
    let mut connection = options.disable_statement_logging().connect().await?;
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.close().await
}

impl Drop for Database {
    fn drop(&mut self) {
        let (cluster, sql) = (self.cluster.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // The test's runtime may be ending: one of our own.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(say(&cluster, sql))
        });
        if !matches!(dropped.join(), Ok(Ok(()))) && !std::thread::panicking() {
            panic!("the test's database {} was not dropped", self.name);
        }
    }
}
