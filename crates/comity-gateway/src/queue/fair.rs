//! Start-time fair queuing over projects (decision 0033).
//!
//! Each call has a start tag: the later of the line's virtual time and the finish tag of its project's call before; its
//! finish tag lies cost/weight after that. The waiting call with the earliest start tag goes next, and the virtual time is
//! the start tag of the call that went last.
//!
//! Promise: while a call waits at the head of its project's line, each other project starts work of at most (its weight ÷
//! ours) × the cost of our call before, and one call more. Heavy calls leave a quarter of the places to light ones.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// A call's number in this line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    /// Calls that the server takes at once.
    pub(super) slots: usize,
    /// Calls of a project that may wait.
    pub(super) project_max: usize,
    /// Calls that may wait, over all.
    pub(super) waiting_max: usize,
    /// Bytes that they may keep in memory.
    pub(super) bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    Now(Ticket),
    Waits(Ticket),
    ProjectFull { retry_after_s: u64 },
    Full { retry_after_s: u64 },
}

#[derive(Default)]
pub(super) struct Fair {
    line: Line,
    projects: BTreeMap<String, Project>,
    running: HashMap<Ticket, Running>,
    heavy_running: usize,
    waiting: usize,
    waiting_bytes: usize,
    virtual_time: u64,
    next: u64,
    /// How long a call keeps its place, smoothed; 0: none has ended yet.
    service_ms: u64,
    now_ms: u64,
    /// Projects that were left when idle ones were last forgotten.
    swept: usize,
}

#[derive(Default)]
struct Project {
    /// The finish tag of its last call.
    finish: u64,
    queue: VecDeque<Call>,
    weight: u64,
}

#[derive(Clone, Copy)]
struct Call {
    ticket: Ticket,
    start: u64,
    is_heavy: bool,
    bytes: usize,
}

struct Running {
    is_heavy: bool,
    since_ms: u64,
}

/// A tag's unit: so many to one token of a project of weight 1.
const SCALE: u64 = 1_024;
/// Above this a call is heavy: a body of about 64 KiB, or as long an answer.
pub(super) const HEAVY: u64 = 16_384;
/// Idle projects whose last finish tag still lies ahead, at most; those nearest to it are forgotten.
const IDLE_MAX: usize = 4_096;
const SWEEP_MIN: usize = 64;
const RETRY_S_MAX: u64 = 600;
/// Believed until a call has ended.
const SERVICE_MS: u64 = 1_000;

impl Fair {
    pub(super) fn set(&mut self, line: Line) {
        self.line = line;
    }

    pub(super) fn enter(&mut self, project: &str, weight: u64, cost: u64, bytes: usize, now_ms: u64) -> Entered {
        self.now_ms = now_ms;
        let (is_heavy, ticket) = (cost > HEAVY, Ticket(self.next));
        let nobody_waits = self.waiting == 0 || self.head().is_none();
        let is_free = self.running.len() < self.line.slots && self.lets(is_heavy) && nobody_waits;
        if !is_free {
            let queued = self.projects.get(project).map_or(0, |known| known.queue.len());
            if queued >= self.line.project_max {
                return Entered::ProjectFull { retry_after_s: self.line_moves_s(project, weight) };
            }
            let is_full = self.waiting >= self.line.waiting_max
                || (self.waiting > 0 && self.waiting_bytes.saturating_add(bytes) > self.line.bytes_max);
            if is_full {
                return Entered::Full { retry_after_s: self.place_frees_s() };
            }
        }
        self.next += 1;
        let virtual_time = self.virtual_time;
        let entry = self.projects.entry(project.to_owned()).or_default();
        let start = entry.finish.max(virtual_time);
        entry.weight = weight.max(1);
        entry.finish = start.saturating_add(cost.max(1).saturating_mul(SCALE) / entry.weight);
        if is_free {
            self.start(ticket, start, is_heavy);
            return Entered::Now(ticket);
        }
        entry.queue.push_back(Call { ticket, start, is_heavy, bytes });
        self.waiting += 1;
        self.waiting_bytes += bytes;
        Entered::Waits(ticket)
    }

