//! A caller without a wallet: it signs what a wallet would not, and shows each answer as it came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_node::keystore::{KeyName, KeyStore};
use comity_node::shell;
use comity_sdk::Client;
use comity_sdk::door::{Door, DoorError, Response};
use comity_token::directory::Directory as _;
use comity_token::request::{Authority, header, sign_request};
use comity_token::{Narrow, delegate, sign_api};
use comity_wire as wire;
use comity_wire::api::node::{LanesReply, ReceiptReply};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Chain, Confirmation, DoorKind, IdText, Receipt, Scope, Terms, Token, Vetting};
use comity_wire::{Amount, Code, Digest, ModelId, Pseudonym, PublicKey, SecretKey, TokenId, cose};
use http::Method;

use crate::Federation;

/// A token, and the key that may use it.
pub struct Holder {
    pub token: TokenId,
    /// What the node's door proves itself with.
    pub transport_keys: Vec<PublicKey>,
    key: SecretKey,
    chain: Vec<u8>,
    leaf: Digest,
    tariff: Digest,
    door: Door,
}

/// A request as it will be sent, so that it can be sent again byte for byte.
#[derive(Clone, Debug)]
pub struct Signed {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Chat<'a> {
    pub question: &'a str,
    pub max_tokens: u32,
    pub stream: bool,
}

/// How a request was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    Answered { receipt: Vec<u8>, body: Vec<u8>, replayed: bool },
    Refused { code: Code, status: u16, receipt: Option<Vec<u8>> },
}

impl Holder {
    /// A token for one model with these bounds, signed by the house's own issuer key: what the node takes, it takes
    /// from any token that the house would sign, also from one that its defaults would not give.
    ///
    /// # Panics
    /// Where the model is not known.
    pub async fn mint(federation: &Federation, client: &Client, model: &ModelId, budget: Amount, lanes: u16) -> Self {
        client.refresh().await.expect("the hub answers");
        let directory = client.directory();
        let summary = directory.summary(model).expect("the model is known");
        let ops = summary.ops.iter().map(|row| row.op).collect();
        let scope = Scope {
            model: model.clone(),
            release: summary.release,
            ops: List::new(ops).expect("a summary has few ops"),
            tariff: summary.tariff,
        };
        let house = federation.path().join("house");
        let issuer = KeyStore::of(&house).read(KeyName::Issuer).expect("the house's issuer key");
        let key = SecretKey::from_seed(shell::random());
        let now = shell::now();
        let expires_at = now.plus(3600);
        let token = Token {
            issuer: IdText(federation.card("house").organisation),
            subject: Text::new(Pseudonym(shell::random()).to_string()).expect("a pseudonym is short"),
            audience: IdText(*summary.nodes.first().expect("a node")),
            expires_at,
            not_before: now.minus(5),
            issued_at: now.minus(5),
            id: TokenId::v7(now, shell::random()),
            holder: Confirmation(key.public()),
            terms: Terms {
                roster_version: directory.roster().version,
                scope: List::new(vec![scope]).expect("one model"),
                budget,
                vetting: Vetting::Registered,
                purposes: List::default(),
                window: Amount::from_ucr(1_000_000),
                lanes_max: lanes,
                longest_op_s: 600,
                settle_by: expires_at.plus(600 + Token::SETTLE_S_MIN),
                // One may hand a part on.
                depth: 1,
                grants: List::default(),
            },
        };
        let signed = cose::sign(&token, &issuer);
        let chain = Chain { token: signed.bytes().to_vec(), blocks: Vec::new() }.to_bytes();
        let announced = directory.announcement(token.audience.0).expect("the node says where it is");
        if !announced.doors.iter().any(|door| matches!(door.kind, DoorKind::Https | DoorKind::Quic)) {
            // The hub wants to see a token of the client's own before it connects.
            client.buy(model, PASS, 0).await.expect("a token to show to the hub");
        }
        let door = client.door_of(model).await.expect("the node has a door");
        let certificate = directory.certificate(token.audience.0).expect("the node has a certificate");
        let transport_keys = certificate.transport_keys.to_vec();
        Self { token: token.id, transport_keys, key, chain, leaf: signed.id(), tariff: summary.tariff, door }
    }

