//! Connections for everything but rounds: a handful, reused as long as they answer.
//!
//! Not sqlx's pool: it asks a connection that is given back whether it still answers, and where the network loses bytes that
//! question has no end, and the place is lost with it.

use std::sync::{Mutex, PoisonError};

use sqlx::postgres::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::super::StoreError;
use super::Postgres;

/// At once. One more waits, for as long as an answer may take.
const READERS_MAX: usize = 8;

pub(super) struct Readers {
    places: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

impl Default for Readers {
    fn default() -> Self {
        Self { places: Semaphore::new(READERS_MAX), idle: Mutex::default() }
    }
}

/// A connection in use. Dropped, it is closed; kept, it is used again.
pub(super) struct Reader<'r> {
    connection: Option<PgConnection>,
    readers: &'r Readers,
    _place: SemaphorePermit<'r>,
}

impl Readers {
    pub(super) async fn take(&self, store: &Postgres) -> Result<Reader<'_>, StoreError> {
        let place = self.places.acquire().await.expect("the places are never closed");
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => store.connect().await?,
        };
        Ok(Reader { connection: Some(connection), readers: self, _place: place })
    }
}

impl Reader<'_> {
    pub(super) const fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is there until it is kept")
    }

    pub(super) fn keep(mut self) {
        let connection = self.connection.take();
        self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(connection);
    }
}
