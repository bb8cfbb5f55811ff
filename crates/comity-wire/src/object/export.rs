//! What an owner's node handed over of one project (spec/11-access.md §11.10).

use super::require;
use crate::cbor::{Malformed, Text, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::NodeId;
use crate::time::Timestamp;

record! {
    /// Stands for a whole folder by the digest of the list of its files. Signed by a receipt key that is in force.
    pub struct Export {
        1 => node: NodeId,
        /// The project, by its pseudonym with the node's organisation.
        2 => subject: Text<80>,
        /// SHA-256 of `export.json`, which has the digest of each file and says what is missing.
        3 => contents: Digest,
        /// Whether the node says that nothing is missing.
        4 => complete: bool,
        5 => at: Timestamp,
    }
}

impl Object for Export {
    const KIND: Kind = Kind { name: "export", bytes_max: 512, items_max: 16 };

    fn validate(&self) -> Result<(), Malformed> {
        require(!self.subject.as_str().is_empty(), "export: of nobody")
    }
}
