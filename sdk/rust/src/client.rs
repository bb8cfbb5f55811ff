//! The client: finds models, draws tokens, sends signed requests, keeps what it signed and what it got.
//!
//! Before each send the journal has what is signed. A reply's receipt is verified under the node's certificate, checked
//! against what was signed, priced again under the tariff, and journalled. An outcome that stays unknown keeps its seq.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use comity_token::directory::{Directory as _, File};
use comity_token::request::{self, header};
use comity_wire::api::clearing as house;
use comity_wire::api::node as api;
use comity_wire::object::{AnchorRole, DoorKind, Final, NodeCertificate, Receipt, Summary, Tariff, Tier, Token};
use comity_wire::{
    Amount, Code, Digest, ModelId, NodeId, Op, OrgId, PublicKey, SecretKey, Signed, Timestamp, TokenId, Verified,
};
use http::Method;

use crate::chat::{Answer, Query};
use crate::discover::{Hit, Seen};
use crate::door::{Door, DoorError, Response};
use crate::journal::{Entry, Journal, JournalError};
use crate::lane::ReceiptFault;
use crate::profile::Profile;
use crate::receipts;
use crate::wallet::{Ask, Begun, Wallet, WalletError, stored};

/// What the client is given instead of reaching for it.
#[derive(Clone)]
pub struct World {
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub entropy: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
}

