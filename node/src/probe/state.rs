//! What the probes know, and what changes it: facts are applied in their order, and the same facts give the same state. No clock, no
//! socket: [`super::runner`] asks and waits, [`super::journal`] keeps.

use std::collections::{BTreeMap, BTreeSet};

use comity_probe::{Ask, Bill, Checker, Door, Finding, Held, Observation, Program, Purse, Secret, Settings};
use comity_wire::object::{Receipt, Tariff};
use comity_wire::{Amount, Digest, Signed, Timestamp};
use serde::{Deserialize, Serialize};

pub use super::facts::{Day, Drawn, Event, Place, Planned, Seen, Stands, Stored, Tally, Who};
use crate::failure::{Failure, While as _};

/// Plans that are kept: of a day that runs, and of days whose calls may still be in doubt.
const PLANS_MAX: usize = 4;

/// Everything.
#[derive(Debug)]
pub struct State {
    secret: Secret,
    settings: Settings,
    day_max: Amount,
    program: Program,
    places: Vec<Place>,
    tariffs: Vec<Digest>,
    pub cast: BTreeMap<u32, Who>,
    pub days: BTreeMap<u64, Day>,
    pub tallies: Vec<Tally>,
    pub drawn: Vec<Drawn>,
}

/// The same as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    settings: Settings,
    day_max: Amount,
    purse: Purse,
    burnt: BTreeSet<u32>,
    places: Vec<(Place, Checker)>,
    cast: BTreeMap<u32, Who>,
    days: BTreeMap<u64, Day>,
    tallies: Vec<Tally>,
    drawn: Vec<Drawn>,
}

impl State {
    /// What was kept, or nothing.
    ///
    /// # Errors
    /// [`Failure`] where it does not add up.
    pub fn new(secret: Secret, snapshot: Option<Snapshot>) -> Result<Self, Failure> {
        let snapshot = snapshot.unwrap_or_else(|| Snapshot {
            settings: Settings::default(),
            day_max: Amount::ZERO,
            purse: Purse::new(Amount::ZERO, Amount::ZERO),
            burnt: BTreeSet::new(),
            places: Vec::new(),
            cast: BTreeMap::new(),
            days: BTreeMap::new(),
            tallies: Vec::new(),
            drawn: Vec::new(),
        });
        let Snapshot { settings, day_max, purse, burnt, places, cast, days, tallies, drawn } = snapshot;
        let mut program = Program::new(secret.clone(), settings.clone(), purse);
        program.burn(burnt);
        let mut state = Self {
            secret,
            settings,
            day_max,
            program,
            places: Vec::new(),
            tariffs: Vec::new(),
            cast,
            days,
            tallies,
            drawn,
        };
        for (place, known) in places {
            let (door, tariff) = door(&place)?;
            state.program.add(door, known);
            state.places.push(place);
            state.tariffs.push(tariff);
        }
        Ok(state)
    }

    /// What is to be kept.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let known = |at: usize| self.program.door(at).map(|(_, known)| known.clone()).unwrap_or_default();
        Snapshot {
            settings: self.settings.clone(),
            day_max: self.day_max,
            purse: self.program.purse().clone(),
            burnt: self.program.burnt().clone(),
            places: self.places.iter().enumerate().map(|(at, place)| (place.clone(), known(at))).collect(),
            cast: self.cast.clone(),
            days: self.days.clone(),
            tallies: self.tallies.clone(),
            drawn: self.drawn.clone(),
        }
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    pub fn settings(&self) -> (&Settings, Amount) {
        (&self.settings, self.day_max)
    }

    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The tariff that a place's door has now.
    pub fn tariff(&self, at: usize) -> Option<Digest> {
        self.tariffs.get(at).copied()
    }

    /// The call of a plan, as the core knows it.
    pub fn ask(&self, day: u64, ask: usize) -> Option<Ask> {
        let planned = self.days.get(&day)?.asks.get(ask)?;
        Some(Ask {
            at: planned.at,
            door: planned.door,
            persona: planned.persona,
            announced: planned.announced,
            session: planned.session,
            prompt: self.program.prompt(planned.prompt),
            stream: planned.stream,
            worst: planned.worst,
        })
    }

