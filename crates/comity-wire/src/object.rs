//! Every object of the spec, one file for each chapter's family.

mod access;
mod certificate;
mod count;
mod credit;
mod decisions;
mod export;
mod feed;
mod manifest;
mod money;
mod plan;
mod policy;
mod receipt;
mod revocation;
mod roster;
mod statistics;
mod tariff;
mod terms;
mod token;

pub use access::*;
pub use certificate::*;
pub use count::*;
pub use credit::*;
pub use decisions::*;
pub use export::*;
pub use feed::*;
pub use manifest::*;
pub use money::*;
pub use plan::*;
pub use policy::*;
pub use receipt::*;
pub use revocation::*;
pub use roster::*;
pub use statistics::*;
pub use tariff::*;
pub use terms::*;
pub use token::*;

use crate::cbor::{Malformed, MalformedKind};

const KIB: usize = 1024;

/// A rule between fields that an object breaks.
const fn rule(what: &'static str) -> Malformed {
    Malformed::new(0, MalformedKind::Value(what))
}

const fn require(holds: bool, what: &'static str) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(rule(what)) }
}

/// Strictly ascending, so that a set has one encoding.
fn ascending<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> bool {
    items.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]))
}
