//! The log: to stderr, `COMITY_LOG` filters it (default: warnings, and the life of our own rooms).

use tracing_subscriber::EnvFilter;

/// Installs the log once. Never a token, key or prompt goes there.
pub fn start() {
    let filter = EnvFilter::try_from_env("COMITY_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true).try_init().ok();
}
