//! The books: reachable, writable, sound, up to date, and what their rows say of clock, log and revocation lists.

use comity_clearing::ops::{self, Glance};
use comity_ledger::Database;
use comity_ledger::db::{MigrationStanding, MigrationState};
use comity_wire::Timestamp;
use comity_wire::log::{Checkpoint, Note};

use super::{Check, Depth, span};
use crate::home::Home;
use crate::keystore::KeyName;
use crate::settings::{HouseSettings, Kept};

/// Nodes take a revocation list for 24 h; the house makes one every 12.
const LIST_S: u64 = 24 * 3600;
const LIST_SOON_S: u64 = 13 * 3600;
/// A running house seals within a second.
const SEAL_S: u64 = 120;
/// How far PostgreSQL's clock and ours may be apart.
const CLOCKS_S: u64 = 30;

pub(super) async fn checks(home: &Home, now: Timestamp, depth: Depth, running: bool) -> Vec<Check> {
    let Ok(kept) = HouseSettings::read(home).and_then(|settings| settings.books.kept(home)) else {
        return Vec::new();
    };
    if let Kept::Sqlite(path) = &kept
        && !path.exists()
    {
        let next = "start the house once, if it is a new one; else bring its books back: comity clearing restore";
        return vec![Check::fail("books", format!("there are none at {}", path.display()), next)];
    }
    let database = match kept.database() {
        Ok(database) => database,
        Err(failure) => return vec![Check::fail("books", failure.to_string(), "mend the address of the books")],
    };
    let reached = match ops::migrations(&database).await {
        Ok(states) => states,
        Err(failure) => {
            let next = "see that the database is there and lets the house in; nothing is lost while it is away";
            return vec![Check::fail("books", format!("{} cannot be reached: {}", kept.name(), chain(&failure)), next)];
        }
    };
    let mut checks = vec![Check::ok("books", format!("{} can be reached", kept.name())), migrations(home, &reached)];
    checks.push(writable(&database).await);
    if reached.iter().any(|state| state.standing == MigrationStanding::Pending && state.number == FIRST_OF_LOG) {
        return checks;
    }
    // What was signed first, then what the books have: a running house goes on in between.
    let signed = std::fs::read(home.file("log.checkpoint"));
    match ops::glance(&database).await {
        Ok(glance) => checks.extend(of_glance(home, &glance, signed, now, running)),
        Err(failure) => checks.push(Check::fail("books", chain(&failure), "look at them with a backup at hand")),
    }
    if reached.iter().all(|state| state.standing == MigrationStanding::Applied) {
        checks.push(owners(home, &database, now).await);
        if matches!(kept, Kept::Postgres(_)) {
            checks.extend(replicas(home, &database, now, running).await);
        }
    }
    checks.push(pages(&database, depth).await);
    if depth == Depth::Full {
        checks.push(audit(&database).await);
    }
    checks
}

/// Tables that the look needs.
const FIRST_OF_LOG: i64 = 520;

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn migrations(home: &Home, states: &[MigrationState]) -> Check {
    let of = |standing| states.iter().filter(move |state| state.standing == standing);
    let numbers = |standing| of(standing).map(|state| state.number.to_string()).collect::<Vec<_>>().join(", ");
    if of(MigrationStanding::Unknown).next().is_some() {
        let found = format!("a newer program was here: {}", numbers(MigrationStanding::Unknown));
        return Check::fail("migrations", found, "run that newer program");
    }
    if of(MigrationStanding::Differs).next().is_some() {
        let found = format!("not as this program knows them: {}", numbers(MigrationStanding::Differs));
        return Check::fail("migrations", found, "run the program that made these tables, or bring a backup back");
    }
    match of(MigrationStanding::Pending).count() {
        0 => Check::ok("migrations", format!("{} applied", states.len())),
        count => {
            let next =
                format!("the next `run` applies them, or `comity clearing migrate --home {}`", home.path.display());
            Check::warn("migrations", format!("{count} are not applied: {}", numbers(MigrationStanding::Pending)), next)
        }
    }
}

async fn writable(database: &Database) -> Check {
    match ops::writable(database).await {
        Ok(()) => Check::ok("writing", "the writers' lock was taken and given back"),
        Err(failure) => {
            let next = "see whether another process holds the books (fuser, pg_stat_activity), and whether disk and folder can be written";
            Check::fail("writing", chain(&failure), next)
        }
    }
}

