//! The shell of the blind probes: it asks what `comity-probe` plans, as ordinary projects of the house, and keeps what came back (decision
//! 0066, 0071; docs/operating/probes.md).
//!
//! A process of its own beside the house: it talks HTTP to house and nodes as any researcher's client does. What it does at each moment
//! the core says; what it was told is in [`journal`] before the next thing is done. So a process that is killed goes on where it was: a call
//! that was begun is asked again under its own key, and charged once.

pub mod call;
pub mod config;
pub mod facts;
pub mod journal;
pub mod personas;
pub mod report;
pub mod runner;
pub mod state;

use std::path::PathBuf;

use crate::home::Home;

/// The folder of the probes in a house's home: nobody else can read it.
#[must_use]
pub fn folder(home: &Home) -> PathBuf {
    home.file("probe")
}
