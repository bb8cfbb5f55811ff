//! Applications at an owner's node (spec/11-access.md): by a token of the project for that node, whose holder signs.

use bytes::Bytes;
use comity_token::Directory as _;
use comity_token::request::header;
use comity_token::sign_api;
use comity_wire::api::access as api;
use comity_wire::api::clearing::ReservationReply;
use comity_wire::api::node::{Approval, PlansReply};
use comity_wire::object::{Chain, Token};
use comity_wire::{Amount, Digest, ModelId, NodeId, SecretKey, Signed, TokenId};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::send::sf;
use super::{Client, Error};
use crate::chat::Query;
use crate::discover::percent;
use crate::door::DoorError;
use crate::pending::Pending;
use crate::wallet::{WalletError, stored};

/// How long it is remembered what an owner has approved.
const APPROVED_S: u64 = 60;
/// Grants that a token names.
const GRANTS_MAX: usize = 8;
/// How long a token lives that only says who applies.
const VALID_S: u32 = 3600;
/// Where the routes begin.
const ROOT: &str = "/comity/v1/access/applications";

/// Who stands behind an application, and the salts that keep it sealed until they say so. Whoever loses them cannot open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub organisation: String,
    pub person: String,
    pub organisation_salt: Digest,
    pub person_salt: Digest,
}

impl Identity {
    /// What is handed in.
    pub fn sealed(&self) -> api::Sealed {
        let sealed = |what| {
            let (value, salt) = self.opened(what);
            api::commitment(what, &salt, value)
        };
        api::Sealed { organisation: sealed(api::Shown::Organisation), person: sealed(api::Shown::Person) }
    }

    /// The value and the salt of one of the two.
    pub fn opened(&self, what: api::Shown) -> (&str, Digest) {
        match what {
            api::Shown::Organisation => (&self.organisation, self.organisation_salt),
            api::Shown::Person => (&self.person, self.person_salt),
        }
    }
}

/// A token to be known by, and the key that holds it.
pub(super) struct Standing {
    pub(super) chain: Vec<u8>,
    pub(super) key: SecretKey,
}

impl Client {
    /// An identity with fresh salts.
    pub fn identity(&self, organisation: String, person: String) -> Identity {
        let salt = || Digest((self.world.entropy)());
        Identity { organisation, person, organisation_salt: salt(), person_salt: salt() }
    }

    /// An id for a new application.
    pub fn application_id(&self) -> String {
        let id = (self.world.entropy)();
        let hex: String = id[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("app-{hex}")
    }

    /// The node whose owner decides about a model.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn node_of(&self, model: &ModelId) -> Result<NodeId, Error> {
        Ok(self.target(model).await?.node)
    }

