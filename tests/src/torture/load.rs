//! What goes on while a process is killed: callers ask, buyers buy, ask, end and revoke, owners publish.
//!
//! Everybody here is honest and patient: what got no answer is asked again under the same number. Whoever is told no all
//! the same was told so wrongly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_node::service::admin;
use comity_node::shell;
use comity_sdk::wallet::WalletError;
use comity_sdk::{Client, Error, Query};
use comity_wire::api::clearing::{FinalReply, RefundRequest, ReservationReply, ReservationRequest, SignedBytes};
use comity_wire::object::{Chain, Receipt};
use comity_wire::{Amount, Code, Digest, ModelId, Op, SecretKey, TokenId, Verified};
use serde_json::{Value, json};

use super::{Tally, cycle};
use crate::federation::chain;
use crate::{Federation, Owner};

const CALLERS: usize = 5;
pub(super) const BUYERS: usize = 3;
const TOKEN: Amount = Amount::from_ucr(20_000);
/// Before something that failed is tried again: the process that was killed is not back at once.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two publications: a head is signed, stored and spread for each.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// What everybody who runs at once shares.
pub(super) struct Shared {
    pub(super) lab: ModelId,
    uni: Owner,
    house: PathBuf,
    lab_home: PathBuf,
    uni_home: PathBuf,
    member: SecretKey,
    pub(super) tally: Tally,
    pub(super) answered: Mutex<Answered>,
    /// Everything that was answered, to tell how far the load has come.
    progress: AtomicU64,
    /// The number in the newest title that was tried, and in the newest that was acknowledged.
    tried: AtomicU64,
    pub(super) published: AtomicU64,
}

/// What somebody was answered with, and so has to stand.
#[derive(Default)]
pub(super) struct Answered {
    pub(super) receipts: BTreeMap<Digest, Verified<Receipt>>,
    /// Of these: not looked up yet.
    pub(super) unseen: Vec<Digest>,
    pub(super) tokens: BTreeMap<TokenId, Amount>,
    pub(super) revoked: BTreeSet<TokenId>,
}

impl Shared {
    pub(super) fn new(federation: &Federation, lab: &Owner, uni: &Owner, tally: &Tally) -> Arc<Self> {
        Arc::new(Self {
            lab: lab.model(),
            uni: uni.clone(),
            house: federation.path().join("house"),
            lab_home: federation.path().join(lab.name),
            uni_home: federation.path().join(uni.name),
            member: federation.member().clone(),
            tally: tally.clone(),
            answered: Mutex::default(),
            progress: AtomicU64::new(0),
            tried: AtomicU64::new(0),
            published: AtomicU64::new(0),
        })
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress.load(Ordering::SeqCst)
    }

