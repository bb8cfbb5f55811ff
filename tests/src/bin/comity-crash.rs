//! `comity` that dies where it is told to: `COMITY_CRASH_AT=charge.before_commit:3` ends the process at the third time
//! that it comes to that point.
//!
//! The same program as `comity` in every other way. It aborts: no handler runs, nothing is flushed, as under kill −9.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use comity_node::program::{self, Failpoint};

const VARIABLE: &str = "COMITY_CRASH_AT";

fn main() -> ExitCode {
    let failpoint = match std::env::var(VARIABLE) {
        Ok(text) => match at(&text) {
            Some(failpoint) => failpoint,
            None => {
                eprintln!("{VARIABLE}={text} is not POINT:COUNT, such as charge.before_commit:3");
                return ExitCode::FAILURE;
            }
        },
        Err(_) => program::no_failpoint(),
    };
    program::main(&failpoint)
}

fn at(text: &str) -> Option<Failpoint> {
    let (point, count) = text.split_once(':')?;
    let (point, count) = (point.to_owned(), count.parse::<u64>().ok().filter(|count| *count > 0)?);
    let come = AtomicU64::new(0);
    Some(Arc::new(move |here| {
        if here == point && come.fetch_add(1, Ordering::SeqCst) + 1 == count {
            std::process::abort();
        }
    }))
}
