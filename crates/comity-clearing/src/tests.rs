//! The house, tried as its callers use it.

mod settling;
mod story;
mod world;
