//! A replica of the federation's roster and feeds, as a state machine without I/O.
//!
//! [`Registry::handle`] takes the time and an [`Input`]; [`Registry::poll`] gives back what the shell has to do. It promises
//! that what it shows was signed by whoever may say it (spec/03-manifest.md §2), that no author's number falls, and that
//! honest replicas that can reach each other come to hold the same. Leaves to others: sockets, disks, clocks, and whether
//! a caller may use what a search finds (comity-token).
#![forbid(unsafe_code)]

pub mod feed;
pub mod held;
pub mod message;
pub mod proof;
pub mod publish;
pub mod replica;
pub mod roster;
pub mod search;
pub mod verify;

pub use feed::{Complete, SignedHead};
pub use held::Held;
pub use message::{Reply, Request};
pub use proof::Proof;
pub use publish::{Publication, Put};
pub use replica::{Change, Input, NotAdmitted, Output, Peer, Registry, Ticket, Verdict, Write};
pub use roster::{Chain, NotTheNext};
pub use search::{Catalog, Query};
