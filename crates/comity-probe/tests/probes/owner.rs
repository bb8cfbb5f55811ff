//! An owner with a model behind a door, and the days that a house spends checking it.

use std::collections::BTreeSet;
use std::rc::Rc;

use comity_probe::{
    Answer, Ask, Bill, Chance, Checker, Choice, Door, Observation, Program, Purse, Secret, Settings, Step, Suspicion,
    Why,
};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Basis, Price, Rate, Step as PriceStep, Tariff};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, Meter, Meters, NodeId, Op, OrgId, Timestamp};

/// A Monday.
pub(crate) const FIRST_DAY: u64 = 20_786;
const STEPS: usize = 8;
const VOCABULARY: u64 = 16;
const TOP: usize = 5;

/// The likeliest tokens at each step of a greedy answer, best first, with logits.
pub(crate) type Path = Vec<Vec<(String, f64)>>;

/// What stands behind a door.
#[derive(Clone)]
pub(crate) enum Model {
    /// Numbers from a hash; `mix` of another model's is added.
    Toy { seed: u64, other: u64, mix: f64 },
    /// What a real model said to each of some prompts.
    Recorded(Rc<Vec<Path>>),
}

impl Model {
    pub(crate) fn toy(seed: u64) -> Self {
        Self::Toy { seed, other: 0, mix: 0.0 }
    }

    pub(crate) fn path(&self, prompt: u32) -> Path {
        match self {
            Self::Recorded(paths) => paths[prompt as usize % paths.len()].clone(),
            Self::Toy { seed, other, mix } => {
                let mut context = u64::from(prompt);
                let mut path = Path::new();
                for _ in 0..STEPS {
                    let logit = |token: u64| {
                        let own = 6.0 * unit(hash(*seed, context, token));
                        own + if *mix > 0.0 { mix * (unit(hash(*other, context, token)) - 0.5) } else { 0.0 }
                    };
                    let mut all: Vec<(u64, f64)> = (0..VOCABULARY).map(|token| (token, logit(token))).collect();
                    all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
                    context = hash(1, context, all[0].0);
                    path.push(
                        all.into_iter().take(TOP + 1).map(|(token, logit)| (format!("t{token} "), logit)).collect(),
                    );
                }
                path
            }
        }
    }
}

fn hash(a: u64, b: u64, c: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(c);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// How an owner counts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Counting {
    Honest,
    /// So many parts in a hundred more tokens.
    Adds(u64),
    /// The receipt says more than the answer's `usage`.
    UsageBelow,
    /// One µcr above the tariff.
    Overcharges,
}

/// An owner.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) model: Model,
    /// What blind callers get from a time on.
    pub(crate) then: Option<(Timestamp, Model)>,
    /// Whether announced auditors keep getting the first model.
    pub(crate) shows_auditors_the_first: bool,
    /// Deviation of logits from call to call, as batching makes it; twice that in the afternoon.
    pub(crate) noise: f64,
    pub(crate) logprobs: bool,
    /// Share of known answers that are right: for announced auditors, for others.
    pub(crate) right: (f64, f64),
    /// Share of prompts that are refused by a filter, from a time on.
    pub(crate) refuses: (f64, Timestamp),
    pub(crate) counting: (Counting, Timestamp),
}

impl Owner {
    pub(crate) fn honest(seed: u64, noise: f64, logprobs: bool) -> Self {
        let never = Timestamp(u64::MAX);
        Self {
            model: Model::toy(seed),
            then: None,
            shows_auditors_the_first: false,
            noise,
            logprobs,
            right: (0.7, 0.7),
            refuses: (0.0, never),
            counting: (Counting::Honest, never),
        }
    }

