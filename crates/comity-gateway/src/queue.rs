//! Places at a model's server, and who gets the next one. Credits are held only once there is a place.
//!
//! The order is [`fair`]'s, a core without a clock. Whoever leaves, waiting or served, frees the place by dropping it.

mod fair;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_http::Refusal;
use comity_wire::Code;
use comity_wire::object::Priority;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use fair::{Entered, Fair, Line, Ticket};

/// One model's places.
pub(crate) struct Places {
    line: Mutex<Waiting>,
    begun: Instant,
}

struct Waiting {
    fair: Fair,
    told: HashMap<Ticket, oneshot::Sender<()>>,
}

/// A call that wants a place.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The project's pseudonym.
    pub(crate) project: String,
    pub(crate) priority: Priority,
    /// What it may take of the server, in tokens.
    pub(crate) cost: u64,
    /// What it keeps in memory while it waits.
    pub(crate) bytes: usize,
}

/// Bounds of a line, from the node's configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) slots: usize,
    pub(crate) project_max: usize,
    pub(crate) waiting_max: usize,
    pub(crate) bytes_max: usize,
}

/// A place, or one in the line until it is told. Dropping it frees it.
pub(crate) struct Place {
    places: Arc<Places>,
    ticket: Ticket,
    turn: Option<oneshot::Receiver<()>>,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self { line: Mutex::new(Waiting { fair: Fair::default(), told: HashMap::new() }), begun: Instant::now() }
    }

    /// Takes a free place, or the last in the project's line.
    ///
    /// # Errors
    /// 429 where the project's line is full, 503 where the node's is, with the time in which one frees.
    pub(crate) fn enter(self: &Arc<Self>, call: &Call, bounds: Bounds) -> Result<Place, Refusal> {
        let mut line = self.lock();
        line.fair.set(Line {
            slots: bounds.slots.max(1),
            project_max: bounds.project_max,
            waiting_max: bounds.waiting_max,
            bytes_max: bounds.bytes_max,
        });
        line.wake();
        let entered = line.fair.enter(&call.project, weight(call.priority), call.cost, call.bytes, self.now_ms());
        let place = |ticket, turn| Place { places: self.clone(), ticket, turn };
        match entered {
            Entered::Now(ticket) => Ok(place(ticket, None)),
            Entered::Waits(ticket) => {
                let (tell, turn) = oneshot::channel();
                line.told.insert(ticket, tell);
                Ok(place(ticket, Some(turn)))
            }
            Entered::ProjectFull { retry_after_s } => {
                let message = format!("{} calls of this project wait already", bounds.project_max);
                let rule = json!({"limit": "queue", "value": bounds.project_max});
                let refusal = Refusal::new(Code::TooManyRequests, message).with("rule", rule);
                Err(refusal.with("whose_move", "caller").retry_after_s(retry_after_s))
            }
            Entered::Full { retry_after_s } => {
                let refusal = Refusal::new(Code::Busy, "as many calls wait for this model as the node lets wait");
                Err(refusal.with("whose_move", "caller").retry_after_s(retry_after_s))
            }
        }
    }

    /// Calls that wait, and calls that are being served.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let line = self.lock();
        (line.fair.waiting(), line.fair.running())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Tells everyone whose turn it is. One who has gone meanwhile gives its place back as it drops it.
    fn wake(&mut self) {
        while let Some(ticket) = self.fair.next() {
            if let Some(tell) = self.told.remove(&ticket) {
                let _ = tell.send(());
            }
        }
    }
}

impl Place {
    pub(crate) fn must_wait(&self) -> bool {
        self.turn.is_some()
    }

    /// Until it is this call's turn. Safe to drop: the place goes with it.
    ///
    /// # Errors
    /// 503 where that takes longer than `most`, or than the call may take at all.
    pub(crate) async fn turn(&mut self, most: Duration, deadline: Instant) -> Result<(), Refusal> {
        let Some(turn) = &mut self.turn else { return Ok(()) };
        let until = (Instant::now() + most).min(deadline);
        if tokio::time::timeout_at(until, turn).await.is_err() {
            let retry_after_s = self.places.lock().fair.place_frees_s();
            let refusal = Refusal::new(Code::Busy, "no place at the model came free in time; nothing was charged");
            return Err(refusal.with("whose_move", "caller").retry_after_s(retry_after_s));
        }
        self.turn = None;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now_ms = self.places.now_ms();
        let mut line = self.places.lock();
        line.told.remove(&self.ticket);
        line.fair.leave(self.ticket, now_ms);
        line.wake();
    }
}

/// A class is a weight and never a rank: nobody waits for ever.
const fn weight(priority: Priority) -> u64 {
    match priority {
        Priority::Low => 1,
        Priority::Normal => 4,
        Priority::High => 16,
    }
}
