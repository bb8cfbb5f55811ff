//! The same calls through each door: HTTPS, QUIC, and a hub to a node that listens nowhere.
//!
//! Sixteen callers of the SDK's dialler on one connection or few, as a client has them; each door has a node of its own,
//! started with no other, on the same upstream. Rounds are interleaved.

use std::time::{Duration, Instant};

use comity_tests::doors::alone;
use comity_tests::holder::{Met, Signed};
use comity_tests::{Federation, Holder, Owner};
use comity_wire::ModelId;
use comity_wire::object::DoorKind;
use futures::future::try_join_all;

use crate::rig::{BUDGET, CALLERS, PRICE, RATES};

const KINDS: [DoorKind; 3] = [DoorKind::Https, DoorKind::Quic, DoorKind::Relayed];
/// Signed for each lane before the first round.
const SIGNED_AT_FIRST: usize = 200;

/// Requests per second of each round.
#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) https: Vec<f64>,
    pub(crate) quic: Vec<f64>,
    pub(crate) relayed: Vec<f64>,
    /// Through all three.
    pub(crate) answered: usize,
}

struct Door {
    kind: DoorKind,
    federation: Federation,
    holder: Holder,
    model: ModelId,
    /// The next number of each lane.
    seqs: Vec<u64>,
    /// How many a lane took in the last round, at most.
    pace: usize,
}

/// # Errors
/// Where a call is not answered, or by another door.
pub(crate) async fn measure(upstream: &str, rounds: usize, time: Duration) -> Result<Rates, String> {
    let mut doors = Vec::with_capacity(KINDS.len());
    for kind in KINDS {
        doors.push(Door::open(kind, upstream).await);
    }
    for door in &mut doors {
        door.round(time / 3).await?;
    }
    let mut rates = Rates::default();
    for round in 1..=rounds {
        // None is always the one that comes after another.
        doors.rotate_left(1);
        for door in &mut doors {
            let (answered, rate) = door.round(time).await?;
            eprintln!("round {round} of {rounds}: {} {rate:.0}/s", door.kind.as_str());
            rates.answered += answered;
            match door.kind {
                DoorKind::Quic => rates.quic.push(rate),
                DoorKind::Relayed => rates.relayed.push(rate),
                _ => rates.https.push(rate),
            }
        }
    }
    for door in doors {
        door.federation.end().await;
    }
    Ok(rates)
}

impl Door {
    async fn open(kind: DoorKind, upstream: &str) -> Self {
        eprintln!("starting a federation whose node is reached by {} alone", kind.as_str());
        let lab = Owner { name: "lab", upstream: upstream.to_owned(), rates: RATES };
        let federation = Federation::start_at(std::slice::from_ref(&lab), alone(kind)).await;
        let client = federation.client("bench");
        let model = lab.model();
        let holder = Holder::mint(&federation, &client, &model, BUDGET, CALLERS).await;
        Self { kind, federation, holder, model, seqs: vec![1; usize::from(CALLERS)], pace: SIGNED_AT_FIRST / 2 }
    }

    /// All callers at once, each asking again as soon as it was answered; gives how many were answered, and how many a
    /// second. It ends for all when one has nothing signed left.
    async fn round(&mut self, time: Duration) -> Result<(usize, f64), String> {
        let ahead = self.pace * 2;
        let scripts: Vec<Vec<_>> = (0..CALLERS)
            .map(|lane| {
                let first = self.seqs[usize::from(lane)];
                let sign = |number| self.holder.sign(&self.model, lane, first + number, PRICE);
                (0..ahead as u64).map(sign).collect()
            })
            .collect();
        let over = std::cell::Cell::new(false);
        let started = Instant::now();
        let callers = scripts.iter().map(|script| self.caller(script, started + time, &over));
        let taken = try_join_all(callers).await?;
        let took = started.elapsed();
        for (seq, taken) in self.seqs.iter_mut().zip(&taken) {
            *seq += *taken as u64;
        }
        self.pace = taken.iter().copied().max().unwrap_or_default().max(SIGNED_AT_FIRST / 2);
        let answered = taken.iter().sum();
        Ok((answered, answered as f64 / took.as_secs_f64()))
    }

    async fn caller(&self, script: &[Signed], until: Instant, over: &std::cell::Cell<bool>) -> Result<usize, String> {
        let mut taken = 0;
        while !over.get() && Instant::now() < until {
            let Some(request) = script.get(taken) else {
                over.set(true);
                break;
            };
            match self.holder.try_send(request).await? {
                Met::Answered { replayed: false, .. } => taken += 1,
                met => return Err(format!("error: a call by {} was not answered: {met:?}", self.kind.as_str())),
            }
        }
        Ok(taken)
    }
}
