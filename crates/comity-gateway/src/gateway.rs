//! The gateway as a value: started once, cloned into every request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use comity_guard::Filter;
use comity_http::Refusal;
use comity_supply::pool::Sight;
use comity_token::{Capability, Directory, PathCap};
use comity_wire::object::{Grant, Plan, TermsOfUse};
use comity_wire::{
    Amount, CreditNoteId, Digest, GrantId, Malformed, ModelId, NodeId, OrgId, SecretKey, Timestamp, TokenId,
    Unverified, Verified,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agreements::Agreements;
use crate::arrived::Arrived;
use crate::chains::Chains;
use crate::claims::House;
use crate::config::{Clock, Config, Entropy, Failpoint, Parts, Served};
use crate::grants::Grants;
use crate::guarding::{Flagged, Guarding};
use crate::moderating::Moderating;
use crate::passing::Passing;
use crate::plans::Plans;
use crate::queue::Places;
use crate::replies::Replies;
use crate::spend::{Balance, Book, RunKey, RunRow, Signer};
use crate::stopping::{self, Stopping};
use crate::store::agreed::Agreed;
use crate::store::granted::Given;
use crate::store::stops::{Said, Stop, Target, Word};
use crate::store::{StoreError, Suspension};
use crate::transcript::Transcripts;
use crate::watch::Watch;
use crate::writer::Ledger;
use crate::{refusal, routes};

/// The data plane of one node. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) node: NodeId,
    pub(crate) org: OrgId,
    pub(crate) directory: Arc<dyn Directory>,
    served: RwLock<Arc<BTreeMap<ModelId, Served>>>,
    /// Of each model that is served and was asked for.
    places: Mutex<BTreeMap<ModelId, Arc<Places>>>,
    pub(crate) ledger: Ledger,
    pub(crate) chains: Chains,
    pub(crate) grants: Grants,
    pub(crate) plans: Plans,
    pub(crate) agreements: Agreements,
    pub(crate) replies: Mutex<Replies>,
    pub(crate) filter: Filter,
    pub(crate) guarding: Guarding,
    pub(crate) passing: Passing,
    pub(crate) moderating: Option<Moderating>,
    pub(crate) stopping: Stopping,
    pub(crate) arrived: Arrived,
    pub(crate) receipt_key: SecretKey,
    pub(crate) own_issuer: Option<SecretKey>,
    pub(crate) house: Option<Arc<dyn House>>,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) failpoint: Failpoint,
    pub(crate) watch: Arc<dyn Watch>,
    pub(crate) transcripts: Option<Arc<dyn Transcripts>>,
    pub(crate) in_flight: Arc<Semaphore>,
    /// Requests and the writer. Both end before the store may close.
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// A final was asked for, or a claim should not wait for its hour.
    pub(crate) claim_now: Notify,
    /// One claim at a time: the house and this node then agree on what was settled.
    pub(crate) claiming: tokio::sync::Mutex<()>,
    /// Credit notes that wait, and from when on their house looks at them again.
    pub(crate) credits_later: Mutex<BTreeMap<CreditNoteId, Timestamp>>,
}

