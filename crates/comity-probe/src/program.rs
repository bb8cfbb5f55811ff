//! The house's program of checks: which doors, how much of the money each gets, who asks what and when.
//!
//! Nothing that the house wants to know shapes the traffic: calls are drawn from the habits of personas first, prompts put
//! into them after. Where money does not suffice, whole sessions are left out by lot. Money follows risk and the age of the
//! last verdict.

use std::collections::BTreeSet;

use comity_wire::object::{Demand, Tariff};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, ModelId, NodeId, Op, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chance::{Chance, Secret};
use crate::checker::{Asked, Checker, Observation, Suspicion};
use crate::detector::Promise;
use crate::habit::{Habit, Slot};
use crate::meters::Terms;
use crate::pool::{Kind, Origin, Pool, Prompt};
use crate::purse::{Purse, Spent};

/// Doors of a program.
pub(crate) const DOORS_MAX: usize = 1_024;
/// Calls that a habit makes on an average day; see [`Habit::draw`].
const CALLS_A_DAY: f64 = 8.6;
/// Places of personas at a door.
const PLACES_MAX: usize = 48;
/// Prompts that a side begins with.
const PROMPTS_FIRST: usize = 140;
/// Which part of the money a short day plans with, so that the sessions that lots leave seldom cost too much.
const SHORT: f64 = 0.8;
/// Share of calls that bring a new prompt, so that old ones can be left behind.
const NEW: f64 = 0.08;

/// How a house checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How often a false alarm may be raised.
    pub promise: Promise,
    /// Calls of an average day at each door, where money suffices.
    pub calls_a_day: f64,
    /// Share of them by announced auditors.
    pub announced: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { promise: Promise::default(), calls_a_day: 200.0, announced: 0.3 }
    }
}

/// One release behind one door.
#[derive(Debug, Clone)]
pub struct Door {
    /// Which node.
    pub node: NodeId,
    /// Which model.
    pub model: ModelId,
    /// Which release the tokens pin. Another release is another door.
    pub release: Digest,
    /// What it charges by.
    pub tariff: Tariff,
    /// Alternatives that it gives with log-probabilities, if it does.
    pub logprobs: Option<u8>,
    /// How much hangs on it, 1 to 4; 0: it keeps its place and is not asked.
    pub risk: u8,
}

/// One call to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// When.
    pub at: Timestamp,
    /// Which door, by its place in the program.
    pub door: usize,
    /// As whom: each has a project, a pseudonym and keys of its own.
    pub persona: u32,
    /// Whether they say that they are auditors.
    pub announced: bool,
    /// Which session of theirs.
    pub session: u32,
    /// What.
    pub prompt: Prompt,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// What it may cost.
    pub worst: Amount,
}

/// Money that is held for a call. Given back to [`Program::observe`] or [`Program::failed`], once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is held stays held until the call is told of"]
pub struct Held {
    day: u64,
    worst: Amount,
}

impl Held {
    /// That of a call whose money a purse that was kept still holds, after the process that made it has ended.
    pub fn again(at: Timestamp, worst: Amount) -> Self {
        Self { day: at.seconds() / DAY_S, worst }
    }
}

/// All doors of a house.
#[derive(Debug, Clone)]
pub struct Program {
    secret: Secret,
    pool: Pool,
    settings: Settings,
    doors: Vec<(Door, Checker)>,
    purse: Purse,
    /// Personas that somebody was shown.
    burnt: BTreeSet<u32>,
}

impl Program {
    /// A program without doors.
    #[must_use]
    pub fn new(secret: Secret, settings: Settings, purse: Purse) -> Self {
        let pool = Pool::new(secret.clone());
        Self { secret, pool, settings, doors: Vec::new(), purse, burnt: BTreeSet::new() }
    }

    /// Adds a door with what is known of it; gives its place, `None` where there are too many.
    pub fn add(&mut self, door: Door, known: Checker) -> Option<usize> {
        if self.doors.len() >= DOORS_MAX {
            return None;
        }
        self.doors.push((door, known));
        Some(self.doors.len() - 1)
    }

    /// Puts another release, or other terms, in a door's place: whoever works there stays.
    pub fn replace(&mut self, at: usize, door: Door, known: Checker) {
        if let Some(place) = self.doors.get_mut(at) {
            *place = (door, known);
        }
    }

    /// How a house checks from now on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// A door and what is known of it.
    #[must_use]
    pub fn door(&self, at: usize) -> Option<(&Door, &Checker)> {
        self.doors.get(at).map(|(door, checker)| (door, checker))
    }

    /// The money.
    #[must_use]
    pub fn purse(&self) -> &Purse {
        &self.purse
    }

    /// The same, to be renewed.
    pub fn purse_mut(&mut self) -> &mut Purse {
        &mut self.purse
    }

    /// The prompt of a number.
    #[must_use]
    pub fn prompt(&self, number: u32) -> Prompt {
        self.pool.prompt(number)
    }

