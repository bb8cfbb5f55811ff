//! The register of what operators do by hand (spec/11-access.md §11.9, decision 0076): lines of this node's other logs are copied into the
//! access store, where they are sealed with what was decided; and held against those logs when somebody checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use comity_access::Salt;
use comity_access::register::{self, Act, Deed, ENTER_MAX, Line, OWN};
use comity_access::seal::Found;
use comity_access::store::Store;
use comity_gateway::store::granted::{Given, GrantSaid};
use comity_gateway::store::passes::PassSaid;
use comity_gateway::store::stops::{Said, SaidAct, Target};
use comity_wire::object::Grant;
use comity_wire::{Digest, GrantId, Signed, Timestamp};

use super::{admin, homes};
use crate::failure::Failure;
use crate::home::Home;
use crate::settings::Settings;
use crate::shell;
use crate::transcripts::{self, Hold, Removed};

const STOPS: &str = "stops";
const GRANTS: &str = "grants";
const PASSES: &str = "passes";
/// Grants of before there was a register, that no application led to.
const FOUND: &str = "found";
const CONFIGURED: &str = "configured";
const LOGS: &str = "logs";
/// Lines of one log that are read at once.
const PAGE: u32 = 256;
/// Rounds of one filling: with more the rest waits for the next minute.
const ROUNDS_MAX: u32 = 4_096;
/// Bytes that an act has of each thing that was written into a file.
const WORDS_BYTES_MAX: usize = 1_000;
/// Who did what nobody has said.
const NOBODY: &str = "nobody has said who";

/// Where lines come from, and where they go. Cheap to clone.
#[derive(Clone)]
pub struct Books {
    pub access: Arc<dyn Store>,
    pub spend: Arc<dyn comity_gateway::store::Store>,
    pub home: PathBuf,
    /// What was entered last of what this node is configured to, by what it is; `None` before it was looked.
    configured: Arc<Mutex<Option<BTreeMap<String, Digest>>>>,
}

/// What the node goes by: a policy, the rules of its filter.
#[derive(Clone, Debug)]
pub struct Configured {
    pub what: String,
    pub digest: Digest,
    /// What it is in words.
    pub said: String,
}

impl Books {
    pub fn new(access: Arc<dyn Store>, spend: Arc<dyn comity_gateway::store::Store>, home: &Path) -> Self {
        Self { access, spend, home: home.to_owned(), configured: Arc::default() }
    }

    /// Enters what is not there yet.
    ///
    /// # Errors
    /// [`Failure`] of a store. A file of removed texts that somebody changed is told of and left to [`Books::check`].
    pub async fn enter(&self, configured: &[Configured], now: Timestamp) -> Result<(), Failure> {
        for _ in 0..ROUNDS_MAX {
            let lines = self.new_lines().await?;
            if self.put(lines, now).await? == 0 {
                break;
            }
        }
        // Where another process was quicker, the rest is there within a minute.
        let waits = self.new_lines().await?.iter().any(|line| [STOPS, GRANTS, PASSES].contains(&line.source.as_str()));
        if !waits && self.access.acts_last(OWN).await? == 0 {
            let found = self.of_before().await?;
            self.put(found, now).await?;
            let reason = "what is above was there before the register was".to_owned();
            self.put(vec![own(1, Deed::Begin, "the node".into(), reason, now)], now).await?;
        }
        self.configure(configured, now).await
    }

    /// Says that another log of decisions was begun.
    ///
    /// # Errors
    /// [`Failure`] of the store.
    pub async fn renewed(&self, log: u64, author: String, reason: String, now: Timestamp) -> Result<(), Failure> {
        let line = Line { source: LOGS.into(), line: log, at: now, author, deed: Deed::Renew { log }, reason };
        self.put(vec![line], now).await.map(drop)
    }

    /// How many were not there.
    async fn put(&self, lines: Vec<Line>, now: Timestamp) -> Result<u64, Failure> {
        let salted: Vec<(Line, Salt)> = lines.into_iter().map(|line| (line, Salt(shell::random()))).collect();
        let mut entered = 0;
        for some in salted.chunks(ENTER_MAX) {
            entered += self.access.acts_enter(some, now).await?;
        }
        Ok(entered)
    }

