//! What waits to be delivered. The rows are a store's; this is what it promises.

use std::error::Error;

use comity_wire::Timestamp;
use futures::future::BoxFuture;

use super::{DeliveryId, Notice};

/// A notice on its way to one receiver: what a store writes in the transaction of the event ([`super::Targets::deliveries`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// A row with this id is there once, however often it is written.
    pub id: DeliveryId,
    /// Name of the target.
    pub target: String,
    /// The one address, where the target has several.
    pub address: Option<String>,
    /// What is said.
    pub notice: Notice,
}

/// A row that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// What, and to whom.
    pub delivery: Delivery,
    /// How often [`Outbox::again`] was said of it.
    pub attempts: u32,
    /// When it was written.
    pub since: Timestamp,
}

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the outbox of notices cannot be read or written")]
pub struct Unkept(#[source] pub Box<dyn Error + Send + Sync>);

/// Rows of deliveries. A row that is done or given up stays for a week, so that one which is written again ([`super::soon`] is
/// asked each hour) is not delivered again. Several processes may share one: a row that was taken comes to nobody else until the time that was said,
/// and then comes again unless something was said of it. Each method is one transaction; dropping a call is safe.
pub trait Outbox: Send + Sync {
    /// Takes rows of a target whose time has come, the longest due first, and holds them back from everybody until `until`.
    fn due<'a>(
        &'a self,
        target: &'a str,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Queued>, Unkept>>;

    /// It was delivered.
    fn done(&self, id: DeliveryId, at: Timestamp) -> BoxFuture<'_, Result<(), Unkept>>;

    /// It was not, and is tried again at `next`: one attempt more.
    fn again<'a>(&'a self, id: DeliveryId, next: Timestamp, why: &'a str) -> BoxFuture<'a, Result<(), Unkept>>;

    /// Nobody tries it any more. The row stays for as long as the store shows such rows to the operator.
    fn gave_up<'a>(&'a self, id: DeliveryId, at: Timestamp, why: &'a str) -> BoxFuture<'a, Result<(), Unkept>>;

    /// Gives up what waits for targets that are not among these: they are not configured any more. How many.
    fn gave_up_others<'a>(
        &'a self,
        targets: &'a [String],
        at: Timestamp,
        why: &'a str,
    ) -> BoxFuture<'a, Result<u64, Unkept>>;
}
