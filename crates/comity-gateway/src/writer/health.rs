//! Whether the store takes what it is given. After a batch that it did not take nobody is admitted until it has taken a
//! trial: a stream is handed over before it is charged, and on a full disk every one of them would be a gift.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::info;

use crate::store::{Store, StoreError};

#[derive(Debug, Default)]
pub(super) struct Health {
    unwell: AtomicBool,
    ended: AtomicBool,
    /// One trial at a time; who comes meanwhile is refused.
    trial: tokio::sync::Mutex<()>,
}

impl Health {
    pub(super) fn failed(&self) {
        self.unwell.store(true, Ordering::SeqCst);
    }

    pub(super) fn took(&self) {
        self.unwell.store(false, Ordering::SeqCst);
    }

    /// For as long as something is done of which others wait for the end: where it panics, the writer counts as ended before any of
    /// them hears of it.
    pub(super) fn at_work(&self) -> AtWork<'_> {
        AtWork(self)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Nothing where the store is well; else tries it out.
    ///
    /// # Errors
    /// Those of the trial; [`StoreError::Unwell`] while somebody else's goes on.
    pub(super) async fn assure(&self, store: &dyn Store) -> Result<(), StoreError> {
        if !self.unwell.load(Ordering::SeqCst) {
            return Ok(());
        }
        let Ok(_alone) = self.trial.try_lock() else { return Err(StoreError::Unwell) };
        store.try_out().await?;
        info!("the spend store takes batches again");
        self.took();
        Ok(())
    }
}

pub(super) struct AtWork<'h>(&'h Health);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ended.store(true, Ordering::SeqCst);
        }
    }
}
