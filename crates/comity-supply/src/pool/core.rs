//! Which instance is asked, and which is left alone: a state machine over `now` in milliseconds.
//!
//! An instance is left alone after so many failures in a row, each time for longer, up to a bound; then one call tries it.
//! A probe that finds it well ends that at once. One that is loading is asked nothing and looked at often.

use crate::{Health, State, UpstreamError};

pub(super) type Millis = u64;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Between two probes of an instance from which nothing was heard since.
    pub probe_ms: u64,
    /// The same for one that is loading.
    pub probe_starting_ms: u64,
    /// In a row, calls and probes alike, before it is left alone.
    pub failures_max: u32,
    /// For how long at first; doubled each time until `alone_ms_max`.
    pub alone_ms: u64,
    pub alone_ms_max: u64,
    /// Instances that one call is offered to.
    pub attempts_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            probe_ms: 10_000,
            probe_starting_ms: 2_000,
            failures_max: 3,
            alone_ms: 1_000,
            alone_ms_max: 30_000,
            attempts_max: 3,
        }
    }
}

/// What is known of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not heard of yet: a call may try it.
    Unknown,
    Ready,
    Starting,
    Down,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Down => "down",
        }
    }
}

/// An instance, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    pub standing: Standing,
    pub in_flight: u32,
    /// Until it accepts a call, smoothed.
    pub accepts_ms: Option<u64>,
    pub failures: u32,
}

/// How one offer of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted {
        took_ms: u64,
    },
    /// It answered, and the fault is the caller's: it is well.
    Refused,
    /// Well, but full.
    Busy,
    Failed,
    /// The caller has gone; nothing is known.
    Left,
}

impl Outcome {
    pub(super) fn of(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Cancelled | UpstreamError::Settings { .. } | UpstreamError::Unsupported { .. } => Self::Left,
            UpstreamError::Refused { status: 429 | 529, .. } => Self::Busy,
            UpstreamError::Refused { status, .. } if *status < 500 || *status == 501 => Self::Refused,
            // What is too long or malformed is this answer's fault first; a server that does nothing else is caught by
            // its probes.
            UpstreamError::TooLarge { .. } | UpstreamError::Malformed { .. } => Self::Left,
            _ => Self::Failed,
        }
    }
}

/// Whether the next instance may be asked: nothing was accepted and the failure is this instance's alone. One that fell
/// silent may still be at work on the call, so that asking another would have two do it.
pub(super) fn may_go_on(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Unreachable { .. } | UpstreamError::Cut { .. } => true,
        UpstreamError::Refused { status, .. } => *status == 429 || (*status >= 500 && *status != 501),
        _ => false,
    }
}

#[derive(Debug)]
struct Instance {
    standing: Standing,
    in_flight: u32,
    accepts_ms: Option<u64>,
    failures: u32,
    /// How often in a row it was left alone.
    times_alone: u32,
    alone_until: Option<Millis>,
    /// One call is finding out whether it is well again.
    on_trial: bool,
    probe_at: Millis,
    is_probed: bool,
}

#[derive(Debug)]
pub(super) struct Core {
    settings: Settings,
    instances: Vec<Instance>,
}

/// A caller is never told to come back later than this; a probe may find an instance well sooner than was thought.
const RETRY_AFTER_S_MAX: u64 = 60;

impl Core {
    pub(super) fn new(instances: usize, settings: Settings) -> Self {
        let fresh = || Instance {
            standing: Standing::Unknown,
            in_flight: 0,
            accepts_ms: None,
            failures: 0,
            times_alone: 0,
            alone_until: None,
            on_trial: false,
            probe_at: 0,
            is_probed: false,
        };
        Self { settings, instances: std::iter::repeat_with(fresh).take(instances).collect() }
    }

