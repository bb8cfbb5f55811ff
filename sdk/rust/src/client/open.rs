//! A call whose caller left open which model answers it: those of one release that fit are asked in turn, before the first byte.
//!
//! Another is asked only where the one before is known to have charged nothing (rule 3): what is in doubt is asked about at its
//! node first, and where that does not tell, nothing is asked elsewhere. The wallet holds to it too: of one call it signs one
//! part at a time. That no other release answers is in what is signed: the token pins it, and each receipt names it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comity_wire::api::node::NodeReply;
use comity_wire::{Amount, Code, Digest, ModelId, NodeId, Op, Timestamp, TokenId};

use super::choose::{Fitting, Unread};
use super::send::{Sent, Sign};
use super::{Client, Error};
use crate::chat::Query;
use crate::door::{DoorError, Response};
use crate::keys::Outcome;
use crate::wallet::Whole;
use crate::want::{Name, Want};

/// Which model answered, of those that might have, and which did not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Served {
    /// What the caller asked for.
    pub asked: String,
    pub model: ModelId,
    pub node: NodeId,
    /// Those that were asked before it, in order.
    pub tried: Vec<Tried>,
}

/// A model that was asked and did not answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tried {
    pub model: ModelId,
    /// Why, in one word ([`Error::name`]).
    pub code: String,
    pub cost: Cost,
}

/// What an attempt cost, in micro-credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    Charged(Amount),
    /// Not known yet: this at most.
    UpTo(Amount),
}

impl Cost {
    fn is_nothing(self) -> bool {
        matches!(self, Self::Charged(charge) if charge.is_zero())
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Charged(charge) if charge.is_zero() => f.write_str("not charged"),
            Self::Charged(charge) => write!(f, "charged {charge}"),
            Self::UpTo(most) => write!(f, "may be charged up to {most}: the same key asks for that answer"),
        }
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.model, self.code, self.cost)
    }
}

/// For people.
pub(super) fn told(tried: &[Tried]) -> String {
    tried.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What can be asked: a query of one model, or one that leaves it open.
pub trait Asked: Sized + Sync {
    fn way(query: &Query<Self>) -> Way<'_>;
}

/// How a query is sent.
#[derive(Debug)]
pub enum Way<'a> {
    Model(&'a Query),
    Named(Box<Query>),
    Open(&'a Want, &'a Query<Name>),
}

impl Asked for ModelId {
    fn way(query: &Query) -> Way<'_> {
        Way::Model(query)
    }
}

impl Asked for Name {
    fn way(query: &Query<Self>) -> Way<'_> {
        match &query.model {
            Self::Model(model) => Way::Named(Box::new(query.to(model))),
            Self::Want(want) => Way::Open(want, query),
        }
    }
}

/// What is remembered of ways, so that a call costs no search.
#[derive(Default)]
pub(super) struct Ways(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    found: HashMap<(String, Op), (Timestamp, Fitting)>,
    failed: HashMap<ModelId, Timestamp>,
}

/// How long what was found is believed: prices, rules and doors change seldom, and each call is held to what it signs.
const FOUND_S: u64 = 60;
/// How long a model that could not answer is asked after the others.
const FAILED_S: u64 = 30;
/// How long a node may take to say that it is there.
const KNOCK: Duration = Duration::from_secs(5);
/// More than this is not remembered of either.
const WAYS_MAX: usize = 256;