    pub(super) fn with<T>(&self, with: impl FnOnce(&mut Answered) -> T) -> T {
        with(&mut self.answered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answered(&self) {
        self.tally.acked();
        self.progress.fetch_add(1, Ordering::SeqCst);
    }

    fn take(&self, receipt: Verified<Receipt>) {
        let id = receipt.id();
        let before = self.with(|answered| {
            answered.unseen.push(id);
            answered.receipts.insert(id, receipt)
        });
        if before.is_some() {
            self.tally.doubled(&format!("two answers under the receipt {id}"));
        }
        self.answered();
    }

    /// A process that was killed leaves calls without an answer. It never makes a receipt wrong, nor says a lasting no.
    pub(super) fn judge(&self, doing: &str, error: &Error) {
        let wrong = matches!(
            error,
            Error::Fault(_)
                | Error::Receipt(_)
                | Error::NoReceipt
                | Error::Equivocation(_)
                | Error::Wallet(WalletError::Stopped { .. })
        );
        // A feed that moved on while it was read: no word of the hub's on what the caller may do.
        let moved_on = error.code() == Some(Code::NotFound) && error.to_string().contains("no such frame");
        let lasting = |code: Code| !code.should_retry() && code != Code::Replayed && !moved_on;
        if wrong {
            self.tally.lost(&format!("{doing}: {}", chain(error)));
        } else if error.code().is_some_and(lasting)
            || matches!(error, Error::Limit { .. } | Error::ModelUnknown(_) | Error::NoDoor(_) | Error::Missing(_))
        {
            self.tally.phantom(&format!("{doing}: {}", chain(error)));
        }
    }

    /// One question; its receipt is noted as answered.
    pub(super) async fn ask(&self, client: &Client, question: &str, stream: bool) -> Result<(), Error> {
        let query = Query::chat(self.lab.clone(), &[("user", question)], Some(8), stream);
        let receipt = if stream {
            let mut stream = client.stream(&query).await?;
            while stream.next().await?.is_some() {}
            stream.receipt().await?
        } else {
            client.ask(&query).await?.receipt
        };
        self.take(receipt);
        Ok(())
    }

    async fn publish(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let number = self.tried.fetch_add(1, Ordering::SeqCst) + 1;
            let offer = self.uni.offer(&title(number));
            std::fs::write(self.uni_home.join("models/model.toml"), offer).expect("a model's file");
            if admin::post::<Value>(&self.uni_home, "/admin/publish", &json!({})).await.is_ok() {
                self.published.store(number, Ordering::SeqCst);
                self.answered();
            }
            // The same content again: a new head, and nothing else.
            admin::post::<Value>(&self.lab_home, "/admin/publish", &json!({})).await.ok();
            tokio::time::sleep(PUBLISH_EVERY).await;
        }
    }
}

/// The title of the publication of that number.
fn title(number: u64) -> String {
    format!("Version {number}")
}

/// The number of a title that [`title`] made.
pub(super) fn numbered(title: &str) -> Option<u64> {
    title.strip_prefix("Version ")?.parse().ok()
}

/// Everybody at once, until [`Load::end`].
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    buying: Vec<tokio::task::JoinHandle<Buyer>>,
}

impl Load {
    pub(super) fn start(shared: &Arc<Shared>, caller: &Arc<Client>, buyers: Vec<Buyer>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let call = |number| {
            let (shared, client, stop) = (Arc::clone(shared), Arc::clone(caller), Arc::clone(&stop));
            tokio::spawn(async move { call(&shared, &client, number, &stop).await })
        };
        let mut tasks: Vec<_> = (0..CALLERS).map(call).collect();
        let (publisher, until) = (Arc::clone(shared), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move { publisher.publish(&until).await }));
        let buy = |mut buyer: Buyer| {
            let (shared, stop) = (Arc::clone(shared), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    buyer.step(&shared).await;
                }
                buyer
            })
        };
        Self { buying: buyers.into_iter().map(buy).collect(), tasks, stop }
    }

    /// Ends what can end; what is in doubt is kept by the buyers.
    pub(super) async fn end(self) -> Vec<Buyer> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            cycle::ended(task).await;
        }
        let mut buyers = Vec::new();
        for buyer in self.buying {
            buyers.push(cycle::ended(buyer).await);
        }
        buyers
    }
}

