//! From what was found to what is done: actions of the policy's `filters` rows, a project's volume, who is suspended.
//!
//! A row names a category, or `volume/` and a category for what a project does in amount. Without a row a text's flags are
//! logged and a volume's are told to the owner. What is told goes to the list that `comity node flags` shows and to whoever
//! the node handed as [`Flags`]; it carries names and counts, never a text.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use comity_guard::volume::{Advice, Alarm, CALL_MAX, Counted, HISTORY_HOURS, Limits, Print, Seen, Volume};
use comity_guard::{Band, Category, Findings};
use comity_http::Refusal;
use comity_wire::api::advisory::{Advisory, AdvisoryBand};
use comity_wire::object::{FilterAction, Logging, TierRule};
use comity_wire::{Code, ModelId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::claims::{bounded, houses};
use crate::gateway::{Gateway, Inner};
use crate::phase::authorise::Authorised;
use crate::store::stops::Word;
use crate::store::{Store, StoreError, Suspension};

/// How long a project waits after a flag whose action is `throttle`.
pub const THROTTLE_S: u64 = 60;
/// Flags that are remembered for the list; the oldest goes.
pub const FLAGS_MAX: usize = 1_024;
/// Projects that may wait at once; above that, those whose wait is over are dropped, then the one that waits least.
const THROTTLED_MAX: usize = 10_000;
/// How old counts may be that other gateways of a shared store add to.
const SHARED_S: u64 = 30;

/// Something that an owner is told of, and may open a case about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flagged {
    /// The project's pseudonym with this organisation.
    pub project: String,
    pub model: ModelId,
    pub category: Category,
    /// `pack/rule`, `linear/category`, or `volume/why`.
    pub rule: String,
    pub band: Band,
    /// How often in this call, or in the day.
    pub count: u64,
    pub action: FilterAction,
    pub at: Timestamp,
}

/// Who opens cases. Must not wait.
pub trait Flags: Send + Sync {
    /// `text` is of the prompt, and there only where the tier keeps texts.
    fn flag(&self, flagged: &Flagged, text: Option<Words<'_>>);
}

/// What was seen, for whoever opens a case about it.
#[derive(Clone, Copy, Debug)]
pub struct Words<'t> {
    /// The newest words of the prompt, at most [`WORDS_BYTES_MAX`].
    pub said: &'t str,
    /// As the model's manifest tells callers before they ask.
    pub retention_days: u16,
}

/// Bytes of a prompt that are handed on with a flag.
pub const WORDS_BYTES_MAX: usize = 4_096;

/// By the project's pseudonym.
type Told = BTreeMap<String, Vec<Advice>>;

/// What the guard of a gateway knows.
pub(crate) struct Guarding {
    volume: Mutex<Volume>,
    throttled: Mutex<BTreeMap<String, Timestamp>>,
    suspended: RwLock<BTreeMap<String, Suspension>>,
    told: Mutex<VecDeque<Flagged>>,
    /// What each house told of projects when it answered last.
    advised: Mutex<BTreeMap<OrgId, Told>>,
    flags: Option<Arc<dyn Flags>>,
}

impl Guarding {
    pub(crate) async fn new(store: &dyn Store, flags: Option<Arc<dyn Flags>>) -> Result<Self, StoreError> {
        let guarding = Self {
            volume: Mutex::new(Volume::new(Limits::builtin())),
            throttled: Mutex::default(),
            suspended: RwLock::default(),
            told: Mutex::default(),
            advised: Mutex::default(),
            flags,
        };
        guarding.follow(store).await?;
        Ok(guarding)
    }

    /// Reads again who is suspended.
    pub(crate) async fn follow(&self, store: &dyn Store) -> Result<(), StoreError> {
        let suspended = store.suspensions().await?.into_iter().map(|one| (one.subject.clone(), one)).collect();
        *self.suspended.write().unwrap_or_else(PoisonError::into_inner) = suspended;
        Ok(())
    }

    /// Whether a project may ask at all now.
    pub(crate) fn admit(&self, subject: &str, now: Timestamp) -> Result<(), Refusal> {
        let suspended = self.suspended.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(suspension) = suspended.get(subject) {
            let message = format!("this project was suspended here by the owner's filter ({})", suspension.rule);
            return Err(Refusal::new(Code::Suspended, message)
                .with("category", suspension.category.name())
                .with("rule", suspension.rule.clone())
                .with("since", suspension.at.seconds())
                .with("whose_move", "owner")
                .hint("ask the owner, who alone can lift it"));
        }
        drop(suspended);
        let until = lock(&self.throttled).get(subject).copied().unwrap_or_default();
        if now < until {
            return Err(Refusal::new(Code::Throttled, "this project is slowed down here after what it sent or got")
                .with("whose_move", "caller")
                .retry_after_s(until.since(now)));
        }
        Ok(())
    }

