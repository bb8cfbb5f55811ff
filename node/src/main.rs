//! The one binary.

use std::process::ExitCode;

use comity_node::program;

fn main() -> ExitCode {
    program::main(&program::no_failpoint())
}
