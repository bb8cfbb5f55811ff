//! Personas at the house: ordinary projects with ordinary members and awards, made by the commands that any operator has.
//!
//! What is about to be made is in the journal first, with its ids, so that whoever is stopped in between goes on with the same project. Where
//! the house has officers, an award waits for a second one as any award does; the persona works once its credits are there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comity_clearing::AwardAsk;
use comity_clearing::acts::{Act, Signature};
use comity_clearing::admin::{ActAsk, ProjectAdd, ProjectVet};
use comity_clearing::service::ActReply;
use comity_probe::{Program, Purse};
use comity_sdk::client::World;
use comity_sdk::profile::Limits;
use comity_sdk::{Client, Profile};
use comity_wire::api::clearing::ProjectReply;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, ProjectId, SecretKey, Timestamp};

use super::config::Config;
use super::runner::Store;
use super::state::{Event, State, Who};
use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::keystore::{self, KeyName, KeyStore};
use crate::program::Failpoint;
use crate::service::admin;
use crate::shell;

/// What was made, and what is still to come.
#[derive(Debug, Default, serde::Serialize)]
pub struct Made {
    pub personas: usize,
    /// Made now.
    pub new: usize,
    /// Awards that wait for a second officer.
    pub waiting: usize,
    pub until: String,
}

/// Makes whoever works at a door from `now` on, as many days ahead as is configured.
///
/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub async fn make(
    home: &Home,
    config: &Config,
    store: &mut Store,
    officer: Option<&SecretKey>,
    now: Timestamp,
) -> Result<Made, Failure> {
    let today = now.seconds() / DAY_S;
    let wanted = wanted(config, &store.state, today..today + config.days_ahead);
    let mut made = Made { until: Timestamp((today + config.days_ahead) * DAY_S).to_string(), ..Made::default() };
    for (persona, announced) in wanted {
        made.personas += 1;
        let who = match store.state.cast.get(&persona) {
            Some(who) if who.ready => {
                let (project, known) = (who.project, who.award);
                let awarded = account(&home.path, project).await?.map_or(known, |account| account.awarded);
                if let Some(more) = awarded.checked_sub(known).filter(|more| !more.is_zero()) {
                    store.record(Event::Given { persona, more })?;
                }
                continue;
            }
            Some(who) => who.clone(),
            None => {
                made.new += 1;
                let number = u32::try_from(store.state.cast.len()).expect("fewer personas than numbers");
                let who = new(config, number, announced, now);
                store.record(Event::Cast { persona, who: who.clone() })?;
                who
            }
        };
        let key = furnish(home, config, &who)?;
        if at_house(home, config, &who, &key, officer).await? {
            store.record(Event::Ready { persona, lot: who.award })?;
        } else {
            made.waiting += 1;
        }
    }
    Ok(made)
}

/// Whoever works at some door on one of these days.
fn wanted(config: &Config, state: &State, days: std::ops::Range<u64>) -> BTreeSet<(u32, bool)> {
    let mut program = Program::new(state.secret().clone(), config.settings(), Purse::new(Amount::ZERO, Amount::ZERO));
    program.burn(state.program().burnt().iter().copied());
    let doors = config.model.len().max(state.places().len());
    let cast = days.flat_map(|day| (0..doors).map(move |door| (door, day)));
    cast.flat_map(|(door, day)| program.cast(door, day)).collect()
}

/// How many that work on one of these days cannot.
#[must_use]
pub fn lacking(config: &Config, state: &State, days: std::ops::Range<u64>) -> usize {
    let ready = |persona: &u32| state.cast.get(persona).is_some_and(|who| who.ready);
    wanted(config, state, days).iter().filter(|(persona, _)| !ready(persona)).count()
}

fn new(config: &Config, number: u32, announced: bool, now: Timestamp) -> Who {
    let turn = |texts: &[String]| texts[number as usize % texts.len()].clone();
    let purpose = if announced { config.auditor_purpose.clone() } else { turn(&config.purposes) };
    // Until the end of a day, as awards are given at the command line.
    let ends_at = Timestamp((now.seconds() / DAY_S).saturating_add(config.award_days).saturating_mul(DAY_S));
    let (project, title) = (ProjectId(shell::random()), turn(&config.titles));
    Who { number, project, announced, title, purpose, award: config.award_ucr, ends_at, ready: false }
}

/// Where a persona's wallet is.
#[must_use]
pub fn folder(home: &Home, who: &Who) -> PathBuf {
    super::folder(home).join("people").join(format!("{:05}", who.number))
}

