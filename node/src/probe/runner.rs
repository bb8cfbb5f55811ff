//! Asks what is due, and keeps what came back: the awaiting around [`super::state`].
//!
//! A call is in the journal before it is made, and its end before the next thing is done with it. Calls go in parallel, those of one persona
//! one after the other. What is late is left out, never caught up with: a burst would be seen.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use comity_probe::Secret;
use comity_sdk::Client;
use comity_sdk::token::directory::Directory as _;
use comity_wire::Timestamp;
use comity_wire::time::DAY_S;
use tokio::task::JoinSet;

use super::call::{Call, Outcome};
use super::config::Config;
use super::journal::Journal;
use super::personas;
use super::state::{Event, Place, Planned, Snapshot, Stands, State, Stored};
use crate::failure::Failure;
use crate::home::Home;
use crate::keystore::KeyName;
use crate::program::Failpoint;
use crate::shell;

/// Calls under way at once.
const PARALLEL_MAX: usize = 8;
/// Wallets that are open at once.
const CLIENTS_MAX: usize = 128;
/// How late a call may be made: as long as a person who was held up.
const LATE_S: u64 = 900;
/// How long it is waited at most before it is looked again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A call.
const CALL_MAX: Duration = Duration::from_secs(300);
/// How long the outcome of a call is asked for; after that its worst case is taken as spent.
const DOUBT_S: u64 = 20 * 3_600;
/// How long it is waited before an outcome is asked for again.
const DOUBT_AGAIN_S: u64 = 600;
/// How often ended tokens are looked for.
const TIDY_S: u64 = 3_600;
/// And how long that may take.
const TIDY_MAX: Duration = Duration::from_secs(60);

/// State and journal, changed together.
pub struct Store {
    pub state: State,
    journal: Journal,
}

/// Asks.
pub struct Runner {
    home: Home,
    config: Config,
    store: Store,
    clients: HashMap<u32, Arc<Client>>,
    tasks: JoinSet<(u64, usize, Outcome)>,
    /// Calls that a task has in hand, with their personas.
    under_way: HashMap<(u64, usize), u32>,
    /// Calls whose outcome was asked for in vain, and when.
    doubted: HashMap<(u64, usize), Timestamp>,
    tidied: Timestamp,
    failpoint: Failpoint,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    pub asked: u64,
    pub answered: u64,
    pub failed: u64,
    pub missed: u64,
}

/// Which calls are due.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// By the clock.
    Now,
    /// All of one day, one after the other: a rehearsal.
    Played(u64),
}

impl Store {
    /// # Errors
    /// [`Failure`]; also where another process has it.
    pub fn open(home: &Home) -> Result<Self, Failure> {
        let secret = secret(home)?;
        let (journal, kept) = Journal::open::<Snapshot, Event>(&super::folder(home))?;
        Ok(Self { state: replayed(secret, kept)?, journal })
    }

    /// What stands there, beside a process that runs.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn look(home: &Home) -> Result<State, Failure> {
        replayed(secret(home)?, Journal::look::<Snapshot, Event>(&super::folder(home))?)
    }

    /// Durable first, then believed.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn record(&mut self, event: Event) -> Result<(), Failure> {
        self.journal.append(&event)?;
        // As it will be read again, so that a replay comes to the same.
        self.state.apply(serde_json::from_slice(&serde_json::to_vec(&event)?)?)?;
        if self.journal.is_long() {
            self.journal.snapshot(&self.state.snapshot())?;
        }
        Ok(())
    }
}

fn secret(home: &Home) -> Result<Secret, Failure> {
    let key = home.keys.read(KeyName::Probe).map_err(|error| {
        Failure::from(error).hint("this house has no probes yet: make them with `comity clearing probe init`")
    })?;
    Ok(Secret::new(*key.seed()))
}