    /// Lines behind those that were entered.
    async fn new_lines(&self) -> Result<Vec<Line>, Failure> {
        let last = self.access.acts_last(STOPS).await?;
        let mut lines: Vec<Line> = self.spend.stop_log_after(last, PAGE).await?.into_iter().map(stop).collect();
        let last = self.access.acts_last(GRANTS).await?;
        lines.extend(self.spend.grant_log_after(last, PAGE).await?.into_iter().map(grant));
        let last = self.access.acts_last(PASSES).await?;
        // Of a category that a later version knows, that version says it in words.
        let said = self.spend.pass_log_after(last, PAGE).await?.into_iter();
        lines.extend(said.take_while(PassSaid::is_known).map(pass));
        match self.texts().await {
            Ok(texts) => {
                let mut lasts = BTreeMap::new();
                for line in texts {
                    if !lasts.contains_key(&line.source) {
                        lasts.insert(line.source.clone(), self.access.acts_last(&line.source).await?);
                    }
                    // Holds end in another order than they began: those that are there are passed over.
                    if line.line > lasts[&line.source] || matches!(line.deed, Deed::ReleaseTexts { .. }) {
                        lines.push(line);
                    }
                }
            }
            Err(failure) => tracing::error!(%failure, "what was done to kept texts is not in the register"),
        }
        Ok(lines)
    }

    /// What was done by hand to the texts that lie in this home.
    async fn texts(&self) -> Result<Vec<Line>, Failure> {
        let home = self.home.clone();
        tokio::task::spawn_blocking(move || texts_of(&home)).await?
    }

    /// Grants that were there before the register, and no application or log says who gave or took them.
    async fn of_before(&self) -> Result<Vec<Line>, Failure> {
        let (given, taken) = self.unsaid(&self.grant_log().await?).await?;
        let given = given.into_iter().map(|(signed, content)| {
            let Grant { id, subject, not_before, reason, .. } = signed;
            let deed = Deed::Grant { grant: id, content, subject: subject.as_str().to_owned() };
            (not_before, deed, one_line(reason.as_str()))
        });
        let taken = taken.into_iter().map(|(grant, at)| (at, Deed::TakeBack { grant }, String::new()));
        let all = (1..).zip(given.chain(taken));
        Ok(all
            .map(|(line, (at, deed, reason))| {
                let reason = if reason.is_empty() { "nobody has said why".to_owned() } else { reason };
                Line { source: FOUND.into(), line, at, author: NOBODY.into(), deed, reason }
            })
            .collect())
    }

    async fn grant_log(&self) -> Result<Vec<GrantSaid>, Failure> {
        let mut log: Vec<GrantSaid> = Vec::new();
        loop {
            let page = self.spend.grant_log_after(log.last().map_or(0, |said| said.n), PAGE).await?;
            if page.is_empty() {
                return Ok(log);
            }
            log.extend(page);
        }
    }

    async fn pass_log(&self) -> Result<Vec<PassSaid>, Failure> {
        let mut log: Vec<PassSaid> = Vec::new();
        loop {
            let page = self.spend.pass_log_after(log.last().map_or(0, |said| said.n), PAGE).await?;
            if page.is_empty() {
                return Ok(log);
            }
            log.extend(page);
        }
    }

    async fn stop_log(&self) -> Result<Vec<Said>, Failure> {
        let mut log: Vec<Said> = Vec::new();
        loop {
            let page = self.spend.stop_log_after(log.last().map_or(0, |said| said.n), PAGE).await?;
            if page.is_empty() {
                return Ok(log);
            }
            log.extend(page);
        }
    }

