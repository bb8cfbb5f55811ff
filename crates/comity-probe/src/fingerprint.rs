//! A model's fingerprint: what it answers to some prompts, so that it can be asked again later (decision 0094).
//!
//! For a researcher who wants to know whether the model behind a name is still the one that their results are of. The same
//! distances and the same bets as a house's probes (decision 0066), with what a researcher lacks made good: a house asks for
//! days and is asked nothing meanwhile; a fingerprint is taken in minutes, perhaps at a quiet hour, so more is left to a busy
//! server ([`ROOM`]), and a check is one look at answers that are all of one model, so bets are begun once.
//!
//! Not blind: whoever reads the owner's logs sees the same prompts again. They grow from a secret of the asker's, so nobody
//! knows them beforehand; an owner who keeps every answer and replays it is not found by this.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Choice, Step, distance};
use crate::baseline::{Grade, LEVELS, Rates, Slack};
use crate::chance::Secret;
use crate::detector::{evidence, found_from};
use crate::pool::{Kind, Origin, Pool, Prompt};

/// How often at most a check says of a model that did not change that it did, as long as an honest server differs no more than
/// [`ROOM`] leaves it: half of it for the bounds that the check rests on, a quarter for each of its two tests.
pub const FALSE_ALARM: f64 = 1e-4;
/// Where bets are an alarm.
const ALARM: f64 = 4.0 / FALSE_ALARM;
/// From here on they are no alarm, and no reason to say that nothing changed: chance brings that about once in a hundred checks.
const DOUBT: f64 = 100.0;
/// Twice as far and twice as often as it was seen to differ.
const ROOM: Slack = Slack { wrong: FALSE_ALARM / 2.0, wider: 2.0, tolerance: 2.0 };
/// Times that each prompt is asked before anything is compared: the reference, the levels, the bounds.
pub const ROUNDS: usize = 3;
/// Answers to compare, at least; fewer bound nothing.
pub const ANSWERS_MIN: usize = 60;
/// Prompts of a fingerprint, at most.
pub const PROMPTS_MAX: usize = 512;
/// Bytes of a prompt, at most: many small questions show more than few large ones, for the same money.
const PROMPT_BYTES_MAX: usize = 160;
/// Where a model would be found that answers so many otherwise, a check is worth its word: another model does.
const FOUND_MAX: f64 = 0.9;

/// So many prompts that nobody knows who lacks the secret, each of one short question.
#[must_use]
pub fn questions(secret: Secret, count: usize) -> Vec<Prompt> {
    let mut chance = secret.chance("fingerprint", 0);
    let pool = Pool::new(secret);
    let (mut taken, mut texts) = (Vec::new(), BTreeSet::new());
    // More than half of what is drawn is short enough.
    for _ in 0..count.min(PROMPTS_MAX) * 100 {
        if taken.len() == count.min(PROMPTS_MAX) {
            break;
        }
        let prompt = pool.prompt(Pool::draw(Origin::Secret, Kind::Chat, &mut chance));
        if prompt.text.len() <= PROMPT_BYTES_MAX && texts.insert(prompt.text.clone()) {
            taken.push(prompt);
        }
    }
    taken
}

/// What a model answered, and how far it lies from itself.
#[derive(Debug, Clone)]
pub struct Reference {
    firsts: Vec<Option<Answer>>,
    rates: Rates,
    /// The part of the prompts at which an answer that parts at once lies beyond each level: one that nothing goes beyond
    /// tells of nothing.
    reach: [f64; LEVELS],
}

/// Why answers are no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReference {
    /// Too few prompts were answered three times.
    #[error("{answered} prompts were answered three times, and {ANSWERS_MIN} are the least")]
    TooFew {
        /// How many were.
        answered: usize,
    },
    /// Answers of nothing are like those of any other model.
    #[error("{empty} of {of} answers have no text in them")]
    Empty {
        /// How many have none.
        empty: usize,
        /// Of how many.
        of: usize,
    },
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It answers as it did, as far as [`Likeness::found_from`] says.
    Same,
    /// It answers otherwise, or refuses what it answered, beyond what chance does once in 1 / [`FALSE_ALARM`] checks.
    Changed,
    /// Cannot tell: too few answers.
    TooFew,
    /// Cannot tell: it differs so much from itself that another model would not be noticed.
    TooNoisy,
    /// Cannot tell: more differs than is usual, and less than an alarm takes.
    Doubtful,
}

