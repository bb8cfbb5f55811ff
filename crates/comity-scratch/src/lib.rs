//! For tests alone: one suite run on every store ([`contract!`]), a PostgreSQL database for one test ([`Database`]), and a
//! wire to it that can be cut ([`Wire`]).
//!
//! No room links it but in its tests.
#![forbid(unsafe_code)]

mod cluster;
mod database;
mod wire;

pub use cluster::{Server, url_of};
pub use database::{Database, VARIABLE};
pub use wire::{Far, Wire};

/// A store with what must live as long as it: a folder, a database.
pub struct Kept<S, G> {
    store: S,
    /// Dropped after the store.
    _guard: G,
}

impl<S, G> Kept<S, G> {
    pub const fn new(store: S, guard: G) -> Self {
        Self { store, _guard: guard }
    }
}

impl<S, G> std::ops::Deref for Kept<S, G> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.store
    }
}

/// What every store must do, run on each: a module for each backend with a test for each promise.
///
/// A promise is an `async fn(&dyn Store)` in the calling module, a backend is a name and an `async fn` that gives something
/// which dereferences to the store. A backend that needs a server is called `postgres`: that name is how the runner knows it.
///
/// ```ignore
/// comity_scratch::contract! { { reads_back keeps_grants } memory: memory, sqlite: sqlite, postgres: postgres }
/// ```
#[macro_export]
macro_rules! contract {
    ($promises:tt $($backend:ident: $open:ident),+ $(,)?) => {
        $($crate::contract! { @ $backend $open $promises })+
    };
    (@ $backend:ident $open:ident { $($promise:ident)+ }) => {
        mod $backend {
            $(#[tokio::test]
            async fn $promise() {
                let store = super::$open().await;
                super::$promise(&*store).await;
            })+
        }
    };
}
