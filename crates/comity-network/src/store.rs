//! The network store: one SQLite file, one writer task, one transaction for each change. The only SQL of this crate.
//!
//! It holds what is signed and nothing else, so that losing it costs a sync; but for our own feed's number, which must
//! never be said twice: a publication waits for its commit.

use std::collections::BTreeMap;
use std::path::Path;

use comity_registry::SignedHead;
use comity_registry::replica::{Stored, StoredFeed, Write};
use comity_wire::{Digest, OrgId};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Failpoint;

/// Changes that wait for the disk; the swarm's task waits when they are more.
const QUEUE_MAX: usize = 256;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS roster (version INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS feed (org BLOB PRIMARY KEY CHECK (length(org) = 16), head BLOB NOT NULL, \
     writer BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS frame (org BLOB NOT NULL REFERENCES feed (org) ON DELETE CASCADE, \
     digest BLOB NOT NULL CHECK (length(digest) = 32), bytes BLOB NOT NULL, PRIMARY KEY (org, digest)) STRICT",
    "CREATE TABLE IF NOT EXISTS proof (org BLOB NOT NULL, epoch INTEGER NOT NULL, first_head BLOB NOT NULL, \
     first_writer BLOB NOT NULL, second_head BLOB NOT NULL, second_writer BLOB NOT NULL, \
     PRIMARY KEY (org, epoch)) STRICT",
];

/// The way to the writer task.
#[derive(Debug)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
}

#[derive(Debug)]
enum Job {
    Write(Write),
    /// Answers once the change is on disk.
    Commit(Write, oneshot::Sender<Result<(), String>>),
}

impl Store {
    /// Opens or makes the file and reads all of it.
    pub(crate) async fn open(path: &Path, failpoint: Failpoint) -> Result<(Self, Stored), sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let mut connection = options.connect().await?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&mut connection).await?;
        }
        let stored = load(&mut connection).await?;
        let (jobs, inbox) = mpsc::channel(QUEUE_MAX);
        let writer = tokio::spawn(work(connection, inbox, failpoint));
        Ok((Self { jobs, writer }, stored))
    }

    /// Queues a change. Writes happen in the order in which they were queued.
    pub(crate) async fn write(&self, write: Write) {
        if self.jobs.send(Job::Write(write)).await.is_err() {
            tracing::error!("the network store's writer has ended; changes are no longer kept");
        }
    }

    /// Queues a change and tells when it, and all before it, are on disk.
    pub(crate) async fn commit(&self, write: Write) -> oneshot::Receiver<Result<(), String>> {
        let (reply, done) = oneshot::channel();
        // A writer that has ended drops the reply, which the receiver hears.
        let _ = self.jobs.send(Job::Commit(write, reply)).await;
        done
    }

    /// Ends the writer after what is queued, and waits for it.
    pub(crate) async fn close(self) {
        let Self { jobs, writer } = self;
        drop(jobs);
        let _ = writer.await;
    }
}

