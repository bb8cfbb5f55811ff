//! Whether the store takes what it is given. After a batch that it did not take nobody is admitted until it has taken a
//! trial: a stream is handed over before it is charged, and on a full disk every one of them would be a gift.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::info;

use crate::store::{Store, StoreError};

#[derive(Debug, Default)]
pub(super) struct Health {
    unwell: AtomicBool,
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
