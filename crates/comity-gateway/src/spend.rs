//! The spend core: who may still spend what, decided without waiting for anything.
//!
//! A [`Book`] keeps, per token, what was charged (an [`Account`], as the store has it) and what is held (in memory
//! only, rule 11). [`Book::admit`] decides and holds in one step. Everything durable is a [`Change`]: [`Book::stage`]
//! works out what a batch of them does, the store writes the resulting [`Write`]s in one SQL transaction, and
//! [`Book::commit`] lets the book follow. Where the store fails, the staged batch is dropped: nothing was said to
//! anybody.
//!
//! Promises: charged + held ≤ every cap on the path; unacknowledged + held ≤ the lane's window; charge ≤ hold ≤ signed
//! maximum; a slot is charged once. Leaves to others: who asks (phases), where bytes rest ([`crate::store`]), time.

mod account;
mod admit;
mod claim;
mod excerpt;
mod pace;
mod price;
mod refused;
mod runs;
mod shared;
mod stage;
#[cfg(test)]
mod tests;

pub use account::{ASKED_MAX, Account, Charged, Lane, LaneKey, Recent, Slot};
pub use admit::{Admission, Ask, Balance, Book, HoldId, Known};
pub use claim::{ClaimPart, due, proof};
pub use excerpt::Excerpt;
pub use pace::{Bound, Counted, Pace, PaceKey, PaceView, Rule, Standing};
pub use price::{Caps, Clip, Limit, Priced, price};
pub use refused::Refused;
pub use runs::{RunKey, RunRow, Volume, Within};
pub use shared::{SharedHold, View};
pub use stage::{Change, Charge, Evidence, Outcome, Proof, Signer, Stage, Write};

/// The numbers around the highest charged that a lane takes in: 64 after it, and those of the 64 before it that were
/// left out (rule 2).
pub const SEQ_SPAN: u64 = 64;
// What a node takes in, its house believes: the oldest place that is open beside the newest.
const _: () = assert!(comity_wire::api::challenge::SEQ_LAG == 2 * SEQ_SPAN - 1);