    async fn acts(&self) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
        let mut acts: Vec<(u64, Vec<u8>)> = Vec::new();
        loop {
            let page = self.access.acts_after(acts.last().map_or(0, |(n, _)| *n), PAGE).await?;
            if page.is_empty() {
                return Ok(acts);
            }
            acts.extend(page);
        }
    }

    /// Grants that stand, and that were taken back, of which neither an application nor the log says so.
    async fn unsaid(&self, log: &[GrantSaid]) -> Result<(Vec<(Grant, Digest)>, Vec<(GrantId, Timestamp)>), Failure> {
        let mut given = Vec::new();
        for bytes in self.spend.grants().await? {
            let signed = Signed::<Grant>::decode(&bytes)?;
            let (grant, content) = (signed.unverified().clone(), signed.id());
            let is_said = log.iter().any(|said| said.given.as_ref().is_some_and(|given| given.content == content));
            if !is_said && self.access.application_of(grant.id).await?.is_none() {
                given.push((grant, content));
            }
        }
        let mut taken = Vec::new();
        for (grant, at) in self.spend.grants_withdrawn().await? {
            let is_said = log.iter().any(|said| said.grant == grant && said.given.is_none());
            if !is_said && self.access.application_of(grant).await?.is_none() {
                taken.push((grant, at));
            }
        }
        given.sort_by_key(|(grant, _)| (grant.not_before, grant.id));
        taken.sort_by_key(|(grant, at)| (*at, *grant));
        Ok((given, taken))
    }

    /// What the node goes by now, where that is another than what was entered last.
    async fn configure(&self, configured: &[Configured], now: Timestamp) -> Result<(), Failure> {
        let known = self.configured.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut known = match known {
            Some(known) => known,
            None => {
                let acts = self.acts().await?;
                let acts = acts.iter().filter_map(|(_, bytes)| register::read(bytes));
                let of = |act: &Act| match &act.deed {
                    Deed::Configure { what, digest } => Some((what.clone(), *digest)),
                    _ => None,
                };
                acts.filter_map(|act| of(act.event())).collect()
            }
        };
        for Configured { what, digest, said } in configured {
            if known.get(what) == Some(digest) {
                continue;
            }
            let line = self.access.acts_last(CONFIGURED).await? + 1;
            let deed = Deed::Configure { what: what.clone(), digest: *digest };
            let author = "the node's configuration".to_owned();
            let line = Line { source: CONFIGURED.into(), line, at: now, author, deed, reason: said.clone() };
            if self.access.acts_enter(&[(line, Salt(shell::random()))], now).await? == 1 {
                known.insert(what.clone(), *digest);
            }
        }
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(())
    }

    /// Holds the register against the logs that it was copied from, and against what stands.
    ///
    /// # Errors
    /// [`Failure`] of a store.
    pub async fn check(&self, now: Timestamp) -> Result<Vec<Found>, Failure> {
        // The acts before the lines: what is done meanwhile waits to be entered.
        let acts = self.acts().await?;
        let (stop_log, grant_log) = (self.stop_log().await?, self.grant_log().await?);
        let pass_log = self.pass_log().await?;
        let mut lines: Vec<Line> = stop_log.iter().cloned().map(stop).collect();
        lines.extend(grant_log.iter().cloned().map(grant));
        let mut sources: BTreeSet<String> = [STOPS, GRANTS].map(str::to_owned).into();
        if pass_log.iter().all(PassSaid::is_known) {
            lines.extend(pass_log.iter().cloned().map(pass));
            sources.insert(PASSES.to_owned());
        }
        let mut found = Vec::new();
        match self.texts().await {
            Ok(texts) => {
                sources.extend(sources_of_texts(&self.home));
                lines.extend(texts);
            }
            Err(failure) => found.push(Found::Undone { what: failure.to_string() }),
        }
        let lines = lines.into_iter().map(|line| ((line.source.clone(), line.line), line)).collect();
        found.extend(register::compare(&acts, &lines, &sources, now));
        found.extend(self.stops_stand(stop_log).await?);
        found.extend(self.passes_stand(pass_log, now).await?);
        let acts: Vec<Act> =
            acts.iter().filter_map(|(_, bytes)| Some(register::read(bytes)?.event().clone())).collect();
        found.extend(self.grants_stand(&acts, &grant_log).await?);
        Ok(found)
    }

    /// What is stopped against who stopped and resumed what.
    async fn stops_stand(&self, mut log: Vec<Said>) -> Result<Vec<Found>, Failure> {
        let mut stands = self.spend.stops().await?;
        // Somebody may stop something between the two looks.
        for _ in 0..8 {
            let again = self.stop_log().await?;
            if again == log {
                break;
            }
            log = again;
            stands = self.spend.stops().await?;
        }
        let mut said: BTreeMap<Target, bool> = BTreeMap::new();
        for Said { act, target, .. } in log {
            match act {
                SaidAct::Stopped | SaidAct::StoppedNow => drop(said.insert(target, true)),
                SaidAct::Resumed => drop(said.insert(target, false)),
                SaidAct::Lifted => {}
            }
        }
        let standing: BTreeSet<Target> = stands.into_iter().map(|stop| stop.target).collect();
        let unsaid = standing.iter().filter(|target| said.get(target) != Some(&true));
        let unsaid = unsaid.map(|target| format!("{target} is stopped, and nobody has said so"));
        let gone = said.iter().filter(|(target, is_stopped)| **is_stopped && !standing.contains(target));
        let gone = gone.map(|(target, _)| format!("{target} is not stopped any more, and nobody has resumed it"));
        Ok(unsaid.chain(gone).map(|what| Found::Undone { what }).collect())
    }

    /// What passes against who let it pass, and held it again.
    async fn passes_stand(&self, mut log: Vec<PassSaid>, now: Timestamp) -> Result<Vec<Found>, Failure> {
        let mut stands = self.spend.passes().await?;
        // Somebody may let something pass between the two looks.
        for _ in 0..8 {
            let again = self.pass_log().await?;
            if again == log {
                break;
            }
            log = again;
            stands = self.spend.passes().await?;
        }
        let said: BTreeMap<(String, String), Option<Timestamp>> =
            log.into_iter().map(|said| ((said.subject, said.category), said.until)).collect();
        let stands = stands.into_iter().filter(|pass| now < pass.until);
        let unsaid = stands.filter(|pass| {
            said.get(&(pass.subject.clone(), pass.category.name().to_owned())) != Some(&Some(pass.until))
        });
        let unsaid = unsaid.map(|pass| Found::Undone {
            what: format!("{} of {} passes until {}, and nobody has said so", pass.category, pass.subject, pass.until),
        });
        Ok(unsaid.collect())
    }

    /// What lets calls in, and what was taken back, against who gave and took.
    async fn grants_stand(&self, acts: &[Act], log: &[GrantSaid]) -> Result<Vec<Found>, Failure> {
        let (mut given, mut taken) = (BTreeMap::new(), BTreeMap::new());
        for act in acts {
            match &act.deed {
                Deed::Grant { grant, content, .. } => drop(given.insert(*content, *grant)),
                Deed::TakeBack { grant } => drop(taken.insert(*grant, act.n)),
                _ => {}
            }
        }
        let (unsaid, unsaid_taken) = self.unsaid(log).await?;
        let unsaid = unsaid.iter().filter(|(_, content)| !given.contains_key(content)).map(|(grant, _)| grant.id);
        let unsaid_taken = unsaid_taken.iter().map(|(grant, _)| *grant).filter(|grant| !taken.contains_key(grant));
        let mut found: Vec<Found> = unsaid.chain(unsaid_taken).map(|grant| Found::GrantUnsaid { grant }).collect();
        let mut kept = BTreeSet::new();
        for bytes in self.spend.grants().await? {
            kept.insert(Signed::<Grant>::decode(&bytes)?.id());
        }
        let gone = given.iter().filter(|(content, _)| !kept.contains(content));
        found.extend(gone.map(|(_, grant)| Found::Undone { what: format!("grant {grant} was given and is gone") }));
        let kept: BTreeSet<GrantId> =
            self.spend.grants_withdrawn().await?.into_iter().map(|(grant, _)| grant).collect();
        let gone = taken.keys().filter(|grant| !kept.contains(*grant));
        found
            .extend(gone.map(|grant| Found::Undone { what: format!("grant {grant} was taken back and counts again") }));
        Ok(found)
    }
}

