//! The one binary.

use std::process::ExitCode;

use comity_node::program;

/// Tasks wander between threads, and what one has allocated another frees (docs/decisions/0087).
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    program::main(&program::no_failpoint())
}
