//! What a request cannot do without, each alone: a signature verified, one made, one flush to the disk.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use comity_node::shell;
use ed25519_dalek::{Signer as _, SigningKey};

/// µs of each. The signatures are ed25519-dalek's own, whatever the node uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    pub(crate) verify: f64,
    pub(crate) sign: f64,
    /// Wall time; hardly any of it is CPU.
    pub(crate) flush: f64,
}

/// As long as a request's signature base is.
const MESSAGE_BYTES: usize = 700;
const BATCHES: u32 = 50;
const BATCH: u32 = 20;
const FLUSHES: u32 = 50;
/// What a commit of one charge appends to the write-ahead log, near enough.
const FLUSH_BYTES: usize = 16 << 10;

impl Parts {
    /// # Errors
    /// Where the disk does not take a file below `folder`.
    pub(crate) fn measure(folder: &Path) -> Result<Self, String> {
        let key = SigningKey::from_bytes(&shell::random());
        let (public, message) = (key.verifying_key(), [0x5a; MESSAGE_BYTES]);
        let signature = key.sign(&message);
        let verify = fastest(|| public.verify_strict(black_box(&message), &signature).expect("it stands"));
        let sign = fastest(|| {
            black_box(key.sign(black_box(&message)));
        });
        let flush = flush(&folder.join("flushed")).map_err(|error| format!("error: cannot flush a file: {error}"))?;
        Ok(Self { verify, sign, flush })
    }
}

/// µs of one call in the fastest batch: arithmetic takes no longer than that, the rest is somebody else's turn on the core.
fn fastest(mut work: impl FnMut()) -> f64 {
    let mut batch = || {
        let started = Instant::now();
        for _ in 0..BATCH {
            work();
        }
        started.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH)
    };
    (0..BATCHES).map(|_| batch()).fold(f64::INFINITY, f64::min)
}

/// Into a file that has its length already, as a write-ahead log has after its first turn.
fn flush(path: &Path) -> std::io::Result<f64> {
    use std::os::unix::fs::FileExt as _;
    let mut file = File::create(path)?;
    file.write_all(&vec![0; FLUSH_BYTES * FLUSHES as usize])?;
    file.sync_all()?;
    let block = [0x5a; FLUSH_BYTES];
    let started = Instant::now();
    for at in 0..u64::from(FLUSHES) {
        file.write_all_at(&block, at * FLUSH_BYTES as u64)?;
        file.sync_data()?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(FLUSHES))
}