/// Enters what a command has done where no process of this home runs: else it would wait for the next start, and look late.
///
/// # Errors
/// [`Failure`] of a store.
pub async fn enter_alone(home: &Home, spend: Arc<dyn comity_gateway::store::Store>) -> Result<(), Failure> {
    let access = Settings::read(home)?.spend.applications(home).await?;
    Books::new(access, spend, &home.path).enter(&[], shell::now()).await
}

/// The same after a command that worked on the files of a home: a running process enters it within a minute.
///
/// # Errors
/// [`Failure`] of a store.
pub async fn enter_files(home: &Path) -> Result<(), Failure> {
    let is_running = admin::get_if_running::<serde_json::Value>(home, "/admin/decisions").await?.is_some();
    let home = Home::open(home)?;
    let spend = Settings::read(&home)?.spend;
    if is_running
        || homes::known(&home.path).is_err()
        || (!spend.is_shared(&home)? && !home.file("spend.sqlite").exists())
    {
        return Ok(());
    }
    let store = spend.open(&home).await?;
    let entered = enter_alone(&home, Arc::clone(&store)).await;
    if let Some(rounds) = store.rounds() {
        rounds.leave().await?;
    }
    entered
}

fn own(line: u64, deed: Deed, author: String, reason: String, at: Timestamp) -> Line {
    Line { source: OWN.into(), line, at, author, deed, reason }
}