async fn call(shared: &Shared, client: &Client, number: usize, stop: &AtomicBool) {
    let mut count = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        count += 1;
        let question = format!("caller {number}, question {count}");
        let stream = count.is_multiple_of(3);
        if let Err(error) = shared.ask(client, &question, stream).await {
            let how = if stream { "for a stream" } else { "for a whole answer" };
            shared.judge(&format!("{question}, {how}"), &error);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Buys a token, asks a little under it, ends it, asks for a refund, has it revoked. One step at a time, so that it can
/// stop between any two and go on after a restart.
pub(super) struct Buyer {
    pub(super) client: Arc<Client>,
    /// A reservation without an answer: it is asked for again until there is one.
    reserving: Option<(ReservationRequest, SecretKey)>,
    holding: Option<TokenId>,
    asked: u32,
    /// Ended tokens that are to be refunded, then revoked.
    refunding: Option<TokenId>,
    revoking: Option<TokenId>,
}

/// Questions under one token.
const QUESTIONS: u32 = 2;

impl Buyer {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, reserving: None, holding: None, asked: 0, refunding: None, revoking: None }
    }

    /// Whether nothing of it is under way.
    pub(super) const fn is_idle(&self) -> bool {
        self.reserving.is_none() && self.holding.is_none()
    }

    /// The next step that is due; what fails is due again.
    pub(super) async fn step(&mut self, shared: &Shared) {
        let done = match (self.revoking, self.refunding, self.holding) {
            (Some(token), ..) => self.revoke(shared, token).await,
            (_, Some(token), _) => self.refund(shared, token).await.map_err(|error| ("refunding", error)),
            (.., Some(token)) if self.asked >= QUESTIONS => {
                self.finish(token).await.map_err(|error| ("ending a token", error))
            }
            (.., Some(_)) => self.ask(shared).await.map_err(|error| ("asking under a token", error)),
            _ => self.buy(shared).await.map_err(|error| ("buying", error)),
        };
        if let Err((doing, error)) = done {
            shared.judge(doing, &error);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Brings to its end what was begun, without beginning anew.
    pub(super) async fn wind_up(&mut self, shared: &Shared) {
        if self.reserving.is_some() {
            self.step(shared).await;
        } else if let Some(token) = self.holding {
            match self.finish(token).await {
                Ok(()) => self.refunding = None,
                Err(error) => shared.judge("ending a token", &error),
            }
        }
    }

    async fn buy(&mut self, shared: &Shared) -> Result<(), Error> {
        let (request, key) = match &self.reserving {
            Some(begun) => begun.clone(),
            None => {
                let quote = self.client.quote(&shared.lab, &[Op::Chat]).await?;
                let key = SecretKey::from_seed(shell::random());
                let request = ReservationRequest {
                    id: TokenId::v7(shell::now(), shell::random()),
                    quote: SignedBytes::new(quote.bytes()).expect("a quote is small"),
                    budget: TOKEN,
                    holder: key.public(),
                    valid_s: 3600,
                    lanes_max: None,
                    depth: 0,
                    grants: Vec::new(),
                    mandate: None,
                };
                self.reserving.insert((request, key)).clone()
            }
        };
        let house = self.client.house().await?;
        let reply: ReservationReply =
            house.post_signed("/v1/reservations", &request, &shared.member, &Federation::world()).await?;
        shared.with(|answered| answered.tokens.insert(request.id, TOKEN));
        shared.answered();
        let chain = Chain { token: reply.token.to_vec(), blocks: Vec::new() }.to_bytes();
        self.client.adopt(&chain, &key, TOKEN).await?;
        (self.reserving, self.holding, self.asked) = (None, Some(request.id), 0);
        Ok(())
    }

    async fn ask(&mut self, shared: &Shared) -> Result<(), Error> {
        // Counted before: an outcome in doubt is settled when the token is ended.
        self.asked += 1;
        shared.ask(&self.client, "Where?", false).await
    }

    async fn finish(&mut self, token: TokenId) -> Result<(), Error> {
        self.client.finish(token).await?;
        (self.holding, self.refunding) = (None, Some(token));
        Ok(())
    }

    /// Nothing is left to refund; the house says so and moves nothing.
    async fn refund(&mut self, shared: &Shared, token: TokenId) -> Result<(), Error> {
        let house = self.client.house().await?;
        let ask = RefundRequest { token };
        let _: FinalReply = house.post_signed("/v1/refunds", &ask, &shared.member, &Federation::world()).await?;
        (self.refunding, self.revoking) = (None, Some(token));
        Ok(())
    }

    /// By the operator, as if a key had been stolen; the token has ended already.
    async fn revoke(&mut self, shared: &Shared, token: TokenId) -> Result<(), (&'static str, Error)> {
        if admin::post::<Value>(&shared.house, "/admin/revoke", &json!({"token": token})).await.is_ok() {
            shared.with(|answered| answered.revoked.insert(token));
            shared.answered();
            self.revoking = None;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}
