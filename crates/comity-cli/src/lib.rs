//! The researcher's commands, one file each. They print results to stdout, talk to stderr, and end a failure with a hint.
#![forbid(unsafe_code)]

pub mod batch;
mod class;
mod code;
pub mod command;
pub mod compare;
pub mod fingerprint;
pub mod kept;
pub mod keys;
mod money;
pub mod plan;
mod printer;
pub mod program;
pub mod reference;
mod roster;
mod said;
mod session;

pub use command::{Command, run};
pub use printer::{Failure, note, plain, say};
pub use session::{Folder, open, random};
