//! A fingerprint is taken: three rounds of the same prompts.

use std::path::{Path, PathBuf};

use comity_probe::Secret;
use comity_probe::fingerprint::{PROMPTS_MAX, ROUNDS, questions};
use comity_wire::{Amount, Digest, ModelId, Timestamp};
use serde_json::{Map, Value};

use super::{named, place};
use crate::cap::Capped;
use crate::client::{Client, Error};
use crate::compare::{Bounds, CompareError, Comparison, Ended, Grid, Progress, Prompt, Setting};
use crate::evidence::{Evidence, Rounds};

/// What a fingerprint is to be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub model: ModelId,
    pub prompts: usize,
    /// The most tokens of an answer.
    pub max_tokens: u32,
    /// Alternatives of each token that are asked for with its log-probability; 0: words alone.
    pub alternatives: u8,
}

/// A fingerprint under way, in a folder.
#[derive(Debug)]
pub struct Taking {
    folder: PathBuf,
    rounds: Vec<Comparison>,
}

/// More than this part of a round without an answer, and the next is not begun.
const MISSED_MAX: f64 = 0.1;

impl Wish {
    fn setting(&self) -> Setting {
        let mut setting = Setting::plain(self.max_tokens);
        if self.alternatives > 0 {
            setting.fields.insert("logprobs".to_owned(), true.into());
            setting.fields.insert("top_logprobs".to_owned(), self.alternatives.into());
        }
        setting
    }

    /// The calls of one round, for an estimate or for the first time.
    pub fn grid(&self, secret: [u8; 32]) -> Grid {
        let prompts = questions(Secret::new(secret), self.prompts).into_iter().enumerate();
        let prompts = prompts.map(|(at, prompt)| Prompt::asked(named(at), prompt.text)).collect();
        Grid { models: vec![self.model.clone()], prompts, settings: vec![self.setting()], repeats: 1 }
    }
}

/// The order of a later round: each answer has other neighbours in the server's batches.
pub(super) fn shuffled(grid: &Grid, label: &str, number: u64) -> Grid {
    let mut grid = grid.clone();
    Secret::new(grid.digest().0).chance(label, number).shuffle(&mut grid.prompts);
    grid
}

