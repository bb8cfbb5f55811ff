//! The world that cores are kept from: the clock and randomness.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use comity_wire::Timestamp;

/// Wall-clock time.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// [`now`] as the rooms take it.
pub fn clock() -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
    Arc::new(now)
}

/// # Panics
/// Where the operating system has no randomness: nothing can be signed safely then.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
