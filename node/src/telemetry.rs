//! The log: to stderr, `COMITY_LOG` filters it (default: warnings, and the life of our own rooms); `COMITY_LOG_FORMAT=json` makes
//! each event an object of its own for those who collect logs.

use tracing_subscriber::EnvFilter;

/// Installs the log once. Never a token, key or prompt goes there.
pub fn start() {
    let filter = EnvFilter::try_from_env("COMITY_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    if std::env::var("COMITY_LOG_FORMAT").is_ok_and(|form| form == "json") {
        log.json().flatten_event(true).try_init().ok();
    } else {
        log.try_init().ok();
    }
}