    /// The newest flags, newest first.
    pub(crate) fn told(&self) -> Vec<Flagged> {
        lock(&self.told).iter().rev().cloned().collect()
    }

    pub(crate) fn suspended(&self) -> Vec<Suspension> {
        self.suspended.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What houses tell of projects that spread over several owners, while it is news.
    pub(crate) fn advised(&self, now: Timestamp) -> Vec<(String, Advice)> {
        let volume = lock(&self.volume);
        let told = volume.advised().filter(|(_, advice)| now < advice.until);
        told.map(|(project, advice)| (project.to_owned(), *advice)).collect()
    }

    /// Takes in what a house tells, in place of what it told before. A house that does not answer is not taken to say that all is well.
    fn advise(&self, house: OrgId, told: Told, now: Timestamp) {
        let mut by_house = lock(&self.advised);
        by_house.insert(house, told);
        let mut all = Told::new();
        for (project, advised) in by_house.values().flatten() {
            let news = advised.iter().filter(|advice| now < advice.until);
            all.entry(project.clone()).or_default().extend(news);
        }
        lock(&self.volume).advise(all);
    }

    fn tell(&self, flagged: Flagged, text: Option<Words<'_>>) {
        if let Some(flags) = &self.flags {
            flags.flag(&flagged, text);
        }
        let mut told = lock(&self.told);
        if told.len() == FLAGS_MAX {
            told.pop_front();
        }
        told.push_back(flagged);
    }

    fn suspend(&self, suspension: &Suspension) {
        let mut suspended = self.suspended.write().unwrap_or_else(PoisonError::into_inner);
        suspended.entry(suspension.subject.clone()).or_insert_with(|| suspension.clone());
    }

    fn throttle(&self, subject: &str, now: Timestamp) {
        let mut throttled = lock(&self.throttled);
        if throttled.len() >= THROTTLED_MAX {
            throttled.retain(|_, until| now < *until);
        }
        if throttled.len() >= THROTTLED_MAX {
            let least = throttled.iter().min_by_key(|(_, until)| **until).map(|(subject, _)| subject.clone());
            least.and_then(|subject| throttled.remove(&subject));
        }
        throttled.insert(subject.to_owned(), now.plus(THROTTLE_S));
    }
}

/// What the policy does about a category of a text: its row, but a guess alone neither blocks nor suspends (decision 0055).
pub(crate) fn action(rule: &TierRule, findings: &Findings, category: Category) -> FilterAction {
    let action = row(rule, category.name()).unwrap_or(FilterAction::Log);
    let is_sure = findings.band(category) == Some(Band::High);
    match action {
        FilterAction::Block | FilterAction::Suspend if !is_sure => FilterAction::Annotate,
        action => action,
    }
}

/// What the policy does about an amount. Without a row the owner is told, and nothing else.
fn volume_action(rule: &TierRule, alarm: &Alarm) -> FilterAction {
    row(rule, &format!("volume/{}", alarm.counted.category())).unwrap_or(FilterAction::Annotate)
}

fn row(rule: &TierRule, name: &str) -> Option<FilterAction> {
    rule.filters.iter().find(|filter| filter.category.as_str() == name).map(|filter| filter.action)
}

/// Whether an action keeps a text from passing.
pub(crate) fn stops(action: FilterAction) -> bool {
    matches!(action, FilterAction::Hold | FilterAction::Block | FilterAction::Suspend)
}

/// Whether a row keeps a text from passing in which a category is surely found.
pub(crate) fn would_stop(rule: &TierRule, category: Category) -> bool {
    row(rule, category.name()).is_some_and(stops)
}

/// The first category that was found, however surely, and that a row stops.
pub(crate) fn stopped_by_a_guess(rule: &TierRule, findings: &Findings) -> Option<(Category, FilterAction)> {
    let found = findings.categories().filter_map(|(category, _)| Some((category, row(rule, category.name())?)));
    found.filter(|(_, action)| stops(*action)).max_by_key(|(_, action)| action.number())
}

/// The first category that was found and that stops a text, with what is done about it.
pub(crate) fn stopped(rule: &TierRule, findings: &Findings) -> Option<(Category, FilterAction)> {
    let found = findings.categories().map(|(category, _)| (category, action(rule, findings, category)));
    found.filter(|(_, action)| stops(*action)).max_by_key(|(_, action)| action.number())
}

/// Categories that the caller is told of, as a header says it.
pub(crate) fn annotation(rule: &TierRule, findings: &Findings) -> Option<String> {
    let said =
        findings.categories().filter(|(category, _)| action(rule, findings, *category) == FilterAction::Annotate);
    let said: Vec<String> = said
        .map(|(category, count)| {
            let band = if findings.band(category) == Some(Band::High) { "high" } else { "medium" };
            format!("{category};count={count};band={band}")
        })
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// The refusal of a text that is stopped.
pub(crate) fn refusal(category: Category, action: FilterAction) -> Refusal {
    let (code, message) = match action {
        FilterAction::Hold => (Code::HeldForReview, "the owner looks at such texts before they pass"),
        _ => (Code::ContentFilter, "the owner's filter does not let this through"),
    };
    let whose_move = if action == FilterAction::Hold { "owner" } else { "caller" };
    Refusal::new(code, format!("{message} ({})", category.name()))
        .with("category", category.name())
        .with("whose_move", whose_move)
}

impl Gateway {
    /// Asks each house of this federation what it sees of projects over several owners (spec/07-settlement.md §10), once. What is told
    /// is an amount above its bound like one that was counted here: the policy's row `volume/` and the category says what is done.
    pub async fn take_advice(&self) {
        let inner = &*self.0;
        let Some(house) = &inner.house else { return };
        for org in houses(inner) {
            match bounded(house.advisories(org, inner.node)).await {
                Ok(reply) => inner.guarding.advise(org, told(org, &reply.advisories), inner.now()),
                // Of a house that nobody has drawn a token for this node from, this node is not known.
                Err(error) => tracing::debug!(house = %org, %error, "no advisories were told"),
            }
        }
    }
}

/// What a house tells, but for categories that are not known here.
fn told(house: OrgId, advisories: &[Advisory]) -> Told {
    let mut told = Told::new();
    for advisory in advisories {
        let Ok(category) = advisory.category.parse() else { continue };
        let Advisory { subject, count, bound, band, until, .. } = advisory;
        tracing::warn!(%house, project = %subject, category = advisory.category, count, bound, "a project's flags are spread over several owners");
        let band = match band {
            AdvisoryBand::Medium => Band::Medium,
            AdvisoryBand::High => Band::High,
        };
        let advice = Advice { category, count: *count, bound: *bound, band, until: *until };
        told.entry(subject.to_string()).or_default().push(advice);
    }
    told
}

impl Inner {
    /// Takes in what the store has of a project's volume. A store that does not answer stops nobody: what single texts say is
    /// judged all the same, and the next call asks it again.
    pub(crate) async fn recall(&self, subject: &str) {
        let now = self.now();
        let is_shared = self.ledger.store().rounds().is_some();
        let known = lock(&self.guarding.volume).knows(subject);
        if known.is_some_and(|at| !is_shared || now.since(at) < SHARED_S) {
            return;
        }
        let from = u32::try_from(now.seconds() / 3_600).unwrap_or(u32::MAX).saturating_sub(HISTORY_HOURS);
        match self.ledger.store().volume(subject, from).await {
            Ok(rows) => lock(&self.guarding.volume).restore(subject, rows, now),
            Err(error) => tracing::warn!(%error, "a project's volume cannot be read"),
        }
    }

    /// What stops a call for its project's amounts: an amount of flags stops what is flagged so, a series stops all.
    pub(crate) fn stopped_by_volume(
        &self,
        authorised: &Authorised,
        findings: &Findings,
    ) -> Option<(Category, FilterAction)> {
        let rule = &authorised.allowed.tier_rule;
        if !rule.filters.iter().any(|filter| filter.category.as_str().starts_with("volume/")) {
            return None;
        }
        let purposes = purposes(authorised);
        let standing = lock(&self.guarding.volume).standing(authorised.subject(), &purposes, self.now());
        let concerns = |alarm: &&Alarm| match alarm.counted {
            Counted::Flags(category) => findings.count(category) > 0,
            _ => true,
        };
        let actions =
            standing.iter().filter(concerns).map(|alarm| (alarm.counted.category(), volume_action(rule, alarm)));
        actions.filter(|(_, action)| stops(*action)).max_by_key(|(_, action)| action.number())
    }

    /// Counts a call and does what its flags ask for. `findings` are of prompt and answer together.
    pub(crate) async fn guard(&self, authorised: &Authorised, findings: &Findings) {
        for flagged in self.count(authorised, findings) {
            if flagged.action == FilterAction::Suspend {
                self.suspend(&flagged).await;
            }
            self.guarding.tell(flagged, self.text_of(authorised));
        }
    }

    /// The words that a case may keep: only where the tier's log class keeps texts, and for as long as the manifest says.
    fn text_of<'a>(&self, authorised: &'a Authorised) -> Option<Words<'a>> {
        let retention_days = self.directory.manifest(&authorised.asked.model)?.data_policy.retention_days;
        let keeps = authorised.allowed.tier_rule.logging == Logging::Bodies && retention_days > 0;
        let said = authorised.asked.texts.last().filter(|_| keeps)?;
        Some(Words { said: &said[..said.floor_char_boundary(WORDS_BYTES_MAX)], retention_days })
    }

