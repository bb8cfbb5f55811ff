//! The researcher's client: discover, quote, buy, query, acknowledge, final, verify receipts.
//!
//! Promises: nothing is believed that was not verified under the pinned roster; nothing is sent before the journal has it;
//! every limit the user set holds across a crash. Leaves to others: how it is shown (comity-cli), and who may be asked.
//!
//! [`wallet`] and [`lane`] are cores without I/O; [`client`] does the awaiting.
#![forbid(unsafe_code)]

pub mod asking;
pub mod audit;
pub mod cap;
pub mod chat;
pub mod client;
pub mod compare;
pub mod discover;
pub mod door;
pub mod estimate;
pub mod evidence;
pub mod fingerprint;
mod hint;
pub mod journal;
pub mod keys;
pub mod lane;
mod pass;
pub mod pending;
pub mod profile;
pub mod receipts;
pub mod route;
pub mod seal;
#[cfg(test)]
mod vectors;
pub mod wallet;
pub mod want;

pub use chat::{Answer, Demanded, Query};
pub use client::{Client, Error};
pub use profile::Profile;
pub use want::Name;

/// Names the one TLS provider of this process. To be called before anything connects.
pub fn install_tls() {
    comity_http::tls::install();
}

/// An error with its causes, for a log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What a caller of the client names: rights to hand on, the access decision, the read handle on the federation.
pub use comity_token as token;
