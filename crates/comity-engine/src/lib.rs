//! The built-in model runtime on candle: a Llama forward pass, a byte tokenizer, answers and log-probabilities.
//!
//! Everything is synchronous and bound by the CPU; the caller brings threads, limits and cancellation (a receiver that
//! breaks off). The engine knows no HTTP, no capability tokens and no SQL. [`llama`] offers every value of the pass to
//! [`sites`]; [`corpus`] and [`train`] make the demonstration models that `models/` holds.

pub mod chance;
pub mod chat;
pub mod config;
pub mod corpus;
pub mod generate;
pub mod gguf;
pub mod llama;
pub mod model;
pub mod score;
pub mod scorecard;
pub mod sites;
pub mod tokenizer;
pub mod train;

pub use generate::{Finish, GenerateRequest, Outcome, Piece, RunError, Usage};
pub use model::{LoadError, Model, Release};
pub use score::Scored;
pub use scorecard::{Score, Scorecard, ScorecardError};
pub use sites::{NoSites, Part, Site, Sites};
pub use tokenizer::Tokenizer;
