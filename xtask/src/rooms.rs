//! `cargo xtask rooms`: how long one room's tests take after a change in it; the table of CONTRIBUTING.md.

use std::fs::{File, FileTimes};
use std::process::Stdio;
use std::time::{Instant, SystemTime};

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process;

pub(crate) const HELP: &str = "\
Measure how long `cargo test -p` takes for each room that builds neither libp2p nor candle, after a change in that room.

Usage: cargo xtask rooms

Prints rows for the table of CONTRIBUTING.md. Run it with nothing else running.
";

const ROOMS: &[&str] = &["wire", "token", "registry", "ledger", "guard", "gateway"];

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    if let Some(arg) = args.first() {
        return Err(Failure::input(format!("`{arg}` is not understood")).hint("cargo xtask rooms takes no argument"));
    }
    for room in ROOMS {
        let package = format!("comity-{room}");
        // Third-party crates and the rooms below are built first: they are not what is measured.
        test(place, &package, &["--no-run"])?;
        touch(place, room)?;
        let started = Instant::now();
        test(place, &package, &[])?;
        println!("| `cargo test -p {package}` | {:.0} |", started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn test(place: &Place, package: &str, arguments: &[&str]) -> Result {
    let mut test = process::cargo(place);
    test.args(["test", "--quiet", "--locked", "-p", package]).args(arguments).stdout(Stdio::null());
    process::step(package, &mut test)
}

/// What an edit does, to cargo's eyes.
fn touch(place: &Place, room: &str) -> Result {
    let path = place.root.join("crates").join(format!("comity-{room}")).join("src/lib.rs");
    let now = FileTimes::new().set_modified(SystemTime::now());
    File::options()
        .append(true)
        .open(&path)
        .and_then(|file| file.set_times(now))
        .map_err(|error| Failure::machine(format!("cannot touch {}: {error}", path.display())))
}
