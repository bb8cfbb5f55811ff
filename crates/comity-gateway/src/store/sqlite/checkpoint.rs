//! Checkpoints beside the writer.
//!
//! SQLite would copy its log into the file within the commit that makes the log too long, and one caller in a hundred
//! would wait for it. Here another connection copies nearly all of it while commits go on, then the rest while the writer
//! stands still, for the log begins anew only where nothing of it is left to copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex, mpsc};

use super::Writers;

/// Where those who write are, while they do not.
pub(super) type Place = Arc<Mutex<Writers>>;

/// Rows between two checkpoints; each has changed at most some four pages of the log.
const ROWS: usize = 2_000;

/// Counts what was written, and says when a checkpoint is due.
pub(super) struct Due {
    rows: AtomicUsize,
    signal: mpsc::Sender<()>,
}

impl Due {
    pub(super) fn written(&self, rows: usize) {
        if self.rows.fetch_add(rows, Ordering::Relaxed) + rows >= ROWS {
            self.rows.store(0, Ordering::Relaxed);
            // One that has not begun yet covers these rows, too.
            let _ = self.signal.try_send(());
        }
    }
}

/// Starts the task that makes checkpoints; it ends when [`Due`] is dropped.
pub(super) fn start(beside: SqliteConnection, writers: Place) -> Due {
    let (signal, signals) = mpsc::channel(1);
    tokio::spawn(run(beside, writers, signals));
    Due { rows: AtomicUsize::new(0), signal }
}

async fn run(mut beside: SqliteConnection, writers: Place, mut signals: mpsc::Receiver<()>) {
    while signals.recv().await.is_some() {
        let copied = async {
            copy(&mut beside).await?;
            copy(&mut writers.lock().await.others).await
        };
        if let Err(error) = copied.await {
            // The log grows until the next one.
            tracing::warn!(%error, "the spend store's log was not copied into its file");
        }
    }
}

/// Never waits for a reader or a writer: what they still need stays in the log.
async fn copy(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(connection).await?;
    Ok(())
}
