//! Sealed decisions at work (spec/11-access.md §11.9): the links of applications' and cases' events go into one tree, its heads are signed
//! and brought to the houses of the federation, and a tree that does not go on from what a house has is not signed any more. After a start
//! nothing is signed before each house that has something of it has said what: a store that was set back looks whole by itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_access::seal::{self, Found, Head, LoggedHead, SEAL_MAX, Tree};
use comity_access::store::{Store, StoreError};
use comity_gateway::HouseError;
use comity_token::Directory;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::decisions::{ActProof, DecisionsRequest, HeadKnown};
use comity_wire::object::{AnchorRole, DecisionHead};
use comity_wire::{Code, Digest, NodeId, OrgId, SecretKey, Signed, Timestamp, cose};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::house_client::HouseClient;
use super::owner::answer;
use super::register::{Books, Configured};
use crate::failure::{Failure, While as _};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(60);
/// Houses are asked so often, also where nothing happened.
const ASK_EVERY_S: u64 = 3_600;
/// A head that is older is not brought any more: houses take none of more than an hour ago (D-2).
const FRESH_S: u64 = 1_800;
/// Rounds between two complaints about a tree that does not go on.
const COMPLAIN_EVERY: u32 = 60;
const REASON_BYTES_MAX: usize = 1_000;

/// What this process knows of the sealing. Cheap to clone.
#[derive(Clone)]
pub struct Decisions(Arc<Inner>);

pub struct Parts {
    pub store: Arc<dyn Store>,
    pub house: HouseClient,
    pub directory: Arc<dyn Directory>,
    pub node: NodeId,
    pub receipt_key: SecretKey,
    /// What is done by hand, for the register.
    pub books: Books,
    /// What the node goes by now.
    pub configured: Arc<dyn Fn() -> Vec<Configured> + Send + Sync>,
    pub clock: comity_network::Clock,
}

struct Inner {
    parts: Parts,
    /// One turn at a time in this process.
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Vec<AtHouse>>,
    /// When each house last said that this tree goes on from what it has.
    asked_at: Mutex<Option<Timestamp>>,
    /// Houses that answered since the start.
    heard: Mutex<BTreeSet<OrgId>>,
    /// As it stood after the last turn.
    seen: Mutex<Option<Standing>>,
}

/// How it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// Which log of this node.
    pub log: u64,
    /// Events in the tree.
    pub sealed: u64,
    /// Events that wait for it.
    pub waiting: u64,
    /// The number of the newest head; 0 where none was signed.
    pub head: u64,
    /// How many events it is over.
    pub over: u64,
    /// Whether the houses that have something of this node answered since the start; nothing is signed before.
    pub heard: bool,
    pub houses: Vec<AtHouse>,
}

/// What a house has of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AtHouse {
    pub house: OrgId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<HeadKnown>,
    /// Why this node's tree does not go on from there: then nothing is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Why the house said nothing, or took nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a check found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// Nothing was changed, and every house has said so.
    pub holds: bool,
    pub log: u64,
    pub sealed: u64,
    pub waiting: u64,
    pub root: Digest,
    pub found: Vec<Found>,
    pub houses: Vec<AtHouse>,
}

/// `POST /admin/decisions/renew`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    pub author: String,
    pub reason: String,
}

