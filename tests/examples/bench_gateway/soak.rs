//! `cargo xtask soak`: a node under steady, mixed work for an hour, and whether its memory grows.
//!
//! Short answers, streams, and callers that leave in the middle, at a pace that the machine has no trouble with, under a new token
//! every few minutes, on new connections every few seconds. What is looked for is a slope, not a level.

use std::time::{Duration, Instant};

use comity_tests::{Federation, Holder, Owner};
use comity_wire::ModelId;

use crate::callers::{Caller, Receipts, Target};
use crate::figure::Figure;
use crate::process;
use crate::rig::{BUDGET, PRICE, RATES, UPSTREAM, Upstream};

const CALLERS: u16 = 16;
/// Requests of each caller in a second.
const PACE: Duration = Duration::from_millis(100);
/// Each so many requests of a caller: a stream; a stream that is left; a new connection.
const STREAM_EVERY: u64 = 4;
const LEAVE_EVERY: u64 = 20;
const CONNECT_EVERY: u64 = 50;
/// How long a token is used.
const TOKEN_FOR: Duration = Duration::from_secs(180);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// What a start takes until caches and pools have their size: this share of the run is not judged.
const WARM_SHARE: f64 = 0.25;

/// # Errors
/// Where a call is not answered.
pub(crate) async fn measure(time: Duration) -> Result<Figure, String> {
    let upstream = Upstream::start(UPSTREAM).await?;
    let lab = Owner { name: "lab", upstream: upstream.url(), rates: RATES };
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = federation.client("soak");
    let (id, model) = (federation.service("lab").id(), lab.model());
    let address = federation.service("lab").ready.door.trim_start_matches("https://").parse();
    let address = address.map_err(|error| format!("error: the node's door: {error}"))?;

    let started = Instant::now();
    let (mut samples, mut answered, mut tokens) = (Vec::new(), 0, 0);
    while started.elapsed() < time {
        let holder = Holder::mint(&federation, &client, &model, BUDGET, CALLERS).await;
        let door = Target::door(address, &holder.transport_keys, Receipts::Demanded);
        let until = started + time.min(started.elapsed() + TOKEN_FOR);
        let callers = (0..CALLERS).map(|lane| work(&door, &holder, &model, lane, until));
        let working = futures::future::try_join_all(callers);
        tokio::pin!(working);
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        answered += loop {
            tokio::select! {
                done = &mut working => break done?.into_iter().sum::<usize>(),
                _ = ticks.tick() => {
                    let (at, mb) = (started.elapsed().as_secs_f64(), process::resident_mb(id));
                    eprintln!("{at:6.0} s: {mb:.2} MB");
                    samples.push((at, mb));
                }
            }
        };
        tokens += 1;
    }
    federation.end().await;
    let warm = time.as_secs_f64() * WARM_SHARE;
    samples.retain(|(at, _)| *at >= warm);
    let slope = slope(&samples).ok_or("error: too short for a slope: two samples at least, after the first quarter")?;
    let (first, last) = (samples[0].1, samples[samples.len() - 1].1);
    Ok(Figure {
        metric: "gateway_rss_slope_mb_per_h",
        value: Some(slope * 3600.0),
        unit: "MB/h",
        yardstick: None,
        n: samples.len(),
        note: format!(
            "least squares over {:.0} minutes after the first quarter of {:.0}, from {first:.1} to {last:.1} MB; {answered} answers under \
             {tokens} tokens, a quarter of them streams, one in {LEAVE_EVERY} left",
            (time.as_secs_f64() - warm) / 60.0,
            time.as_secs_f64() / 60.0
        ),
    })
}

/// One caller until its time is over; gives how many were answered.
async fn work(door: &Target, holder: &Holder, model: &ModelId, lane: u16, until: Instant) -> Result<usize, String> {
    let mut caller = Caller::connect(door).await?;
    let mut turns = tokio::time::interval(PACE);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut answered = 0;
    for seq in 1.. {
        turns.tick().await;
        if Instant::now() >= until {
            break;
        }
        let of = |signed: comity_tests::holder::Signed| if seq == 1 { signed.http1() } else { signed.known().http1() };
        if seq % STREAM_EVERY == 0 {
            let request = of(holder.sign_stream(model, lane, seq, PRICE, 8));
            if seq % LEAVE_EVERY == 0 {
                caller.leave(&request).await?;
                caller = Caller::connect(door).await?;
                continue;
            }
            caller.listen(&request, |_| {}).await?;
        } else {
            caller.ask(&of(holder.sign(model, lane, seq, PRICE))).await?;
        }
        answered += 1;
        if seq % CONNECT_EVERY == 0 {
            caller = Caller::connect(door).await?;
        }
    }
    Ok(answered)
}

/// Of the straight line with the least squares, MB a second; `None` where there is none.
fn slope(samples: &[(f64, f64)]) -> Option<f64> {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at, mb) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let spread: f64 = samples.iter().map(|sample| (sample.0 - at).powi(2)).sum();
    let together: f64 = samples.iter().map(|sample| (sample.0 - at) * (sample.1 - mb)).sum();
    (samples.len() > 1 && spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line_whatever_lies_beside_it() {
        let line: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), 30.0 + 0.5 * f64::from(at))).collect();
        assert!((slope(&line).unwrap() - 0.5).abs() < 1e-9);
        let noisy: Vec<_> = line.iter().enumerate().map(|(n, (at, _))| (*at, 30.0 + [1.0, -1.0][n % 2])).collect();
        assert!(slope(&noisy).unwrap().abs() < 1e-3);
        assert_eq!(slope(&line[..1]), None);
    }
}