    /// Who works at the door of a place on a day, and whether they say that they are auditors.
    #[must_use]
    pub fn cast(&self, door: usize, day: u64) -> Vec<(u32, bool)> {
        self.places(door, day).into_iter().map(|place| (place.persona, place.announced)).collect()
    }

    /// Personas that somebody was shown.
    #[must_use]
    pub fn burnt(&self) -> &BTreeSet<u32> {
        &self.burnt
    }

    /// These were shown to somebody, before this program was made.
    pub fn burn(&mut self, personas: impl IntoIterator<Item = u32>) {
        self.burnt.extend(personas);
    }

    /// The calls of a day (days since 1970), in order of time. Their worst cases together are within what the day has left.
    #[must_use]
    pub fn plan(&self, day: u64) -> Vec<Ask> {
        let now = Timestamp(day.saturating_mul(DAY_S));
        let mut doors: Vec<(usize, f64)> = (0..self.doors.len())
            .filter(|at| self.doors[*at].0.risk > 0)
            .map(|at| (at, self.weight(at, now)))
            .collect();
        doors.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let mut left = self.purse.left(day);
        let mut asks = Vec::new();
        for (place, (door, weight)) in doors.iter().enumerate() {
            let sum: f64 = doors[place..].iter().map(|(_, weight)| weight).sum();
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a part of an amount")]
            let share = Amount::new((left.ucr() as f64 * weight / sum) as i64).unwrap_or(Amount::ZERO).min(left);
            let (planned, all) = self.plan_door(*door, day, share);
            // What a door does not want goes to the others; what lots left of its share does not.
            let taken = if all { worst(&planned) } else { share };
            left = left.checked_sub(taken).expect("a door's calls are within its share");
            asks.extend(planned);
        }
        asks.sort_by_key(|ask| (ask.at, ask.door, ask.persona));
        asks
    }

    /// Holds what a call may cost, before it is made.
    ///
    /// # Errors
    /// [`Spent`]: it is not made.
    pub fn hold(&mut self, now: Timestamp, ask: &Ask) -> Result<Held, Spent> {
        let day = now.seconds() / DAY_S;
        self.purse.hold(day, ask.worst)?;
        Ok(Held { day, worst: ask.worst })
    }

    /// A call ended with an answer.
    pub fn observe(&mut self, now: Timestamp, ask: &Ask, held: Held, seen: &Observation) -> Vec<Suspicion> {
        self.failed(held, seen.bill.charge);
        let Some((door, checker)) = self.doors.get_mut(ask.door) else { return Vec::new() };
        let asked = Asked { prompt: &ask.prompt, persona: ask.persona, announced: ask.announced };
        checker.observe(now, asked, seen, Terms { tariff: &door.tariff, op: Op::Chat }, &self.settings.promise)
    }

    /// A call ended without one, and was charged so much all the same.
    pub fn failed(&mut self, held: Held, charge: Amount) {
        self.purse.settle(held.day, held.worst, charge);
    }

    /// A suspicion was looked into: its test begins anew, and what its evidence gives away is used no more.
    pub fn dealt_with(&mut self, door: usize, suspicion: &Suspicion) {
        self.burnt.extend(&suspicion.personas);
        if let Some((_, checker)) = self.doors.get_mut(door) {
            checker.dealt_with(suspicion);
        }
    }

    /// More for what hangs more on, for what was judged long ago, and for what has no baseline yet.
    fn weight(&self, at: usize, now: Timestamp) -> f64 {
        let (door, checker) = &self.doors[at];
        let unready = if checker.baseline(false).rates().is_none() { 2.0 } else { 1.0 };
        #[allow(clippy::cast_precision_loss, reason = "days")]
        let age = checker.judged().map_or(0.0, |judged| (now.since(judged) as f64 / DAY_S as f64).min(30.0));
        f64::from(door.risk.clamp(1, 4)) * unready * (1.0 + age / 7.0)
    }

    /// The calls of a door within its share, and whether these are all that it would make.
    fn plan_door(&self, at: usize, day: u64, share: Amount) -> (Vec<Ask>, bool) {
        let mut chance = self.secret.chance("day", day * DOORS_MAX as u64 + at as u64);
        let mut sessions: Vec<(Place, Vec<Slot>)> = Vec::new();
        for place in self.places(at, day) {
            let slots = place.habit.day(day, &mut chance);
            let last = slots.iter().map(|slot| slot.session).max().map_or(0, |last| last + 1);
            for session in 0..last {
                let of: Vec<Slot> = slots.iter().filter(|slot| slot.session == session).copied().collect();
                sessions.push((place.clone(), of));
            }
        }
        chance.shuffle(&mut sessions);
        let mut asked = BTreeSet::new();
        let filled = sessions.iter().map(|(place, slots)| self.fill(at, place, slots, &mut asked, &mut chance));
        let filled: Vec<Vec<Ask>> = filled.collect();
        let all = filled.iter().fold(Amount::ZERO, |sum, session| sum.saturating_add(worst(session)));
        // By lot, before it is known what each costs: leaving out what does not fit would make all that is left short.
        #[allow(clippy::cast_precision_loss, reason = "a part of an amount")]
        let part = if all <= share { 1.0 } else { SHORT * share.ucr() as f64 / all.ucr() as f64 };
        let (mut asks, mut left) = (Vec::new(), share);
        for session in filled {
            let kept = chance.happens(part);
            let Some(less) = left.checked_sub(worst(&session)).filter(|_| kept) else { continue };
            left = less;
            asks.extend(session);
        }
        (asks, all <= share)
    }