    /// Calls that were begun, and have not ended: by day and place in its plan.
    pub fn open(&self) -> impl Iterator<Item = (u64, usize, Timestamp)> + '_ {
        self.days.iter().flat_map(|(day, of)| {
            of.stands.iter().enumerate().filter_map(|(ask, stands)| match stands {
                Stands::Open { at } => Some((*day, ask, *at)),
                Stands::Waits | Stands::Done => None,
            })
        })
    }

    /// Applies a fact.
    ///
    /// # Errors
    /// [`Failure`] where it does not follow from those before.
    pub fn apply(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Set { settings, day_max } => {
                self.program.set(settings.clone());
                self.program.purse_mut().renew(day_max, Amount::ZERO);
                (self.settings, self.day_max) = (settings, day_max);
            }
            Event::Cast { persona, who } => drop(self.cast.insert(persona, who)),
            Event::Ready { persona, lot } => {
                let who = self.cast.get_mut(&persona).ok_or_else(|| astray("a persona that was never made"))?;
                if !std::mem::replace(&mut who.ready, true) {
                    self.program.purse_mut().renew(self.day_max, lot);
                }
            }
            Event::Given { persona, more } => {
                let who = self.cast.get_mut(&persona).filter(|who| who.ready);
                let who = who.ok_or_else(|| astray("credits of a persona that has none"))?;
                who.award = who.award.saturating_add(more);
                self.program.purse_mut().renew(self.day_max, more);
            }
            Event::Door { at, door } => self.door(at, door)?,
            Event::Planned { day, asks } => {
                let stands = vec![Stands::Waits; asks.len()];
                self.days.insert(day, Day { asks, stands });
                self.forget_days();
            }
            Event::Missed { day, asks, why } => {
                for ask in asks {
                    let at = self.planned(day, ask)?.at;
                    *self.stands(day, ask)? = Stands::Done;
                    self.tally(day, ask)?.missed(&why, at);
                }
            }
            Event::Began { day, ask, at } => {
                let worst = self.planned(day, ask)?.worst;
                let begun = Ask { at, worst, ..self.ask(day, ask).ok_or_else(|| astray("a call of no plan"))? };
                let held = self.program.hold(at, &begun).while_("a call was begun without money for it")?;
                // It stands in the purse; the slip is made again where the call ends.
                drop(held);
                *self.stands(day, ask)? = Stands::Open { at };
                self.tally(day, ask)?.last = Some(at);
            }
            Event::Answered { day, ask, at, seen } => self.answered(day, ask, at, &seen)?,
            Event::Failed { day, ask, at, charge, why } => {
                let held = self.ended(day, ask)?;
                let worst = self.planned(day, ask)?.worst;
                self.program.failed(held, charge.min(worst));
                self.tally(day, ask)?.failed(&why, at);
            }
            Event::DealtWith { finding } => self.dealt_with(finding),
        }
        Ok(())
    }

    fn door(&mut self, at: usize, place: Place) -> Result<(), Failure> {
        let (found, tariff) = door(&place)?;
        let last = self.places.len();
        match self.places.get_mut(at) {
            None if at == last => {
                self.program.add(found, Checker::default()).ok_or_else(|| astray("more doors than there may be"))?;
                self.places.push(place);
                self.tariffs.push(tariff);
                self.tallies.push(Tally::default());
            }
            None => return Err(astray("a door beyond the last")),
            Some(known) => {
                let same = (known.node, &known.model, known.release) == (place.node, &place.model, place.release);
                let kept = self.program.door(at).filter(|_| same).map(|(_, kept)| kept.clone()).unwrap_or_default();
                self.program.replace(at, found, kept);
                *known = place;
                self.tariffs[at] = tariff;
            }
        }
        Ok(())
    }

    fn answered(&mut self, day: u64, ask: usize, at: Timestamp, seen: &Seen) -> Result<(), Failure> {
        let held = self.ended(day, ask)?;
        let asked = self.ask(day, ask).ok_or_else(|| astray("a call of no plan"))?;
        let signed = Signed::<Receipt>::decode(&seen.receipt)?;
        let (id, receipt) = (signed.id(), signed.unverified());
        let place = self.places.get(asked.door).cloned().ok_or_else(|| astray("a door that is not there"))?;
        let tally = &mut self.tallies[asked.door];
        tally.answered += 1;
        // Of another release, node or tariff nothing is compared: it is another door, or was bought on other terms.
        let other = if receipt.release != place.release {
            Some("another release answered")
        } else if receipt.node != place.node {
            Some("another node answered")
        } else if receipt.tariff != self.tariffs[asked.door] {
            Some("bought on an earlier tariff")
        } else if receipt.charge > asked.worst {
            Some("charged above what was planned")
        } else {
            None
        };
        if let Some(other) = other {
            tally.reason(other, at);
            self.program.failed(held, receipt.charge.min(asked.worst));
            return Ok(());
        }
        tally.compared += 1;
        let bill = Bill {
            body_bytes: seen.body_bytes,
            max_tokens: seen.max_tokens,
            meters: receipt.meters,
            charge: receipt.charge,
            basis: receipt.basis,
            usage: seen.usage,
            input_counted: None,
            output_counted: seen.listed,
        };
        let seen = Observation { receipt: id, answer: seen.answer.clone(), text: seen.text.clone(), bill };
        for suspicion in self.program.observe(at, &asked, held, &seen) {
            let finding = Finding::draw(place.node, place.model.clone(), place.release, &suspicion);
            tracing::warn!(finding = %finding.id, model = %place.model, why = %suspicion.why.name(), "a finding was drawn up");
            self.drawn.push(Drawn { finding, suspicion, door: asked.door, dealt_with: false });
        }
        Ok(())
    }

    fn dealt_with(&mut self, finding: Digest) {
        let Some(drawn) = self.drawn.iter_mut().find(|drawn| drawn.finding.id == finding && !drawn.dealt_with) else {
            return;
        };
        drawn.dealt_with = true;
        let (door, suspicion) = (drawn.door, drawn.suspicion.clone());
        let release = drawn.finding.evidence.release;
        if self.places.get(door).is_some_and(|place| place.release == release) {
            self.program.dealt_with(door, &suspicion);
        } else {
            self.program.burn(suspicion.personas);
        }
    }

    /// The money of a call that ends now.
    fn ended(&mut self, day: u64, ask: usize) -> Result<Held, Failure> {
        let worst = self.planned(day, ask)?.worst;
        let stands = self.stands(day, ask)?;
        let Stands::Open { at } = *stands else { return Err(astray("the end of a call that is not open")) };
        *stands = Stands::Done;
        Ok(Held::again(at, worst))
    }

    fn planned(&self, day: u64, ask: usize) -> Result<&Planned, Failure> {
        self.days.get(&day).and_then(|of| of.asks.get(ask)).ok_or_else(|| astray("a call of no plan"))
    }

    fn stands(&mut self, day: u64, ask: usize) -> Result<&mut Stands, Failure> {
        let of = self.days.get_mut(&day).and_then(|of| of.stands.get_mut(ask));
        of.ok_or_else(|| astray("a call of no plan"))
    }

    fn tally(&mut self, day: u64, ask: usize) -> Result<&mut Tally, Failure> {
        let door = self.planned(day, ask)?.door;
        self.tallies.get_mut(door).ok_or_else(|| astray("a door that is not there"))
    }

    /// The oldest plans go, as far as nothing of them is open.
    fn forget_days(&mut self) {
        while self.days.len() > PLANS_MAX {
            let ended = |of: &Day| of.stands.iter().all(|stands| !matches!(stands, Stands::Open { .. }));
            let Some(day) = self.days.iter().find(|(_, of)| ended(of)).map(|(day, _)| *day) else { return };
            self.days.remove(&day);
        }
    }

    /// What another program grows from, one that looks ahead.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// The core's door of a place, and the id of its tariff.
