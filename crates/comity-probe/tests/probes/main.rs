//! Owners that are checked, honest ones and others, under a virtual clock. Each seed plays the same way each time.

mod engine;
mod fingerprint;
mod honest;
mod meters;
mod money;
mod owner;
mod swapped;
mod traffic;