    /// The call whose turn it is, where a place is free; it runs from here on.
    pub(super) fn next(&mut self) -> Option<Ticket> {
        // Each call asks this twice, and heads are looked for among idle projects, too.
        if self.waiting == 0 || self.running.len() >= self.line.slots {
            return None;
        }
        let name = self.head()?;
        let call = self.projects.get_mut(&name)?.queue.pop_front()?;
        self.waiting -= 1;
        self.waiting_bytes -= call.bytes;
        self.start(call.ticket, call.start, call.is_heavy);
        Some(call.ticket)
    }

    /// The call has ended, or waits no more.
    pub(super) fn leave(&mut self, ticket: Ticket, now_ms: u64) {
        self.now_ms = now_ms;
        if let Some(running) = self.running.remove(&ticket) {
            self.heavy_running -= usize::from(running.is_heavy);
            let took = now_ms.saturating_sub(running.since_ms).max(1);
            self.service_ms = if self.service_ms == 0 { took } else { (self.service_ms * 7 + took) / 8 };
        } else {
            self.waits_no_more(ticket);
        }
        self.forget_idle();
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Until any place frees, as far as was measured.
    pub(super) fn place_frees_s(&self) -> u64 {
        self.seconds(1, 1)
    }

    /// Until a project's line moves by one: its share of the places that free.
    fn line_moves_s(&self, project: &str, weight: u64) -> u64 {
        let others = self.projects.iter().filter(|(name, known)| *name != project && !known.queue.is_empty());
        let weights: u64 = others.map(|(_, known)| known.weight).sum();
        self.seconds(weights + weight, weight.max(1))
    }

    fn seconds(&self, times: u64, over: u64) -> u64 {
        let service_ms = if self.service_ms == 0 { SERVICE_MS } else { self.service_ms };
        let slots = self.line.slots.max(1) as u64;
        (service_ms.saturating_mul(times) / slots / over).div_ceil(1_000).clamp(1, RETRY_S_MAX)
    }

    /// Whose call goes next: the earliest start tag of those that may.
    fn head(&self) -> Option<String> {
        let heads = self.projects.iter().filter_map(|(name, project)| Some((name, project.queue.front()?)));
        let may = heads.filter(|(_, call)| self.lets(call.is_heavy));
        may.min_by_key(|(_, call)| (call.start, call.ticket)).map(|(name, _)| name.clone())
    }

    /// A quarter of the places, one at least, is not for heavy calls; where there is one place it is for all.
    fn lets(&self, is_heavy: bool) -> bool {
        let light = self.line.slots.div_ceil(4);
        !is_heavy || self.heavy_running < self.line.slots.saturating_sub(light).max(1)
    }

    fn start(&mut self, ticket: Ticket, start: u64, is_heavy: bool) {
        self.virtual_time = self.virtual_time.max(start);
        self.heavy_running += usize::from(is_heavy);
        self.running.insert(ticket, Running { is_heavy, since_ms: self.now_ms });
    }

    fn waits_no_more(&mut self, ticket: Ticket) {
        for project in self.projects.values_mut() {
            let Some(at) = project.queue.iter().position(|call| call.ticket == ticket) else { continue };
            let gone = project.queue.remove(at).expect("it was found there");
            self.waiting -= 1;
            self.waiting_bytes -= gone.bytes;
            // Those behind it move up by what it would have taken.
            let end = project.queue.get(at).map_or(project.finish, |next| next.start);
            let taken = end.saturating_sub(gone.start);
            project.queue.iter_mut().skip(at).for_each(|call| call.start -= taken);
            project.finish -= taken;
            return;
        }
    }

    /// A project that waits for nothing is remembered while its last call's finish lies ahead: else one call after
    /// another would always begin anew.
    fn forget_idle(&mut self) {
        if self.waiting == 0 && self.running.is_empty() {
            self.projects.clear();
            self.virtual_time = 0;
            return;
        }
        // Looked through when it has doubled, so that each call pays for a few.
        if self.projects.len() < self.swept.saturating_mul(2).max(SWEEP_MIN) {
            return;
        }
        let virtual_time = self.virtual_time;
        self.projects.retain(|_, project| !project.queue.is_empty() || project.finish > virtual_time);
        while self.projects.len() > self.waiting + IDLE_MAX {
            let idle = self.projects.iter().filter(|(_, project)| project.queue.is_empty());
            let Some(first) = idle.min_by_key(|(_, project)| project.finish).map(|(name, _)| name.clone()) else {
                return;
            };
            self.projects.remove(&first);
        }
        self.swept = self.projects.len();
    }
}

#[cfg(test)]
mod tests;
