//! Callers in a closed loop: each asks again as soon as it was answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a round gave.
pub(crate) struct Round {
    pub(crate) rate: f64,
    /// Each call's time in ms, ascending.
    pub(crate) took_ms: Vec<f64>,
}

impl Round {
    pub(crate) fn p99_ms(&self) -> f64 {
        self.took_ms.get(self.took_ms.len() * 99 / 100).copied().unwrap_or(f64::NAN)
    }
}

/// `callers` tasks for `time`.
///
/// # Errors
/// The first call that failed.
pub(crate) async fn round<F, W>(callers: usize, time: Duration, ask: F) -> Result<Round, String>
where
    F: Fn() -> W + Send + Sync + 'static,
    W: Future<Output = Result<(), String>> + Send,
{
    let (ask, started) = (Arc::new(ask), Instant::now());
    let caller = |_| {
        let ask = Arc::clone(&ask);
        tokio::spawn(async move {
            let mut took = Vec::new();
            while started.elapsed() < time {
                let asked = Instant::now();
                ask().await?;
                took.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            Ok::<_, String>(took)
        })
    };
    let tasks: Vec<_> = (0..callers).map(caller).collect();
    let mut took_ms = Vec::new();
    for task in tasks {
        took_ms.extend(task.await.map_err(|error| format!("error: a caller ended: {error}"))??);
    }
    let rate = took_ms.len() as f64 / started.elapsed().as_secs_f64();
    took_ms.sort_by(f64::total_cmp);
    Ok(Round { rate, took_ms })
}
