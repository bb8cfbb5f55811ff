//! `cargo xtask torture`: every kind of process killed at its named points and at random, attacks on a node that stays up, and
//! one object that says what came of it, after a row for each attack.
#![forbid(unsafe_code)]
// Results go to stdout, progress to stderr.
#![allow(clippy::print_stdout)]

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use comity_tests::Chance;
use comity_tests::torture::{self, Attack, Facts, Fault, Kind, Report, Size, Store, Synchronous, Tally};
use futures::FutureExt as _;

/// What it was called with; `cargo xtask torture --help` says what each means.
struct Arguments {
    json: bool,
    seed: u64,
    cycles: u32,
    kinds: Vec<Kind>,
    attacks: Vec<Attack>,
    store: Store,
    /// The clearing house's books: faults, and deaths of the house.
    clearing: bool,
}

const CYCLES: u32 = 20;
/// One death at a point and one at random for as many faults.
const DEATHS_IN: u32 = 10;

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let holds = runtime.expect("the operating system gives threads").block_on(run(&arguments));
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: &Arguments) -> bool {
    let Arguments { seed, mut cycles, ref kinds, ref attacks, json, store, clearing } = *arguments;
    let names: Vec<_> =
        kinds.iter().map(|kind| kind.name()).chain(attacks.iter().map(|attack| attack.name())).collect();
    eprintln!("seed: {seed}; {cycles} cycles of {}", names.join(", "));
    let tally = Tally::default();
    if clearing {
        let mut chance = Chance::seeded(seed);
        let faults = Fault::of(store);
        let story = torture::clearing(store, Synchronous::Full, faults, cycles, &mut chance, &tally);
        match AssertUnwindSafe(story).catch_unwind().await {
            Ok((struck, unsynced)) => eprintln!("struck: {struck:?}; writes that were not on the disk: {unsynced}"),
            Err(_) => tally.broken("the story of the clearing house came to no end"),
        }
        // A death of the whole process takes seconds, a fault a tenth of one.
        cycles = (cycles / DEATHS_IN).max(1);
    }
    for attack in attacks {
        let mut chance = Chance::seeded(seed ^ u64::from(attack.name().as_bytes()[1]));
        let began = std::time::Instant::now();
        let story = torture::attack(*attack, store, Size::Large(cycles), &mut chance, &tally);
        match AssertUnwindSafe(story).catch_unwind().await {
            Ok(facts) => row(*attack, began.elapsed().as_secs(), &facts, &tally, json),
            Err(_) => tally.broken(&format!("the story of the {} came to no end", attack.name())),
        }
    }
    for kind in kinds {
        // Each kind has chance of its own: one of them alone dies as it does among the others.
        let mut chance = Chance::seeded(seed ^ u64::from(kind.name().as_bytes()[1]));
        // A story that cannot go on has panicked: what was counted until then is printed all the same.
        let story = AssertUnwindSafe(torture::story(*kind, store, cycles, &mut chance, &tally)).catch_unwind();
        if story.await.is_err() {
            tally.broken(&format!("the story of the {} came to no end", kind.name()));
        }
    }
    let (report, missed, uncovered) = (tally.report(), tally.missed(), tally.uncovered(kinds));
    eprintln!("died at: {}", tally.covered().join(", "));
    if !uncovered.is_empty() {
        eprintln!("nothing died at: {}", uncovered.join(", "));
    }
    print(&report, json);
    if !report.holds() {
        let store = if store == Store::Postgres { " --store postgres" } else { "" };
        let what = if clearing { " clearing" } else { "" };
        eprintln!("broken; again: cargo xtask torture{what} --seed {seed} --cycles {}{store}", arguments.cycles);
    }
    report.holds() && missed.is_empty()
}

/// What one attack had to tell.
fn row(attack: Attack, seconds: u64, facts: &Facts, tally: &Tally, json: bool) {
    let mut value = serde_json::json!({"story": attack.name(), "seconds": seconds, "holds": tally.report().holds()});
    value
        .as_object_mut()
        .expect("an object")
        .extend(facts.iter().map(|(name, fact)| ((*name).to_owned(), (*fact).into())));
    if json {
        println!("{value}");
    }
}

fn print(report: &Report, json: bool) {
    let value = serde_json::to_value(report).expect("a report has a JSON form");
    if json {
        println!("{value}");
        return;
    }
    for (name, value) in value.as_object().expect("a report is an object") {
        println!("{name:<18} {value:>8}");
    }
}

impl Arguments {
    fn read(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let (kinds, attacks) = (Vec::new(), Vec::new());
        let (store, clearing) = (Store::Sqlite, false);
        let mut read = Self { json: false, seed: random(), cycles: CYCLES, kinds, attacks, store, clearing };
        let mut gateway = false;
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--json" => read.json = true,
                "--seed" => read.seed = number(&value()?)?,
                "--cycles" => read.cycles = number(&value()?)?,
                "--store" => read.store = value()?.parse()?,
                "--kind" => read.kinds.push(value()?.parse()?),
                "--attack" => read.attacks.push(value()?.parse()?),
                "gateway" => gateway = true,
                "clearing" => read.clearing = true,
                other => return Err(format!("`{other}` is not understood")),
            }
        }
        if read.clearing {
            read.kinds = vec![Kind::House];
        } else if read.kinds.is_empty() && read.attacks.is_empty() {
            read.kinds = if gateway { vec![Kind::Node] } else { Kind::ALL.to_vec() };
            read.attacks = Attack::ALL.into_iter().filter(|attack| attack.is_of(read.store)).collect();
        }
        if let Some(attack) = read.attacks.iter().find(|attack| !attack.is_of(read.store)) {
            return Err(format!("{} is for another --store", attack.name()));
        }
        Ok(read)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

fn random() -> u64 {
    u64::from_le_bytes(comity_node::shell::random())
}
