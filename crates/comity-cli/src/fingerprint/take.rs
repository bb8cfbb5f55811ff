//! A fingerprint is taken.

use std::path::{Path, PathBuf};

use comity_sdk::client::{Client, Patience};
use comity_sdk::compare::{Bounds, Progress};
use comity_sdk::fingerprint::{Fingerprint, PROMPTS_MAX, Taking, Wish};
use comity_wire::{Amount, ModelId};

use super::{FILE, NotDone, Short, Told, foretold};
use crate::printer::{Failure, put_private};
use crate::session;

/// Which fingerprint, and what it may cost.
#[derive(Clone, Debug)]
pub struct Take {
    pub model: ModelId,
    /// `None`: `NAME.fingerprint`, here.
    pub folder: Option<PathBuf>,
    /// [`PROMPTS_MIN`] to [`PROMPTS_MAX`].
    pub prompts: usize,
    /// The most tokens of an answer.
    pub max_tokens: u32,
    /// Alternatives of each token; 0: words alone; `None`: what the owner's rules give.
    pub logprobs: Option<u8>,
    /// Stops after so many rounds, 1 to 3.
    pub rounds: usize,
    /// What all of it may cost, with what was spent on it before; `None`: `limits.total` of the profile.
    pub cap: Option<Amount>,
    pub at_once: usize,
}

/// How it stands.
#[derive(Debug)]
pub struct Taken {
    /// As its reader will read it; `None` where rounds are left.
    pub fingerprint: Option<Fingerprint>,
    /// The file to keep and to give away.
    pub path: PathBuf,
    pub rounds_left: usize,
    /// Calls that are answered, of so many.
    pub done: (u64, u64),
    pub spent: Amount,
}

/// The fewest questions: some may be refused.
pub const PROMPTS_MIN: usize = 64;
const ROUNDS: usize = 3;
/// What is asked of a model that says nothing of log-probabilities' number.
const ALTERNATIVES: u8 = 5;

impl Take {
    /// Asks what has no answer yet. `home`: the wallet's, with the receipts.
    ///
    /// # Errors
    /// [`NotDone`]: what was answered is kept in the folder, and the same again goes on.
    pub async fn run(
        &self,
        client: &Client,
        home: &Path,
        wanted: &(dyn Fn() -> bool + Sync),
        told: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Taken, NotDone> {
        if !(PROMPTS_MIN..=PROMPTS_MAX).contains(&self.prompts) || !(1..=ROUNDS).contains(&self.rounds) {
            let range = format!("a fingerprint has {PROMPTS_MIN} to {PROMPTS_MAX} prompts, and 1 to {ROUNDS} rounds");
            return Err(Failure::new(range, "the more prompts, the smaller a change they tell of").into());
        }
        let folder = self.folder.clone().unwrap_or_else(|| PathBuf::from(format!("{}.fingerprint", self.model.name())));
        let alternatives = match self.logprobs {
            Some(alternatives) => alternatives,
            None => client.alternatives(&self.model).await?.min(ALTERNATIVES),
        };
        let wish = Wish { model: self.model.clone(), prompts: self.prompts, max_tokens: self.max_tokens, alternatives };
        let mut taking = Taking::create(&folder, &wish, session::random(), client.now())?;
        let cap = self.cap.unwrap_or_else(|| client.profile().limits.total);
        let bounds = Bounds { cap, at_once: self.at_once, patience: Patience::default() };
        let (done, of) = taking.done();
        if done < of {
            if alternatives == 0 {
                told(Told::WordsAlone);
            }
            let foretold = foretold(client, taking.grid(), (of - done, of), (taking.spent(), cap)).await;
            foretold.into_iter().for_each(|foretold| told(Told::Foretold(foretold)));
        }
        let mut hears = |progress: Progress| told(Told::Progress(progress));
        let ended = taking.run(client, self.rounds, bounds, wanted, &mut hears).await?;
        if taking.rounds_done() < self.rounds {
            return Err(Short::after(ended, taking.missed().last(), taking.done(), taking.spent()));
        }
        let (path, rounds_left) = (folder.join(FILE), ROUNDS.saturating_sub(taking.rounds_done()));
        let mut taken = Taken { fingerprint: None, path, rounds_left, done: taking.done(), spent: taking.spent() };
        if rounds_left > 0 {
            return Ok(taken);
        }
        let evidence = taking.gather(client, home).await?;
        taken.fingerprint = Some(Fingerprint::read(&evidence, None, None).map_err(|error| {
            let hint = "take another, with longer answers or more prompts, into another folder";
            Failure { hint: Some(hint.to_owned()), ..Failure::from(error) }
        })?);
        let text = serde_json::to_vec(&evidence).map_err(Failure::from)?;
        put_private(&taken.path, &text).map_err(Failure::from)?;
        Ok(taken)
    }
}