    /// Puts prompts into the calls of a session.
    fn fill(
        &self,
        at: usize,
        place: &Place,
        slots: &[Slot],
        asked: &mut BTreeSet<(u32, u32)>,
        chance: &mut Chance,
    ) -> Vec<Ask> {
        let mut asks: Vec<Ask> = Vec::with_capacity(slots.len());
        for slot in slots {
            let again = asks.last().filter(|_| slot.repeats).map(|ask| ask.prompt.clone());
            let prompt = again.unwrap_or_else(|| self.pool.prompt(self.choose(at, place, slot, asked, chance)));
            asked.insert((place.persona, prompt.number));
            let Some(worst) = self.worst(at, &prompt) else { continue };
            asks.push(Ask {
                at: slot.at,
                door: at,
                persona: place.persona,
                announced: place.announced,
                session: slot.session,
                prompt,
                stream: slot.stream,
                worst,
            });
        }
        asks
    }

    /// A prompt for a call: one that the baseline lacks, then any that is known, now and then a new one. None that a
    /// blind persona had before, and only listed prompts for auditors: who asks one of those is listed too.
    fn choose(
        &self,
        door: usize,
        place: &Place,
        slot: &Slot,
        asked: &BTreeSet<(u32, u32)>,
        chance: &mut Chance,
    ) -> u32 {
        let (baseline, at, kind) = (self.doors[door].1.baseline(place.announced), slot.at, slot.kind);
        let known: Vec<(u32, u32)> = baseline
            .prompts(at, (!place.announced).then_some(place.persona))
            .filter(|(number, _)| Kind::of(*number) == kind)
            .filter(|(number, _)| !asked.contains(&(place.persona, *number)))
            .collect();
        let unready = baseline.rates().is_none();
        let lacking: Vec<u32> =
            known.iter().filter(|(_, answers)| unready && *answers < 3).map(|(number, _)| *number).collect();
        let new = if baseline.len() < PROMPTS_FIRST { 0.5 } else { NEW };
        if chance.happens(new) || known.is_empty() {
            let origin = if place.announced { Origin::Public } else { Origin::Secret };
            return Pool::draw(origin, kind, chance);
        }
        if lacking.is_empty() { chance.of(&known).0 } else { *chance.of(&lacking) }
    }

    /// What a prompt may cost at a door; `None` where its tariff has no price for it.
    fn worst(&self, at: usize, prompt: &Prompt) -> Option<Amount> {
        let demand = Demand {
            op: Op::Chat,
            input_bytes: prompt.text.len() as u64 + Prompt::BODY_BYTES,
            choices: 1,
            output_tokens: u64::from(prompt.max_tokens),
        };
        self.doors[at].0.tariff.worst_case(&demand).ok()
    }

    /// Who works at a door on a day. Each place is held by somebody for three to nine weeks, then by somebody else.
    fn places(&self, at: usize, day: u64) -> Vec<Place> {
        let Settings { calls_a_day, announced, .. } = self.settings;
        let places = |calls: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let places = (calls / CALLS_A_DAY).round().clamp(1.0, PLACES_MAX as f64 / 2.0) as usize;
            if calls > 0.0 { places } else { 0 }
        };
        let (open, blind) = (places(calls_a_day * announced), places(calls_a_day * (1.0 - announced)));
        let of = |place: usize| {
            let seat = (at * PLACES_MAX + place) as u64;
            let mut chance = self.secret.chance("seat", seat);
            let length = 21 + chance.below(43) as u64;
            let term = (day + chance.below(64) as u64) / length;
            // The name of who holds it; another one where that was shown to somebody.
            let name = |turn: u64| {
                let name =
                    Digest::of_parts(&[b"persona\0", &seat.to_be_bytes(), &term.to_be_bytes(), &turn.to_be_bytes()]);
                u32::from_be_bytes([name.0[0], name.0[1], name.0[2], name.0[3]])
            };
            let persona = (0..).map(name).find(|name| !self.burnt.contains(name)).expect("one of so many is free");
            let habit = Habit::draw(&mut self.secret.chance("habit", u64::from(persona)));
            Place { persona, announced: place < open, habit }
        };
        (0..open + blind).map(of).collect()
    }
}

/// What calls may cost together.
fn worst(asks: &[Ask]) -> Amount {
    asks.iter().fold(Amount::ZERO, |sum, ask| sum.saturating_add(ask.worst))
}

/// Who works at a door.
#[derive(Debug, Clone)]
struct Place {
    persona: u32,
    announced: bool,
    habit: Habit,
}