impl Taking {
    /// Makes the folder, or takes up the one that is there.
    ///
    /// # Errors
    /// [`CompareError`]: one that is of another wish, or in use.
    pub fn create(folder: &Path, wish: &Wish, entropy: [u8; 32], now: Timestamp) -> Result<Self, CompareError> {
        let wish = Wish { prompts: wish.prompts.min(PROMPTS_MAX), ..wish.clone() };
        let at = |round: usize| folder.join(format!("round-{}", round + 1));
        let first = match Comparison::open(&at(0)) {
            Err(CompareError::None { .. }) => Comparison::create(&at(0), &wish.grid(entropy), entropy, now)?,
            first => first?,
        };
        let grid = first.grid();
        let same = grid.models == [wish.model.clone()]
            && grid.prompts.len() == wish.prompts
            && grid.settings == [wish.setting()];
        if !same {
            return Err(CompareError::Another { path: folder.to_owned() });
        }
        let mut rounds = vec![first];
        for round in 1..ROUNDS {
            let grid = shuffled(rounds[0].grid(), "round", round as u64);
            // Random, as the first: the same prompts are other calls in each round.
            let id = Digest::of_parts(&[&entropy, &[u8::try_from(round).unwrap_or(u8::MAX)]]).0;
            rounds.push(Comparison::create(&at(round), &grid, id, now)?);
        }
        Ok(Self { folder: folder.to_owned(), rounds })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The calls of one round.
    pub fn grid(&self) -> &Grid {
        self.rounds[0].grid()
    }

    /// Calls of all rounds that have an answer, and all calls.
    pub fn done(&self) -> (u64, u64) {
        let sum = |of: fn(&Comparison) -> u64| self.rounds.iter().map(of).sum();
        (sum(Comparison::done), sum(|round| round.grid().len()))
    }

    pub fn spent(&self) -> Amount {
        Amount::sum(self.rounds.iter().map(Comparison::spent)).unwrap_or(Amount::MAX)
    }

    /// How many rounds were gone through, but for a few calls that nobody answers.
    pub fn rounds_done(&self) -> usize {
        self.rounds.iter().take_while(|round| is_done(round)).count()
    }

    /// Rows without an answer.
    pub fn missed(&self) -> impl Iterator<Item = &crate::compare::Missed> {
        self.rounds.iter().flat_map(Comparison::rows).filter_map(|row| row.error.as_ref())
    }

    /// Asks what has no answer, up to and with this round; 1 is the first. The first round asks one call at a time: what comes
    /// later differs from it as a busy server does from an idle one.
    ///
    /// # Errors
    /// [`CompareError`] where a row cannot be kept.
    pub async fn run(
        &mut self,
        client: &Client,
        until: usize,
        bounds: Bounds,
        wanted: &(dyn Fn() -> bool + Sync),
        told: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Ended, CompareError> {
        for at in 0..until.min(ROUNDS) {
            let (done, total) = self.done();
            let others = self.spent().saturating_sub(self.rounds[at].spent());
            let round = &mut self.rounds[at];
            let own = round.done();
            let at_once = if at == 0 { 1 } else { bounds.at_once };
            let within = Bounds { cap: bounds.cap.saturating_sub(others), at_once, ..bounds };
            let mut heard = |_: &crate::compare::Row, progress: Progress| {
                let spent = progress.spent.saturating_add(others);
                told(Progress { done: done - own + progress.done, total, spent, cap: bounds.cap, ..progress });
            };
            let (ended, _) = round.run(client, within, wanted, &mut heard).await?;
            match ended {
                Ended::Cap(capped) => {
                    let spent = capped.spent.saturating_add(others);
                    return Ok(Ended::Cap(Capped { limit: bounds.cap, spent, ..capped }));
                }
                Ended::Stopped => return Ok(Ended::Stopped),
                Ended::All if !is_done(round) => return Ok(Ended::All),
                Ended::All => {}
            }
        }
        Ok(Ended::All)
    }

    /// The fingerprint, once all rounds are done: a bundle that a colleague can check by.
    ///
    /// # Errors
    /// [`Error`] of [`Client::gather`].
    pub async fn gather(&self, client: &Client, home: &Path) -> Result<Evidence, Error> {
        let (receipts, exchanges): (Vec<_>, Vec<_>) = self.rounds.iter().flat_map(Comparison::receipts).unzip();
        let evidence = client.gather(home, &receipts, exchanges.into_iter().flatten().collect()).await?;
        let model = self.grid().models[0].clone();
        Ok(Evidence { fingerprints: vec![Rounds { model, rounds: self.ids() }], ..evidence })
    }

    fn ids(&self) -> [Vec<Option<Digest>>; ROUNDS] {
        let mut ids: [Vec<Option<Digest>>; ROUNDS] = std::array::from_fn(|_| vec![None; self.grid().prompts.len()]);
        for (round, ids) in self.rounds.iter().zip(&mut ids) {
            for row in round.rows().filter(|row| row.error.is_none() && row.exchange.is_some()) {
                if let Some(id) = place(&row.prompt).and_then(|at| ids.get_mut(at)) {
                    *id = row.receipt;
                }
            }
        }
        ids
    }
}

fn is_done(round: &Comparison) -> bool {
    let (done, total) = (round.done() as f64, round.grid().len() as f64);
    done >= total * (1.0 - MISSED_MAX)
}

/// The fields of a body that asks for words alone.
pub(super) fn without_tokens(fields: &Map<String, Value>) -> Map<String, Value> {
    let named = |name: &str| ["logprobs", "top_logprobs"].contains(&name);
    fields.clone().into_iter().filter(|(name, _)| !named(name)).collect()
}
