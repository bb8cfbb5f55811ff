//! The composition root: it owns files, environment, keys, clocks and shutdown, and wires the rooms together. It knows no
//! rule of the protocol.

pub mod backup;
pub mod cases;
pub mod command;
pub mod demo;
pub mod doctor;
mod engine_upstream;
pub mod failure;
pub mod handed;
pub mod home;
pub mod keystore;
pub mod log;
mod models;
pub mod moderation;
pub mod offer;
pub mod packs;
pub mod policy;
pub mod probe;
pub mod program;
mod scorecard_upstream;
pub mod service;
pub mod settings;
pub mod shell;
pub mod telemetry;
pub mod transcripts;
pub mod watch;