fn of_glance(
    home: &Home,
    glance: &Glance,
    signed: std::io::Result<Vec<u8>>,
    now: Timestamp,
    running: bool,
) -> Vec<Check> {
    let mut checks = vec![durability(glance), sum(glance)];
    checks.extend(clock(glance, now, running));
    checks.push(log(home, glance, signed, now, running));
    checks.push(list(glance, now));
    if let Some(restored) = glance.facts.restored {
        let found = format!("they came back from a backup at {}, time {}", restored.restored_at, restored.number);
        checks.push(Check::ok("restored", found));
    }
    checks
}

fn durability(glance: &Glance) -> Check {
    match glance.server.faults.as_slice() {
        [] => Check::ok("durability", "what is answered is on the disk"),
        faults => Check::fail(
            "durability",
            faults.join("; "),
            "set them as they must be: a power cut loses what was answered",
        ),
    }
}

fn sum(glance: &Glance) -> Check {
    match glance.sum_ucr {
        0 => Check::ok("balances", format!("sum to zero, over {} transfers", glance.facts.transfers)),
        sum => Check::fail(
            "balances",
            format!("sum to {sum}"),
            "stop the house, keep a copy, run `comity ledger audit`: it names the rows",
        ),
    }
}

fn clock(glance: &Glance, now: Timestamp, running: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    let next = "set this machine's clock (chrony, ntpd) before anything else: deadlines and signatures rest on it";
    match glance.beat_at {
        beat if ops::is_clock_behind(beat, now) => {
            let behind = beat.map_or(0, |beat| beat.since(now));
            checks.push(Check::fail(
                "clock",
                format!("it is {} behind the house's last heartbeat", span(behind)),
                next,
            ));
        }
        Some(beat) if running && now.since(beat) > 150 => {
            let found = format!("the running house's last heartbeat is {} old", span(now.since(beat)));
            checks.push(Check::fail("clock", found, "look into the house's log: it cannot write"));
        }
        Some(beat) => checks.push(Check::ok("clock", format!("last heartbeat {} ago", span(now.since(beat))))),
        None => checks.push(Check::ok("clock", "no heartbeat yet")),
    }
    if let Some(server) = glance.server.now {
        let apart = server.since(now).max(now.since(server));
        if apart > CLOCKS_S {
            checks.push(Check::warn(
                "clock",
                format!("PostgreSQL's is {} apart from this machine's", span(apart)),
                next,
            ));
        }
    }
    checks
}

