//! Blind probes: what a house asks of the models it sells, by whom it seems, when, and what the answers show.
//!
//! Owners are checked too (decision 0066, spec/13-checks.md). A probe is an ordinary call of an ordinary project that the
//! house pays from a lot of its own; the node cannot tell it from others. Its answers show whether the model behind a door
//! is the one that answered at first, whether announced auditors are treated better than everybody else, and whether the
//! meters tell the truth. Each verdict by chance comes with its rate of false alarms; each by contradiction rests on
//! receipts that the node signed.
//!
//! Pure: it takes `now`, a secret and what came back, and gives back what to ask and what was found. Who asks, pays and
//! keeps is the shell. Same secret, same inputs, same plan.
//!
//! ```text
//! for ask in program.plan(day) {                    // times, doors, personas and prompts
//!     let held = program.hold(now, &ask)?;          // never above the day's money
//!     let seen = shell.ask(&ask).await;
//!     for suspicion in program.observe(now, &ask, held, &seen) { … }   // at most one of a kind until it was dealt with
//! }
//! ```
#![forbid(unsafe_code)]

mod answer;
mod baseline;
mod chance;
mod checker;
mod detector;
mod finding;
pub mod fingerprint;
mod habit;
mod meters;
mod pairs;
mod peers;
mod pool;
mod program;
mod purse;
mod read;

pub use answer::{Answer, Choice, Step, distance};
pub use baseline::{Baseline, Grade, Rates};
pub use chance::{Chance, Secret};
pub use checker::{Asked, Checker, Observation, Suspicion, TESTS, Why};
pub use detector::{Detector, Promise};
pub use finding::{ANSWER_S, Act, Evidence, Finding, Moved, Refused, State};
pub use habit::{Habit, Slot};
pub use meters::{Bill, Contradiction, Counts, Terms};
pub use pairs::{Pairs, Signs};
pub use peers::Peers;
pub use pool::{Kind, Mark, Origin, Pool, Prompt};
pub use program::{Ask, Door, Held, Program, Settings};
pub use purse::{Purse, Spent};
pub use read::Read;