async fn work(mut connection: SqliteConnection, mut inbox: mpsc::Receiver<Job>, failpoint: Failpoint) {
    while let Some(job) = inbox.recv().await {
        match job {
            Job::Write(write) => match apply(&mut connection, &write, || failpoint("feed.before_commit")).await {
                Ok(()) => failpoint("feed.after_commit"),
                Err(error) => {
                    tracing::error!(%error, "a change was not kept; it will be fetched again after a restart");
                }
            },
            Job::Commit(write, reply) => {
                let done = apply(&mut connection, &write, || failpoint("head.before_commit")).await;
                let done = done.inspect(|()| failpoint("head.after_commit"));
                let _ = reply.send(done.map_err(|error| error.to_string()));
            }
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the network store did not close cleanly");
    }
}

/// One change, one transaction.
async fn apply(
    connection: &mut SqliteConnection,
    write: &Write,
    before_commit: impl FnOnce(),
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    match write {
        Write::Roster { version, bytes } => {
            sqlx::query("INSERT OR IGNORE INTO roster (version, bytes) VALUES (?, ?)")
                .bind(version.cast_signed())
                .bind(&bytes[..])
                .execute(&mut *tx)
                .await?;
        }
        Write::Feed { org, head, frames } => feed_put(&mut tx, *org, head, frames).await?,
        Write::Drop { org } => {
            sqlx::query("DELETE FROM feed WHERE org = ?").bind(&org.0[..]).execute(&mut *tx).await?;
        }
        Write::Frame { org, digest, bytes } => frame_put(&mut tx, *org, digest, bytes).await?,
        Write::Proof { org, epoch, first, second } => {
            sqlx::query("INSERT OR REPLACE INTO proof VALUES (?, ?, ?, ?, ?, ?)")
                .bind(&org.0[..])
                .bind(i64::from(*epoch))
                .bind(&first.head)
                .bind(&first.writer)
                .bind(&second.head)
                .bind(&second.writer)
                .execute(&mut *tx)
                .await?;
        }
    }
    before_commit();
    tx.commit().await
}

async fn feed_put(
    tx: &mut SqliteConnection,
    org: OrgId,
    head: &SignedHead,
    frames: &[(Digest, std::sync::Arc<[u8]>)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO feed (org, head, writer) VALUES (?, ?, ?) \
         ON CONFLICT (org) DO UPDATE SET head = excluded.head, writer = excluded.writer",
    )
    .bind(&org.0[..])
    .bind(&head.head)
    .bind(&head.writer)
    .execute(&mut *tx)
    .await?;
    let kept = sqlx::query("SELECT digest FROM frame WHERE org = ?").bind(&org.0[..]).fetch_all(&mut *tx).await?;
    for row in kept {
        let digest: Vec<u8> = row.try_get(0)?;
        if !frames.iter().any(|(named, _)| named.0[..] == digest[..]) {
            sqlx::query("DELETE FROM frame WHERE org = ? AND digest = ?")
                .bind(&org.0[..])
                .bind(&digest)
                .execute(&mut *tx)
                .await?;
        }
    }
    for (digest, bytes) in frames {
        frame_put(tx, org, digest, bytes).await?;
    }
    Ok(())
}

async fn frame_put(tx: &mut SqliteConnection, org: OrgId, digest: &Digest, bytes: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT OR IGNORE INTO frame (org, digest, bytes) VALUES (?, ?, ?)")
        .bind(&org.0[..])
        .bind(&digest.0[..])
        .bind(bytes)
        .execute(tx)
        .await?;
    Ok(())
}

async fn load(connection: &mut SqliteConnection) -> Result<Stored, sqlx::Error> {
    let rosters = sqlx::query("SELECT bytes FROM roster ORDER BY version").fetch_all(&mut *connection).await?;
    let rosters = rosters.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let mut feeds = Vec::new();
    for row in sqlx::query("SELECT org, head, writer FROM feed ORDER BY org").fetch_all(&mut *connection).await? {
        let org: Vec<u8> = row.try_get(0)?;
        let rows =
            sqlx::query("SELECT digest, bytes FROM frame WHERE org = ?").bind(&org).fetch_all(&mut *connection).await?;
        let mut frames = BTreeMap::new();
        for row in rows {
            let digest: Vec<u8> = row.try_get(0)?;
            let digest: [u8; 32] = digest.try_into().map_err(|_| sqlx::Error::Protocol("digest length".to_owned()))?;
            frames.insert(Digest(digest), row.try_get(1)?);
        }
        feeds.push(StoredFeed { head: SignedHead { head: row.try_get(1)?, writer: row.try_get(2)? }, frames });
    }
    let mut proofs = Vec::new();
    let query = "SELECT first_head, first_writer, second_head, second_writer FROM proof ORDER BY org, epoch";
    for row in sqlx::query(query).fetch_all(&mut *connection).await? {
        let first = SignedHead { head: row.try_get(0)?, writer: row.try_get(1)? };
        proofs.push((first, SignedHead { head: row.try_get(2)?, writer: row.try_get(3)? }));
    }
    Ok(Stored { rosters, feeds, proofs })
}
