//! `cargo xtask bench gateway`: what a node costs beside nginx as a plain proxy, and beside other gateways. `cargo xtask soak`.
//!
//! The shipped binary in a real federation, the same callers, the same bytes and the same scripted upstream for both,
//! interleaved, median of the rounds. Each request to the node has its own signature, a durable charge and a receipt.
//! It stands here and not in `bench/`, since it needs the harness and no yardstick that cargo builds.
//! Stdout carries figures only.

mod arguments;
mod callers;
mod curve;
mod doors;
#[path = "../../../bench/src/figure.rs"]
mod figure;
mod nginx;
mod paced;
mod parts;
mod peers;
mod process;
mod rig;
mod soak;
mod streams;

use std::process::ExitCode;
use std::time::Duration;

use arguments::{Arguments, Part, Wish};
use figure::{Figure, median};
use rig::{CALLERS, Rig, Upstream};

const ROUNDS: usize = 7;
const ROUND_TIME: Duration = Duration::from_secs(3);
/// Requests of the one caller, to each of the three, in each round: whole answers, and as many streams.
const SINGLE: usize = 300;
/// Fresh starts whose memory is read.
const STARTS: usize = 5;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // One thread for all callers: tasks that wander between threads cost more than they do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives a thread");
    match words.as_slice() {
        [kind] if kind == rig::UPSTREAM => return runtime.block_on(Upstream::serve()),
        [kind] if kind == rig::PACED => return runtime.block_on(paced::serve()),
        _ => {}
    }
    let arguments = match Arguments::read(&words) {
        Ok(arguments) => arguments,
        Err(failure) => {
            eprintln!("{failure}\n{}", arguments::HINT);
            return ExitCode::FAILURE;
        }
    };
    let figures = match &arguments.wish {
        Wish::Soak(time) => runtime.block_on(soak::measure(*time)).map(|figure| vec![figure]),
        Wish::Bench(parts) => runtime.block_on(measure(parts, &arguments.peers)),
    };
    match figures {
        Ok(figures) => {
            figure::print(&figures, arguments.json);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(parts: &[Part], peers: &[peers::Peer]) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let wants = |part| parts.contains(&part);
    if wants(Part::Beside) || wants(Part::Curve) || wants(Part::Peers) {
        let mut rig = Rig::start().await?;
        if wants(Part::Beside) {
            figures.extend(beside(&mut rig).await?);
        }
        if wants(Part::Peers) {
            let mut crew = rig.crew(CALLERS).await?;
            rig.node_round(&mut crew, ROUND_TIME / 3).await?;
            figures.extend(peers::measure(&mut rig, &mut crew, peers).await?);
        }
        if wants(Part::Curve) {
            figures.extend(curve::measure(&mut rig).await?);
        }
        rig.end().await;
    }
    if wants(Part::Doors) {
        let upstream = Upstream::start(rig::UPSTREAM).await?;
        figures.extend(by_door(doors::measure(&upstream.url(), ROUNDS, ROUND_TIME).await?));
    }
    if wants(Part::Streams) {
        figures.extend(by_streams(streams::measure().await?));
    }
    figures.extend(not_asked_for(parts));
    Ok(figures)
}

/// Named, so that nobody takes them for forgotten.
fn not_asked_for(parts: &[Part]) -> Vec<Figure> {
    let null =
        |metric, unit, note: &str| Figure { metric, value: None, unit, yardstick: None, n: 0, note: note.to_owned() };
    let mut figures = vec![null("gateway_rss_slope_mb_per_h", "MB/h", "cargo xtask soak")];
    if !parts.contains(&Part::Peers) {
        let of = |kind: peers::Kind| null(kind.metric(), "1/s", "cargo xtask bench gateway --peers");
        figures.extend(peers::Kind::ALL.map(of));
    }
    figures
}

/// What the rounds gave, of both sides.
#[derive(Default)]
struct Series {
    node_rate: Vec<f64>,
    nginx_rate: Vec<f64>,
    node_cpu: Vec<f64>,
    nginx_cpu: Vec<f64>,
    callers_cpu: Vec<f64>,
    upstream_cpu: Vec<f64>,
    batch: Vec<f64>,
    answered: usize,
    direct_p50: Vec<f64>,
    direct_p99: Vec<f64>,
    added_p50: Vec<f64>,
    added_p99: Vec<f64>,
    nginx_added_p50: Vec<f64>,
    first_added_p99: Vec<f64>,
    first_nginx_added_p99: Vec<f64>,
    first_direct_p99: Vec<f64>,
    verify: Vec<f64>,
    sign: Vec<f64>,
    flush: Vec<f64>,
}

/// The node beside nginx, in rounds.
async fn beside(rig: &mut Rig) -> Result<Vec<Figure>, String> {
    let load = process::load();
    let mut resident = Vec::with_capacity(STARTS);
    for start in 1..=STARTS {
        resident.push(rig.idle_mb().await?);
        eprintln!("start {start} of {STARTS}: {:.1} MB", resident[start - 1]);
    }
    let mut crew = rig.crew(CALLERS).await?;
    eprintln!("warming up");
    rig.node_round(&mut crew, ROUND_TIME / 3).await?;
    rig.nginx_round(&mut crew, ROUND_TIME / 3).await?;
    rig.single(&mut crew, SINGLE / 3).await?;

    let mut series = Series::default();
    for round in 1..=ROUNDS {
        let (node, nginx);
        // Neither is always the one that comes after the other.
        if round % 2 == 0 {
            nginx = rig.nginx_round(&mut crew, ROUND_TIME).await?;
            node = rig.node_round(&mut crew, ROUND_TIME).await?;
        } else {
            node = rig.node_round(&mut crew, ROUND_TIME).await?;
            nginx = rig.nginx_round(&mut crew, ROUND_TIME).await?;
        }
        let single = rig.single(&mut crew, SINGLE).await?;
        let parts = parts::Parts::measure(rig.folder())?;
        eprintln!(
            "round {round} of {ROUNDS}: node {:.0}/s ({:.0} µs CPU, {:.1} in a commit), nginx {:.0}/s ({:.0} µs CPU), callers {:.0} and {:.0} µs, \
             upstream {:.0} and {:.0} µs; one caller: node {:.3} ms, nginx {:.3} ms, direct {:.3} ms; {parts:.0?}",
            node.rate,
            node.server_us,
            node.batch(),
            nginx.rate,
            nginx.server_us,
            node.callers_us,
            nginx.callers_us,
            node.upstream_us,
            nginx.upstream_us,
            single.node.p50,
            single.nginx.p50,
            single.direct.p50,
        );
        series.batch.push(node.batch());
        series.answered += node.answered;
        series.node_rate.push(node.rate);
        series.nginx_rate.push(nginx.rate);
        series.node_cpu.push(node.server_us);
        series.nginx_cpu.push(nginx.server_us);
        series.callers_cpu.push(node.callers_us);
        series.upstream_cpu.push(node.upstream_us);
        series.direct_p50.push(single.direct.p50);
        series.direct_p99.push(single.direct.p99);
        series.added_p50.push(single.node.p50 - single.direct.p50);
        series.added_p99.push(single.node.p99 - single.direct.p99);
        series.nginx_added_p50.push(single.nginx.p50 - single.direct.p50);
        series.first_added_p99.push(single.node_first.p99 - single.direct_first.p99);
        series.first_nginx_added_p99.push(single.nginx_first.p99 - single.direct_first.p99);
        series.first_direct_p99.push(single.direct_first.p99);
        series.verify.push(parts.verify);
        series.sign.push(parts.sign);
        series.flush.push(parts.flush);
    }
    Ok(figures(series, &mut resident, &rig.nginx_version(), &load))
}

fn figures(mut series: Series, resident: &mut [f64], nginx: &str, load: &str) -> Vec<Figure> {
    let [callers, upstream, node_cpu, nginx_cpu] =
        [&mut series.callers_cpu, &mut series.upstream_cpu, &mut series.node_cpu, &mut series.nginx_cpu]
            .map(|all| median(all));
    let batch = median(&mut series.batch);
    let [verify, sign, flush] = [&mut series.verify, &mut series.sign, &mut series.flush].map(|all| median(all));
    let figure = |metric, value, unit, yardstick: Option<(String, f64)>, n, note: String| Figure {
        metric,
        value: Some(value),
        unit,
        yardstick,
        n,
        note,
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let proxied = format!("{nginx}, {cores} workers, plain HTTPS proxy of the same upstream");
    assert_eq!(CALLERS, 16, "the figure's name says how many");
    vec![
        figure(
            "gateway_rps_16",
            median(&mut series.node_rate),
            "1/s",
            Some((proxied, median(&mut series.nginx_rate))),
            series.answered,
            format!(
                "{ROUNDS} rounds of {ROUND_TIME:?}, {cores} cores for all; CPU µs per request: node {node_cpu:.0}, nginx \
                 {nginx_cpu:.0}, callers {callers:.0}, upstream {upstream:.0}; {batch:.1} charges in a commit; signed beforehand; \
                 load before {load}"
            ),
        ),
        figure(
            "gateway_cpu_over_parts",
            node_cpu,
            "us",
            Some((format!("one verify, one sign, one request through {nginx}"), verify + sign + nginx_cpu)),
            series.answered,
            format!("verify {verify:.0}, sign {sign:.0}, nginx {nginx_cpu:.0} µs"),
        ),
        figure(
            "gateway_added_p50_ms",
            median(&mut series.added_p50),
            "ms",
            Some(("straight to the upstream, p50".to_owned(), median(&mut series.direct_p50))),
            ROUNDS * SINGLE,
            format!(
                "{nginx} adds {:.3} ms; one flush of the disk takes {flush:.0} µs",
                median(&mut series.nginx_added_p50)
            ),
        ),
        figure(
            "gateway_added_p99_ms",
            median(&mut series.added_p99),
            "ms",
            Some(("straight to the upstream, p99".to_owned(), median(&mut series.direct_p99))),
            ROUNDS * SINGLE,
            format!("p99 of {SINGLE} in each round"),
        ),
        figure(
            "gateway_added_ttft_p99_ms",
            median(&mut series.first_added_p99),
            "ms",
            Some(("straight to the upstream, p99".to_owned(), median(&mut series.first_direct_p99))),
            ROUNDS * SINGLE,
            format!(
                "p99 of {SINGLE} in each round, request to first frame; {nginx} adds {:.3} ms",
                median(&mut series.first_nginx_added_p99)
            ),
        ),
        figure(
            "gateway_rss_idle_mb",
            median(resident),
            "MB",
            None,
            resident.len(),
            "VmRSS after a start and one request, MB of 10^6 bytes".to_owned(),
        ),
    ]
}

fn by_door(mut rates: doors::Rates) -> [Figure; 2] {
    let https = median(&mut rates.https);
    let named = [("gateway_quic_vs_https", &mut rates.quic), ("gateway_relay_vs_https", &mut rates.relayed)];
    named.map(|(metric, rates_of)| Figure {
        metric,
        value: Some(median(rates_of)),
        unit: "1/s",
        yardstick: Some(("our HTTPS door, same dialler, a node of its own".to_owned(), https)),
        n: rates.answered,
        note: format!(
            "{ROUNDS} rounds of {ROUND_TIME:?}, {CALLERS} callers of one client, signed beforehand; the callers' cost and the \
             hub's default share of a token (4 MiB/s) are in it"
        ),
    })
}

fn by_streams(found: streams::Found) -> [Figure; 2] {
    let streams::Found { node, nginx, direct, before_mb, thousand_mb } = found;
    [
        Figure {
            metric: "gateway_streams_held",
            value: Some(node.held as f64),
            unit: "1",
            yardstick: Some(("nginx, the same streams".to_owned(), nginx.held as f64)),
            n: node.frames,
            note: format!(
                "20 tokens/s each, no frame later than 50 ms by all of the way, two tries of three; straight to the upstream {}; the                  latest frame {:.1} ms; found to within a tenth; `[gateway] in_flight_max` raised",
                direct.held, node.worst_ms
            ),
        },
        Figure {
            metric: "gateway_rss_1000_streams_mb",
            value: Some(thousand_mb),
            unit: "MB",
            yardstick: None,
            n: 1_000,
            note: format!("the most of VmRSS while all were open; {before_mb:.1} before"),
        },
    ]
}