    pub(crate) fn answer(&self, ask: &Ask, number: u64, chance: &mut Chance) -> Observation {
        let nice = ask.announced && self.shows_auditors_the_first;
        let model = match &self.then {
            Some((from, other)) if ask.at >= *from && !nice => other,
            _ => &self.model,
        };
        let by_prompt = unit(hash(77, u64::from(ask.prompt.number), 0));
        let refused = ask.at >= self.refuses.1 && by_prompt < self.refuses.0;
        let afternoon = (12..18).contains(&(ask.at.seconds() / 3_600 % 24));
        let noise = if afternoon { 2.0 * self.noise } else { self.noise };
        let steps = if refused { Vec::new() } else { self.steps(model.path(ask.prompt.number), noise, chance) };
        let tokens = steps.len() as u64;
        let right = if ask.announced { self.right.0 } else { self.right.1 };
        let known = ask.prompt.right.clone().filter(|_| by_prompt < right).unwrap_or_default();
        let text = (!refused).then(|| steps.iter().map(|step| step.text.as_str()).collect::<String>() + &known);
        let answer = match &text {
            Some(_) if self.logprobs => Answer { choice: Choice::Answered, steps },
            Some(text) => Answer::of_text(text),
            None => Answer::refusal(),
        };
        Observation { receipt: Digest::of(&number.to_be_bytes()), answer, text, bill: self.bill(ask, tokens) }
    }

    pub(crate) fn steps(&self, path: Path, noise: f64, chance: &mut Chance) -> Vec<Step> {
        let mut steps = Vec::new();
        for mut tokens in path {
            let likeliest = tokens[0].0.clone();
            tokens.iter_mut().for_each(|(_, logit)| *logit += noise * chance.normal());
            tokens.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            // What is not among the likeliest weighs about as much as the last of them.
            let sum: f64 = tokens.iter().map(|(_, logit)| logit.exp()).sum();
            let top = tokens
                .iter()
                .take(TOP)
                .map(|(token, logit)| (token.clone(), ((logit.exp() / sum).ln() * 1e3).round() / 1e3));
            let top: Vec<(String, f64)> = top.collect();
            let text = top[0].0.clone();
            let parted = text != likeliest;
            steps.push(Step { text, top });
            if parted {
                // Behind it nothing is compared; a text of its own stands for what would follow.
                steps.push(Step { text: format!("… {}", chance.below(1_000)), top: Vec::new() });
                break;
            }
        }
        steps
    }

    fn bill(&self, ask: &Ask, tokens: u64) -> Bill {
        let body_bytes = ask.prompt.text.len() as u64 + 200;
        let (input, output) = (ask.prompt.text.len() as u64 / 4 + 9, tokens.min(u64::from(ask.prompt.max_tokens)));
        let counting = if ask.at >= self.counting.1 { self.counting.0 } else { Counting::Honest };
        let more = |tokens: u64| match counting {
            Counting::Adds(parts) => tokens + tokens * parts / 100,
            Counting::UsageBelow => tokens + 1,
            Counting::Honest | Counting::Overcharges => tokens,
        };
        let usage = if counting == Counting::UsageBelow { (input, output) } else { (more(input), more(output)) };
        let meters = Meters::default()
            .with(Meter::Requests, 1)
            .with(Meter::InputBytes, body_bytes)
            .with(Meter::InputTokens, more(input))
            .with(Meter::OutputTokens, more(output));
        let charge = tariff().exact(Op::Chat, &meters).unwrap().ceil().unwrap();
        let above = Amount::from_ucr(u32::from(counting == Counting::Overcharges));
        Bill {
            body_bytes,
            max_tokens: u64::from(ask.prompt.max_tokens),
            meters,
            charge: charge.saturating_add(above),
            basis: Basis::Upstream,
            usage: Some(usage),
            input_counted: None,
            output_counted: self.logprobs.then_some(output),
        }
    }
}

pub(crate) fn tariff() -> Tariff {
    let rate = |meter, ucr_per_million| Rate {
        meter,
        steps: List::new(vec![PriceStep { from: 0, ucr_per_million }]).unwrap(),
    };
    // Half a credit and one and a half credits for a million tokens.
    let rates = vec![rate(Meter::InputTokens, 500_000), rate(Meter::OutputTokens, 1_500_000)];
    let price = Price { op: Op::Chat, rates: List::new(rates).unwrap(), minimum: Amount::from_ucr(10) };
    Tariff {
        org: OrgId::from_bytes([3; 16]),
        name: Text::new("probed".to_owned()).unwrap(),
        version: 1,
        prices: List::new(vec![price]).unwrap(),
        overhead_tokens: 16,
        output_bytes_per_token: 16,
        issued_at: Timestamp(0),
    }
}