    /// The same holder at another process of the node.
    ///
    /// # Panics
    /// Where it is no address.
    #[must_use]
    pub fn at(&self, address: String) -> Self {
        let door = Door::new(vec![address], self.transport_keys.clone()).expect("an address");
        let (chain, transport_keys) = (self.chain.clone(), self.transport_keys.clone());
        Self { transport_keys, key: self.key.clone(), chain, door, ..*self }
    }

    /// Signs one chat.
    pub fn sign(&self, model: &ModelId, lane: u16, seq: u64, max_charge: Amount) -> Signed {
        let question = format!("lane {lane}, seq {seq}");
        self.sign_chat(model, (lane, seq), max_charge, &Chat { question: &question, max_tokens: 8, stream: false })
    }

    /// Signs one chat whose answer is to come as a stream of at most so many tokens.
    pub fn sign_stream(&self, model: &ModelId, lane: u16, seq: u64, max_charge: Amount, max_tokens: u32) -> Signed {
        let question = format!("lane {lane}, seq {seq}");
        self.sign_chat(model, (lane, seq), max_charge, &Chat { question: &question, max_tokens, stream: true })
    }

    /// Signs a chat of one's own.
    pub fn sign_chat(&self, model: &ModelId, (lane, seq): (u16, u64), max_charge: Amount, chat: &Chat<'_>) -> Signed {
        let message = serde_json::json!({"role": "user", "content": chat.question});
        let mut body = serde_json::json!({"model": model, "messages": [message], "max_tokens": chat.max_tokens});
        if chat.stream {
            body["stream"] = true.into();
        }
        let body = serde_json::to_vec(&body).expect("JSON has bytes");
        let authority = Authority {
            leaf: self.leaf,
            lane,
            seq,
            method: "POST".to_owned(),
            path: PATH.to_owned(),
            query: String::new(),
            content_digest: Digest::of(&body),
            tariff: self.tariff,
            max_charge,
            nonce: shell::random(),
        };
        let mut headers = sign_request(&authority, shell::now(), &self.key);
        headers.push((header::TOKEN, format!(":{}:", STANDARD.encode(&self.chain))));
        headers.push(("content-type", "application/json".to_owned()));
        Signed { headers, body }
    }