    /// The least loaded that may be asked, the quickest among equals; it has one call more from here on.
    pub(super) fn choose(&mut self, now: Millis, tried: &[usize]) -> Option<usize> {
        if tried.len() >= self.settings.attempts_max {
            return None;
        }
        let may = |(at, instance): &(usize, &Instance)| !tried.contains(at) && instance.may_be_asked(now);
        let (at, _) = self
            .instances
            .iter()
            .enumerate()
            .filter(may)
            .min_by_key(|(at, instance)| (instance.in_flight, instance.accepts_ms.unwrap_or(0), *at))?;
        let chosen = &mut self.instances[at];
        chosen.in_flight += 1;
        chosen.on_trial = chosen.alone_until.is_some();
        Some(at)
    }

    pub(super) fn ended(&mut self, now: Millis, at: usize, outcome: Outcome, entropy: u32) {
        let settings = self.settings;
        let instance = &mut self.instances[at];
        match outcome {
            Outcome::Accepted { took_ms } => {
                instance.well();
                // One in eight: a single long prompt does not turn the order around.
                instance.accepts_ms = Some(instance.accepts_ms.map_or(took_ms, |before| (before * 7 + took_ms) / 8));
                instance.probe_at = instance.probe_at.max(now + spread(settings.probe_ms, entropy));
            }
            Outcome::Refused => instance.well(),
            Outcome::Busy | Outcome::Left => instance.on_trial = false,
            Outcome::Failed => {
                // Whether it is loading or dead is a probe's to say, and soon.
                instance.probe_at = instance.probe_at.min(now);
                instance.failed(now, settings, entropy);
            }
        }
    }

    pub(super) fn released(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        assert!(instance.in_flight > 0, "a place is given back once");
        instance.in_flight -= 1;
        instance.on_trial &= instance.in_flight > 0;
    }

    /// Instances to probe now; each is out once.
    pub(super) fn due(&mut self, now: Millis) -> Vec<usize> {
        let mut due = Vec::new();
        for (at, instance) in self.instances.iter_mut().enumerate() {
            if instance.probe_at <= now && !instance.is_probed {
                instance.is_probed = true;
                due.push(at);
            }
        }
        due
    }

    pub(super) fn probed(&mut self, now: Millis, at: usize, health: &Health, entropy: u32) {
        let settings = self.settings;
        let instance = &mut self.instances[at];
        instance.is_probed = false;
        let wait = match health.state {
            State::Ready => {
                instance.well();
                settings.probe_ms
            }
            State::Starting => {
                instance.well();
                instance.standing = Standing::Starting;
                settings.probe_starting_ms
            }
            State::Down => {
                instance.failed(now, settings, entropy);
                instance.alone_until.map_or(settings.probe_starting_ms, |until| until.saturating_sub(now)).max(1)
            }
        };
        instance.probe_at = now + spread(wait, entropy);
    }

    /// When something is due next.
    pub(super) fn wake_at(&self) -> Millis {
        let waiting = self.instances.iter().filter(|instance| !instance.is_probed);
        waiting.map(|instance| instance.probe_at).min().unwrap_or(Millis::MAX)
    }

    /// Why nothing can be asked now, and when it is worth trying again; `None` where something can.
    pub(super) fn out(&self, now: Millis) -> Option<UpstreamError> {
        if self.instances.iter().any(|instance| instance.may_be_asked(now)) {
            return None;
        }
        let at = self.instances.iter().map(|instance| instance.worth_trying_at(now)).min().unwrap_or(Millis::MAX);
        let retry_after_s = at.saturating_sub(now).div_ceil(1_000).clamp(1, RETRY_AFTER_S_MAX);
        let is_starting = self.instances.iter().any(|instance| instance.standing == Standing::Starting);
        Some(UpstreamError::Out { is_starting, retry_after_s })
    }

    pub(super) fn sight(&self, at: usize, now: Millis) -> Sight {
        let instance = &self.instances[at];
        let is_alone = instance.alone_until.is_some_and(|until| until > now);
        let standing = if is_alone { Standing::Down } else { instance.standing };
        let Instance { in_flight, accepts_ms, failures, .. } = *instance;
        Sight { standing, in_flight, accepts_ms, failures }
    }
}

