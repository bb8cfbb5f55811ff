//! Where the node that is killed keeps its books.

use std::path::Path;

use comity_scratch::Database;

/// What keeps the books of the one that dies: a node's spend store, a house's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    /// In a database of the cluster that `cargo xtask postgres` started.
    Postgres,
}

impl std::str::FromStr for Store {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            "postgres" => Ok(Self::Postgres),
            other => Err(format!("'{other}' is none of sqlite, postgres")),
        }
    }
}

impl Store {
    /// What has to live as long as the federation.
    pub(super) async fn made(self) -> Option<Database> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(Database::create().await),
        }
    }
}

/// Tells an owner's node where its books are: the address is a secret, and has a file of its own.
pub(super) fn furnish(home: &Path, url: &str) {
    std::fs::write(home.join("node.toml"), "[spend]\nstore_file = \"keys/spend.url\"\n").expect("node.toml");
    comity_node::home::write_secret(&home.join("keys/spend.url"), url.as_bytes()).expect("a secret");
}
