//! Asks what has no row yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use comity_wire::{Amount, Code, ModelId};
use futures::StreamExt as _;

use super::folder::{CompareError, Comparison};
use super::row::{Missed, Row};
use super::{Grid, Item};
use crate::asking::{Asking, Came};
use crate::cap::{Cap, Capped};
use crate::chat::Query;
use crate::client::{Client, Error, Patience};
use crate::keys::{Key, Outcome};
use crate::wallet::WalletError;

/// How much and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What the whole comparison may cost, with all that was spent on it before.
    pub cap: Amount,
    /// Calls at once.
    pub at_once: usize,
    pub patience: Patience,
}

impl Bounds {
    /// More calls at once than a token has lanes only wait.
    pub const AT_ONCE_MAX: usize = 64;
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    /// Calls of this run without an answer.
    pub missed: u64,
    pub spent: Amount,
    pub cap: Amount,
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is left that could be asked.
    All,
    /// The next call might pass the cap.
    Cap(Capped),
    /// Nobody wanted the rest.
    Stopped,
}

/// A model that said no to what is the same for every call: the rest was not asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub model: ModelId,
    pub why: Missed,
    /// Calls that were not made.
    pub calls: u64,
}

/// What the calls of one run share.
struct Running<'a> {
    asking: Asking<'a>,
    grid: &'a Grid,
    skipped: Mutex<HashMap<usize, Skipped>>,
}

impl Comparison {
    /// Asks every call that has no answer and was not paid for. `wanted` is asked before each: once it says no, those under way
    /// end and no other begins. `told` hears of each row.
    ///
    /// # Errors
    /// [`CompareError`] where a row cannot be kept.
    pub async fn run(
        &mut self,
        client: &Client,
        bounds: Bounds,
        wanted: &(dyn Fn() -> bool + Sync),
        told: &mut (dyn FnMut(&Row, Progress) + Send),
    ) -> Result<(Ended, Vec<Skipped>), CompareError> {
        let grid = self.grid().clone();
        let (naming, (signed, new, lost)) = (self.naming(), self.open_items(client).await);
        let cap = Cap::new(bounds.cap, self.settled().saturating_add(lost));
        let asking = Asking::new(client, cap, bounds.patience, wanted);
        let running = Running { asking, grid: &grid, skipped: Mutex::default() };
        let (mut done, mut missed) = (self.done(), 0);
        let at_once = bounds.at_once.clamp(1, Bounds::AT_ONCE_MAX);
        // What may be charged already takes its room before anything new is asked.
        for (items, again) in [(signed, true), (new, false)] {
            let calls = items.into_iter().map(|item| running.ask(item, naming.key(item.number, client.now()), again));
            let mut asked = std::pin::pin!(futures::stream::iter(calls).buffer_unordered(at_once));
            while let Some(row) = asked.next().await {
                let Some(row) = row else { continue };
                done += u64::from(!row.is_open());
                missed += u64::from(row.error.is_some());
                let spent = running.asking.cap.sums().spent;
                told(&row, Progress { done, total: grid.len(), missed, spent, cap: bounds.cap });
                self.keep(row)?;
            }
        }
        self.sync()?;
        let capped = running.asking.capped();
        let skipped = running.skipped.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut skipped: Vec<_> = skipped.into_values().collect();
        skipped.sort_by(|a, b| a.model.cmp(&b.model));
        let ended = match capped {
            Some(capped) => Ended::Cap(capped),
            None if wanted() => Ended::All,
            None => Ended::Stopped,
        };
        Ok((ended, skipped))
    }

    /// What is to be asked: what a run before this one signed, and the rest. And what was paid for calls that have no answer and that
    /// the wallet has forgotten since: asked again, they would be paid again.
    async fn open_items(&self, client: &Client) -> (Vec<Item>, Vec<Item>, Amount) {
        // What a run before this one left in doubt is asked about, not asked: what was never charged keeps to this run's cap.
        client.resolve_all().await;
        let now = client.now();
        let (mut signed, mut new, mut lost) = (Vec::new(), Vec::new(), Amount::ZERO);
        for item in self.grid().items().filter(|item| self.is_open(item.number)) {
            match client.became(&self.naming().key(item.number, now)).await {
                Some(Outcome::Unknown | Outcome::Charged { .. }) => signed.push(item),
                // One that was refused is a new call.
                Some(Outcome::Free) => new.push(item),
                None => match self.paid(item.number) {
                    Some(charge) => lost = lost.saturating_add(charge),
                    None => new.push(item),
                },
            }
        }
        (signed, new, lost)
    }
}

impl Running<'_> {
    /// `None` where it was not asked.
    async fn ask(&self, item: Item, key: Key, again: bool) -> Option<Row> {
        // Each setting was tried when the grid was checked.
        let query = Query { key: Some(key), ..self.grid.query(&item).ok()? };
        let still = || !self.is_skipped(&item);
        match self.asking.ask(query, again, &still).await {
            Came::Answer(answer, ms) => Some(Row::answered(self.grid, &item, &answer, ms)),
            Came::Error { error, became, at_most, ms } => {
                self.skip(&item, &error);
                Some(Row::missed(self.grid, &item, &error, (became, at_most), ms))
            }
            Came::Nothing => {
                let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(model) = skipped.get_mut(&item.model) {
                    model.calls += 1;
                }
                None
            }
        }
    }

    fn is_skipped(&self, item: &Item) -> bool {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&item.model)
    }

    /// Where every other call of the model would be refused for the same, none is made.
    fn skip(&self, item: &Item, error: &Error) {
        if is_of_the_model(error) {
            let model = self.grid.models[item.model].clone();
            let skipped = Skipped { model, why: Missed::of(error), calls: 0 };
            self.skipped.lock().unwrap_or_else(PoisonError::into_inner).entry(item.model).or_insert(skipped);
        }
    }
}

/// Whether every other call of the model would be refused for the same, however much smaller it is.
fn is_of_the_model(error: &Error) -> bool {
    let by_code = error.code().filter(|code| *code != Code::MaxTooLow).is_some_and(|code| {
        matches!(code.status(), 401 | 402 | 404 | 410)
            || matches!(
                code,
                Code::GrantRequired
                    | Code::VettingTooLow
                    | Code::TermsNotSigned
                    | Code::PurposeNotAllowed
                    | Code::DelegateNotAllowed
                    | Code::RunRequired
                    | Code::PlanExhausted
                    | Code::OpNotOffered
                    | Code::OpNotInScope
                    | Code::ModelNotInScope
                    | Code::MandateRequired
                    | Code::Suspended
                    | Code::Frozen
                    | Code::Stopped
            )
    });
    let by_kind = matches!(
        error,
        Error::Limit { .. }
            | Error::ModelUnknown(_)
            | Error::NoDoor(_)
            | Error::Unpriced(_)
            | Error::Profile(_)
            | Error::Journal(_)
            | Error::Equivocation(_)
            | Error::NoReceipt
            | Error::Fault(_)
            | Error::Receipt(_)
            | Error::Wallet(WalletError::Stopped { .. })
    );
    // Its nodes cannot be reached, or cannot now, and were tried for as long as the user's patience: so would each of the others be.
    by_code || by_kind || error.lets_another_try()
}
