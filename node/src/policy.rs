//! What an owner's policy means, before it is signed: what each caller would get, what a change takes away, and what an owner may
//! not have meant. Pure, over the objects; the commands are in `command/policy.rs`.

mod advice;
mod facts;
mod reach;
mod show;

pub use advice::{Advice, advice};
pub use facts::{Change, changes};
pub use reach::{Caller, Outcome, Shift, outcome, reopened, shifts, supposed, supposed_plan};
pub use show::{seen_by, shown};

#[cfg(test)]
mod tests;
