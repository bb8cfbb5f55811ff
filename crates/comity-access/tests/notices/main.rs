//! Case notices: who is told what, that it arrives, and that nothing else does.

#[path = "../../src/notice/contract.rs"]
mod contract;
mod desk;
mod mail;
mod memory;
mod receiver;
mod scheduled;
mod settings;
mod smtp;
mod story;
mod told;
mod webhook;

/// As the suite calls it where it stands.
mod notice {
    pub(crate) use comity_access::notice::{Delivery, DeliveryId, Notice, Outbox, Queued};
}