/// Its folder: a researcher's, as `comity init` makes it.
fn furnish(home: &Home, config: &Config, who: &Who) -> Result<SecretKey, Failure> {
    let folder = folder(home, who);
    std::fs::create_dir_all(&folder).while_(format!("cannot make {}", folder.display()))?;
    let key = KeyStore::of(&folder).read_or_create(KeyName::Member)?;
    let text = toml::to_string(&profile(home, config, Some(who)))?;
    home::write(&folder.join(Profile::FILE), text.as_bytes())?;
    Ok(key)
}

fn profile(home: &Home, config: &Config, who: Option<&Who>) -> Profile {
    Profile {
        roster: home.file("roster.cbor"),
        entry: config.entry.clone(),
        house: config.house.clone(),
        project: who.map(|who| who.project),
        member_key: None,
        mandate: None,
        limits: Limits { token: config.token_ucr, total: who.map_or(Amount::ZERO, |who| who.award), day: None },
    }
}

/// A client that is nobody, for what everybody may read.
///
/// # Errors
/// [`Failure`].
pub fn reader(home: &Home, config: &Config) -> Result<Client, Failure> {
    Ok(Client::look(&super::folder(home), profile(home, config, None), None, world())?)
}

/// A persona's client.
///
/// # Errors
/// [`Failure`]; also where somebody else has its wallet.
pub fn client(home: &Home, config: &Config, who: &Who, failpoint: &Failpoint) -> Result<Client, Failure> {
    let folder = folder(home, who);
    let key = KeyStore::of(&folder).read(KeyName::Member)?;
    Ok(Client::open(
        &folder,
        profile(home, config, Some(who)),
        Some(key),
        World { failpoint: Arc::clone(failpoint), ..world() },
    )?)
}

fn world() -> World {
    World::new(shell::now, shell::random::<32>)
}

/// Its project, vetting and award; whether its credits are there.
async fn at_house(
    home: &Home,
    config: &Config,
    who: &Who,
    key: &SecretKey,
    officer: Option<&SecretKey>,
) -> Result<bool, Failure> {
    let (path, project) = (home.path.as_path(), who.project);
    let before = account(path, project).await?;
    if before.as_ref().is_some_and(|account| account.awarded >= who.award) {
        return Ok(true);
    }
    if before.is_none() {
        let add = ProjectAdd {
            id: Some(project),
            title: who.title.clone(),
            purposes: vec![who.purpose.clone()],
            members: vec![key.public()],
        };
        let _: serde_json::Value = admin::post(path, "/admin/projects", &add).await?;
    }
    if before.is_none_or(|account| account.vetting != config.vetting) {
        let (issuer, claim) = ("operator".to_owned(), "checked by the operator".to_owned());
        let vet = ProjectVet { project, vetting: config.vetting, issuer, claim, from: None, until: None };
        bring(path, Act::Vet(vet), officer).await?;
    }
    let act = Act::Award(AwardAsk {
        project,
        amount: who.award,
        funder: config.funder.clone(),
        award_number: format!("{}-{}", config.award, who.number + 1),
        ends_at: who.ends_at,
        starts_at: None,
        listing: String::new(),
        kind: config.kind,
        owners: Vec::new(),
        ops: Vec::new(),
        use_or_lose: false,
        parts: Vec::new(),
    });
    bring(path, act, officer).await?;
    Ok(account(path, project).await?.is_some_and(|account| account.awarded >= who.award))
}

async fn bring(home: &Path, act: Act, officer: Option<&SecretKey>) -> Result<(), Failure> {
    let by: Option<Signature> = officer.map(|key| act.sign(key));
    match admin::post::<ActReply>(home, "/admin/acts", &ActAsk { act, by }).await {
        // Brought before by this officer: it waits for the other one, as it did.
        Err(failure) if failure.to_string().contains("a second person must approve it") => Ok(()),
        other => other.map(drop),
    }
}

async fn account(home: &Path, project: ProjectId) -> Result<Option<ProjectReply>, Failure> {
    // Not known before it was made.
    match admin::get(home, &format!("/admin/projects/{project}")).await {
        Ok(account) => Ok(Some(account)),
        Err(failure) if failure.to_string().contains("not_found") => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The key of whoever brings the awards, where the house has officers.
///
/// # Errors
/// [`Failure`].
pub fn officer(file: Option<&Path>) -> Result<Option<SecretKey>, Failure> {
    Ok(file.map(keystore::read).transpose()?)
}