    /// Sends it as it is.
    ///
    /// # Panics
    /// Where the door gives neither an answer nor a refusal.
    pub async fn send(&self, request: &Signed) -> Met {
        self.try_send(request).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends it as it is.
    ///
    /// # Errors
    /// Why the door gave neither an answer nor a refusal.
    pub async fn try_send(&self, request: &Signed) -> Result<Met, String> {
        let sent = self.door.send(Method::POST, PATH, request.headers.clone(), request.body.clone().into()).await;
        match sent {
            Ok(response) => {
                let of =
                    |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
                let receipt = of(header::RECEIPT).expect("an answer has a receipt");
                let replayed = of("comity-replayed").is_some();
                let receipt = receipt.trim_matches(':').to_owned();
                let receipt = STANDARD.decode(receipt).expect("a receipt is base64");
                Ok(Met::Answered { receipt, body: response.bytes().await.expect("the whole body"), replayed })
            }
            Err(DoorError::Refused(refusal)) => {
                let code = refusal.remote.known_code().unwrap_or_else(|| panic!("{}", refusal.message));
                let status = refusal.remote.status;
                let refused = DoorError::Refused(refusal);
                Ok(Met::Refused { code, status, receipt: refused.receipt() })
            }
            Err(error) => Err(crate::federation::chain(&error)),
        }
    }

    /// Sends it, and gives the answer while it comes.
    ///
    /// # Errors
    /// What the door says instead.
    pub async fn open(&self, request: &Signed) -> Result<Response, DoorError> {
        self.door.send(Method::POST, PATH, request.headers.clone(), request.body.clone().into()).await
    }

    /// The same project by a part of the token that was handed on.
    ///
    /// # Panics
    /// Where the token does not let one do so.
    #[must_use]
    pub fn hand_on(&self) -> Self {
        let key = SecretKey::from_seed(shell::random());
        let narrow = Narrow {
            cap: Amount::from_ucr(1),
            expires_at: shell::now().plus(600),
            lanes: 1,
            depth: 0,
            models: Vec::new(),
            ops: Vec::new(),
            next: key.public(),
        };
        let chain = delegate(&self.chain, &self.key, narrow).expect("a narrower block");
        Self { transport_keys: self.transport_keys.clone(), door: self.door.clone(), key, chain, ..*self }
    }

    /// Whoever has this token, and another one's key.
    #[must_use]
    pub fn with_key_of(&self, other: &Self) -> Self {
        let (transport_keys, chain) = (self.transport_keys.clone(), self.chain.clone());
        Self { transport_keys, chain, door: self.door.clone(), key: other.key.clone(), ..*self }
    }

    /// Asks a route that says which project asks (spec/11-access.md §11.1): what came, or the code of the refusal.
    ///
    /// # Errors
    /// The code; `None` where nothing came that has one.
    pub async fn knock(&self, method: Method, path: &str, body: Vec<u8>) -> Result<serde_json::Value, Option<Code>> {
        let (route, query) = path.split_once('?').unwrap_or((path, ""));
        let nonce = shell::random();
        let mut headers = sign_api(method.as_str(), route, query, &body, shell::now(), nonce, &self.key);
        headers.push((header::TOKEN, format!(":{}:", STANDARD.encode(&self.chain))));
        headers.push(("content-type", "application/json".to_owned()));
        let answer = self.door.send(method, path, headers, body.into()).await.map_err(|error| error.code())?;
        let bytes = answer.bytes().await.map_err(|error| error.code())?;
        serde_json::from_slice(&bytes).map_err(|_| None)
    }

    /// How the token stands at its node.
    ///
    /// # Panics
    /// Where the node does not say.
    pub async fn lanes(&self) -> LanesReply {
        self.try_lanes().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// How the token stands at its node.
    ///
    /// # Errors
    /// Why the node does not say.
    pub async fn try_lanes(&self) -> Result<LanesReply, String> {
        let path = format!("/comity/v1/lanes?token={}", self.token);
        let lanes = self.door.get_signed(&path, &self.key, &Federation::world()).await;
        lanes.map_err(|error| crate::federation::chain(&error))
    }

    /// The receipt that the node shows for a place of the sequence.
    ///
    /// # Errors
    /// Why the node does not say.
    pub async fn receipt(&self, (lane, seq): (u16, u64)) -> Result<Option<wire::Signed<Receipt>>, String> {
        let path = format!("/comity/v1/receipts?token={}&leaf={}&lane={lane}&seq={seq}", self.token, self.leaf);
        let shown: Result<ReceiptReply, _> = self.door.get_signed(&path, &self.key, &Federation::world()).await;
        match shown {
            Ok(shown) => {
                wire::Signed::decode(&shown.receipt).map(Some).map_err(|error| crate::federation::chain(&error))
            }
            Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
            Err(error) => Err(crate::federation::chain(&error)),
        }
    }
}

impl Signed {
    /// For a node that has seen the token: its chain is left out.
    #[must_use]
    pub fn known(mut self) -> Self {
        self.headers.retain(|(name, _)| *name != header::TOKEN);
        self
    }

    /// The bytes of the request over HTTP/1.1.
    pub fn http1(&self) -> Vec<u8> {
        let mut head = format!("POST {PATH} HTTP/1.1\r\nhost: door\r\ncontent-length: {}\r\n", self.body.len());
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// Enough to be connected, for nothing is spent of it.
const PASS: Amount = Amount::from_ucr(1);
const PATH: &str = "/v1/chat/completions";