/// A model that is served, at a moment.
#[derive(Clone, Debug)]
pub struct ModelNow {
    pub model: ModelId,
    /// Calls in line for a place.
    pub waiting: usize,
    /// Calls that have one.
    pub running: usize,
    /// Places there are.
    pub slots: u32,
    /// The servers behind it, by name; none where it runs in this process.
    pub instances: Vec<(String, Sight)>,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no certificate of this node is in the directory; publish it first")]
    NoCertificate,
    #[error("the receipt key is not one that the node's certificate names at {now}")]
    ReceiptKey { now: Timestamp },
    #[error("cannot read the grants")]
    Grants(#[from] StoreError),
    #[error("cannot read who is suspended")]
    Suspensions(#[source] StoreError),
    #[error("cannot read what the operator has stopped")]
    Stops(#[source] StoreError),
}

/// Why a grant was not taken.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("the grant is not one of this owner's")]
    Unverified(#[from] Unverified),
    #[error("cannot keep the grant")]
    Store(#[from] StoreError),
}

/// Why terms of use were not taken.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    #[error("those are no terms of use")]
    Malformed(#[from] Malformed),
    #[error("cannot keep the terms of use")]
    Store(#[from] StoreError),
}

/// Why an experiment plan was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("that is no experiment plan")]
    Malformed(#[from] Malformed),
    #[error("cannot keep the experiment plan")]
    Store(#[from] StoreError),
}

impl Gateway {
    /// Starts the writer. The node's certificate must be in the directory and name the receipt key.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn new(config: Config, parts: Parts) -> Result<Self, StartError> {
        let now = (parts.clock)();
        let certificate = parts.directory.certificate(parts.node).ok_or(StartError::NoCertificate)?;
        if !certificate.receipt_keys_at(now).any(|key| *key == parts.receipt_key.public()) {
            return Err(StartError::ReceiptKey { now });
        }
        let grants = Grants::new(parts.org, parts.feed_writer);
        for (grant, at) in parts.store.grants_withdrawn().await? {
            grants.withdraw(grant, at);
        }
        let plans = Plans::default();
        for bytes in parts.store.plans().await? {
            if let Err(error) = plans.put(&bytes) {
                tracing::warn!(%error, "a stored experiment plan cannot be read: nothing is open under it");
            }
        }
        let agreements = Agreements::default();
        for bytes in parts.store.terms().await? {
            if let Err(error) = agreements.put(&bytes) {
                tracing::warn!(%error, "stored terms of use cannot be read: nobody can agree to them");
            }
        }
        for (subject, terms, _) in parts.store.agreements().await? {
            agreements.agree(&subject, terms);
        }
        for bytes in parts.store.grants().await? {
            match grants.verify(&bytes) {
                Ok(grant) => grants.put(grant),
                // The writer's key was changed: the owner signs its grants again.
                Err(error) => tracing::warn!(%error, "a stored grant no longer stands"),
            }
        }
        let tracker = TaskTracker::new();
        let signer = Signer { node: parts.node, key: parts.receipt_key.clone(), restore: certificate.restore };
        let book = Book::new(config.tokens_max);
        let guarding = Guarding::new(&*parts.store, parts.flags).await.map_err(StartError::Suspensions)?;
        let passing = Passing::new(&*parts.store).await.map_err(StartError::Suspensions)?;
        let stopping = Stopping::new(&*parts.store).await.map_err(StartError::Stops)?;
        let ledger = Ledger::start(book, parts.store, signer, parts.failpoint.clone(), parts.watch.clone(), &tracker);
        let filter = parts.filter;
        let news = ledger.news();
        let gateway = Self(Arc::new(Inner {
            chains: Chains::new(config.chains_max),
            replies: Mutex::new(Replies::new(config.replay_s, config.replay_bytes_max)),
            in_flight: Arc::new(Semaphore::new(config.in_flight_max)),
            config,
            node: parts.node,
            org: parts.org,
            directory: parts.directory,
            served: RwLock::new(by_model(parts.served)),
            places: Mutex::default(),
            ledger,
            grants,
            plans,
            agreements,
            filter,
            guarding,
            passing,
            moderating: parts.moderation.map(Moderating::new),
            stopping,
            arrived: Arrived::default(),
            receipt_key: parts.receipt_key,
            own_issuer: parts.own_issuer,
            house: parts.house,
            clock: parts.clock,
            entropy: parts.entropy,
            failpoint: parts.failpoint,
            watch: parts.watch,
            transcripts: parts.transcripts,
            tracker,
            stop: CancellationToken::new(),
            claim_now: Notify::new(),
            claiming: tokio::sync::Mutex::new(()),
            credits_later: Mutex::default(),
        }));
        gateway.0.tracker.spawn(write_down(Arc::downgrade(&gateway.0), gateway.0.stop.clone()));
        if let Some(news) = news {
            gateway.0.tracker.spawn(stopping::look_always(Arc::downgrade(&gateway.0), gateway.0.stop.clone()));
            gateway.0.tracker.spawn(follow(Arc::downgrade(&gateway.0), news));
        }
        Ok(gateway)
    }

    /// Changes when something was said to all gateways that share the store: a grant was put, or [`Gateway::tell`] was
    /// called. `None` where this one is alone.
    pub fn news(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        self.0.ledger.news()
    }

    /// Says to all gateways that share the store that there is something to read again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell(&self) -> Result<(), StoreError> {
        match self.0.ledger.store().rounds() {
            Some(rounds) => rounds.tell().await,
            None => Ok(()),
        }
    }

    /// The orderly end, after [`Gateway::drained`]: what this gateway holds of a shared store is given back at once.
    pub async fn leave(&self) {
        self.0.ledger.leave().await;
    }

    /// OpenAI's routes under `/v1/`, the node's own under `/comity/v1/`, and `/health`.
    pub fn router(&self) -> axum::Router {
        routes::router(self.clone())
    }

    /// Keeps a signed grant; it counts from the next request on.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn grant_put(&self, bytes: &[u8]) -> Result<(), GrantError> {
        let grant = self.0.grants.verify(bytes)?;
        let (id, subject) = (grant.id(), grant.subject.as_str().to_owned());
        self.0.ledger.store().grant_put(id, subject, bytes.to_vec(), (self.0.clock)()).await?;
        self.0.grants.put(grant);
        Ok(())
    }

    /// The same by an operator's word, which is logged: no application says who gave it.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn grant_give(&self, bytes: &[u8], word: &Word) -> Result<(), GrantError> {
        let grant = self.0.grants.verify(bytes)?;
        let given = Given { content: grant.id(), subject: grant.subject.as_str().to_owned() };
        self.0.ledger.store().grant_give(grant.id, &given, bytes, word).await?;
        self.0.grants.put(grant);
        Ok(())
    }

    /// Keeps an experiment plan, so that grants may approve it; gives its digest.
    ///
    /// # Errors
    /// [`PlanError`].
    pub async fn plan_put(&self, bytes: &[u8]) -> Result<Digest, PlanError> {
        let digest = Plan::from_bytes(bytes)?.digest();
        self.0.ledger.store().plan_put(digest, bytes.to_vec(), (self.0.clock)()).await?;
        Ok(self.0.plans.put(bytes)?)
    }

    /// Keeps terms of use, so that projects may agree to them; gives their digest.
    ///
    /// # Errors
    /// [`TermsError`].
    pub async fn terms_put(&self, bytes: &[u8]) -> Result<Digest, TermsError> {
        let digest = TermsOfUse::from_bytes(bytes)?.digest();
        if self.0.agreements.get(&digest).is_none() {
            self.0.ledger.store().terms_put(digest, bytes.to_vec(), (self.0.clock)()).await?;
        }
        Ok(self.0.agreements.put(bytes)?)
    }

    /// Terms of use that are here.
    pub fn terms(&self, digest: &Digest) -> Option<Arc<TermsOfUse>> {
        self.0.agreements.get(digest)
    }

    /// Which project agreed to which terms of use, and when, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agreements(&self) -> Result<Vec<(String, Digest, Timestamp)>, StoreError> {
        self.0.ledger.store().agreements().await
    }

    /// What a project agreed to, with what proves it, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agreements_of(&self, subject: &str) -> Result<Vec<Agreed>, StoreError> {
        self.0.ledger.store().agreements_of(subject).await
    }