impl Instance {
    fn may_be_asked(&self, now: Millis) -> bool {
        self.standing != Standing::Starting && self.alone_until.is_none_or(|until| until <= now && !self.on_trial)
    }

    fn worth_trying_at(&self, now: Millis) -> Millis {
        match (self.standing, self.alone_until) {
            (Standing::Starting, _) | (_, None) => self.probe_at.max(now),
            (_, Some(until)) => until.max(now),
        }
    }

    fn well(&mut self) {
        self.standing = Standing::Ready;
        (self.failures, self.times_alone) = (0, 0);
        self.alone_until = None;
        self.on_trial = false;
    }

    fn failed(&mut self, now: Millis, settings: Settings, entropy: u32) {
        self.failures = self.failures.saturating_add(1);
        // One on trial has had its chance.
        if self.failures >= settings.failures_max.max(1) || self.alone_until.is_some() {
            self.standing = Standing::Down;
            let alone = settings.alone_ms.saturating_mul(1 << self.times_alone.min(20)).min(settings.alone_ms_max);
            self.times_alone = self.times_alone.saturating_add(1);
            self.alone_until = Some(now + spread(alone, entropy));
        }
        self.on_trial = false;
    }
}

/// Between four and six fifths of it.
fn spread(ms: u64, entropy: u32) -> u64 {
    let fifth = ms / 5;
    ms - fifth + u64::from(entropy) * (2 * fifth) / u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silence;

    /// Entropy in the middle: nothing is spread.
    const MID: u32 = u32::MAX / 2 + 1;

    fn core(instances: usize) -> Core {
        let mut core = Core::new(instances, Settings::default());
        let due = core.due(0);
        assert_eq!(due.len(), instances, "all are looked at first");
        due.into_iter().for_each(|at| core.probed(0, at, &Health::ready(Vec::new()), MID));
        core
    }

    fn fail(core: &mut Core, now: Millis, at: usize) {
        core.ended(now, at, Outcome::Failed, MID);
        core.released(at);
    }

    fn out(core: &Core, now: Millis) -> Option<(bool, u64)> {
        core.out(now).map(|error| match error {
            UpstreamError::Out { is_starting, retry_after_s } => (is_starting, retry_after_s),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn the_least_loaded_is_asked_and_the_quickest_among_equals() {
        let mut core = core(3);
        assert_eq!([core.choose(0, &[]), core.choose(0, &[]), core.choose(0, &[])], [Some(0), Some(1), Some(2)]);
        for (at, took_ms) in [(0, 90), (1, 30), (2, 60)] {
            core.ended(9, at, Outcome::Accepted { took_ms }, MID);
            core.released(at);
        }
        assert_eq!([core.choose(9, &[]), core.choose(9, &[]), core.choose(9, &[])], [Some(1), Some(2), Some(0)]);
        core.released(0);
        assert_eq!(core.choose(9, &[]), Some(0));
    }

    #[test]
    fn a_call_is_offered_to_so_many_and_to_none_twice() {
        let mut core = core(5);
        assert_eq!(core.choose(0, &[0, 1]), Some(2));
        assert_eq!(core.choose(0, &[0, 1, 2]), None, "three is enough");
    }

    #[test]
    fn failures_in_a_row_leave_an_instance_alone_for_longer_each_time_and_one_call_tries_it() {
        let mut core = core(1);
        for now in [0, 1, 2] {
            assert_eq!(core.choose(now, &[]), Some(0), "{now}");
            fail(&mut core, now, 0);
        }
        assert_eq!((core.choose(3, &[]), out(&core, 3)), (None, Some((false, 1))));
        // It has been a second: one, and only one, finds out.
        assert_eq!((core.choose(1_010, &[]), core.choose(1_010, &[])), (Some(0), None));
        fail(&mut core, 1_020, 0);
        assert_eq!(out(&core, 1_030), Some((false, 2)));
        assert_eq!(core.choose(3_100, &[]), Some(0));
        core.ended(3_110, 0, Outcome::Accepted { took_ms: 10 }, MID);
        assert_eq!(core.choose(3_120, &[]), Some(0), "it is well again");
        for now in 0..40 {
            core.ended(4_000 + now, 0, Outcome::Failed, MID);
        }
        assert!(out(&core, 5_000).unwrap().1 <= 30, "it is never given up");
    }

    #[test]
    fn a_success_in_between_is_no_row() {
        let mut core = core(1);
        for now in 0..9 {
            assert_eq!(core.choose(now, &[]), Some(0));
            core.ended(now, 0, if now % 3 == 2 { Outcome::Accepted { took_ms: 1 } } else { Outcome::Failed }, MID);
            core.released(0);
        }
        assert_eq!(out(&core, 9), None);
    }

    #[test]
    fn a_full_instance_and_a_callers_mistake_are_no_failures() {
        let mut core = core(1);
        for now in 0..9 {
            assert_eq!(core.choose(now, &[]), Some(0));
            core.ended(now, 0, if now % 2 == 0 { Outcome::Busy } else { Outcome::Refused }, MID);
            core.released(0);
        }
        assert_eq!(core.sight(0, 9).standing, Standing::Ready);
    }

    #[test]
    fn one_that_loads_is_asked_nothing_and_looked_at_often() {
        let mut core = Core::new(2, Settings::default());
        assert_eq!(core.due(0), [0, 1]);
        core.probed(0, 0, &Health::starting("weights"), MID);
        core.probed(0, 1, &Health::starting("weights"), MID);
        assert_eq!((core.choose(1, &[]), out(&core, 1)), (None, Some((true, 2))));
        assert_eq!((core.wake_at(), core.due(1_999)), (2_000, vec![]));
        assert_eq!((core.due(2_000), core.due(2_000)), (vec![0, 1], vec![]), "each is looked at once at a time");
        core.probed(2_010, 1, &Health::ready(Vec::new()), MID);
        assert_eq!(core.choose(2_020, &[]), Some(1));
    }

    #[test]
    fn a_probe_ends_the_time_alone_and_one_bad_probe_is_not_the_end() {
        let mut core = core(1);
        core.due(10_000);
        core.probed(10_000, 0, &Health::down("slow"), MID);
        assert_eq!(core.choose(10_001, &[]), Some(0), "one probe may be lost");
        fail(&mut core, 10_002, 0);
        assert_eq!(core.due(10_002), [0], "a failure is looked into at once");
        core.probed(10_003, 0, &Health::down("gone"), MID);
        assert_eq!(core.choose(10_004, &[]), None);
        core.due(20_000);
        core.probed(20_000, 0, &Health::ready(Vec::new()), MID);
        assert_eq!(core.choose(20_001, &[]), Some(0));
    }

    #[test]
    fn what_is_heard_from_is_not_probed_and_probes_are_spread() {
        let mut core = core(1);
        core.choose(9_000, &[]);
        core.ended(9_000, 0, Outcome::Accepted { took_ms: 1 }, MID);
        assert_eq!(core.wake_at(), 19_000);
        assert_eq!((spread(10_000, 0), spread(10_000, MID), spread(10_000, u32::MAX)), (8_000, 10_000, 12_000));
    }

    #[test]
    fn only_what_was_not_accepted_and_may_pass_goes_to_another() {
        let refused =
            |status| UpstreamError::Refused { status, code: None, message: String::new(), retry_after_s: None };
        let goes = [
            UpstreamError::Unreachable { upstream: String::new(), detail: String::new() },
            UpstreamError::Cut { bytes: 0, detail: String::new() },
            refused(429),
            refused(500),
            refused(503),
            refused(529),
        ];
        let stays = [
            UpstreamError::Silent { after_ms: 1, whilst: Silence::BeforeAnswer },
            UpstreamError::Cancelled,
            UpstreamError::Malformed { detail: String::new() },
            refused(400),
            refused(401),
            refused(404),
            refused(501),
        ];
        assert!(goes.iter().all(may_go_on) && !stays.iter().any(may_go_on));
    }
}