impl Ways {
    fn with<T>(&self, change: impl FnOnce(&mut Remembered) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn found(&self, asked: &(String, Op), now: Timestamp) -> Option<Fitting> {
        self.with(|known| {
            known.found.get(asked).filter(|(at, _)| now < at.plus(FOUND_S)).map(|(_, found)| found.clone())
        })
    }

    fn put(&self, asked: (String, Op), found: &Fitting, now: Timestamp) {
        self.with(|known| {
            if known.found.len() >= WAYS_MAX {
                known.found.clear();
            }
            known.found.insert(asked, (now, found.clone()));
        });
    }

    fn forget(&self, asked: &(String, Op)) {
        self.with(|known| known.found.remove(asked));
    }

    fn failed(&self, model: &ModelId, now: Timestamp) {
        self.with(|known| {
            known.failed.retain(|_, at| now < at.plus(FAILED_S));
            if known.failed.len() < WAYS_MAX {
                known.failed.insert(model.clone(), now);
            }
        });
    }

    /// Those that could not answer just now come last, else in the order that they are in.
    pub(super) fn order<T>(&self, ranked: &mut [T], model: impl Fn(&T) -> &ModelId, now: Timestamp) {
        let failed =
            |known: &Remembered, one: &T| known.failed.get(model(one)).is_some_and(|at| now < at.plus(FAILED_S));
        self.with(|known| ranked.sort_by_key(|one| failed(known, one)));
    }
}

impl Client {
    /// The models that `want` may be answered by, in the order in which they are asked: all of one release.
    ///
    /// # Errors
    /// [`Error::NoChoice`] where none fits; [`Error`] of the search.
    pub async fn ways(&self, want: &Want, op: Op) -> Result<Vec<ModelId>, Error> {
        Ok(self.fitting(want, op).await?.models)
    }

    async fn fitting(&self, want: &Want, op: Op) -> Result<Fitting, Error> {
        let (asked, now) = ((want.to_string(), op), self.now());
        let mut fitting = match self.ways.found(&asked, now) {
            Some(found) => found,
            None => {
                let found = Box::pin(self.find_fitting(want, op)).await?;
                self.ways.put(asked, &found, now);
                found
            }
        };
        self.ways.order(&mut fitting.models, |model| model, now);
        Ok(fitting)
    }

    /// Asks one after the other until one takes it.
    pub(super) async fn send_open(
        &self,
        want: &Want,
        query: &Query<Name>,
        sign: Sign,
    ) -> Result<(Sent, Response, Served), Error> {
        // So that a call that nobody named is one call all the same, also where it is asked again by somebody who knows no key.
        let key = match query.key {
            Some(key) => key,
            None => self.own_key(query).await,
        };
        let query = &Query { key: Some(key), ..query.clone() };
        let mut attempts = Attempts { asked: want.to_string(), tried: Vec::new(), last: None };
        let before = self.state.lock().await.wallet.whole(&key, &query.asked(), self.now());
        match before {
            Whole::New => {}
            Whole::Other => return Err(Error::KeyConflict),
            // Its answer is the call's, and no other is paid for.
            Whole::At { model, release } => {
                let outcome = self.attempt(&Query { release, ..query.to(&model) }, sign).await;
                if let Some(done) = attempts.take(&model, outcome)? {
                    return Ok(done);
                }
            }
        }
        if sign == Sign::Never {
            return Err(attempts.else_last(Error::Unsigned));
        }
        let fitting = self.fitting(want, query.op).await.map_err(|error| attempts.else_last(error))?;
        attempts.passed_over(&fitting);
        let mut models: VecDeque<_> = fitting.models.iter().cloned().map(|model| (model, true)).collect();
        models.retain(|(model, _)| !attempts.tried.iter().any(|tried| tried.model == *model));
        while let Some((model, knocks)) = models.pop_front() {
            let knocked = if knocks { self.look_for(&model).await } else { Ok(Knocked::There) };
            let outcome = match knocked {
                Ok(Knocked::There)
                    if let Err(misfit) = Box::pin(self.still_fits(want, query.op, &fitting, &model)).await =>
                {
                    Err((misfit, Cost::Charged(Amount::ZERO)))
                }
                Ok(Knocked::There) => {
                    let part = Query { release: Some(fitting.answering.release), ..query.to(&model) };
                    self.attempt(&part, sign).await
                }
                Ok(Knocked::Unseen(node)) => {
                    models.push_back((model.clone(), false));
                    Err((Error::Silent(node), Cost::Charged(Amount::ZERO)))
                }
                Err(error) => Err((error, Cost::Charged(Amount::ZERO))),
            };
            if let Some(done) = attempts.take(&model, outcome)? {
                return Ok(done);
            }
            self.ways.failed(&model, self.now());
        }
        // What could not answer may be gone from the federation.
        self.ways.forget(&(attempts.asked.clone(), query.op));
        let unknown = Error::NoChoice { asked: attempts.asked.clone(), why: String::new() };
        Err(attempts.else_last(unknown))
    }