fn replayed(secret: Secret, kept: super::journal::Kept<Snapshot, Event>) -> Result<State, Failure> {
    let mut state = State::new(secret, kept.snapshot)?;
    kept.events.into_iter().try_for_each(|event| state.apply(event))?;
    Ok(state)
}

impl Runner {
    /// # Errors
    /// [`Failure`].
    pub fn open(home: Home, config: Config, failpoint: &Failpoint) -> Result<Self, Failure> {
        let mut store = Store::open(&home)?;
        let (settings, day_max) = (config.settings(), config.day_max_ucr);
        if store.state.settings() != (&settings, day_max) {
            store.record(Event::Set { settings, day_max })?;
        }
        Ok(Self {
            home,
            config,
            store,
            clients: HashMap::new(),
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            doubted: HashMap::new(),
            tidied: Timestamp(0),
            failpoint: Arc::clone(failpoint),
        })
    }

    pub fn state(&self) -> &State {
        &self.store.state
    }

    /// What is due now, to its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn once(&mut self) -> Result<Done, Failure> {
        self.turn(Due::Now).await
    }

    /// All calls of a day at once, as if each were due: for a rehearsal. Whoever watches sees a burst.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn play(&mut self, day: u64) -> Result<Done, Failure> {
        self.turn(Due::Played(day)).await
    }

    /// Until it is told to stop: what is under way is ended first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn serve(&mut self, stop: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        tokio::pin!(stop);
        let mut done = Done::default();
        loop {
            self.housekeep().await?;
            self.plan(shell::now().seconds() / DAY_S).await?;
            self.start(Due::Now, &mut done)?;
            let pause = self.until_next(shell::now());
            tokio::select! {
                stopped = &mut stop => {
                    while let Some(ended) = self.tasks.join_next().await {
                        self.end(ended, Due::Now, &mut done)?;
                    }
                    return stopped;
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.end(ended, Due::Now, &mut done)?,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn turn(&mut self, due: Due) -> Result<Done, Failure> {
        let day = match due {
            Due::Now => shell::now().seconds() / DAY_S,
            Due::Played(day) => day,
        };
        let mut done = Done::default();
        self.housekeep().await?;
        self.plan(day).await?;
        loop {
            let missed = done.missed;
            self.start(due, &mut done)?;
            match self.tasks.join_next().await {
                Some(ended) => self.end(ended, due, &mut done)?,
                None if done.missed == missed => return Ok(done),
                // Somebody's next call may have waited for one that is not made.
                None => {}
            }
        }
    }

    /// The calls of a day, once: it is the same plan after a restart.
    async fn plan(&mut self, day: u64) -> Result<(), Failure> {
        if self.store.state.days.contains_key(&day) {
            return Ok(());
        }
        self.look_at_doors().await?;
        if self.store.state.places().is_empty() {
            // Looked for again before long, rather than a day without calls.
            return Ok(());
        }
        let asks = self.store.state.program().plan(day);
        let asks: Vec<Planned> = asks
            .iter()
            .map(|ask| Planned {
                at: ask.at,
                door: ask.door,
                persona: ask.persona,
                announced: ask.announced,
                session: ask.session,
                prompt: ask.prompt.number,
                stream: ask.stream,
                worst: ask.worst,
            })
            .collect();
        tracing::info!(day, calls = asks.len(), "the day's probes are planned");
        self.at("probe.planned");
        self.store.record(Event::Planned { day, asks })
    }

    /// What the federation says of the models: who serves them, under which release and tariff.
    async fn look_at_doors(&mut self) -> Result<(), Failure> {
        let reader = personas::reader(&self.home, &self.config)?;
        if let Err(error) = reader.refresh().await {
            // What was known yesterday is asked today; a door that is gone says so by itself.
            tracing::warn!(%error, "the federation cannot be read now: models are asked as they were known");
            return Ok(());
        }
        for model in self.config.model.clone() {
            let found = || {
                let summary = reader.directory().summary(&model.id)?;
                let tariff = reader.directory().tariff(&summary.tariff)?;
                let node = *summary.nodes.iter().next()?;
                let tariff = Stored::new(tariff.bytes()).ok()?;
                let (release, logprobs, risk) = (summary.release, model.logprobs, model.risk);
                Some(Place { node, model: model.id.clone(), release, tariff, logprobs, risk })
            };
            match found() {
                Some(door) => self.door(door).await?,
                None => tracing::warn!(model = %model.id, "is not offered now"),
            }
        }
        // What is no longer checked keeps its place.
        let gone = |place: &Place| place.risk > 0 && self.config.of(&place.model).is_none();
        let gone: Vec<_> = self.store.state.places().iter().enumerate().filter(|(_, place)| gone(place)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(at, place)| (at, Place { risk: 0, ..place.clone() })).collect();
        for (at, door) in gone {
            self.store.record(Event::Door { at, door })?;
        }
        Ok(())
    }

    async fn door(&mut self, door: Place) -> Result<(), Failure> {
        let places = self.store.state.places();
        let at = places.iter().position(|place| place.model == door.model).unwrap_or(places.len());
        if places.get(at) == Some(&door) {
            return Ok(());
        }
        let repriced = places.get(at).is_some_and(|known| known.tariff != door.tariff);
        if repriced {
            // Tokens pin the tariff that they were bought on: what is asked from here on is bought on the new one.
            self.tidy(true).await;
        }
        self.store.record(Event::Door { at, door })
    }

    /// Starts what is due and can be; says of the rest why it is not made.
    fn start(&mut self, due: Due, done: &mut Done) -> Result<(), Failure> {
        let now = shell::now();
        let waiting: Vec<(u64, usize, Planned)> = self.waiting(due, now);
        let mut busy: BTreeSet<u32> = self.under_way.values().copied().collect();
        let mut late: HashMap<u64, Vec<usize>> = HashMap::new();
        for (day, ask, planned) in waiting {
            let at = match due {
                Due::Now => now,
                Due::Played(_) => planned.at,
            };
            if at.since(planned.at) > LATE_S {
                late.entry(day).or_default().push(ask);
                continue;
            }
            if self.tasks.len() >= PARALLEL_MAX {
                continue;
            }
            // One after the other, in the order of the plan.
            if !busy.insert(planned.persona) {
                continue;
            }
            if planned.worst > self.store.state.program().purse().left(at.seconds() / DAY_S) {
                self.miss(day, ask, "the day's money is spent", done)?;
                continue;
            }
            let (client, call) = match self.call(day, ask, &planned, at) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.miss(
                        day,
                        ask,
                        "nobody is there to ask: comity clearing probe init makes who is lacking",
                        done,
                    )?;
                    continue;
                }
                Err(failure) => {
                    tracing::warn!(error = %failure, "a persona cannot be used");
                    self.miss(day, ask, "its wallet cannot be used: the log says why", done)?;
                    continue;
                }
            };
            if !call.fits(self.store.state.program().door(planned.door).map(|(door, _)| &door.tariff)) {
                self.miss(day, ask, "it may cost more than was planned", done)?;
                continue;
            }
            self.at("probe.before_began");
            self.store.record(Event::Began { day, ask, at })?;
            self.at("probe.began");
            done.asked += 1;
            self.spawn(day, ask, planned.persona, client, call, false);
        }
        for (day, asks) in late {
            done.missed += asks.len() as u64;
            self.store.record(Event::Missed { day, asks, why: "it was too late for it".to_owned() })?;
        }
        Ok(())
    }

    fn waiting(&self, due: Due, now: Timestamp) -> Vec<(u64, usize, Planned)> {
        let days = self.store.state.days.iter().filter(|(day, _)| match due {
            Due::Now => **day <= now.seconds() / DAY_S,
            Due::Played(played) => **day == played,
        });
        let of_day = |(day, of): (&u64, &super::state::Day)| {
            let asks = of.asks.iter().zip(&of.stands).enumerate();
            let waits = asks.filter(|(_, (planned, stands))| {
                **stands == Stands::Waits && (planned.at <= now || matches!(due, Due::Played(_)))
            });
            let day = *day;
            waits.map(move |(ask, (planned, _))| (day, ask, planned.clone())).collect::<Vec<_>>()
        };
        days.flat_map(of_day).collect()
    }

    fn miss(&mut self, day: u64, ask: usize, why: &str, done: &mut Done) -> Result<(), Failure> {
        done.missed += 1;
        self.store.record(Event::Missed { day, asks: vec![ask], why: why.to_owned() })
    }

    /// `None` where the persona was not made yet, or its credits are not there.
    fn call(
        &mut self,
        day: u64,
        ask: usize,
        planned: &Planned,
        at: Timestamp,
    ) -> Result<Option<(Arc<Client>, Call)>, Failure> {
        let Some(place) = self.store.state.places().get(planned.door).cloned() else { return Ok(None) };
        let Some(client) = self.client(planned.persona)? else { return Ok(None) };
        // By the machine's clock: that is how long the wallet knows the key.
        let key = Call::key(planned.persona, day, ask, shell::now().min(at.max(shell::now().minus(DOUBT_S))));
        let prompt = self.store.state.program().prompt(planned.prompt);
        let (model, logprobs, stream, worst) = (place.model, place.logprobs, planned.stream, planned.worst);
        Ok(Some((client, Call { model, prompt, stream, logprobs, worst, key })))
    }

    fn client(&mut self, persona: u32) -> Result<Option<Arc<Client>>, Failure> {
        if let Some(client) = self.clients.get(&persona) {
            return Ok(Some(Arc::clone(client)));
        }
        let Some(who) = self.store.state.cast.get(&persona).filter(|who| who.ready) else { return Ok(None) };
        let client = Arc::new(personas::client(&self.home, &self.config, who, &self.failpoint)?);
        if self.clients.len() >= CLIENTS_MAX {
            let busy: BTreeSet<u32> = self.under_way.values().copied().collect();
            self.clients.retain(|persona, _| busy.contains(persona));
        }
        self.clients.insert(persona, Arc::clone(&client));
        Ok(Some(client))
    }

    fn spawn(&mut self, day: u64, ask: usize, persona: u32, client: Arc<Client>, call: Call, again: bool) {
        self.under_way.insert((day, ask), persona);
        self.tasks.spawn(async move {
            let made = async { if again { call.again(&client).await } else { call.make(&client).await } };
            let late = |_| Outcome::Doubt { why: "no answer in five minutes".to_owned() };
            (day, ask, tokio::time::timeout(CALL_MAX, made).await.unwrap_or_else(late))
        });
    }

    fn end(
        &mut self,
        ended: Result<(u64, usize, Outcome), tokio::task::JoinError>,
        due: Due,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let (day, ask, outcome) = ended?;
        self.at("probe.before_ended");
        self.under_way.remove(&(day, ask));
        self.doubted.remove(&(day, ask));
        let planned = |state: &State| state.days.get(&day).and_then(|of| of.asks.get(ask)).map(|planned| planned.at);
        let at = match due {
            Due::Now => shell::now(),
            Due::Played(_) => planned(&self.store.state).unwrap_or_else(shell::now),
        };
        match outcome {
            Outcome::Answered(seen) => {
                done.answered += 1;
                self.store.record(Event::Answered { day, ask, at, seen })
            }
            Outcome::Failed { charge, why } => {
                done.failed += 1;
                self.store.record(Event::Failed { day, ask, at, charge, why })
            }
            Outcome::Doubt { why } => {
                self.doubted.insert((day, ask), shell::now());
                tracing::warn!(%why, "a call's outcome is not known: its money stays held, and it is asked again");
                Ok(())
            }
        }
    }

    /// What is to be done beside asking: calls in doubt, ended tokens, what people decided.
    async fn housekeep(&mut self) -> Result<(), Failure> {
        self.decided()?;
        self.doubts()?;
        let now = shell::now();
        if now.since(self.tidied) >= TIDY_S {
            self.tidied = now;
            self.tidy(false).await;
        }
        Ok(())
    }

    /// Findings that a person looked into while this process had the journal.
    fn decided(&mut self) -> Result<(), Failure> {
        for (finding, file) in super::report::decided(&self.home)? {
            self.store.record(Event::DealtWith { finding })?;
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    /// Calls that were begun and have not ended, by this process or one before it.
    fn doubts(&mut self) -> Result<(), Failure> {
        let open: Vec<_> = self.store.state.open().collect();
        for (day, ask, at) in open {
            if self.under_way.contains_key(&(day, ask)) {
                continue;
            }
            let soon = |at: &Timestamp| shell::now().since(*at) < DOUBT_AGAIN_S;
            if self.doubted.get(&(day, ask)).is_some_and(soon) {
                continue;
            }
            let Some(planned) = self.store.state.days.get(&day).and_then(|of| of.asks.get(ask)).cloned() else {
                continue;
            };
            if self.under_way.values().any(|persona| *persona == planned.persona) || self.tasks.len() >= PARALLEL_MAX {
                continue;
            }
            let found = if shell::now().since(at) > DOUBT_S { Ok(None) } else { self.call(day, ask, &planned, at) };
            let found = match found {
                Ok(found) => found,
                Err(failure) => {
                    tracing::warn!(error = %failure, "a persona's wallet cannot be used now: its call stays in doubt");
                    self.doubted.insert((day, ask), shell::now());
                    continue;
                }
            };
            match found {
                Some((client, call)) => self.spawn(day, ask, planned.persona, client, call, true),
                None => {
                    let why = "its outcome never came to be known: counted as spent".to_owned();
                    self.store.record(Event::Failed { day, ask, at, charge: planned.worst, why })?;
                }
            }
        }
        Ok(())
    }

    /// Ends tokens that have expired, so that what is left of them goes home; all of them where the tariff is another.
    async fn tidy(&mut self, all: bool) {
        if tokio::time::timeout(TIDY_MAX, self.finish(all)).await.is_err() {
            tracing::info!("not all ended tokens could be seen to: the rest comes later");
        }
    }

    async fn finish(&mut self, all: bool) {
        let mut ready: Vec<u32> =
            self.store.state.cast.iter().filter(|(_, who)| who.ready).map(|(name, _)| *name).collect();
        if !ready.is_empty() {
            // From somewhere else each time: what one unreached node holds up is not always the same.
            let from = usize::from(shell::random::<1>()[0]) % ready.len();
            ready.rotate_left(from);
        }
        let busy: BTreeSet<u32> = self.under_way.values().copied().collect();
        for persona in ready.into_iter().filter(|persona| !busy.contains(persona)) {
            let Ok(Some(client)) = self.client(persona) else { continue };
            for purse in client.purses().await {
                let ended = purse.unfinished && (all || (!purse.open && !purse.pending));
                if ended && let Err(error) = client.finish(purse.token).await {
                    tracing::info!(%error, token = %purse.token, "a token is ended later");
                }
            }
        }
    }

    /// Where a crash test may end the process.
    fn at(&self, point: &'static str) {
        (self.failpoint)(point);
    }

    fn until_next(&self, now: Timestamp) -> Duration {
        let waits = self.store.state.days.values().flat_map(|of| of.asks.iter().zip(&of.stands));
        let next = waits.filter(|(_, stands)| **stands == Stands::Waits).map(|(planned, _)| planned.at).min();
        let next = next.map_or(LOOK_AGAIN, |at| Duration::from_secs(at.since(now)));
        next.clamp(Duration::from_secs(1), LOOK_AGAIN)
    }
}
