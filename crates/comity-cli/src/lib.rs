//! The researcher's commands, one file each. They print results to stdout, talk to stderr, and end a failure with a hint.
#![forbid(unsafe_code)]

mod batch;
pub mod command;
pub mod plan;
mod printer;
mod said;
mod session;

pub use command::{Command, run};
pub use printer::{Failure, note, plain, say};
