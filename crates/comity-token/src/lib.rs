//! Capability tokens: mint, delegate, verify; request signatures; the access decision; the read handle on what a
//! federation publishes.
//!
//! Promises: a [`Capability`] was verified root to leaf in the order of spec/04-token.md §5, a [`VerifiedRequest`] was
//! signed by its holder over exactly the covered parts, and a [`policy::Decision`] rests on equality alone. Leaves to
//! others: budgets, lanes and sequences (gateway, clearing house), HTTP servers, clocks, randomness.
#![forbid(unsafe_code)]

pub mod acknowledgement;
pub mod agreement;
pub mod api_call;
pub mod chain;
pub mod denied;
pub mod directory;
pub mod policy;
pub mod receipt;
pub mod request;
mod rights;
pub mod signature;
pub mod token;

pub use acknowledgement::{sign_acknowledgement, verify_acknowledgement, verify_acknowledgement_among};
pub use agreement::{sign_agreement, verify_agreement};
pub use api_call::{ApiCaller, sign_api, verify_api};
pub use chain::{Capability, DelegateError, Narrow, PathCap, Trust, delegate, verify, verify_for_settlement};
pub use denied::Denied;
pub use directory::Directory;
pub use policy::{Allowed, Ask, Decision, Missing, decide, decide_summary};
pub use receipt::{verify_claim, verify_final, verify_receipt};
pub use request::{
    Authority, UnverifiedRequest, VerifiedRequest, parse_request, parse_request_of, request_digest, response_digest,
    sign_request, signed_authority,
};
pub use token::mint;

// Tests share their world with the vectors' generator, so that both see the same cases.
#[cfg(test)]
extern crate self as comity_token;
#[cfg(test)]
#[allow(unreachable_pub, dead_code)]
#[path = "../examples/vectors/chains.rs"]
mod chains;
#[cfg(test)]
#[allow(unreachable_pub, dead_code)]
#[path = "../examples/vectors/requests.rs"]
mod requests;
#[cfg(test)]
#[allow(unreachable_pub, dead_code)]
#[path = "../examples/vectors/world.rs"]
mod world;
