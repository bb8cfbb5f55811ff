//! Kill −9 under load, at named points and at random: what was answered stands, no credit is made, nobody honest is refused.
//!
//! One story for each [`Kind`] of process, in a federation of its own. A cycle is one death of the process while callers
//! ask, buyers buy and end tokens, and owners publish; then it is started again, everything has to resume, and all that was
//! answered is looked up. At the end every token is ended and the books are held against the wallets. What is broken is
//! counted in a [`Report`] and told on stderr; only a story that cannot go on panics.
//!
//! [`clearing`] is on the clearing house's books: faults of disk, database and clock, races and replays.
//!
//! An [`Attack`] is on a node that stays up, with the same count at the end.

mod attack;
mod books;
mod clearing;
mod cycle;
mod load;
mod point;
mod service;
mod store;
mod tally;
mod wallet;

pub use attack::{Attack, Facts, Size, attack};
pub use clearing::{Fault, Synchronous, clearing};
pub use point::Kind;
pub use store::Store;
pub use tally::{Report, Tally};

use crate::Chance;

/// Kills a kind of process `cycles` times at named points and `cycles` times at random. `store` is where the node keeps
/// its books.
///
/// # Panics
/// Where the federation cannot be set up, or a process does not come up again.
pub async fn story(kind: Kind, store: Store, cycles: u32, chance: &mut Chance, tally: &Tally) {
    match kind {
        Kind::Wallet => wallet::story(cycles, chance, tally).await,
        Kind::Node | Kind::House | Kind::Hub => service::story(kind, store, cycles, chance, tally).await,
    }
}