    /// One model. Where it is in doubt whether a failed attempt is charged, its node is asked; where it did answer, for the answer.
    async fn attempt(&self, part: &Query, sign: Sign) -> Result<(Sent, Response), (Error, Cost)> {
        let key = part.key.expect("each part of a call is named").digest;
        let error = match self.send(part, sign).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some((token, lane)) = self.in_doubt(&key).await else { return Err((error, self.cost(&key).await)) };
        // Another call of this program may be asking it at this very moment: then it is not ours to settle.
        // And who was not reached a moment ago is not dialled once more for as long.
        let is_ours = !matches!(error, Error::Wallet(_));
        if !is_ours || error.root().is_unsent() || self.settle_soon(token, lane).await.is_err() {
            return Err((error, self.cost(&key).await));
        }
        let cost = self.cost(&key).await;
        // Also one that cost nothing: its answer is the call's.
        let became = self.state.lock().await.wallet.keys().outcome(&key);
        match became {
            Some(Outcome::Charged { .. }) => self.send(part, sign).await.map_err(|error| (error, cost)),
            _ => Err((error, cost)),
        }
    }

    async fn in_doubt(&self, key: &Digest) -> Option<(TokenId, u16)> {
        let state = self.state.lock().await;
        let keyed = state.wallet.keys().find(key, self.now())?;
        (keyed.outcome == Outcome::Unknown).then_some((keyed.token, keyed.lane))
    }

    /// What was paid under a key, or may have been.
    async fn cost(&self, key: &Digest) -> Cost {
        let state = self.state.lock().await;
        match state.wallet.keys().find(key, self.now()).map(|keyed| (keyed.outcome, keyed.max_charge)) {
            None | Some((Outcome::Free, _)) => Cost::Charged(Amount::ZERO),
            Some((Outcome::Charged { charge, .. }, _)) => Cost::Charged(charge),
            Some((Outcome::Unknown, most)) => Cost::UpTo(most),
        }
    }

    /// Whether a node of the model answers. What is sent into a connection whose other end has died is in doubt, and credits that
    /// are set aside at a node that is gone are away until it is back.
    async fn look_for(&self, model: &ModelId) -> Result<Knocked, Error> {
        let mut last = Err(Error::Missing("a node that serves the model"));
        for target in self.targets(model).await? {
            let node = target.node;
            let door = self.door(node).await?;
            let answer = tokio::time::timeout(KNOCK, door.get::<NodeReply>("/comity/v1/node")).await;
            last = match answer {
                // A hub shows no way to it without a token, and there is one only once credits are set aside.
                Ok(Err(error)) if error.is_without_pass() && self.is_behind_hubs(node) => return Ok(Knocked::There),
                Ok(Err(error)) if error.is_without_pass() => Ok(Knocked::Unseen(node)),
                Ok(Err(Error::Door(DoorError::Dial { .. }))) | Err(_) => Err(Error::Silent(node)),
                // Whatever it says, it is there.
                Ok(_) => return Ok(Knocked::There),
            };
            self.forget_door(node);
        }
        last
    }
}

/// What is known of a node that was asked whether it is there.
enum Knocked {
    There,
    /// It is not where it says; a hub may know a way, so it is asked after the others.
    Unseen(NodeId),
}

/// What was tried so far.
struct Attempts {
    asked: String,
    tried: Vec<Tried>,
    last: Option<Error>,
}

impl Attempts {
    /// Those that came first and whose feeds could not be read: told with what was tried.
    fn passed_over(&mut self, fitting: &Fitting) {
        let tried = |(model, code): &Unread| Tried {
            model: model.clone(),
            code: code.clone(),
            cost: Cost::Charged(Amount::ZERO),
        };
        self.tried.extend(fitting.unread.iter().map(tried));
    }

