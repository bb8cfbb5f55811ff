//! The federation harness: real processes of the built binary, on loopback, in a folder of their own, ended by their ids.
//!
//! Promises: nothing it started outlives it; every port is the system's choice; what it waits for, it waits for by asking,
//! with an end. Leaves to the stories in `it/`: what is asked of the federation.
// `torture::clearing::power` speaks C with SQLite; nothing else here may.
#![deny(unsafe_code)]

pub mod chance;
pub mod doors;
pub mod federation;
pub mod holder;
pub mod house;
pub mod moderator;
pub mod openid;
pub mod page;
pub mod process;
pub mod torture;
pub mod upstream;

pub use chance::Chance;
pub use federation::{Federation, Owner, eventually};
pub use holder::Holder;
pub use upstream::Scripted;
