//! The house, tried as its callers use it.

mod story;
mod world;
