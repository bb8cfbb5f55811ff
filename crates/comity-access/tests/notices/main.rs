//! Case notices: who is told what, that it arrives, and that nothing else does.

mod desk;
mod mail;
mod memory;
mod receiver;
mod scheduled;
mod settings;
mod smtp;
mod story;
mod told;
mod webhook;