    /// What a call is flagged for; who has to wait after it, waits.
    fn count(&self, authorised: &Authorised, findings: &Findings) -> Vec<Flagged> {
        let (now, rule, subject) = (self.now(), &authorised.allowed.tier_rule, authorised.subject());
        let mut flagged = Vec::new();
        let mut flag = |category, rule: String, band, count, action| {
            let (project, model) = (subject.to_owned(), authorised.asked.model.clone());
            flagged.push(Flagged { project, model, category, rule, band, count, action, at: now });
        };
        for (category, count) in findings.categories() {
            let action = action(rule, findings, category);
            let band = findings.band(category).unwrap_or(Band::Medium);
            if action.number() > FilterAction::Log.number() {
                flag(category, first_rule(findings, category), band, u64::from(count), action);
            }
        }
        let purposes = purposes(authorised);
        let biased = biased(authorised);
        let seen = Seen {
            project: subject,
            purposes: &purposes,
            flags: Category::ALL.map(|category| findings.count(category).min(CALL_MAX)),
            print: print(authorised),
            biased: &biased,
        };
        let mut volume = lock(&self.guarding.volume);
        let alarms = volume.observe(now, &seen);
        let standing = volume.standing(subject, &purposes, now);
        drop(volume);
        // While an amount stands above its bound, the wait begins anew with each call.
        let slows = |alarm: &Alarm| volume_action(rule, alarm) == FilterAction::Throttle;
        if standing.iter().any(slows) {
            self.guarding.throttle(subject, now);
        }
        for alarm in alarms {
            let action = volume_action(rule, &alarm);
            if action.number() > FilterAction::Log.number() {
                flag(alarm.counted.category(), alarm.why.rule().to_owned(), alarm.band, alarm.count, action);
            }
        }
        if flagged.iter().any(|flagged| flagged.action == FilterAction::Throttle) {
            self.guarding.throttle(subject, now);
        }
        flagged
    }