    /// What is asked of whoever applies for a model.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn access_form(&self, model: &ModelId) -> Result<api::FormReply, Error> {
        let node = self.node_of(model).await?;
        let path = format!("/comity/v1/access/forms?model={}", percent(&model.to_string()));
        self.door(node).await?.get(&path).await
    }

    /// Begins an application for models of one owner.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn application_open(&self, model: &ModelId, ask: &api::OpenRequest) -> Result<api::Application, Error> {
        let node = self.node_of(model).await?;
        let body = serde_json::to_vec(ask).expect("a request has a JSON form");
        self.apply(node, model, Method::POST, ROOT, Bytes::from(body)).await
    }

    /// An application of this project, as it stands.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn application(&self, model: &ModelId, id: &str) -> Result<api::Application, Error> {
        let node = self.node_of(model).await?;
        self.apply(node, model, Method::GET, &format!("{ROOT}/{}", percent(id)), Bytes::new()).await
    }

    /// A page of this project's applications at the owner of a model; `after` is what the page before said is next.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn applications(&self, model: &ModelId, after: Option<&str>) -> Result<api::ListReply, Error> {
        let node = self.node_of(model).await?;
        let path = after.map_or_else(|| ROOT.to_owned(), |after| format!("{ROOT}?after={}", percent(after)));
        self.apply(node, model, Method::GET, &path, Bytes::new()).await
    }

    /// Does something to an application that was last seen with the link `after`.
    ///
    /// # Errors
    /// [`Error`]; `application_moved` where somebody else has done something since.
    pub async fn application_act(
        &self,
        model: &ModelId,
        id: &str,
        after: Digest,
        act: &api::Applying,
    ) -> Result<api::Application, Error> {
        let node = self.node_of(model).await?;
        let act = serde_json::to_value(act).expect("an act has a JSON form");
        let body = serde_json::to_vec(&api::ActRequest { after, act }).expect("a request has a JSON form");
        let path = format!("{ROOT}/{}/acts", percent(id));
        self.apply(node, model, Method::POST, &path, Bytes::from(body)).await
    }

    /// Sends the bytes of an attachment that the application names.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn application_attach(&self, model: &ModelId, id: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let node = self.node_of(model).await?;
        let path = format!("{ROOT}/{}/attachments", percent(id));
        let standing = self.standing(node, model).await?;
        self.knock(node, &standing, Method::PUT, &path, Bytes::from(bytes)).await.map(|_| ())
    }

    /// What the owner of a model has approved for this project, and how far each plan was executed; the newest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn approvals(&self, model: &ModelId) -> Result<Vec<Approval>, Error> {
        let node = self.node_of(model).await?;
        let Standing { chain, .. } = self.standing(node, model).await?;
        let parts = Chain::from_bytes(&chain).map_err(Error::Malformed)?;
        let token = Signed::<Token>::decode(&parts.token).map_err(Error::Unverified)?.unverified().id;
        let path = format!("/comity/v1/plans?token={token}");
        let reply: PlansReply = self.apply(node, model, Method::GET, &path, Bytes::new()).await?;
        Ok(reply.plans)
    }

    /// What a token has to name so that a call of an execution counts in its plan. Looked up once a minute.
    pub(super) async fn approved(&self, query: &Query) -> Result<Vec<Digest>, Error> {
        if query.run.is_none() {
            return Ok(Vec::new());
        }
        let now = self.now();
        let known = self.approved.lock().expect("no panic holds this lock").get(&query.model).cloned();
        if let Some((_, named)) = known.filter(|(at, _)| now < at.plus(APPROVED_S)) {
            return Ok(named);
        }
        let approvals = self.approvals(&query.model).await?;
        let of_model = approvals.iter().filter(|approval| approval.models.contains(&query.model));
        let named: Vec<Digest> = of_model.map(|approval| approval.content).take(GRANTS_MAX).collect();
        if !named.is_empty() {
            self.approved.lock().expect("no panic holds this lock").insert(query.model.clone(), (now, named.clone()));
        }
        Ok(named)
    }

    pub(super) async fn apply<T: DeserializeOwned>(
        &self,
        node: NodeId,
        model: &ModelId,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let standing = self.standing(node, model).await?;
        self.read_as(node, &standing, method, path, body).await
    }

    pub(super) async fn read_as<T: DeserializeOwned>(
        &self,
        node: NodeId,
        standing: &Standing,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let answer = self.knock(node, standing, method, path, body).await?;
        let form = |source| Error::Door(DoorError::Form { name: node.to_string(), source });
        serde_json::from_slice(&answer).map_err(form)
    }

    async fn knock(
        &self,
        node: NodeId,
        Standing { chain, key }: &Standing,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Vec<u8>, Error> {
        let (route, query) = path.split_once('?').unwrap_or((path, ""));
        let nonce = self.world.nonce();
        let mut headers = sign_api(method.as_str(), route, query, &body, self.now(), nonce, key);
        headers.push((header::TOKEN, sf(chain)));
        headers.push(("content-type", "application/json".to_owned()));
        let response = self.door(node).await?.send(method, path, headers, body).await.map_err(Error::Door)?;
        response.bytes().await.map_err(Error::Door)
    }

    /// A token of the project for a node: one that is there, else one of budget 0. That sets nothing aside, so it is in no journal, and
    /// is drawn also beside a proxy which holds the wallet.
    pub(super) async fn standing(&self, node: NodeId, model: &ModelId) -> Result<Standing, Error> {
        match self.known_at(node, false).await {
            Some(found) => Ok(found),
            None => self.introduced_at(node, model).await,
        }
    }

    /// A token whose root holder this is: who speaks for the project.
    pub(super) async fn standing_as_root(&self, node: NodeId, model: &ModelId) -> Result<Standing, Error> {
        match self.known_at(node, true).await {
            Some(found) => Ok(found),
            None => self.introduced_at(node, model).await,
        }
    }

    async fn introduced_at(&self, node: NodeId, model: &ModelId) -> Result<Standing, Error> {
        let known = self.introduced.lock().expect("no panic holds this lock").get(&node).cloned();
        let lives = |chain: &[u8]| {
            let token = Chain::from_bytes(chain).ok().and_then(|chain| Signed::<Token>::decode(&chain.token).ok());
            token.is_some_and(|token| self.now() < token.unverified().expires_at)
        };
        if let Some((chain, key)) = known.filter(|(chain, _)| lives(chain)) {
            return Ok(Standing { chain, key });
        }
        let Standing { chain, key } = self.introduce(node, model).await?;
        self.passes.put(node, &chain, &key);
        self.introduced.lock().expect("no panic holds this lock").insert(node, (chain.clone(), key.clone()));
        Ok(Standing { chain, key })
    }

    async fn introduce(&self, node: NodeId, model: &ModelId) -> Result<Standing, Error> {
        let target = self.target(model).await?;
        let ops: Vec<_> = target.summary.ops.iter().map(|row| row.op).collect();
        let quote = self.quote(model, &ops).await?;
        let now = self.now();
        let id = TokenId::v7(now, self.world.nonce());
        let pending = Pending {
            node,
            model: model.clone(),
            seed: stored(&(self.world.entropy)()),
            quote: stored(quote.bytes()),
            budget: Amount::ZERO,
            valid_s: VALID_S,
            depth: 0,
            grants: Vec::new(),
            mandate: self.profile.mandate,
            at: now,
        };
        let (key, ask) = pending.key().zip(pending.request(id)).ok_or(WalletError::Journal)?;
        let house = self.house().await?;
        let reply: ReservationReply = house.post_signed("/v1/reservations", &ask, self.member()?, &self.world).await?;
        let token = self.verified(&reply.token, &key, Amount::ZERO)?;
        if token.id != id || token.audience() != node {
            return Err(Error::Missing("the token that was asked for"));
        }
        Ok(Standing { chain: Chain { token: reply.token.to_vec(), blocks: Vec::new() }.to_bytes(), key })
    }

    async fn known_at(&self, node: NodeId, as_root: bool) -> Option<Standing> {
        let owner = self.seen.directory.certificate(node).map(|certificate| certificate.org);
        let state = self.state.lock().await;
        let now = self.now();
        let mut found = state
            .wallet
            .purses()
            .filter(|purse| purse.node() == node && purse.is_open(now) && Some(purse.token().issuer()) != owner)
            .filter(|purse| !as_root || *purse.token().holder() == purse.key().public());
        found.next().map(|purse| Standing { chain: purse.chain().to_vec(), key: purse.key().clone() })
    }
}