    /// The experiment plans that are here, as bytes, in no order.
    pub fn plans(&self) -> Vec<Vec<u8>> {
        self.0.plans.all()
    }

    /// An experiment plan that is here.
    pub fn plan(&self, digest: &Digest) -> Option<Arc<Plan>> {
        self.0.plans.get(digest)
    }

    /// What was charged in a project's executions of plans.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runs(&self, subject: &str) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
        self.0.ledger.store().runs(subject).await
    }

    /// Takes a grant back for good: no request counts it from the next one on, nor one that waits for its turn. Those that are being
    /// answered are answered.
    ///
    /// # Errors
    /// [`StoreError`]: then it still counts.
    pub async fn grant_withdraw(&self, grant: GrantId) -> Result<(), StoreError> {
        let now = (self.0.clock)();
        self.0.ledger.store().grant_withdraw(grant, now).await?;
        self.0.grants.withdraw(grant, now);
        Ok(())
    }

    /// The same by an operator's word, which is logged.
    ///
    /// # Errors
    /// [`StoreError`]: then it still counts.
    pub async fn grant_take_back(&self, grant: GrantId, word: &Word) -> Result<(), StoreError> {
        self.0.ledger.store().grant_take_back(grant, word).await?;
        self.0.grants.withdraw(grant, word.at);
        Ok(())
    }

    /// Grants that were taken back and would not have ended yet, with when that was, by id: what this owner's revocation list has to
    /// name.
    pub fn grants_withdrawn(&self) -> Vec<(GrantId, Timestamp)> {
        self.0.grants.withdrawn((self.0.clock)())
    }

    /// Every grant that this owner ever gave, with when it was taken back, where it was: who had access on a day.
    pub fn grants_ever(&self) -> Vec<(Arc<Verified<Grant>>, Option<Timestamp>)> {
        self.0.grants.all()
    }

    /// Grants of this owner in force now, as they were signed, in no order.
    pub fn grants(&self) -> Vec<Vec<u8>> {
        self.0.grants.in_force(&*self.0.directory, (self.0.clock)())
    }

    /// From the next request on these models are answered for, and no others.
    pub fn serve(&self, served: Vec<Served>) {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|model, _| served.iter().any(|served| served.model == *model));
        drop(places);
        *self.0.served.write().unwrap_or_else(PoisonError::into_inner) = by_model(served);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.0.config.in_flight_max - self.0.in_flight.available_permits()
    }

    /// Open holds, and what they set aside together.
    pub fn holds(&self) -> (usize, Amount) {
        self.0.ledger.open_holds()
    }

    /// How the models that are served stand now, by id.
    pub fn models(&self) -> Vec<ModelNow> {
        let now = |served: &Served| {
            let (waiting, running) = self.0.places(&served.model).counts();
            let instances = served.upstream.instances();
            ModelNow { model: served.model.clone(), waiting, running, slots: served.slots, instances }
        };
        self.0.served().values().map(now).collect()
    }

    /// Ends what runs in the background: [`Gateway::claims`] returns, streams that still run are drained by their own
    /// tasks. Stop accepting first.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Ends what runs, and what waits: a stream with an error frame and the receipt of what was handed over, all else refused
    /// and uncharged. For the end of the drain, shortly before connections are cut.
    pub fn end_running(&self) {
        self.0.stopping.end();
    }

    /// Waits until no request runs any more. Safe to drop.
    pub async fn drained(&self) {
        let max = u32::try_from(self.0.config.in_flight_max).expect("a bound of requests fits 32 bits");
        let _ = self.0.in_flight.acquire_many(max).await;
        self.0.volume_flush().await;
    }

    /// What houses tell of projects that spread over several owners, by project.
    pub fn advised(&self) -> Vec<(String, comity_guard::volume::Advice)> {
        self.0.guarding.advised((self.0.clock)())
    }

    /// The newest flags that the owner was told of, newest first.
    pub fn flags(&self) -> Vec<Flagged> {
        self.0.guarding.told()
    }

    /// Projects that the filter suspended here.
    pub fn suspended(&self) -> Vec<Suspension> {
        self.0.guarding.suspended()
    }

    /// What the operator has stopped, as this gateway knows it, the node first.
    pub fn stops(&self) -> Vec<Stop> {
        self.0.stopping.all()
    }

    /// What is stopped by the store's word, also what another gateway of the node has said a moment ago.
    ///
    /// # Errors
    /// [`StoreError`]: nobody knows.
    pub async fn stops_now(&self) -> Result<Vec<Stop>, StoreError> {
        self.0.look_again().await?;
        Ok(self.stops())
    }

    /// Stops a target: here at once, at the other gateways of the node within a second. What stands now: the first word on a
    /// target stays.
    ///
    /// # Errors
    /// [`StoreError`]: it is stopped here, until this process ends, and may not be elsewhere.
    pub async fn stop_put(&self, stop: Stop) -> Result<Stop, StoreError> {
        self.0.stop_put(stop).await
    }

    /// Resumes a target; what had been said of it, if it was stopped.
    ///
    /// # Errors
    /// [`StoreError`]: it stays stopped.
    pub async fn stop_end(&self, target: &Target, word: &Word) -> Result<Option<Stop>, StoreError> {
        self.0.stop_end(target, word).await
    }

    /// Who stopped and resumed what, when and why; newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stop_log(&self, most: u32) -> Result<Vec<Said>, StoreError> {
        self.0.ledger.store().stop_log(most).await
    }

    /// Lets a suspended project in again, at all gateways of the node; whether it was suspended. An operator's word on it is logged.
    ///
    /// # Errors
    /// [`StoreError`]: it stays suspended.
    pub async fn resume(&self, subject: &str, word: Option<&Word>) -> Result<bool, StoreError> {
        self.0.resume(subject, word).await
    }
}