fn stop(Said { n, act, target, word }: Said) -> Line {
    let target = target.to_string();
    let deed = match act {
        SaidAct::Stopped => Deed::Stop { target, now: false },
        SaidAct::StoppedNow => Deed::Stop { target, now: true },
        SaidAct::Resumed => Deed::Resume { target },
        SaidAct::Lifted => Deed::Lift { target },
    };
    Line { source: STOPS.into(), line: n, at: word.at, author: word.author, deed, reason: word.reason }
}

fn pass(PassSaid { n, subject, category, until, word }: PassSaid) -> Line {
    let target = Target::Project(subject).to_string();
    let deed = match until {
        Some(until) => Deed::LetPass { target, category, until },
        None => Deed::EndPass { target, category },
    };
    Line { source: PASSES.into(), line: n, at: word.at, author: word.author, deed, reason: word.reason }
}

fn grant(GrantSaid { n, grant, given, word }: GrantSaid) -> Line {
    let deed = match given {
        Some(Given { content, subject }) => Deed::Grant { grant, content, subject },
        None => Deed::TakeBack { grant },
    };
    Line { source: GRANTS.into(), line: n, at: word.at, author: word.author, deed, reason: word.reason }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a command's caller wrote at whatever length: an act has a bound.
fn clipped(text: &str) -> String {
    let end = (0..=text.len().min(WORDS_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

/// Its own in each home: texts lie on the disk of the process that answered.
fn sources_of_texts(home: &Path) -> Vec<String> {
    match homes::known(home) {
        Ok(id) => ["removed", "held", "released"].map(|what| format!("texts {what} {id}")).into(),
        Err(_) => Vec::new(),
    }
}

fn texts_of(home: &Path) -> Result<Vec<Line>, Failure> {
    let sources = sources_of_texts(home);
    let [removed_at, held_at, released_at] = &sources[..] else { return Ok(Vec::new()) };
    let (removed, holds) = transcripts::said_of(home)?;
    let mut lines = Vec::new();
    for (line, removed) in (1..).zip(removed) {
        let Removed { asked: Some(said), of, calls, receipts_digest, .. } = removed else { continue };
        let of = of.map_or_else(String::new, |of| clipped(&of.in_words()));
        let deed = Deed::RemoveTexts { of, calls, receipts: receipts_digest };
        let (author, reason) = (clipped(&said.by), clipped(&said.reason));
        lines.push(Line { source: removed_at.clone(), line, at: said.at, author, deed, reason });
    }
    for Hold { number, of, set, released } in holds {
        let deed = Deed::HoldTexts { hold: number, of: clipped(&of.in_words()) };
        let (author, reason) = (clipped(&set.by), clipped(&set.reason));
        lines.push(Line { source: held_at.clone(), line: number, at: set.at, author, deed, reason });
        if let Some(said) = released {
            let deed = Deed::ReleaseTexts { hold: number };
            let (at, author, reason) = (said.at, clipped(&said.by), clipped(&said.reason));
            lines.push(Line { source: released_at.clone(), line: number, at, author, deed, reason });
        }
    }
    Ok(lines)
}
