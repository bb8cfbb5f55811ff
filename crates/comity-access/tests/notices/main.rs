//! Case notices: who is told what, that it arrives, and that nothing else does.

mod memory;
mod receiver;
mod scheduled;
mod settings;
mod story;
mod told;
mod webhook;