/// Writes down what was counted, each second. Holds the gateway only while it writes.
async fn write_down(gateway: Weak<Inner>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(VOLUME_EVERY) => {}
        }
        let Some(inner) = gateway.upgrade() else { return };
        inner.volume_flush().await;
    }
}

/// Counts of flags that a process which dies has not written down are of so long.
const VOLUME_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// How soon it is tried again to read what was said to all gateways.
const NEWS_AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// Takes in what was said at other gateways: until it was read, since no other news may come for hours.
async fn follow(gateway: Weak<Inner>, mut news: tokio::sync::watch::Receiver<u64>) {
    while news.changed().await.is_ok() {
        loop {
            let Some(inner) = gateway.upgrade() else { return };
            let Err(error) = take_in(&inner).await else { break };
            tracing::warn!(%error, "cannot read what was said to all gateways of this node; it is tried again");
            let stop = inner.stop.clone();
            drop(inner);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(NEWS_AGAIN) => {}
            }
        }
    }
}

/// Whose access was taken back first, then who was suspended, then what was granted.
async fn take_in(inner: &Inner) -> Result<(), StoreError> {
    let store = inner.ledger.store();
    for (grant, at) in store.grants_withdrawn().await? {
        inner.grants.withdraw(grant, at);
    }
    inner.guarding.follow(&**store).await?;
    inner.passing.follow(&**store).await?;
    // Before the grants that name them.
    for bytes in store.plans().await? {
        let _ = inner.plans.put(&bytes);
    }
    for bytes in store.grants().await? {
        // One that no longer stands was told of when this gateway started.
        if let Ok(grant) = inner.grants.verify(&bytes) {
            inner.grants.put(grant);
        }
    }
    for bytes in store.terms().await? {
        let _ = inner.agreements.put(&bytes);
    }
    for (subject, terms, _) in store.agreements().await? {
        inner.agreements.agree(&subject, terms);
    }
    Ok(())
}