    /// In memory first: a store that does not answer delays the writing, never the suspension.
    async fn suspend(&self, flagged: &Flagged) {
        let suspension = Suspension {
            subject: flagged.project.clone(),
            category: flagged.category,
            rule: flagged.rule.clone(),
            at: flagged.at,
        };
        self.guarding.suspend(&suspension);
        if let Err(error) = self.ledger.store().suspension_put(&suspension).await {
            tracing::error!(%error, "a suspension is not written down; it ends with this process");
        }
    }

    /// Writes down what was counted since the last time.
    pub(crate) async fn volume_flush(&self) {
        let deltas = lock(&self.guarding.volume).take_deltas();
        if deltas.is_empty() {
            return;
        }
        if let Err(error) = self.ledger.store().volume_add(&deltas).await {
            // After a silence nobody knows whether it was taken: counted twice would accuse, so it is not tried again.
            if !matches!(error, StoreError::Timeout) {
                lock(&self.guarding.volume).put_back(deltas);
            }
            tracing::warn!(%error, "counts of flags are not written down yet");
        }
    }

    /// Lets a suspended project in again; whether it was suspended.
    pub(crate) async fn resume(&self, subject: &str, word: Option<&Word>) -> Result<bool, StoreError> {
        let ended = self.ledger.store().suspension_end(subject, word).await?;
        let known = self.guarding.suspended.write().unwrap_or_else(PoisonError::into_inner).remove(subject).is_some();
        lock(&self.guarding.throttled).remove(subject);
        Ok(ended || known)
    }
}

/// The rule that stands for all of a category in a notice: a pack's before the classifier's guess, the one that was hit
/// most, the first by name.
fn first_rule(findings: &Findings, category: Category) -> String {
    let weight =
        |(rule, count): &(&str, u32)| (!rule.starts_with("linear/"), *count, std::cmp::Reverse(rule.to_string()));
    findings.rules_of(category).max_by_key(weight).map_or_else(String::new, |(rule, _)| rule.to_owned())
}

fn purposes(authorised: &Authorised) -> Vec<&str> {
    authorised.authenticated.capability.token().terms.purposes.iter().map(|purpose| purpose.as_str()).collect()
}

/// The newest text is what differs between the calls of a series.
fn print(authorised: &Authorised) -> Option<Print> {
    authorised.asked.texts.last().filter(|text| !text.is_empty()).map(|text| Print::of(text))
}

fn biased(authorised: &Authorised) -> Vec<u32> {
    let biases = authorised.asked.body.get("logit_bias").and_then(serde_json::Value::as_object);
    biases.into_iter().flat_map(|biases| biases.keys()).filter_map(|token| token.parse().ok()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