/// How like the reference some answers are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likeness {
    /// What is to be said.
    pub verdict: Verdict,
    /// Answers that were compared with one of then.
    pub compared: u32,
    /// Distances of the three levels.
    pub levels: [f64; LEVELS],
    /// How many of the compared lie beyond each.
    pub beyond: [u32; LEVELS],
    /// The part that an honest server may have beyond each.
    pub bounds: [f64; LEVELS],
    /// Refusals that were answers then, and answers that were refusals.
    pub turned: u32,
    /// Of how many prompts.
    pub turned_of: u32,
    /// What bets on the answers came to, and on the refusals.
    pub evidence: (f64, f64),
    /// Where they are an alarm.
    pub alarm: f64,
    /// Of another model of which this part of the answers lies beyond the noise, the check would have told; `None`: of none.
    pub found_from: Option<f64>,
}

impl Reference {
    /// From the answers of each round, in the order of the prompts; `None` where there is none.
    ///
    /// # Errors
    /// [`NoReference`].
    pub fn new(rounds: [Vec<Option<Answer>>; ROUNDS]) -> Result<Self, NoReference> {
        let [firsts, second, third] = rounds;
        let apart = |others: &[Option<Answer>]| {
            let pairs = firsts.iter().zip(others).filter_map(|(one, other)| Some((one.as_ref()?, other.as_ref()?)));
            let pairs: Vec<_> = pairs.collect();
            let turned = pairs.iter().filter(|(one, other)| one.choice != other.choice).count() as u32;
            let distances = pairs.iter().filter_map(|(one, other)| distance(one, other)).collect::<Vec<_>>();
            (distances, (turned, pairs.len() as u32))
        };
        let ((second, _), (third, refusals)) = (apart(&second), apart(&third));
        let answered = second.len().min(third.len());
        if answered < ANSWERS_MIN {
            return Err(NoReference::TooFew { answered });
        }
        let said = firsts.iter().flatten().filter(|answer| answer.choice == Choice::Answered);
        let (of, empty) =
            said.fold((0, 0), |(of, empty), answer| (of + 1, empty + usize::from(answer.steps.is_empty())));
        if empty * 2 > of {
            return Err(NoReference::Empty { empty, of });
        }
        let rates = Rates::new(second, &third, refusals, ROOM);
        let reach = reach(&firsts, &rates);
        Ok(Self { firsts, rates, reach })
    }

    /// Levels and bounds that a check will rest on.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// The smallest part of other answers that a check of all prompts would tell of; `None`: not even a model that answers each
    /// otherwise.
    #[must_use]
    pub fn found_from(&self) -> Option<f64> {
        self.found_of(self.firsts.iter().flatten().count() as u32)
    }

    fn found_of(&self, compared: u32) -> Option<f64> {
        found_from(&self.rates.beyond, &self.reach, compared, ALARM)
    }

    /// Compares answers with the first ones; each with the place of its prompt, in any order.
    #[must_use]
    pub fn compare<'a>(&self, answers: impl IntoIterator<Item = (usize, &'a Answer)>) -> Likeness {
        let (mut compared, mut beyond, mut turned, mut turned_of) = (0, [0; LEVELS], 0, 0);
        for (at, answer) in answers {
            let Some(Some(first)) = self.firsts.get(at) else { continue };
            turned_of += 1;
            let (apart, is_turned) = (distance(first, answer), first.choice != answer.choice);
            match self.rates.grade(apart, is_turned, answer.choice) {
                Grade::Turned => turned += 1,
                Grade::Beyond(levels) => {
                    compared += 1;
                    beyond[..levels].iter_mut().for_each(|count| *count += 1);
                }
                Grade::Refused | Grade::Taken => {}
            }
        }
        let Rates { levels, beyond: bounds, refused, .. } = self.rates;
        let evidence = (evidence(&bounds, &beyond, compared), evidence(&[refused], &[turned], turned_of));
        let found_from = self.found_of(compared);
        let most = evidence.0.max(evidence.1);
        let verdict = match most {
            _ if most >= ALARM => Verdict::Changed,
            _ if (compared as usize) < ANSWERS_MIN => Verdict::TooFew,
            _ if found_from.is_none_or(|part| part > FOUND_MAX) => Verdict::TooNoisy,
            _ if most >= DOUBT => Verdict::Doubtful,
            _ => Verdict::Same,
        };
        Likeness { verdict, compared, levels, beyond, bounds, turned, turned_of, evidence, alarm: ALARM, found_from }
    }
}

