//! `cargo xtask bench ledger`: what a clearing house does in a second, beside pgbench and bare signature checks.
//!
//! A real house in this process: quotes are verified, tokens signed, receipts, acknowledgements and claims verified, every
//! answer durable. Callers, house and database share the machine. Rounds of ours and of the yardstick alternate; the median
//! counts. Stdout carries figures only.

mod books;
#[path = "../../../bench/src/figure.rs"]
mod figure;
mod load;
mod pgbench;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use comity_ledger::Database;
use ed25519_dalek::{Signer as _, SigningKey};
use figure::{Figure, median};
use pgbench::Pgbench;
use world::{LANES, World};

const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(4);
const CALLERS: usize = 64;
/// Callers where there is no yardstick that has as many connections.
const CROWD: usize = 256;
/// Projects where many are meant.
const PROJECTS: usize = 1_000;
/// Claims of a round.
const CLAIMS: usize = 150;
/// Claims under way at once.
const CLAIMERS: usize = 16;
const AUDITED: u64 = 1_000_000;
/// What can be measured alone, by its name.
const PARTS: [&str; 4] = ["sqlite", "postgres", "hot", "audit"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let json = words.iter().any(|word| word == "--json");
    let small = words.iter().any(|word| word == "--small");
    let named: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let parts = if named.is_empty() { PARTS.to_vec() } else { named };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives threads");
    match runtime.block_on(measure(&parts, if small { Size::SMALL } else { Size::WHOLE })) {
        Ok(figures) => {
            figure::print(&figures, json);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// How much is measured: all of it, or little, to see that it runs.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    time: Duration,
    projects: usize,
    claims: usize,
    audited: u64,
}

impl Size {
    const WHOLE: Self = Self { rounds: ROUNDS, time: ROUND_TIME, projects: PROJECTS, claims: CLAIMS, audited: AUDITED };
    const SMALL: Self = Self { rounds: 1, time: Duration::from_secs(1), projects: 20, claims: 10, audited: 10_000 };
}

async fn measure(parts: &[&str], size: Size) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for part in parts {
        let folder = tempfile::tempdir().map_err(|error| format!("error: no folder for the books: {error}"))?;
        figures.extend(match *part {
            "sqlite" => sqlite(folder.path(), size).await?,
            "postgres" => reserve_postgres("reserve_pg", size.projects, 10, size).await?,
            "hot" => reserve_postgres("reserve_pg_hot", 1, 1, size).await?,
            "audit" => vec![audit(folder.path(), size).await?],
            other => return Err(format!("error: nothing is called `{other}`\nhint: one of {}", PARTS.join(", "))),
        });
    }
    Ok(figures)
}

async fn sqlite(folder: &Path, size: Size) -> Result<Vec<Figure>, String> {
    eprintln!("books in SQLite");
    let file = folder.join("house.db");
    let world = Arc::new(World::open(Database::sqlite(&file), size.projects).await?);
    let mut figures = reserve_sqlite(&world, &file, size).await?;
    figures.push(settle(&world, "settle_sqlite", size).await?);
    world.house.shutdown().await;
    Ok(figures)
}

async fn audit(folder: &Path, size: Size) -> Result<Figure, String> {
    eprintln!("an audit of {} transfers", size.audited);
    let (took, transfers) = books::audit_s(Database::sqlite(folder.join("audited.db")), size.audited).await?;
    Ok(Figure {
        metric: "audit_1m_s",
        value: Some(took),
        unit: "s",
        yardstick: None,
        n: usize::try_from(transfers).unwrap_or(usize::MAX),
        note: "every balance, every limit after each transfer, and the root; SQLite".to_owned(),
    })
}

async fn reserve_round(world: &Arc<World>, callers: usize, time: Duration) -> Result<load::Round, String> {
    let world = Arc::clone(world);
    load::round(callers, time, move || {
        let world = Arc::clone(&world);
        async move { world.reserve(100).await.map(drop).map_err(|failure| format!("error: not reserved: {failure}")) }
    })
    .await
}

async fn reserve_sqlite(world: &Arc<World>, file: &Path, size: Size) -> Result<Vec<Figure>, String> {
    reserve_round(world, CROWD, size.time / 2).await?;
    let (mut rates, mut p99s, mut calls) = (Vec::new(), Vec::new(), 0);
    for round in 1..=size.rounds {
        let done = reserve_round(world, CROWD, size.time).await?;
        eprintln!("    round {round}: {:.0} reservations/s, p99 {:.1} ms", done.rate, done.p99_ms());
        calls += done.took_ms.len();
        rates.push(done.rate);
        p99s.push(done.p99_ms());
    }
    let few = reserve_round(world, CALLERS, size.time).await?;
    let bytes = std::fs::metadata(file).map_or(0, |file| file.len());
    let transfers = world.house.audit().await.map_err(|failure| format!("error: the audit: {failure}"))?;
    if !transfers.holds {
        return Err(format!("error: the books do not hold: {:?} {:?}", transfers.findings, transfers.ledger.breaks));
    }
    let each = bytes as f64 / transfers.ledger.transfers as f64;
    Ok(vec![Figure {
        metric: "reserve_sqlite",
        value: Some(median(&mut rates)),
        unit: "1/s",
        yardstick: None,
        n: calls,
        note: format!(
            "{CROWD} callers, {} projects, synchronous=FULL, p99 {:.1} ms; {CALLERS} callers: {:.0}/s, p99 {:.1} ms; {each:.0} bytes on disk a transfer",
            size.projects,
            median(&mut p99s),
            few.rate,
            few.p99_ms()
        ),
    }])
}

async fn reserve_postgres(
    metric: &'static str,
    projects: usize,
    scale: u32,
    size: Size,
) -> Result<Vec<Figure>, String> {
    let bin = std::env::var_os("COMITY_BENCH_POSTGRES_BIN").map(PathBuf::from);
    let bin = bin.ok_or("error: no PostgreSQL is named\nhint: cargo xtask bench ledger starts one")?;
    eprintln!("books in PostgreSQL, {projects} projects");
    let own = comity_scratch::Database::create().await;
    let other = comity_scratch::Database::create().await;
    let pgbench = Pgbench::find(&bin, other.url())?;
    pgbench.fill(scale)?;
    let database = Database::postgres(&own.url()).map_err(|error| format!("error: {error}"))?;
    let world = Arc::new(World::open(database, projects).await?);
    reserve_round(&world, CALLERS, size.time / 2).await?;
    let (mut rates, mut yards, mut p99s, mut calls) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 1..=size.rounds {
        let done = reserve_round(&world, CALLERS, size.time).await?;
        let yard = pgbench.round(CALLERS, size.time.as_secs())?;
        eprintln!(
            "    round {round}: {:.0} reservations/s, p99 {:.1} ms; pgbench {yard:.0} tps",
            done.rate,
            done.p99_ms()
        );
        calls += done.took_ms.len();
        rates.push(done.rate);
        yards.push(yard);
        p99s.push(done.p99_ms());
    }
    let crowd = reserve_round(&world, CROWD, size.time).await?;
    let mut figures = vec![Figure {
        metric,
        value: Some(median(&mut rates)),
        unit: "1/s",
        yardstick: Some((format!("{} TPC-B scale {scale}", pgbench.version), median(&mut yards))),
        n: calls,
        note: format!(
            "{CALLERS} callers each, {projects} projects, p99 {:.1} ms; {CROWD} callers: {:.0}/s, p99 {:.1} ms",
            median(&mut p99s),
            crowd.rate,
            crowd.p99_ms()
        ),
    }];
    if projects > 1 {
        figures.push(settle(&world, "settle_pg", size).await?);
    }
    world.house.shutdown().await;
    Ok(figures)
}

/// Claims of 64 lanes each, every one of another token, with one acknowledgement for all lanes.
async fn settle(world: &Arc<World>, metric: &'static str, size: Size) -> Result<Figure, String> {
    let (mut rates, mut yards) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let drafted = futures::future::try_join_all((0..size.claims).map(|_| world.drafted())).await;
        let claims = Arc::new(drafted.map_err(|failure| format!("error: no claim: {failure}"))?);
        yards.push(verify_rate());
        let (next, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let claimer = |_| {
            let (world, claims, next) = (Arc::clone(world), Arc::clone(&claims), Arc::clone(&next));
            tokio::spawn(async move {
                while let Some(claim) = claims.get(next.fetch_add(1, Ordering::Relaxed)) {
                    world.claim(claim).await?;
                }
                Ok::<_, String>(())
            })
        };
        let tasks: Vec<_> = (0..CLAIMERS).map(claimer).collect();
        for task in tasks {
            task.await.map_err(|error| format!("error: a claimer ended: {error}"))??;
        }
        let rate = (size.claims * usize::from(LANES)) as f64 / started.elapsed().as_secs_f64();
        eprintln!("    round {round}: {rate:.0} receipts/s; verify_strict {:.0}/s", yards[round - 1]);
        rates.push(rate);
    }
    let rate = median(&mut rates);
    Ok(Figure {
        metric,
        value: Some(rate),
        unit: "1/s",
        yardstick: Some(("ed25519-dalek verify_strict, one core".to_owned(), median(&mut yards))),
        n: size.rounds * size.claims * usize::from(LANES),
        note: format!(
            "receipts verified and settled, {LANES} lanes a claim, one acknowledgement for all of them, {CLAIMERS} claims at once; each stands for 1,000 queries: {:.0} queries/s represented",
            rate * 1_000.0
        ),
    })
}

/// Bare checks of a receipt's length in a second, on one core.
fn verify_rate() -> f64 {
    let key = SigningKey::from_bytes(&[7; 32]);
    let (public, message) = (key.verifying_key(), [0x5a; 700]);
    let signature = key.sign(&message);
    let batch = || {
        let started = Instant::now();
        for _ in 0..500 {
            std::hint::black_box(&public).verify_strict(std::hint::black_box(&message), &signature).expect("it stands");
        }
        500.0 / started.elapsed().as_secs_f64()
    };
    (0..10).map(|_| batch()).fold(0.0, f64::max)
}
