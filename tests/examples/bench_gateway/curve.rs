//! The whole curve: one caller to 256, the node and nginx in turns.

use std::time::Duration;

use crate::figure::{Figure, median};
use crate::rig::{CALLERS_MAX, Rig};

/// Callers at once, and the figure's name.
const POINTS: [(u16, &str); 9] = [
    (1, "gateway_curve_1"),
    (2, "gateway_curve_2"),
    (4, "gateway_curve_4"),
    (8, "gateway_curve_8"),
    (16, "gateway_curve_16"),
    (32, "gateway_curve_32"),
    (64, "gateway_curve_64"),
    (128, "gateway_curve_128"),
    (CALLERS_MAX, "gateway_curve_256"),
];
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(1);

/// A figure for each point.
///
/// # Errors
/// Where a call is not answered.
pub(crate) async fn measure(rig: &mut Rig) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::with_capacity(POINTS.len());
    for (callers, metric) in POINTS {
        let mut crew = rig.crew(callers).await?;
        let (mut node, mut nginx, mut cpu, mut answered) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let (mut p50, mut p99, mut nginx_p50, mut nginx_p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        rig.node_round(&mut crew, ROUND_TIME / 4).await?;
        for round in 0..ROUNDS {
            // Neither is always the one that comes after the other.
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    let of = rig.node_round(&mut crew, ROUND_TIME).await?;
                    node.push(of.rate);
                    cpu.push(of.server_us);
                    p50.push(of.waited.p50);
                    p99.push(of.waited.p99);
                    answered += of.answered;
                } else {
                    let of = rig.nginx_round(&mut crew, ROUND_TIME).await?;
                    nginx.push(of.rate);
                    nginx_p50.push(of.waited.p50);
                    nginx_p99.push(of.waited.p99);
                }
            }
        }
        let yardstick = (rig.nginx_version(), median(&mut nginx));
        let note = format!(
            "{ROUNDS} rounds of {ROUND_TIME:?}; p50 {:.2} and p99 {:.2} ms, nginx {:.2} and {:.2}; {:.0} µs CPU a request",
            median(&mut p50),
            median(&mut p99),
            median(&mut nginx_p50),
            median(&mut nginx_p99),
            median(&mut cpu),
        );
        eprintln!("{callers} callers: {:.0}/s, nginx {:.0}/s; {note}", median(&mut node), yardstick.1);
        let value = Some(median(&mut node));
        figures.push(Figure { metric, value, unit: "1/s", yardstick: Some(yardstick), n: answered, note });
    }
    Ok(figures)
}