fn reach(firsts: &[Option<Answer>], rates: &Rates) -> [f64; LEVELS] {
    // Nobody's token.
    let stranger = Answer { choice: Choice::Answered, steps: vec![Step { text: "\0".to_owned(), top: Vec::new() }] };
    let distances: Vec<f64> = firsts.iter().flatten().filter_map(|first| distance(first, &stranger)).collect();
    let beyond = |level: f64| distances.iter().filter(|apart| **apart > level).count();
    rates.levels.map(|level| beyond(level) as f64 / distances.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(texts: impl Fn(usize, usize) -> Option<Answer>) -> [Vec<Option<Answer>>; ROUNDS] {
        [0, 1, 2].map(|round| (0..128).map(|at| texts(round, at)).collect())
    }

    fn said(text: &str) -> Answer {
        Answer::of_text(text)
    }

    #[test]
    fn prompts_are_short_distinct_and_nobody_elses() {
        let (mine, theirs) = (questions(Secret::new([1; 32]), 128), questions(Secret::new([2; 32]), 128));
        let mine: BTreeSet<_> = mine.into_iter().map(|prompt| prompt.text).collect();
        assert!(mine.len() == 128 && mine.iter().all(|text| text.len() <= PROMPT_BYTES_MAX));
        // A bare question may come up for two people; nearly all are one person's alone.
        let shared = theirs.iter().filter(|prompt| mine.contains(&prompt.text)).count();
        assert!(shared < 12, "{shared}");
    }

    #[test]
    fn the_same_words_are_the_same_and_others_are_a_change() {
        let reference = Reference::new(rounds(|_, at| Some(said(&format!("answer {at}"))))).unwrap();
        let then: Vec<_> = (0..128).map(|at| said(&format!("answer {at}"))).collect();
        let same = reference.compare(then.iter().enumerate());
        assert_eq!((same.verdict, same.compared, same.beyond), (Verdict::Same, 128, [0; 3]));
        assert!(same.found_from.unwrap() < 0.4, "{same:?}");
        let others: Vec<_> = (0..128).map(|at| said(&format!("other {at}"))).collect();
        let changed = reference.compare(others.iter().enumerate());
        assert_eq!((changed.verdict, changed.beyond), (Verdict::Changed, [128; 3]));
        // A dozen of them are enough to stop asking.
        assert_eq!(reference.compare(others.iter().enumerate().take(12)).verdict, Verdict::Changed);
        assert_eq!(reference.compare(then.iter().enumerate().take(12)).verdict, Verdict::TooFew);
    }

    #[test]
    fn a_filter_that_came_up_since_is_a_change() {
        let reference = Reference::new(rounds(|_, at| Some(said(&format!("answer {at}"))))).unwrap();
        let now: Vec<_> =
            (0..128).map(|at| if at % 2 == 0 { Answer::refusal() } else { said(&format!("answer {at}")) }).collect();
        let changed = reference.compare(now.iter().enumerate());
        assert_eq!((changed.verdict, changed.turned, changed.beyond), (Verdict::Changed, 64, [0; 3]));
        assert!(changed.evidence.1 >= changed.alarm && changed.evidence.0 < 1.0, "{changed:?}");
    }

    #[test]
    fn what_hides_any_model_is_never_called_the_same() {
        // Every second answer is another one each time.
        let noisy =
            Reference::new(rounds(|round, at| Some(said(&format!("{} {at}", (at >> round) & round.min(1)))))).unwrap();
        let then: Vec<_> = (0..128).map(|at| said(&format!("0 {at}"))).collect();
        assert_eq!(noisy.compare(then.iter().enumerate()).verdict, Verdict::TooNoisy);
        let few = rounds(|_, at| (at < 50).then(|| said("yes")));
        assert_eq!(Reference::new(few).unwrap_err(), NoReference::TooFew { answered: 50 });
        // As a model that only thinks within its few tokens.
        let silent = rounds(|_, at| Some(said(if at < 20 { "yes" } else { "" })));
        assert_eq!(Reference::new(silent).unwrap_err(), NoReference::Empty { empty: 108, of: 128 });
    }
}