fn door(place: &Place) -> Result<(Door, Digest), Failure> {
    let tariff = Signed::<Tariff>::decode(&place.tariff)?;
    let door = Door {
        node: place.node,
        model: place.model.clone(),
        release: place.release,
        tariff: tariff.unverified().clone(),
        logprobs: place.logprobs,
        risk: place.risk,
    };
    Ok((door, tariff.id()))
}

fn astray(what: &str) -> Failure {
    Failure::new(format!("the probes' journal tells of {what}"))
        .hint("it was changed, or is of another version: restore the folder from a copy")
}

#[cfg(test)]
mod tests {
    use comity_probe::Answer;
    use comity_wire::cbor::{List, Text};
    use comity_wire::object::{Price, Rate, Step};
    use comity_wire::time::DAY_S;
    use comity_wire::{Meter, NodeId, Op, OrgId, ProjectId, SecretKey, cose};

    use super::*;

    const DAY: u64 = 20_786;

    fn place(release: u8, ucr_per_million: u64) -> Place {
        let steps = List::new(vec![Step { from: 0, ucr_per_million }]).unwrap();
        let rates = List::new(vec![Rate { meter: Meter::InputTokens, steps }]).unwrap();
        let prices = List::new(vec![Price { op: Op::Chat, rates, minimum: Amount::from_ucr(10) }]).unwrap();
        let tariff = Tariff {
            org: OrgId([3; 16]),
            name: Text::new("t").unwrap(),
            version: 1,
            prices,
            overhead_tokens: 16,
            output_bytes_per_token: 16,
            issued_at: Timestamp(0),
        };
        let tariff = cose::sign(&tariff, &SecretKey::from_seed([1; 32]));
        Place {
            node: NodeId([1; 16]),
            model: "lab/model".parse().unwrap(),
            release: Digest([release; 32]),
            tariff: Stored::new(tariff.bytes()).unwrap(),
            logprobs: None,
            risk: 2,
        }
    }