    /// Gives the answer; `None`: another may be asked.
    fn take(
        &mut self,
        model: &ModelId,
        outcome: Result<(Sent, Response), (Error, Cost)>,
    ) -> Result<Option<(Sent, Response, Served)>, Error> {
        let (error, cost) = match outcome {
            Ok((sent, response)) => {
                let (asked, tried) = (self.asked.clone(), std::mem::take(&mut self.tried));
                let served = Served { asked, model: model.clone(), node: sent.node, tried };
                return Ok(Some((sent, response, served)));
            }
            Err(failed) => failed,
        };
        let code = if error.is_unsent() { Code::NodeUnreachable.as_str() } else { error.name() };
        // One that was not seen, and then asked all the same, is told of once.
        self.tried.retain(|tried| tried.model != *model);
        self.tried.push(Tried { model: model.clone(), code: code.to_owned(), cost });
        let goes_on = cost.is_nothing() && error.lets_another_serve();
        // Of all that said no, the one that is about to be there says best when to come again.
        let is_starting = |error: &Error| error.code() == Some(Code::ModelStarting);
        if !goes_on || !self.last.as_ref().is_some_and(is_starting) {
            self.last = Some(error);
        }
        if goes_on {
            return Ok(None);
        }
        let unheard = Error::NoChoice { asked: self.asked.clone(), why: String::new() };
        Err(self.else_last(unheard))
    }

    /// What is told: what was tried; where nothing was, `error`.
    fn else_last(&mut self, error: Error) -> Error {
        match self.last.take() {
            None => error,
            Some(last) => {
                Error::Tried { asked: self.asked.clone(), tried: std::mem::take(&mut self.tried), last: Box::new(last) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::want::rank::Answering;

    #[test]
    fn who_could_not_answer_comes_last_for_a_while() {
        let ways = Ways::default();
        let model = |name: &str| name.parse::<ModelId>().unwrap();
        let order = |now| {
            let mut models = [model("a/m"), model("b/m"), model("c/m")];
            ways.order(&mut models, |model| model, Timestamp(now));
            models.map(|model| model.to_string())
        };
        ways.failed(&model("a/m"), Timestamp(100));
        assert_eq!(order(100 + FAILED_S - 1), ["b/m", "c/m", "a/m"]);
        assert_eq!(order(100 + FAILED_S), ["a/m", "b/m", "c/m"]);
        let answering = Answering { release: Digest([0; 32]), alone: None };
        let nothing = Fitting { answering, models: Vec::new(), unread: Vec::new() };
        for n in 0..2 * WAYS_MAX {
            ways.failed(&model(&format!("many/m{n}")), Timestamp(200));
            ways.put((n.to_string(), Op::Chat), &nothing, Timestamp(200));
        }
        ways.with(|known| assert!(known.failed.len() <= WAYS_MAX && known.found.len() <= WAYS_MAX));
    }

    #[test]
    fn what_is_in_doubt_is_told_and_ends_it() {
        let failed = |code: &str, cost| Tried { model: "lab/m".parse().unwrap(), code: code.to_owned(), cost };
        let tried = [
            failed("node_unreachable", Cost::Charged(Amount::ZERO)),
            failed("upstream_failed", Cost::UpTo(Amount::from_ucr(1_500))),
        ];
        let told = told(&tried);
        assert!(told.contains("lab/m (node_unreachable, not charged)"), "{told}");
        assert!(told.contains("may be charged up to 0.0015 cr"), "{told}");
    }
}
