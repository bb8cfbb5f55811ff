//! The house, tried as its callers use it.

mod auditing;
mod settling;
mod standing;
mod story;
mod world;