/// Everything that can go wrong between a question and its receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot use the roster {path}")]
    Roster { path: PathBuf, source: std::io::Error },
    #[error("an object does not verify under the pinned roster")]
    Refused(#[source] comity_token::directory::Refused),
    #[error("an object does not verify")]
    Unverified(#[source] comity_wire::Unverified),
    #[error("an object cannot be read")]
    Malformed(#[source] comity_wire::Malformed),
    #[error("the other side did not show {0}")]
    Missing(&'static str),
    #[error("{0} has signed two feeds under one number: do not use its models until it has explained")]
    Equivocation(OrgId),
    #[error("no model {0} is known: search for it, or ask another hub")]
    ModelUnknown(ModelId),
    #[error("{0} has no door that this client can use")]
    NoDoor(NodeId),
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the profile names no {0}")]
    Profile(&'static str),
    #[error("the wallet's limit is {limit}, {asked} would be drawn: raise limits.total in the profile")]
    Limit { limit: Amount, asked: Amount },
    #[error("the tariff has no price for this call")]
    Unpriced(#[source] comity_wire::object::Unpriced),
    #[error("the receipt does not verify")]
    Receipt(#[source] receipts::NotAReceipt),
    #[error("the reply has no receipt: nothing more is sent in this lane until the node shows it")]
    NoReceipt,
    #[error("the receipt is for other bytes than those that were exchanged")]
    Fault(#[source] ReceiptFault),
    #[error("the stream was cut: {0}")]
    Cut(String),
}

impl Error {
    /// The other side's code, where it gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Door(door) => door.code(),
            _ => None,
        }
    }
}

/// A researcher's client. Cheap to share: clone the `Arc` around it.
pub struct Client {
    profile: Profile,
    world: World,
    seen: Seen,
    member: Option<SecretKey>,
    state: tokio::sync::Mutex<State>,
    /// One call at a time looks for a token and draws one: together they must not pass the user's limits.
    funding: tokio::sync::Mutex<()>,
    doors: Mutex<HashMap<NodeId, Door>>,
    /// Chains that a node has shown that it holds.
    presented: Mutex<std::collections::HashSet<Digest>>,
}

struct State {
    wallet: Wallet,
    journal: Journal,
}

/// What a call needs to know of a model.
struct Target {
    summary: Verified<Summary>,
    tariff: Verified<Tariff>,
    node: NodeId,
}

/// A request that was sent and whose receipt is due.
struct Sent {
    token: TokenId,
    begun: Begun,
    tariff: Verified<Tariff>,
    body: Vec<u8>,
}

/// A stream of `data` payloads that ends with its receipt.
pub struct Streaming<'a> {
    client: &'a Client,
    sent: Sent,
    response: Response,
    buffer: Vec<u8>,
    /// The bytes that the receipt's response digest covers.
    covered: Vec<u8>,
    receipt: Option<Vec<u8>>,
    done: bool,
}

impl Client {
    /// # Errors
    /// [`Error`]: an unreadable roster, a wallet that another process uses, a journal that does not add up.
    pub fn open(home: &Path, profile: Profile, member: Option<SecretKey>, world: World) -> Result<Self, Error> {
        let path = profile.roster.clone();
        let roster = std::fs::read(&path).map_err(|source| Error::Roster { path, source })?;
        let directory = File::new(&roster).map_err(Error::Refused)?;
        let (journal, entries) = Journal::open(&home.join("wallet.journal"))?;
        let wallet = Wallet::replay(entries)?;
        Ok(Self {
            profile,
            world,
            seen: Seen::new(directory),
            member,
            state: tokio::sync::Mutex::new(State { wallet, journal }),
            funding: tokio::sync::Mutex::default(),
            doors: Mutex::default(),
            presented: Mutex::default(),
        })
    }

    pub fn now(&self) -> Timestamp {
        (self.world.clock)()
    }

    pub fn directory(&self) -> &File {
        &self.seen.directory
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Searches at the first entry that answers.
    ///
    /// # Errors
    /// The last entry's [`Error`].
    pub async fn search(&self, query: &api::SearchQuery) -> Result<Vec<Hit>, Error> {
        let mut last = Error::Profile("entry: a hub or node to ask");
        for entry in &self.profile.entry {
            let door = self.entry(entry)?;
            match self.seen.search(&door, query, self.now()).await {
                Ok(hits) => return Ok(hits),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Brings everything but manifests up to date from the first entry that answers.
    ///
    /// # Errors
    /// The last entry's [`Error`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut last = Error::Profile("entry: a hub or node to ask");
        for entry in &self.profile.entry {
            let door = self.entry(entry)?;
            match self.seen.refresh(&door, self.now()).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Fetches the full manifest of a model.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn manifest(&self, model: &ModelId) -> Result<Verified<comity_wire::object::Manifest>, Error> {
        let entry = self.profile.entry.first().ok_or(Error::Profile("entry: a hub or node to ask"))?;
        let door = self.entry(entry)?;
        if self.seen.directory.summary(model).is_none() {
            self.refresh().await?;
        }
        self.seen.manifest(&door, model).await?;
        self.seen.directory.manifest(model).ok_or_else(|| Error::ModelUnknown(model.clone()))
    }

    /// Any hub or house of the roster, or any node whose certificate is known, may stand behind an entry.
    fn entry(&self, address: &str) -> Result<Door, Error> {
        let roster = self.seen.directory.roster();
        let keys = roster.anchors.iter().map(|anchor| anchor.transport_key).collect();
        Ok(Door::new(vec![address.to_owned()], keys)?)
    }

    /// The clearing house's door.
    ///
    /// # Errors
    /// [`Error`] where neither profile nor federation says where it is.
    pub async fn house(&self) -> Result<Door, Error> {
        let roster = self.seen.directory.roster();
        let anchor =
            roster.anchors_of(AnchorRole::House).next().ok_or(Error::Missing("a clearing house on the roster"))?;
        if let Some(address) = &self.profile.house {
            return Ok(Door::new(vec![address.clone()], vec![anchor.transport_key])?);
        }
        if self.seen.directory.announcement(anchor.node).is_none() {
            self.refresh().await?;
        }
        Ok(Door::new(self.addresses(anchor.node)?, vec![anchor.transport_key])?)
    }

    fn addresses(&self, node: NodeId) -> Result<Vec<String>, Error> {
        let announcement = self.seen.directory.announcement(node).ok_or(Error::NoDoor(node))?;
        let https = announcement.doors.iter().filter(|door| door.kind == DoorKind::Https);
        let addresses: Vec<_> = https.map(|door| door.address.to_string()).collect();
        if addresses.is_empty() { Err(Error::NoDoor(node)) } else { Ok(addresses) }
    }

    /// A node's door, trusted by the certificate its organisation signed.
    fn door(&self, node: NodeId) -> Result<Door, Error> {
        if let Some(door) = self.doors.lock().expect("no panic holds this lock").get(&node) {
            return Ok(door.clone());
        }
        let certificate = self.certificate(node)?;
        let door = Door::new(self.addresses(node)?, certificate.transport_keys.to_vec())?;
        self.doors.lock().expect("no panic holds this lock").insert(node, door.clone());
        Ok(door)
    }

    /// The door of the node that serves `model`, for callers that sign by themselves.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn door_of(&self, model: &ModelId) -> Result<Door, Error> {
        let target = self.target(model).await?;
        self.door(target.node)
    }

    fn certificate(&self, node: NodeId) -> Result<Verified<NodeCertificate>, Error> {
        self.seen.directory.certificate(node).ok_or(Error::Missing("the node's certificate"))
    }

    async fn target(&self, model: &ModelId) -> Result<Target, Error> {
        if self.seen.directory.summary(model).is_none() {
            self.refresh().await?;
        }
        let summary = self.seen.directory.summary(model).ok_or_else(|| Error::ModelUnknown(model.clone()))?;
        let tariff = self.seen.directory.tariff(&summary.tariff).ok_or(Error::Missing("the model's tariff"))?;
        let node = *summary.nodes.first().ok_or(Error::Missing("a node that serves the model"))?;
        // Prompts go to nodes of the model's own organisation, whoever else certified that node.
        if self.certificate(node)?.org != summary.org {
            return Err(Error::Missing("a certificate of the model's owner for the node that serves it"));
        }
        Ok(Target { summary, tariff, node })
    }

    fn member(&self) -> Result<&SecretKey, Error> {
        self.member.as_ref().ok_or(Error::Profile("member_key: the key registered at the clearing house"))
    }

    /// The project's account at the house.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn project(&self) -> Result<house::ProjectReply, Error> {
        let project = self.profile.project.ok_or(Error::Profile("project"))?;
        let path = format!("/v1/projects/{project}");
        self.house().await?.get_signed(&path, self.member()?, &self.world).await
    }

    /// A pinned price for ops of one model.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn quote(&self, model: &ModelId, ops: &[Op]) -> Result<Signed<comity_wire::object::Quote>, Error> {
        let target = self.target(model).await?;
        let project = self.profile.project.ok_or(Error::Profile("project"))?;
        let models = vec![house::QuoteModel { model: model.clone(), ops: ops.to_vec() }];
        let ask = house::QuoteRequest { project, node: target.node, models };
        let reply: house::QuoteReply =
            self.house().await?.post_signed("/v1/quotes", &ask, self.member()?, &self.world).await?;
        Signed::decode(&reply.quote).map_err(Error::Unverified)
    }

    /// Draws a token of `budget` for one model under a fresh holder key, which is journalled with the token once it has come.
    ///
    /// # Errors
    /// [`Error`]; where the reply is lost the key is lost with it: a repeat draws another token, and the first one's escrow
    /// comes home only at its `settle_by`.
    pub async fn buy(&self, model: &ModelId, budget: Amount, depth: u8) -> Result<TokenId, Error> {
        let target = self.target(model).await?;
        let ops: Vec<_> = target.summary.ops.iter().map(|row| row.op).collect();
        let quote = self.quote(model, &ops).await?;
        let seed = (self.world.entropy)();
        let key = SecretKey::from_seed(seed);
        let id: [u8; 16] = (self.world.entropy)()[..16].try_into().expect("16 of 32 bytes");
        let ask = house::ReservationRequest {
            id: TokenId(id),
            quote: house::SignedBytes::new(quote.bytes()).expect("a quote is small"),
            budget,
            holder: key.public(),
            valid_s: 12 * 3600,
            lanes_max: None,
            depth,
            grants: Vec::new(),
        };
        let door = self.house().await?;
        let reply: house::ReservationReply =
            door.post_signed("/v1/reservations", &ask, self.member()?, &self.world).await?;
        self.take_token(&reply.token, &key, budget).await
    }

    /// A budget-0 token that the owner's own node issues (rule 9).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_token(&self, model: &ModelId) -> Result<TokenId, Error> {
        let target = self.target(model).await?;
        let key = SecretKey::from_seed((self.world.entropy)());
        let ask = api::OwnTokenRequest { holder: key.public(), models: vec![model.clone()], valid_s: 12 * 3600 };
        let door = self.door(target.node)?;
        let reply: api::OwnTokenReply = door.post_signed("/comity/v1/tokens", &ask, &key, &self.world).await?;
        self.take_token(&reply.token, &key, Amount::ZERO).await
    }

    async fn take_token(&self, bytes: &[u8], key: &SecretKey, budget: Amount) -> Result<TokenId, Error> {
        let signed = Signed::<Token>::decode(bytes).map_err(Error::Unverified)?;
        let issuer = signed.unverified().issuer();
        let roster = self.seen.directory.roster();
        let org = roster.organisation(issuer).ok_or(Error::Missing("the token's issuer on the roster"))?;
        let keys: Vec<PublicKey> = org.issuers.iter().map(|issuer| issuer.key).collect();
        let token = signed.verify_any(&keys).map_err(Error::Unverified)?;
        if token.holder() != &key.public() || token.terms.budget != budget {
            return Err(Error::Missing("a token with the key and the budget that were asked for"));
        }
        let chain = comity_wire::object::Chain { token: bytes.to_vec(), blocks: Vec::new() };
        self.adopt(&chain.to_bytes(), key, budget).await
    }

    /// Takes a chain and its holder key into the wallet, also one that somebody delegated.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn adopt(&self, chain: &[u8], key: &SecretKey, cap: Amount) -> Result<TokenId, Error> {
        let seed = stored(&*key.seed());
        if chain.len() > comity_wire::object::Chain::BYTES_MAX {
            return Err(Error::Missing("a chain of at most 16 KiB"));
        }
        let entry = Entry::Token { chain: stored(chain), seed, cap };
        let mut state = self.state.lock().await;
        // Checked before it is written: a journal holds only what a replay will take.
        let mut alone = Wallet::default();
        alone.apply(&entry)?;
        if let Some(purse) = alone.purses().next()
            && let Ok(known) = state.wallet.purse(purse.id())
        {
            // Its lanes have gone on: taking it in again would sign their numbers a second time.
            return if known.leaf() == purse.leaf() {
                Ok(purse.id())
            } else {
                Err(WalletError::Another(purse.id()).into())
            };
        }
        state.write(&entry)?;
        let parts = comity_wire::object::Chain::from_bytes(chain).map_err(Error::Malformed)?;
        let token = Signed::<Token>::decode(&parts.token).map_err(Error::Unverified)?;
        Ok(token.unverified().id)
    }

    /// A narrower right for somebody else, made offline. Gives the chain; the key is theirs.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delegate(&self, token: TokenId, narrow: comity_token::Narrow) -> Result<Vec<u8>, Error> {
        let state = self.state.lock().await;
        let purse = state.wallet.purse(token)?;
        comity_token::delegate(purse.chain(), purse.key(), narrow)
            .map_err(|error| Error::Cut(format!("cannot delegate: {error}")))
    }

    /// What the wallet holds: token, node, budget, spent, open.
    pub async fn purses(&self) -> Vec<PurseStatus> {
        let now = self.now();
        let state = self.state.lock().await;
        let status = |purse: &crate::wallet::Purse| PurseStatus {
            token: purse.id(),
            node: purse.node(),
            budget: purse.budget(),
            spent: purse.spent(),
            open: purse.is_open(now),
            // At `settle_by` it goes home by itself: a node that is gone for good is not asked for ever.
            unfinished: !purse.is_closed() && purse.is_root() && now < purse.token().terms.settle_by,
            expires_at: purse.expires_at(),
        };
        state.wallet.purses().map(status).collect()
    }

    /// Makes sure that a token with room is there, drawing one within the user's limits.
    async fn fund(&self, target: &Target, query: &Query) -> Result<TokenId, Error> {
        // Held while the house is asked, on purpose: the next caller finds the token that this one draws.
        let _turn = self.funding.lock().await;
        let now = self.now();
        let demand = query.demand(self.output_ceiling(target));
        let least = target.tariff.least_charge(query.op).map_err(Error::Unpriced)?;
        let needed = match (query.max_charge, query.demanded.output_tokens) {
            (Some(max), _) => max,
            (None, Some(_)) => target.tariff.worst_case(&demand).map_err(Error::Unpriced)?,
            (None, None) => least,
        };
        {
            let state = self.state.lock().await;
            if let Some(purse) = state.wallet.purse_for(target.node, &query.model, query.op, now)
                && (purse.free() >= needed || purse.budget().is_zero() || self.profile.project.is_none())
            {
                return Ok(purse.id());
            }
        }
        let open = |row: &comity_wire::object::OpTier| row.op == query.op && row.tier == Tier::Open;
        let worst = target.tariff.worst_case(&demand).map_err(Error::Unpriced)?;
        if worst.is_zero() && target.summary.ops.iter().any(open) {
            return self.own_token(&query.model).await;
        }
        self.buy_within_limits(query, needed).await
    }

    async fn buy_within_limits(&self, query: &Query, needed: Amount) -> Result<TokenId, Error> {
        let limits = self.profile.limits;
        let drawn = {
            let state = self.state.lock().await;
            let drawn = |purse: &crate::wallet::Purse| if purse.is_closed() { purse.spent() } else { purse.budget() };
            state.wallet.purses().map(drawn).fold(Amount::ZERO, Amount::saturating_add)
        };
        let budget = limits.token.max(needed);
        let asked = drawn.saturating_add(budget);
        if asked > limits.total {
            return Err(Error::Limit { limit: limits.total, asked });
        }
        self.buy(&query.model, budget, 4).await
    }

    /// The most output tokens that the owner's policy would give to anyone, for calls without a limit.
    fn output_ceiling(&self, target: &Target) -> u64 {
        const WITHOUT_POLICY: u64 = 4096;
        let policy = self.seen.directory.policy(&target.summary.model);
        let most = policy.and_then(|policy| policy.rules.iter().map(|rule| u64::from(rule.output_tokens_max)).max());
        most.unwrap_or(WITHOUT_POLICY)
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// [`Error`]. Dropping the future may leave a lane in doubt; [`Client::resolve`] settles it.
    pub async fn ask(&self, query: &Query) -> Result<Answer, Error> {
        let (sent, response) = self.send(query).await?;
        let headers = response.headers().clone();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let receipt = text(header::RECEIPT).and_then(|value| from_sf(&value)).ok_or(Error::NoReceipt)?;
        let body = response.bytes().await?;
        let receipt = self.take_receipt(&sent, &receipt, Some(&body)).await?;
        Ok(Answer { body, receipt, ignored: text(header::IGNORED), clipped: text("comity-clipped") })
    }

    /// Asks for a stream.
    ///
    /// # Errors
    /// [`Error`] before the first byte.
    pub async fn stream(&self, query: &Query) -> Result<Streaming<'_>, Error> {
        let (sent, response) = self.send(query).await?;
        Ok(Streaming {
            client: self,
            sent,
            response,
            buffer: Vec::new(),
            covered: Vec::new(),
            receipt: None,
            done: false,
        })
    }

    /// Signs, journals, sends. A refusal frees the seq; a receipt that comes with one is taken in.
    async fn send(&self, query: &Query) -> Result<(Sent, Response), Error> {
        let target = self.target(&query.model).await?;
        let token = self.fund(&target, query).await?;
        let door = self.door(target.node)?;
        let (sent, key, chain, acknowledgement) = self.begin(token, &target, query).await?;
        let leaf = sent.begun.authority.leaf;
        let mut with_chain = !self.presented.lock().expect("no panic holds this lock").contains(&leaf);
        loop {
            let mut headers = request::sign_request(&sent.begun.authority, self.now(), &key);
            if with_chain {
                headers.push((header::TOKEN, sf(&chain)));
            }
            if let Some(acknowledgement) = &acknowledgement {
                headers.push((header::ACKNOWLEDGEMENT, sf(acknowledgement.bytes())));
            }
            headers.push(("content-type", "application/json".to_owned()));
            match door.send(Method::POST, query.path, headers, Bytes::from(query.body.clone())).await {
                Ok(response) => {
                    self.presented.lock().expect("no panic holds this lock").insert(leaf);
                    self.note_acknowledged(acknowledgement.as_ref()).await?;
                    return Ok((sent, response));
                }
                Err(error) if error.code() == Some(Code::TokenUnknown) && !with_chain => with_chain = true,
                Err(error) => return Err(self.refused(&sent, error).await),
            }
        }
    }

    async fn begin(
        &self,
        token: TokenId,
        target: &Target,
        query: &Query,
    ) -> Result<(Sent, SecretKey, Vec<u8>, Option<Verified<comity_wire::object::Acknowledgement>>), Error> {
        let now = self.now();
        let mut state = self.state.lock().await;
        let purse = state.wallet.purse(token)?;
        // The token pins the tariff, whatever the feed says by now (rule 5).
        let pinned = purse.token().scope_of(&query.model).map_or_else(|| target.tariff.id(), |scope| scope.tariff);
        let tariff = self.seen.directory.tariff(&pinned).ok_or(Error::Missing("the tariff that the token pins"))?;
        let worst = tariff.worst_case(&query.demand(self.output_ceiling(target))).map_err(Error::Unpriced)?;
        let max_charge = match (query.max_charge, query.demanded.output_tokens) {
            (Some(max), _) => max,
            (None, Some(_)) => worst,
            (None, None) => {
                let least = tariff.worst_case(&query.demand(1)).map_err(Error::Unpriced)?;
                purse.small_maximum(worst, self.charge_ceiling(target), least)
            }
        };
        let ask = Ask { method: "POST", path: query.path, query: "", body: &query.body, tariff: pinned, max_charge };
        let begun = state.wallet.begin(token, &ask, now)?;
        let purse = state.wallet.purse(token)?;
        let (key, chain, acknowledgement) = (purse.key().clone(), purse.chain().to_vec(), purse.acknowledge(now));
        state.write(&begun.entry)?;
        Ok((Sent { token, begun, tariff, body: query.body.clone() }, key, chain, acknowledgement))
    }

    fn charge_ceiling(&self, target: &Target) -> Amount {
        let policy = self.seen.directory.policy(&target.summary.model);
        let most = policy.and_then(|policy| policy.tiers.iter().map(|tier| tier.charge_max).max());
        most.unwrap_or(Amount::MAX)
    }

    /// What a refusal means for the lane: a stored receipt is taken in, a clear no frees the seq, all else stays in doubt.
    async fn refused(&self, sent: &Sent, error: DoorError) -> Error {
        let lane = sent.begun.lane;
        if let Some(receipt) = error.receipt() {
            return match self.take_receipt(sent, &receipt, None).await {
                Ok(_) => error.into(),
                Err(fault) => fault,
            };
        }
        if error.is_refusal() && error.code() != Some(Code::InFlight) {
            let free = Entry::Free { token: sent.token, lane, seq: sent.begun.authority.seq };
            if let Err(journal) = self.state.lock().await.write(&free) {
                return journal;
            }
        }
        error.into()
    }

    /// Verifies a receipt, checks it against what was signed and exchanged, and journals it.
    async fn take_receipt(&self, sent: &Sent, bytes: &[u8], body: Option<&[u8]>) -> Result<Verified<Receipt>, Error> {
        let receipt = receipts::verify(bytes, &self.seen.directory).map_err(Error::Receipt)?;
        let lane = sent.begun.lane;
        let mut state = self.state.lock().await;
        if let Some(known) = state.wallet.purse(sent.token)?.lane(lane) {
            receipts::check_price(known, &receipt, &sent.tariff).map_err(Error::Fault)?;
        }
        state.write(&Entry::Receipt { token: sent.token, lane, receipt: stored(bytes) })?;
        drop(state);
        if let Some(body) = body {
            receipts::check_bytes(&receipt, &sent.begun.authority.nonce, &sent.body, body).map_err(Error::Fault)?;
        }
        Ok(receipt)
    }

    async fn note_acknowledged(
        &self,
        acknowledgement: Option<&Verified<comity_wire::object::Acknowledgement>>,
    ) -> Result<(), Error> {
        let Some(acknowledgement) = acknowledgement else { return Ok(()) };
        let mut state = self.state.lock().await;
        for entry in crate::wallet::Purse::acknowledged(acknowledgement) {
            state.write(&entry)?;
        }
        Ok(())
    }

    /// Asks the node about every request whose outcome is unknown, and takes in its receipt or frees its seq.
    ///
    /// # Errors
    /// [`Error`] where the node cannot be reached; what is in doubt stays so.
    pub async fn resolve(&self, token: TokenId) -> Result<(), Error> {
        let (node, leaf, key, doubtful) = {
            let state = self.state.lock().await;
            let purse = state.wallet.purse(token)?;
            let doubtful: Vec<_> = purse.doubtful().map(|(lane, open)| (lane, open.clone())).collect();
            (purse.node(), purse.leaf(), purse.key().clone(), doubtful)
        };
        if doubtful.is_empty() {
            return Ok(());
        }
        self.refresh().await?;
        let door = self.door(node)?;
        let mut running = None;
        for (lane, open) in doubtful {
            let path = format!("/comity/v1/receipts?token={token}&leaf={leaf}&lane={lane}&seq={}", open.seq);
            let reply: Result<api::ReceiptReply, Error> = door.get_signed(&path, &key, &self.world).await;
            let entry = match reply {
                Ok(reply) => {
                    receipts::verify(&reply.receipt, &self.seen.directory).map_err(Error::Receipt)?;
                    Entry::Receipt { token, lane, receipt: stored(&reply.receipt) }
                }
                Err(error) if error.code() == Some(Code::NotFound) || error.code() == Some(Code::TokenUnknown) => {
                    Entry::Free { token, lane, seq: open.seq }
                }
                // Its answer is still being made; the others are asked about all the same.
                Err(error) if error.code() == Some(Code::InFlight) => {
                    running = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.state.lock().await.write(&entry)?;
        }
        running.map_or(Ok(()), Err)
    }

    /// Sends the node a signed acknowledgement of every receipt it has not seen one for.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn acknowledge(&self, token: TokenId) -> Result<(), Error> {
        loop {
            let (node, acknowledgement) = {
                let state = self.state.lock().await;
                let purse = state.wallet.purse(token)?;
                (purse.node(), purse.acknowledge(self.now()))
            };
            let Some(acknowledgement) = acknowledgement else { return Ok(()) };
            let bytes = house::SignedBytes::new(acknowledgement.bytes()).expect("an acknowledgement is small");
            let ask = api::AcknowledgeRequest { acknowledgement: bytes };
            let _: api::AcknowledgeReply = self.door(node)?.post("/comity/v1/acknowledgements", &ask).await?;
            self.note_acknowledged(Some(&acknowledgement)).await?;
        }
    }

    /// Ends a token at its node: acknowledges, asks for the final, verifies it, and lodges it at the house.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn finish(&self, token: TokenId) -> Result<(Verified<Final>, Option<house::FinalReply>), Error> {
        self.resolve(token).await?;
        self.acknowledge(token).await?;
        let (node, key, chain, budget) = {
            let state = self.state.lock().await;
            let purse = state.wallet.purse(token)?;
            (purse.node(), purse.key().clone(), purse.chain().to_vec(), purse.token().terms.budget)
        };
        let answer = self.ask_final(node, token, &key, &chain).await?;
        let certificate = self.certificate(node)?;
        let final_ = comity_token::verify_final(&answer.final_, &certificate)
            .map_err(|_| Error::Missing("a final under its receipt key"))?;
        self.state.lock().await.write(&Entry::Closed { token })?;
        if budget.is_zero() {
            return Ok((final_, None));
        }
        let lodge = house::FinalRequest { final_: answer.final_ };
        let reply = self.house().await?.post_signed("/v1/finals", &lodge, self.member()?, &self.world).await?;
        Ok((final_, Some(reply)))
    }

    /// The chain goes along: the node may never have seen a token that nothing was asked with.
    async fn ask_final(
        &self,
        node: NodeId,
        token: TokenId,
        key: &SecretKey,
        chain: &[u8],
    ) -> Result<api::FinalAnswer, Error> {
        const PATH: &str = "/comity/v1/finals";
        let body = serde_json::to_vec(&api::FinalAsk { token }).expect("an ask has a JSON form");
        let nonce: [u8; 16] = (self.world.entropy)()[..16].try_into().expect("16 of 32 bytes");
        let mut headers = comity_token::sign_api("POST", PATH, "", &body, self.now(), nonce, key);
        headers.push((header::TOKEN, sf(chain)));
        headers.push(("content-type", "application/json".to_owned()));
        let response = self.door(node)?.send(Method::POST, PATH, headers, Bytes::from(body)).await?;
        let bytes = response.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Missing("a final"))
    }
}

/// One line of `comity wallet`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PurseStatus {
    pub token: TokenId,
    pub node: NodeId,
    pub budget: Amount,
    pub spent: Amount,
    pub open: bool,
    /// Whether it still has to be ended at its node, and this wallet may: what is left goes home then. True of an expired
    /// token too.
    pub unfinished: bool,
    pub expires_at: Timestamp,
}

impl State {
    /// Durable first, then believed.
    fn write(&mut self, entry: &Entry) -> Result<(), Error> {
        self.journal.append(entry)?;
        self.wallet.apply(entry)?;
        Ok(())
    }
}

impl Streaming<'_> {
    /// The next `data` payload; `None` once the receipt has come and was taken in.
    ///
    /// # Errors
    /// [`Error::Cut`] where the stream ends without its end, [`Error::NoReceipt`] where it ends without a receipt. The
    /// lane then stays in doubt until [`Client::resolve`].
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        while !self.done {
            if let Some(frame) = take_frame(&mut self.buffer) {
                match self.frame(&frame)? {
                    Some(payload) => return Ok(Some(payload)),
                    None => continue,
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Err(Error::Cut("it ended before [DONE]".to_owned())),
            }
            if self.buffer.len() > FRAME_BYTES_MAX {
                return Err(Error::Cut("a frame is larger than 1 MiB".to_owned()));
            }
        }
        Ok(None)
    }

    /// After [`Streaming::next`] gave `None`: verifies and journals the receipt.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn receipt(self) -> Result<Verified<Receipt>, Error> {
        let bytes = self.receipt.as_deref().ok_or(Error::NoReceipt)?;
        self.client.take_receipt(&self.sent, bytes, Some(&self.covered)).await
    }

    /// Lets the node go before the end, then asks it for the receipt of what was delivered. What stays unknown stays in
    /// doubt in the journal, and is asked for again before the lane is used.
    pub async fn abandon(self) {
        let Self { client, sent, response, .. } = self;
        drop(response);
        if let Err(error) = client.resolve(sent.token).await {
            tracing::warn!(%error, token = %sent.token, "outcome unknown: the lane waits until the node is asked again");
        }
    }

    fn frame(&mut self, frame: &str) -> Result<Option<String>, Error> {
        let mut payload = None;
        for line in frame.lines() {
            if let Some(receipt) = line.strip_prefix(": comity-receipt ") {
                self.receipt = URL_SAFE_NO_PAD.decode(receipt).ok();
            } else if let Some(data) = line.strip_prefix("data:") {
                let data = data.strip_prefix(' ').unwrap_or(data);
                if data == "[DONE]" {
                    self.done = true;
                    return Ok(None);
                }
                self.covered.extend_from_slice(data.as_bytes());
                self.covered.push(b'\n');
                payload = Some(data.to_owned());
            }
        }
        if let Some(data) = &payload
            && let Ok(value) = serde_json::from_str::<serde_json::Value>(data)
            && let Some(error) = value.get("error")
        {
            let message =
                error.get("message").and_then(serde_json::Value::as_str).unwrap_or("the node reported an error");
            return Err(Error::Cut(message.to_owned()));
        }
        Ok(payload)
    }
}

const FRAME_BYTES_MAX: usize = 1 << 20;

/// Cuts the next frame, up to an empty line, off the front.
fn take_frame(buffer: &mut Vec<u8>) -> Option<String> {
    let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
    let frame = buffer.drain(..end + 2).collect::<Vec<_>>();
    Some(String::from_utf8_lossy(&frame).into_owned())
}

/// A structured-field byte sequence.
fn sf(bytes: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(bytes))
}

fn from_sf(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix(':')?.strip_suffix(':')?).ok()
}