pub(crate) fn door(number: u8, risk: u8) -> Door {
    Door {
        node: NodeId::from_bytes([number; 16]),
        model: format!("owner/model-{number}").parse().unwrap(),
        release: Digest::of(&[number]),
        tariff: tariff(),
        logprobs: Some(5),
        risk,
    }
}

pub(crate) fn secret(seed: u64) -> Secret {
    Secret::new(Digest::of_parts(&[b"test", &seed.to_be_bytes()]).0)
}

/// Three tenths of a credit a day, in worst cases, of a lot that lasts.
pub(crate) fn program(seed: u64) -> Program {
    let mut program =
        Program::new(secret(seed), Settings::default(), Purse::new(Amount::from_ucr(300_000), Amount::credits(1_000)));
    program.add(door(1, 2), Checker::default()).unwrap();
    program
}

/// What came up in some days.
#[derive(Default)]
pub(crate) struct Days {
    pub(crate) found: Vec<Suspicion>,
    pub(crate) asks: u64,
}

impl Days {
    pub(crate) fn first(&self, why: impl Fn(Why) -> bool, announced: bool) -> Option<Timestamp> {
        self.found.iter().find(|found| why(found.why) && found.announced == announced).map(|found| found.at)
    }
}

/// Plays days until `enough`; the owner answers each call.
pub(crate) fn play(
    program: &mut Program,
    owner: &Owner,
    seed: u64,
    days: std::ops::Range<u64>,
    enough: impl Fn(&Days) -> bool,
) -> Days {
    let (mut told, mut number) = (Days::default(), 0);
    let mut chance = secret(seed).chance("owner", days.start);
    for day in days {
        let plan = program.plan(day);
        let worst = Amount::sum(plan.iter().map(|ask| ask.worst)).unwrap();
        assert!(worst <= program.purse().left(day), "a plan of {worst}");
        for ask in plan {
            let Ok(held) = program.hold(ask.at, &ask) else { continue };
            number += 1;
            told.asks += 1;
            let seen = owner.answer(&ask, (seed << 32) + number, &mut chance);
            told.found.extend(program.observe(ask.at, &ask, held, &seen));
            if enough(&told) {
                return told;
            }
        }
    }
    told
}

/// Midnight of a day.
pub(crate) fn midnight(day: u64) -> Timestamp {
    Timestamp(day * DAY_S)
}

/// Days until blind personas have a baseline, and auditors too where `both`.
pub(crate) fn settle(program: &mut Program, owner: &Owner, seed: u64, both: bool) -> u64 {
    let mut day = FIRST_DAY + seed % 7;
    let lacks = |program: &Program, side| program.door(0).is_some_and(|(_, known)| known.changed(side).is_none());
    while lacks(program, false) || (both && lacks(program, true)) {
        assert!(day < FIRST_DAY + 60, "seed {seed}: no baseline in {} days", day - FIRST_DAY);
        let days = play(program, owner, seed, day..day + 1, |_| false);
        assert!(days.found.is_empty(), "seed {seed}: {:?}", days.found);
        day += 1;
    }
    day
}

#[allow(clippy::print_stdout, reason = "a test prints what it found")]
/// Prints hours until something was found, and gives the longest.
pub(crate) fn spread(what: &str, mut hours: Vec<f64>) -> f64 {
    hours.sort_by(f64::total_cmp);
    let at = |part: f64| hours[((hours.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {} seeds; hours to be found: median {:.1}, 90 % {:.1}, 99 % {:.1}, longest {:.1}",
        hours.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    at(1.0)
}

#[test]
fn each_number_of_a_persona_is_somebody_else() {
    let program = program(1);
    let who: BTreeSet<u32> = program.plan(FIRST_DAY).iter().map(|ask| ask.persona).collect();
    assert!(who.len() >= 4, "{who:?}");
}
