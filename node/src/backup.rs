//! A house's backup: a folder with a copy of its books, what stands beside them, what its blind probes know, and a manifest with the digest of each file.
//!
//! It is taken while the house works ([`take`]) and put back into a home that has no books ([`restore`]). Keys are in it only
//! where that was asked for. The memory of what the log signed last (`log.checkpoint`) never is: an older one, put beside an
//! older database, would hide from the house that it was set back. Decision 0040.

mod manifest;
mod postgres;
mod probe;
mod restore;
mod take;
#[cfg(test)]
mod tests;

pub use manifest::{Manifest, Stored};
pub use restore::{Restore, Returned, restore};
pub use take::{Last, LastBackup, take};

/// The copy of the books, by the engine that they were in.
const SQLITE_COPY: &str = "clearing.sqlite";
const POSTGRES_COPY: &str = "clearing.pgdump";
/// What a house needs beside its books and its keys.
const PUBLIC: &[&str] = &["organisation.json", "roster.cbor", "node-certificate.cbor", "writer-certificate.cbor"];
/// What may be secret: all of `keys/`, and the settings, which may have a password in them.
const KEYS: &str = "keys";
const SETTINGS: &str = crate::settings::HOUSE_FILE;

/// Makes a folder, and those above it, that nobody else can look into.
fn closed_folder(path: &std::path::Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