fn by_model(served: Vec<Served>) -> Arc<BTreeMap<ModelId, Served>> {
    Arc::new(served.into_iter().map(|served| (served.model.clone(), served)).collect())
}

impl Inner {
    /// The models that are answered for at this moment.
    pub(crate) fn served(&self) -> Arc<BTreeMap<ModelId, Served>> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The line for a model's places.
    pub(crate) fn places(&self, model: &ModelId) -> Arc<Places> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get(model) {
            return known.clone();
        }
        places.entry(model.clone()).or_insert_with(|| Arc::new(Places::new())).clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn fail(&self, point: &'static str) {
        (self.failpoint)(point);
    }

    pub(crate) fn balance(&self, token: TokenId, path: &[PathCap]) -> Balance {
        self.ledger.balance(token, path)
    }

    /// The chain that ends in `leaf`: from memory, else from the store.
    pub(crate) async fn chain(&self, leaf: Digest) -> Result<Option<Arc<Capability>>, Refusal> {
        let now = self.now();
        let denied = |denied| refusal::denied(&denied, now);
        if let Some(found) = self.chains.find(leaf, &*self.directory, self.node, now) {
            return found.map(Some).map_err(denied);
        }
        let stored = self.ledger.store().chain(leaf).await.map_err(|error| refusal::store(&error))?;
        let Some(bytes) = stored else { return Ok(None) };
        self.chains.admit(&bytes, &*self.directory, self.node, now).map(Some).map_err(denied)
    }

    /// Every chain of a token that this node has seen, judged as for settlement: acknowledgements and finals are taken
    /// after expiry and revocation too.
    pub(crate) async fn chains_of(&self, token: TokenId) -> Result<Vec<Arc<Capability>>, Refusal> {
        let mut chains = self.chains.of_token(token);
        for (leaf, bytes) in self.ledger.store().chains(token).await.map_err(|error| refusal::store(&error))? {
            if chains.iter().all(|chain| chain.leaf() != leaf) {
                match comity_token::verify_for_settlement(&bytes, &*self.directory, self.node) {
                    Ok(chain) => chains.push(Arc::new(chain)),
                    Err(error) => tracing::warn!(%error, %leaf, "a stored chain no longer verifies"),
                }
            }
        }
        Ok(chains)
    }
}