impl Decisions {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            turn: tokio::sync::Mutex::new(()),
            last: Mutex::new(Vec::new()),
            asked_at: Mutex::new(None),
            heard: Mutex::default(),
            seen: Mutex::new(None),
        }))
    }

    /// Turns until it is dropped.
    pub async fn run(self) -> std::convert::Infallible {
        let mut broken = 0;
        loop {
            match self.turn().await {
                Ok(houses) => {
                    let told = houses.iter().find_map(|at| at.broken.as_ref().map(|what| (at.house, what)));
                    match told {
                        Some((house, what)) => {
                            if broken % COMPLAIN_EVERY == 0 {
                                tracing::error!(%house, what, "decisions are not sealed any more: comity node decisions check");
                            }
                            broken += 1;
                        }
                        None => broken = 0,
                    }
                }
                Err(failure) => tracing::warn!(%failure, "decisions were not sealed; it is tried again"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Copies what was done by hand into the register. What was decided is sealed whatever becomes of it.
    pub async fn enter(&self) {
        let Parts { books, configured, clock, .. } = &self.0.parts;
        if let Err(failure) = books.enter(&configured(), clock()).await {
            tracing::error!(%failure, "what was done by hand is not in the register; it is tried again");
        }
    }

    /// Seals what waits, signs, and brings it to the houses.
    ///
    /// # Errors
    /// [`Failure`] of the store.
    pub async fn turn(&self) -> Result<Vec<AtHouse>, Failure> {
        let turn = self.0.turn.lock().await;
        let Parts { store, .. } = &self.0.parts;
        self.enter().await;
        while store.seal(SEAL_MAX).await? == u64::from(SEAL_MAX) {}
        let tree = store.tree().await?;
        let mut houses = Vec::new();
        if tree.size > 0 && !self.is_settled(tree).await? {
            houses = self.ask().await?;
            if self.has_heard().await? && houses.iter().all(|at| at.broken.is_none()) {
                let head = self.signed(&houses).await?;
                if let Some(head) = head {
                    for at in &mut houses {
                        self.bring(&head, at).await?;
                    }
                }
            }
            if houses.iter().all(|at| at.broken.is_none() && at.trouble.is_none()) {
                *self.0.asked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.0.parts.clock)());
            }
            *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = houses.clone();
        }
        let standing = self.standing().await?;
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
        drop(turn);
        Ok(houses)
    }

    /// As it stood after the last turn; `None` before the first.
    pub fn seen(&self) -> Option<Standing> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the newest head is over the whole tree, each house has it in its log, and said so not long ago.
    async fn is_settled(&self, tree: Tree) -> Result<bool, Failure> {
        let Parts { store, .. } = &self.0.parts;
        let asked_at = *self.0.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if asked_at.is_none_or(|at| at.plus(ASK_EVERY_S) <= (self.0.parts.clock)()) {
            return Ok(false);
        }
        let Some(LoggedHead { head, logged }) = store.head_shown(None).await? else { return Ok(false) };
        let is_whole = (head.n, head.log, head.size) == (tree.heads, tree.log, tree.size);
        // What is told of a house is what it said in a turn: one that was heard in between is asked once more.
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_told =
            |at: &AtHouse| at.newest.as_ref().is_some_and(|newest| newest.n == head.n && newest.index.is_some());
        let has_it = |house: &OrgId| {
            logged.iter().any(|(at, _)| at == house) && last.iter().any(|at| at.house == *house && is_told(at))
        };
        Ok(is_whole && self.houses().iter().all(has_it))
    }

    fn houses(&self) -> Vec<OrgId> {
        let roster = self.0.parts.directory.roster();
        let mut houses: Vec<OrgId> = roster.anchors_of(AnchorRole::House).map(|anchor| anchor.org).collect();
        houses.sort_unstable();
        houses.dedup();
        houses
    }

    /// What each house has, and whether the tree goes on from there. The tree is read behind each answer: another process of the node may
    /// have brought more meanwhile.
    async fn ask(&self) -> Result<Vec<AtHouse>, Failure> {
        let Parts { store, house: client, node, .. } = &self.0.parts;
        let mut asked = Vec::new();
        let before = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for house in self.houses() {
            let mut at = AtHouse { house, newest: None, broken: None, trouble: None };
            match client.decisions(house, *node).await {
                Ok(reply) => {
                    self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(house);
                    at.newest = reply.newest;
                }
                Err(error) => {
                    at.trouble = Some(error.message);
                    // What it once said stands until it says something else.
                    at.newest = before.iter().find(|at| at.house == house).and_then(|at| at.newest.clone());
                }
            }
            if let Some(newest) = &at.newest {
                at.broken = self.broken(store.tree().await?, newest).await?;
            }
            if at.broken.is_none() {
                self.remember(&at).await?;
            }
            asked.push(at);
        }
        Ok(asked)
    }

    /// Remembers where a house has its newest head of this node, if it is the one that this store has under that number.
    async fn remember(&self, AtHouse { house, newest, .. }: &AtHouse) -> Result<(), Failure> {
        let Parts { store, .. } = &self.0.parts;
        if let Some(HeadKnown { n, content, index: Some(index), .. }) = newest
            && let Some(head) = store.head(*n).await?
            && Signed::<DecisionHead>::decode(&head.bytes)?.id() == *content
        {
            store.head_logged(*house, *n, *index).await?;
        }
        Ok(())
    }

    /// Whether each house that has something of this node said since the start what that is, or, where none has, any of them did.
    async fn has_heard(&self) -> Result<bool, Failure> {
        let houses = self.houses();
        let logged = self.0.parts.store.houses_logged().await?;
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut knowing = houses.iter().filter(|house| logged.contains(house)).peekable();
        Ok(match knowing.peek() {
            Some(_) => knowing.all(|house| heard.contains(house)),
            None => houses.is_empty() || houses.iter().any(|house| heard.contains(house)),
        })
    }

    async fn broken(&self, tree: Tree, newest: &HeadKnown) -> Result<Option<String>, Failure> {
        let HeadKnown { n, log, size, root, .. } = newest;
        if *log > tree.log {
            return Ok(Some(format!("it has head {n} of log {log}, and this node's store is at log {}", tree.log)));
        }
        if *log < tree.log {
            return Ok(None);
        }
        if *size > tree.size {
            return Ok(Some(format!("its head {n} is over {size} events, and this node's store has {}", tree.size)));
        }
        match seal::root(&*self.0.parts.store, tree.log, *size).await {
            Ok(own) if own == *root => Ok(None),
            Ok(_) => Ok(Some(format!("the first {size} events are others than those of its head {n}"))),
            Err(seal::Unproved::Store(error)) => Err(error.into()),
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    /// A head over the whole tree: the newest one, or another where that is too old for a house which does not have it. `None` where
    /// another process of the node was quicker.
    async fn signed(&self, houses: &[AtHouse]) -> Result<Option<Head>, Failure> {
        let Parts { store, node, receipt_key, clock, .. } = &self.0.parts;
        let tree = store.tree().await?;
        let newest = store.head_newest().await?;
        if let Some(newest) = newest.filter(|newest| (newest.log, newest.size) == (tree.log, tree.size)) {
            let has_it = |at: &AtHouse| at.newest.as_ref().is_some_and(|known| known.n >= newest.n);
            let is_due = houses.iter().any(|at| at.trouble.is_none() && !has_it(at));
            let signed_at = Signed::<DecisionHead>::decode(&newest.bytes)?.unverified().at;
            if !is_due || clock() < signed_at.plus(FRESH_S) {
                return Ok(Some(newest));
            }
        }
        let known = houses.iter().filter_map(|at| at.newest.as_ref()).map(|newest| newest.n).max().unwrap_or(0);
        let n = tree.heads.max(known) + 1;
        let root = seal::root(&**store, tree.log, tree.size).await.map_err(|error| Failure::new(error.to_string()))?;
        let head = DecisionHead { node: *node, n, log: tree.log, size: tree.size, root, at: clock() };
        let bytes = cose::try_sign(&head, receipt_key)?.bytes().to_vec();
        let head = Head { n, log: tree.log, size: tree.size, bytes };
        Ok(store.head_put(&head).await?.then_some(head))
    }

    /// Brings a head to a house, or remembers where it has it.
    async fn bring(&self, head: &Head, at: &mut AtHouse) -> Result<(), Failure> {
        let Parts { store, house: client, .. } = &self.0.parts;
        if at.trouble.is_some() {
            return Ok(());
        }
        let before = at.newest.as_ref().filter(|newest| newest.log == head.log).map(|newest| newest.size);
        if at.newest.as_ref().is_none_or(|newest| newest.n < head.n) {
            let consistency = match before {
                None => Vec::new(),
                Some(before) => {
                    let proof = seal::consistency(&**store, head.log, before, head.size).await;
                    proof.map_err(|error| Failure::new(error.to_string()))?
                }
            };
            let bytes = SignedBytes::new(&head.bytes[..]).while_("a head of decisions is too long")?;
            match client.decided(at.house, DecisionsRequest { head: bytes, consistency }).await {
                Ok(reply) => at.newest = reply.newest,
                Err(HouseError { code: Some(Code::BrokenHistory), message, .. }) => {
                    // Another process of the node may have brought a later head meanwhile.
                    self.look_again(at, message).await?;
                }
                Err(error) => at.trouble = Some(error.message),
            }
        }
        self.remember(at).await
    }

    /// Whether what a house has now is what this tree goes on from, after it refused a head.
    async fn look_again(&self, at: &mut AtHouse, refused: String) -> Result<(), Failure> {
        let Parts { store, house: client, node, .. } = &self.0.parts;
        let reply = match client.decisions(at.house, *node).await {
            Ok(reply) => reply,
            Err(error) => {
                at.trouble = Some(error.message);
                return Ok(());
            }
        };
        at.newest = reply.newest;
        if let Some(newest) = &at.newest {
            at.broken = self.broken(store.tree().await?, newest).await?;
        }
        if at.broken.is_none() {
            at.trouble = Some(format!("it did not take a head: {refused}"));
        }
        Ok(())
    }

    async fn standing(&self) -> Result<Standing, Failure> {
        let Parts { store, .. } = &self.0.parts;
        let (tree, waiting) = (store.tree().await?, store.unsealed().await?);
        let over = store.head_newest().await?.filter(|head| head.log == tree.log).map_or(0, |head| head.size);
        let houses = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let heard = self.has_heard().await?;
        Ok(Standing { log: tree.log, sealed: tree.size, waiting, head: tree.heads, over, heard, houses })
    }

    /// Every event against what was sealed, and the tree against what houses have.
    async fn check(&self) -> Result<Checked, Failure> {
        let Parts { store, books, clock, .. } = &self.0.parts;
        let seal::Checked { tree, root, mut found } = seal::check(&**store).await?;
        found.extend(books.check(clock()).await?);
        found.truncate(seal::FOUND_MAX);
        let houses = self.ask().await?;
        let holds = found.is_empty() && houses.iter().all(|at| at.broken.is_none() && at.trouble.is_none());
        let waiting = store.unsealed().await?;
        Ok(Checked { holds, log: tree.log, sealed: tree.size, waiting, root, found, houses })
    }

    async fn renew(&self, Renew { author, reason }: Renew) -> Result<Standing, Failure> {
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(Failure::new(format!("a reason has 1 to {REASON_BYTES_MAX} bytes")));
        }
        let Parts { store, books, clock, .. } = &self.0.parts;
        let turn = self.0.turn.lock().await;
        let is_stuck = matches!(store.seal(SEAL_MAX).await, Err(StoreError::Unreadable { .. }));
        let Checked { holds, houses: known, .. } = self.check().await?;
        if let Some(at) = known.iter().find(|at| at.trouble.is_some()) {
            return Err(Failure::new(format!("{} does not say what it has of this node", at.house))
                .hint("another log is begun behind the newest one that a house knows: try again when it answers"));
        }
        if holds && !is_stuck {
            return Err(Failure::new("nothing is lost or changed: the log of decisions goes on").hint(
                "another log is for a store that lost events, and everybody would see that one ended: comity node decisions check",
            ));
        }
        // Behind the newest log that any house knows: a store that was set back does not know it.
        let newest = known.iter().filter_map(|at| at.newest.as_ref()).map(|newest| newest.log).max().unwrap_or(0);
        let said = format!("{author}: {reason}");
        loop {
            let log = store.log_begin(&said, clock()).await?;
            tracing::warn!(log, author, reason, "another log of decisions was begun by the operator");
            books.renewed(log, author.clone(), reason.clone(), clock()).await?;
            if log > newest {
                break;
            }
        }
        drop(turn);
        self.turn().await?;
        self.standing().await
    }

    async fn act(&self, n: u64) -> Result<ActProof, Failure> {
        let Parts { store, node, .. } = &self.0.parts;
        let none =
            || Failure::new(format!("the register has no act {n}")).hint("comity node decisions acts lists them");
        let found = store.acts_after(n.saturating_sub(1), 1).await?.into_iter().find(|(at, _)| *at == n);
        let (_, bytes) = found.ok_or_else(none)?;
        let proof = seal::shown_one(&**store, seal::Of::Register, n, self.houses().first().copied()).await;
        let proof = proof.map_err(|error| Failure::new(format!("act {n}: {error}")))?;
        Ok(ActProof { node: *node, text: text_of(bytes), proof })
    }

    /// The routes of the admin socket.
    pub fn router(self) -> Router {
        Router::new()
            .route("/admin/decisions", get(show))
            .route("/admin/decisions/seal", post(now))
            .route("/admin/decisions/check", get(look))
            .route("/admin/decisions/renew", post(renew))
            .route("/admin/decisions/acts", get(acts))
            .route("/admin/decisions/acts/{n}", get(act))
            .with_state(self)
    }
}

fn value(done: Result<impl Serialize, Failure>) -> Result<Value, Failure> {
    Ok(serde_json::to_value(done?)?)
}

async fn show(State(decisions): State<Decisions>) -> Response {
    answer(value(decisions.standing().await))
}

async fn now(State(decisions): State<Decisions>) -> Response {
    let turned = match decisions.turn().await {
        Ok(_) => decisions.standing().await,
        Err(failure) => Err(failure),
    };
    answer(value(turned))
}

async fn look(State(decisions): State<Decisions>) -> Response {
    answer(value(decisions.check().await))
}

/// Which acts are asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// The last one that is known.
    pub after: u64,
}

/// Acts of one page.
pub const ACTS_MAX: u32 = 256;

/// The register, as it is stored, an act each.
async fn acts(State(decisions): State<Decisions>, Query(Asked { after }): Query<Asked>) -> Response {
    let acts = decisions.0.parts.store.acts_after(after, ACTS_MAX).await;
    let texts = acts.map(|acts| acts.into_iter().map(|(_, bytes)| text_of(bytes)).collect::<Vec<_>>());
    answer(value(texts.map_err(Failure::from)))
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// One act, with the proof that it is under a head of this node, and since when.
async fn act(State(decisions): State<Decisions>, Path(n): Path<u64>) -> Response {
    answer(value(decisions.act(n).await))
}

async fn renew(State(decisions): State<Decisions>, Json(ask): Json<Renew>) -> Response {
    answer(value(decisions.renew(ask).await))
}