fn log(home: &Home, glance: &Glance, signed: std::io::Result<Vec<u8>>, now: Timestamp, running: bool) -> Check {
    let facts = &glance.facts;
    let show = format!("comity clearing log show --home {}", home.path.display());
    match signed {
        Ok(bytes) if bytes == comity_clearing::LOG_FORGOTTEN => {
            let next = "bring the newest log.checkpoint of the old home, or end the log: comity clearing log restart";
            return Check::fail("log", "the house came back from a backup and does not know what it signed last", next);
        }
        Ok(bytes) => {
            let remembered = Note::parse(&bytes).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
            let epoch = facts.log.map_or(1, |log| log.epoch);
            let of_this = remembered.filter(|remembered| remembered.origin.ends_with(&format!("/log/{epoch}")));
            if let Some(remembered) = of_this
                && remembered.size > facts.sealed
            {
                let found = format!(
                    "{} entries were signed, and the books have {}: they were set back",
                    remembered.size, facts.sealed
                );
                return Check::fail("log", found, "bring a newer backup, or end the log: comity clearing log restart");
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && facts.log.is_some() => {
            let next = "bring log.checkpoint back: without it the house does not notice that its books were set back";
            return Check::fail("log", "it was signed, and the memory of that is gone", next);
        }
        Err(_) => {}
    }
    let age = facts.signed_at.map_or(0, |at| now.since(at));
    let signed = facts.log.map_or(0, |log| log.size);
    if running && facts.waiting > 0 && age > SEAL_S {
        return Check::fail(
            "log",
            format!("{} acts wait, and the newest checkpoint is {} old", facts.waiting, span(age)),
            show,
        );
    }
    if facts.waiting > 0 && !running {
        return Check::ok("log", format!("{signed} entries signed; {} wait until the house runs", facts.waiting));
    }
    Check::ok("log", format!("{signed} entries signed"))
}

fn list(glance: &Glance, now: Timestamp) -> Check {
    let next = "start the house, or look into its log: nodes refuse everybody (`standing_stale`) once it is a day old";
    match glance.standing_at.map(|at| now.since(at)) {
        None => Check::warn("revocation list", "there is none yet", next),
        Some(age) if age >= LIST_S => Check::fail("revocation list", format!("it is {} old", span(age)), next),
        Some(age) if age >= LIST_SOON_S => Check::warn("revocation list", format!("it is {} old", span(age)), next),
        Some(age) => Check::ok("revocation list", format!("signed {} ago", span(age))),
    }
}

/// Whether everybody who earned something can be paid.
async fn owners(home: &Home, database: &Database, now: Timestamp) -> Check {
    let waiting = match ops::owners_without_terms(database, now).await {
        Ok(waiting) => waiting,
        Err(failure) => return Check::fail("owners", chain(&failure), "look at the books with a backup at hand"),
    };
    let Some((first, earned)) = waiting.first() else {
        return Check::ok("owners", "whoever earned something has terms");
    };
    let others = match waiting.len() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    let found = format!("{first} earned {earned} and cannot be paid: no terms hold for it{others}");
    let next = format!(
        "set them: comity clearing owner terms set --help; all of them: comity clearing owner show --home {} ORG",
        home.path.display()
    );
    Check::warn("owners", found, next)
}

/// Who answers for the house, and the line of the feed that they share.
async fn replicas(home: &Home, database: &Database, now: Timestamp, running: bool) -> Vec<Check> {
    let found = match ops::replicas(database, now).await {
        Ok(found) => found,
        Err(failure) => {
            return vec![Check::fail("replicas", chain(&failure), "look at the books with a backup at hand")];
        }
    };
    let own = home.keys.read(KeyName::Transport).map(|key| key.public());
    let is_there = own.is_ok_and(|own| found.there.iter().any(|replica| replica.key == own));
    let told: Vec<_> = found
        .there
        .iter()
        .map(|replica| replica.doors.first().map_or_else(|| replica.key.to_string(), |(_, address)| address.clone()))
        .collect();
    let feed = found.feed.map_or_else(
        || "nothing was published yet".to_owned(),
        |(epoch, seq)| format!("the feed is at number {seq} of epoch {epoch}"),
    );
    let text = match told.len() {
        0 => format!("none is there; {feed}"),
        count => format!("{count} are there ({}); {feed}", told.join(", ")),
    };
    let mut checks = Vec::new();
    if running && !is_there {
        let next =
            "look into this house's log: it does not say in the books that it is there, so its doors are not announced";
        checks.push(Check::fail("replicas", text, next));
    } else {
        checks.push(Check::ok("replicas", text));
    }
    match home.processes() {
        Ok(named) if named < told.len() => {
            let next = "copy the newest node-certificate.cbor from the first home into every home, and restart them one after the other";
            checks.push(Check::fail("replicas", format!("this home's certificate names {named} of them"), next));
        }
        Ok(_) => {}
        Err(failure) => {
            let next = "copy the newest node-certificate.cbor from the first home into this one, and restart it";
            checks.push(Check::fail("replicas", super::home::first_line(&failure), next));
        }
    }
    checks
}

async fn pages(database: &Database, depth: Depth) -> Check {
    match ops::integrity(database, depth == Depth::Full).await {
        Ok(complaints) if complaints.is_empty() => Check::ok("pages", "the engine finds nothing wrong"),
        Ok(complaints) => {
            let next = "stop the house, keep a copy of clearing.sqlite with -wal and -shm, restore the newest backup";
            Check::fail("pages", complaints.join("; "), next)
        }
        Err(failure) => Check::fail("pages", chain(&failure), "look at the books with a backup at hand"),
    }
}

async fn audit(database: &Database) -> Check {
    match ops::audit(database).await {
        Ok(report) if report.holds => {
            Check::ok("audit", format!("{} transfers were added again", report.ledger.transfers))
        }
        Ok(report) => {
            let found: Vec<_> = report.findings.iter().map(|finding| format!("{:?}", finding.what)).collect();
            let found = format!("{} breaks of the ledger; {}", report.ledger.breaks.len(), found.join(", "));
            Check::fail(
                "audit",
                found,
                "stop the house, keep a copy of its books, and look at what `comity ledger audit` lists",
            )
        }
        Err(failure) => Check::fail("audit", chain(&failure), "look at the books with a backup at hand"),
    }
}
