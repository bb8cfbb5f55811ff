//! The clearing house's transparency log as bytes (spec/10-log.md): entries, tiles, checkpoints, proofs.
//!
//! The formats are C2SP's (`tlog-tiles`, `tlog-checkpoint`, `signed-note`, `tlog-cosignature`, `tlog-witness`), the tree is
//! RFC 6962's; only what an entry says is Comity's own. Everything here is pure: the house that writes a log, the witness
//! that cosigns it and whoever verifies it share these files and nothing else.

mod entry;
mod note;
mod proof;
mod tile;
mod witness;

pub use entry::*;
pub use note::*;
pub use proof::*;
pub use tile::*;
pub use witness::*;
