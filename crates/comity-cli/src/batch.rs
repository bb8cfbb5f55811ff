//! Batches, run at the holder's side: each line is an ordinary signed call under a key of its own, so that each is charged
//! exactly once, however often the proxy dies (docs/decisions/0032-batches-at-the-holder.md).
//!
//! Files rest under the wallet's home and never at an owner. [`store`] keeps them, [`input`] reads what is asked,
//! [`price`] settles at which price, [`run`] asks. Leaves to others: HTTP (the proxy), money and retries of one call (the SDK).

//! [`lines`] is the same without a proxy: one file to another.

pub(crate) mod input;
pub mod lines;
pub(crate) mod object;
mod price;
pub(crate) mod run;
pub(crate) mod store;
