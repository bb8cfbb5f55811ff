//! The words of the protocol: ids, keys, amounts, time; the strict CBOR profile; COSE `Signed<T>` → `Verified<T>`;
//! and every object of `spec/`.
//!
//! Promises: what decodes here is the one encoding of what it says (spec/01-encoding.md), and a [`Verified`] was
//! signed by the key it names. Leaves to others: whether that key may say so (comity-token, comity-registry), clocks,
//! sockets, storage.
#![forbid(unsafe_code)]

pub mod amount;
pub mod api;
pub mod cbor;
pub mod code;
pub mod cose;
pub mod digest;
pub mod id;
pub mod key;
pub mod log;
pub mod merkle;
pub mod meter;
pub mod object;
pub mod op;
pub mod time;

pub use amount::{Amount, Exact};
pub use cbor::{Decode, Encode, Malformed, MalformedKind};
pub use code::Code;
pub use cose::{Kind, Object, Signed, Unverified, Verified};
pub use digest::Digest;
pub use id::{
    AwardId, CreditNoteId, GrantId, LotId, MandateId, MemberId, ModelId, NodeId, OrgId, ProjectId, Pseudonym, QuoteId,
    RosterId, TokenId,
};
pub use key::{PublicKey, SecretKey};
pub use meter::{Meter, Meters};
pub use op::Op;
pub use time::Timestamp;