    fn again(state: &State) -> State {
        let text = serde_json::to_string(&state.snapshot()).unwrap();
        State::new(Secret::new([7; 32]), Some(serde_json::from_str(&text).unwrap())).unwrap()
    }

    /// One door, one persona with its credits, and the plan of a day.
    fn planned() -> State {
        let mut state = State::new(Secret::new([7; 32]), None).unwrap();
        let (settings, day_max) = (Settings::default(), Amount::credits(1));
        let who = Who {
            number: 0,
            project: ProjectId([4; 16]),
            announced: false,
            title: "A".to_owned(),
            purpose: "research".to_owned(),
            award: Amount::credits(2),
            ends_at: Timestamp(u64::MAX),
            ready: false,
        };
        let lot = who.award;
        let facts = [
            Event::Set { settings, day_max },
            Event::Door { at: 0, door: place(1, 500_000) },
            Event::Cast { persona: 9, who },
            Event::Ready { persona: 9, lot },
            // A persona has its credits once, however often it is said.
            Event::Ready { persona: 9, lot },
        ];
        facts.into_iter().for_each(|fact| state.apply(fact).unwrap());
        let ask = |ask: &Ask| Planned {
            at: ask.at,
            door: ask.door,
            persona: ask.persona,
            announced: ask.announced,
            session: ask.session,
            prompt: ask.prompt.number,
            stream: ask.stream,
            worst: ask.worst,
        };
        let asks: Vec<_> = state.program().plan(DAY).iter().map(ask).collect();
        assert!(asks.len() > 20);
        state.apply(Event::Planned { day: DAY, asks }).unwrap();
        state
    }

    #[test]
    fn what_a_call_may_cost_stays_held_over_the_end_of_a_process() {
        let mut state = planned();
        let at = Timestamp(DAY * DAY_S);
        let worst = state.days[&DAY].asks[3].worst;
        state.apply(Event::Began { day: DAY, ask: 3, at }).unwrap();
        let mut state = again(&state);
        assert_eq!(state.program().purse().left(DAY), Amount::credits(1).saturating_sub(worst));
        assert_eq!(state.open().collect::<Vec<_>>(), [(DAY, 3, at)]);
        assert!(state.apply(Event::Began { day: DAY, ask: 900, at }).is_err(), "no such call");
        let failed = Event::Failed { day: DAY, ask: 3, at, charge: Amount::from_ucr(5), why: "cut".to_owned() };
        state.apply(failed.clone()).unwrap();
        assert!(state.apply(failed).is_err(), "it ended once");
        // Supplemented, as any award may be.
        state.apply(Event::Given { persona: 9, more: Amount::from_ucr(7) }).unwrap();
        assert!(state.apply(Event::Given { persona: 8, more: Amount::from_ucr(7) }).is_err(), "nobody");
        let purse = again(&state).program().purse().clone();
        assert_eq!((purse.spent(DAY), purse.lot()), (Amount::from_ucr(5), Amount::new(2_000_002).unwrap()));
        assert_eq!(state.tallies[0].reasons["cut"], (1, at));
    }

    #[test]
    fn another_tariff_keeps_what_is_known_and_another_release_does_not() {
        let mut state = planned();
        let mut chance = state.secret().chance("test", 0);
        let kind = comity_probe::Kind::Chat;
        let number = comity_probe::Pool::draw(comity_probe::Origin::Secret, kind, &mut chance);
        let known = {
            let (door, known) = state.program().door(0).unwrap();
            let (door, mut known) = (door.clone(), known.clone());
            let prompt = state.program().prompt(number);
            let asked = comity_probe::Asked { prompt: &prompt, persona: 9, announced: false };
            let bill = Bill {
                body_bytes: 10,
                max_tokens: 8,
                meters: comity_wire::Meters::default(),
                charge: Amount::ZERO,
                basis: comity_wire::object::Basis::Nothing,
                usage: None,
                input_counted: None,
                output_counted: None,
            };
            let seen = Observation { receipt: Digest([2; 32]), answer: Answer::of_text("yes"), text: None, bill };
            let terms = comity_probe::Terms { tariff: &door.tariff, op: Op::Chat };
            known.observe(Timestamp(1), asked, &seen, terms, &state.settings.promise);
            known
        };
        let door = state.program().door(0).unwrap().0.clone();
        state.program.replace(0, door, known);
        let prompts = |state: &State| state.program().door(0).unwrap().1.baseline(false).len();
        state.apply(Event::Door { at: 0, door: place(1, 900_000) }).unwrap();
        assert_eq!(prompts(&again(&state)), 1);
        state.apply(Event::Door { at: 0, door: place(2, 900_000) }).unwrap();
        assert_eq!(prompts(&again(&state)), 0);
    }
}
