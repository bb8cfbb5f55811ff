//! The house's log outside of its database: where its signatures are remembered, where it is read from, who verifies it.

mod check;
mod memory;
pub mod sample;
mod source;

pub use check::{Checked, check};
pub use memory::FileMemory;
pub(crate) use memory::{read_maybe, write_durably};
pub use source::{DoorArguments, Source};
