//! Logins: the house asks an issuer who has a key, and takes down what it learns.
//!
//! Nothing is asked of an issuer before somebody logs in there. Whoever signs the calls is whom the login is about: a login that one key
//! began is of no use to another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_ledger::Db;
use comity_wire::api::login::{IssuerShown, IssuersReply, LoginContinue, LoginReply, LoginRequest, LoginState};
use comity_wire::{MemberId, PublicKey, Timestamp};
use http::{Request, Response};
use openidconnect::core::CoreJsonWebKeySet;
use serde_json::{Map, Value};

use super::Clearing;
use super::persons::bind_in_tx;
use super::projects::random;
use crate::failure::Failure;
use crate::persons::oidc::{
    self, Answered, Client, DeviceStarted, INTERVAL_S, LOGIN_S, Line, Metadata, REFETCH_S, REMEMBERED_S,
    REPLY_BYTES_MAX, Tokens,
};
use crate::persons::oidc::{Expected, NotVerified};
use crate::persons::{By, Learned, claims};
use crate::store;
use crate::store::logins::Login;
use crate::store::persons::Kept;
use crate::vetting::{Evidence, How};

/// The most logins that are under way, of all and of one key.
const LOGINS_MAX: u64 = 1_024;
const LOGINS_OF_KEY_MAX: u64 = 8;
/// The most issuers that a house believes.
const ISSUERS_MAX: usize = 32;
/// The longest interval between two questions.
const INTERVAL_MAX_S: u64 = 60;

/// Issuers, the wire to them, and what they said of themselves last.
#[derive(Default)]
pub(super) struct Issuers {
    clients: Vec<Client>,
    line: Option<Arc<dyn Line>>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    metadata: Metadata,
    keys: CoreJsonWebKeySet,
    at: Timestamp,
}

impl Clearing {
    /// Believes these issuers from now on.
    ///
    /// # Errors
    /// [`Failure`] naming the one that is not well described, or is there twice.
    pub fn believe(&self, clients: Vec<Client>, line: Arc<dyn Line>) -> Result<(), Failure> {
        if clients.len() > ISSUERS_MAX {
            return Err(Failure::Limit { what: "issuers", max: ISSUERS_MAX.to_string() });
        }
        for (place, client) in clients.iter().enumerate() {
            if let Some(fault) = client.issuer.fault() {
                return Err(Failure::invalid(format!("issuer {}: {fault}", client.issuer.name)));
            }
            let same =
                |other: &Client| other.issuer.name == client.issuer.name || other.issuer.issuer == client.issuer.issuer;
            if clients[..place].iter().any(same) {
                return Err(Failure::invalid(format!("issuer {} is there twice", client.issuer.name)));
            }
        }
        let issuers = Issuers { clients, line: Some(line), known: Mutex::default() };
        *self.inner.issuers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(issuers);
        Ok(())
    }

    fn issuers(&self) -> Arc<Issuers> {
        Arc::clone(&self.inner.issuers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where persons can log in.
    pub fn issuers_shown(&self) -> IssuersReply {
        let shown = |client: &Client| IssuerShown {
            name: client.issuer.name.clone(),
            issuer: client.issuer.issuer.clone(),
            device: client.issuer.device,
        };
        IssuersReply { issuers: self.issuers().clients.iter().map(shown).collect() }
    }

    /// Begins a login of whoever has this key.
    ///
    /// # Errors
    /// [`Failure`] where there is no such issuer, it is not reached, or too many logins are under way.
    pub async fn login_begin(&self, key: &PublicKey, ask: LoginRequest) -> Result<LoginReply, Failure> {
        let (issuers, now) = (self.issuers(), self.now());
        let client = issuers.named(ask.issuer.as_deref())?;
        let redirect = ask.redirect.as_deref().map(loopback).transpose()?;
        self.login_room(key, now).await?;
        let metadata = issuers.known(client, now).await?.metadata;
        let mut login = Login {
            id: random()?,
            key: *key,
            issuer: client.issuer.issuer.clone(),
            mfa: ask.mfa,
            redirect: redirect.unwrap_or_default().to_owned(),
            state: String::new(),
            nonce: String::new(),
            secret: String::new(),
            interval_s: INTERVAL_S,
            polled_at: now,
            expires_at: now.plus(LOGIN_S),
            done_at: None,
            ignored: Vec::new(),
        };
        let told = |answered| of_issuer(client, answered);
        let (url, user_code) = if login.is_browsers() {
            (login.state, login.nonce, login.secret) = (secret()?, secret()?, secret()?);
            let (state, nonce, verifier) = (&login.state, &login.nonce, &login.secret);
            let url =
                client.browser_url(&metadata, &login.redirect, (state, nonce, verifier), ask.mfa).map_err(told)?;
            (url, None)
        } else {
            if !client.issuer.device {
                return Err(Failure::invalid(format!(
                    "{} is logged in at with a browser on this computer",
                    client.issuer.name
                )));
            }
            let response = issuers.call(client, client.device_request(&metadata, ask.mfa).map_err(told)?).await?;
            let started: DeviceStarted = oidc::read(&response).map_err(told)?;
            login.secret = started.device_code;
            login.interval_s = started.interval.unwrap_or(INTERVAL_S).clamp(1, INTERVAL_MAX_S);
            login.expires_at = now.plus(started.expires_in.min(LOGIN_S));
            let url = started.verification_uri_complete.unwrap_or(started.verification_uri);
            if !url.starts_with("https://") && !client.issuer.issuer.starts_with("http://") {
                return Err(told(Answered::Plain { what: "a page for devices", url }));
            }
            (url, Some(started.user_code))
        };
        let reply = LoginReply {
            login: URL_SAFE_NO_PAD.encode(login.id),
            issuer: client.issuer.name.clone(),
            url,
            user_code,
            interval_s: login.interval_s,
            expires_at: login.expires_at,
        };
        let key = *key;
        self.write(move |conn| {
            Box::pin(async move {
                store::logins::logins_end_in_tx(conn, now).await?;
                room(conn, &key).await?;
                store::logins::login_insert_in_tx(conn, &login).await
            })
        })
        .await?;
        Ok(reply)
    }

    /// Before an issuer is asked anything.
    async fn login_room(&self, key: &PublicKey, now: Timestamp) -> Result<(), Failure> {
        let mut conn = self.read().await?;
        if room(&mut conn.db(), key).await.is_ok() {
            return Ok(());
        }
        drop(conn);
        let key = *key;
        self.write(move |conn| {
            Box::pin(async move {
                store::logins::logins_end_in_tx(conn, now).await?;
                room(conn, &key).await
            })
        })
        .await
    }

    /// Asks whether a device's login is done, or brings what a browser came back with.
    ///
    /// # Errors
    /// [`Failure`] where it is another key's, is over, or the issuer's word is not believed: then nothing was taken down.
    pub async fn login_go_on(&self, key: &PublicKey, id: &str, ask: LoginContinue) -> Result<LoginState, Failure> {
        let (issuers, now) = (self.issuers(), self.now());
        let login = self.login(key, id, now).await?;
        if login.done_at.is_some() {
            return self.login_state(&login).await;
        }
        let client = issuers.of(&login.issuer)?;
        let known = issuers.known(client, now).await?;
        let request = if login.is_browsers() {
            let Some(code) = ask.code.as_deref() else {
                return Ok(pending(login.interval_s));
            };
            if ask.state.as_deref() != Some(login.state.as_str()) {
                return Err(Failure::LoginRefused {
                    why: "what the browser brought is of another login (state)".into(),
                });
            }
            if ask.iss.is_some_and(|iss| iss != login.issuer) {
                return Err(Failure::LoginRefused { why: "what the browser brought is another issuer's (iss)".into() });
            }
            client.code_request(&known.metadata, code, &login.redirect, &login.secret)
        } else {
            if now < login.polled_at.plus(login.interval_s) {
                return Ok(pending(login.polled_at.plus(login.interval_s).since(now)));
            }
            client.device_poll(&known.metadata, &login.secret)
        };
        let response = issuers.call(client, request).await?;
        let tokens: Tokens = match oidc::read(&response) {
            Ok(tokens) => tokens,
            Err(Answered::Refused { error, .. }) if error == "authorization_pending" || error == "slow_down" => {
                // RFC 8628 §3.5: five seconds more, from now on.
                let more = if error == "slow_down" { 5 } else { 0 };
                let interval_s = (login.interval_s + more).min(INTERVAL_MAX_S);
                let id = login.id;
                self.write(move |conn| {
                    Box::pin(async move { store::logins::login_polled_in_tx(conn, id, interval_s, now).await })
                })
                .await?;
                return Ok(pending(interval_s));
            }
            Err(answered) => {
                // A twin of this call may have been quicker: a code is good for one trade.
                let again = self.login(key, &URL_SAFE_NO_PAD.encode(login.id), now).await?;
                if again.done_at.is_some() {
                    return self.login_state(&again).await;
                }
                return Err(of_issuer(client, answered));
            }
        };
        let told = issuers.claims(client, &known, &tokens, &login, now).await?;
        let learned = claims::learn(&client.issuer, &told, now)
            .map_err(|error| Failure::LoginRefused { why: error.to_string() })?;
        self.login_finish(&login, learned, now).await
    }

    async fn login(&self, key: &PublicKey, id: &str, now: Timestamp) -> Result<Login, Failure> {
        let bytes = URL_SAFE_NO_PAD.decode(id).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let unknown = || Failure::NotFound { what: "login of this id: begin another one (comity login)".into() };
        let id = bytes.ok_or_else(unknown)?;
        let login = store::logins::login_find(&mut self.read().await?.db(), id).await?;
        let login = login.filter(|login| now < login.expires_at).ok_or_else(unknown)?;
        // Of another key's login nobody learns that there is one.
        if login.key == *key { Ok(login) } else { Err(unknown()) }
    }

    async fn login_state(&self, login: &Login) -> Result<LoginState, Failure> {
        let whoami = Some(self.whoami(&login.key).await?);
        Ok(LoginState { state: "done".into(), retry_after_s: None, ignored: login.ignored.clone(), whoami })
    }

    /// Takes down whose key it is and what was learned, in one transaction.
    async fn login_finish(&self, login: &Login, learned: Learned, now: Timestamp) -> Result<LoginState, Failure> {
        let (login, fresh) = (login.clone(), MemberId(random()?));
        let done = self
            .write(move |conn| {
                Box::pin(async move {
                    let again = store::logins::login_find(conn, login.id).await?;
                    if let Some(again) = again.filter(|again| again.done_at.is_some()) {
                        return Ok(again);
                    }
                    let person = person_in_tx(conn, &login, &learned.subject, fresh, now).await?;
                    let occasion = store::persons::occasion_next(conn, person).await?;
                    let recorded_by = format!("login {}", URL_SAFE_NO_PAD.encode(login.id));
                    let kept = |said: claims::Said| Kept {
                        evidence: Evidence {
                            issuer: login.issuer.clone(),
                            claim: said.claim,
                            value: said.value,
                            asserted_at: said.asserted_at,
                            expires_at: said.expires_at,
                            how: How::Login,
                            occasion,
                        },
                        note: String::new(),
                        recorded_by: recorded_by.clone(),
                        recorded_at: now,
                    };
                    let rows: Vec<Kept> = learned.rows.into_iter().map(kept).collect();
                    store::persons::evidence_insert_in_tx(conn, person, &rows).await?;
                    store::logins::login_done_in_tx(conn, login.id, &learned.ignored, now).await?;
                    Ok(Login { ignored: learned.ignored, done_at: Some(now), ..login })
                })
            })
            .await?;
        self.login_state(&done).await
    }
}

async fn room(conn: &mut Db<'_>, key: &PublicKey) -> Result<(), Failure> {
    let (of_all, of_key) = store::logins::logins_open(conn, key).await?;
    if of_key >= LOGINS_OF_KEY_MAX {
        let what = "logins of a key within a quarter of an hour";
        return Err(Failure::Limit { what, max: LOGINS_OF_KEY_MAX.to_string() });
    }
    if of_all >= LOGINS_MAX { Err(Failure::Busy) } else { Ok(()) }
}

/// Whose key it is from now on.
///
/// A code that is typed into another device can be somebody else's idea: who types it in may think that they log in themselves. So
/// a device's login makes persons and renews what is known of them; it neither adds a key to a person who has one, nor an account
/// of another issuer to a person who is known already. A browser on the same computer does both.
async fn person_in_tx(
    conn: &mut Db<'_>,
    login: &Login,
    subject: &str,
    fresh: MemberId,
    now: Timestamp,
) -> Result<MemberId, Failure> {
    let bound = store::persons::key_find(conn, &login.key).await?;
    if bound.is_some_and(|bound| bound.revoked_at.is_some()) {
        return Err(Failure::LoginRefused { why: "this key was revoked: make another one (comity init)".into() });
    }
    let called = store::persons::person_called(conn, &login.issuer, subject).await?;
    let only_browser = |what: &str, instead: &str| {
        Err(Failure::LoginRefused { why: format!("{what} by a code on another device: {instead}") })
    };
    let person = match (bound.map(|bound| bound.person), called) {
        (Some(own), Some(called)) if own == called => own,
        (Some(_), Some(_)) => {
            return Err(Failure::LoginRefused {
                why: "this account is another person's here: the clearing house's operator can say which key is whose"
                    .into(),
            });
        }
        (Some(own), None) => {
            let has_account = !store::persons::subjects_of(conn, own).await?.is_empty();
            if has_account && !login.is_browsers() {
                return only_browser("no further account is added", "comity login --browser");
            }
            store::persons::subject_insert_in_tx(conn, (&login.issuer, subject), own, now).await?;
            own
        }
        (None, Some(called)) => {
            let keys = store::persons::keys_of(conn, called).await?;
            if keys.iter().any(|key| key.revoked_at.is_none()) && !login.is_browsers() {
                let instead = format!(
                    "comity whoami --add {}, with a key of the same person; or comity login --browser",
                    login.key
                );
                return only_browser("no further key is added", &instead);
            }
            called
        }
        (None, None) => {
            store::persons::person_insert_in_tx(conn, fresh, now).await?;
            store::persons::subject_insert_in_tx(conn, (&login.issuer, subject), fresh, now).await?;
            fresh
        }
    };
    bind_in_tx(conn, person, &login.key, By::Login, now).await?;
    Ok(person)
}

impl Issuers {
    fn named(&self, name: Option<&str>) -> Result<&Client, Failure> {
        let names = || self.clients.iter().map(|client| client.issuer.name.as_str()).collect::<Vec<_>>().join(", ");
        match (name, &self.clients[..]) {
            (_, []) => Err(Failure::NotFound {
                what:
                    "issuer: this house knows none, and its operator vouches for persons (comity clearing person vouch)"
                        .into(),
            }),
            (None, [only]) => Ok(only),
            (None, _) => Err(Failure::invalid(format!("name one of the issuers: {}", names()))),
            (Some(name), clients) => {
                let found = clients.iter().find(|client| client.issuer.name == name);
                found.ok_or_else(|| Failure::NotFound { what: format!("issuer {name}: there are {}", names()) })
            }
        }
    }

    fn of(&self, issuer: &str) -> Result<&Client, Failure> {
        let found = self.clients.iter().find(|client| client.issuer.issuer == issuer);
        found.ok_or_else(|| Failure::LoginRefused { why: format!("{issuer} is believed no more") })
    }

    async fn call(&self, client: &Client, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failure> {
        let unreached = |what: String| {
            tracing::warn!(issuer = client.issuer.name, error = what, "an issuer gives no answer");
            Failure::IssuerUnreached { issuer: client.issuer.name.clone(), what }
        };
        let line = self.line.as_ref().ok_or_else(|| unreached("no wire".into()))?;
        let response = line.call(request).await.map_err(|error| unreached(error.to_string()))?;
        if response.body().len() > REPLY_BYTES_MAX {
            return Err(unreached(format!("an answer of more than {REPLY_BYTES_MAX} bytes")));
        }
        Ok(response)
    }

    /// Endpoints and keys, asked for where they are not remembered.
    async fn known(&self, client: &Client, now: Timestamp) -> Result<Known, Failure> {
        let remembered = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&client.issuer.issuer).cloned();
        match remembered.filter(|known| now < known.at.plus(REMEMBERED_S) && known.at <= now) {
            Some(known) => Ok(known),
            None => self.fetched(client, now).await,
        }
    }

    async fn fetched(&self, client: &Client, now: Timestamp) -> Result<Known, Failure> {
        let told = |answered| of_issuer(client, answered);
        let response = self.call(client, oidc::metadata_request(&client.issuer)).await?;
        let metadata = oidc::metadata(&client.issuer, &response).map_err(told)?;
        let response = self.call(client, oidc::keys_request(&metadata)).await?;
        let known = Known { keys: oidc::keys(&response).map_err(told)?, metadata, at: now };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(client.issuer.issuer.clone(), known.clone());
        Ok(known)
    }

    /// What the issuer says of whoever logged in, verified.
    async fn claims(
        &self,
        client: &Client,
        known: &Known,
        tokens: &Tokens,
        login: &Login,
        now: Timestamp,
    ) -> Result<Map<String, Value>, Failure> {
        let refused = |why: String| Failure::LoginRefused { why };
        let token = tokens.id_token.as_deref().ok_or_else(|| refused("the issuer sent no ID token".into()))?;
        let nonce = login.is_browsers().then_some(login.nonce.as_str());
        let expected = Expected { nonce, mfa: login.mfa };
        let verify = |known: &Known| oidc::verify::verify(&client.issuer, &known.keys, token, expected, now);
        let mut told = match verify(known) {
            // Its keys may have turned: asked for once more, and not at every token that somebody makes up.
            Err(NotVerified::UnknownKey) if known.at.plus(REFETCH_S) <= now => {
                let newer = self.fetched(client, now).await?;
                verify(&newer)
            }
            other => other,
        }
        .map_err(|error| refused(error.to_string()))?;
        if client.issuer.userinfo
            && let Some(endpoint) = &known.metadata.userinfo_endpoint
        {
            let request = oidc::userinfo_request(endpoint, &tokens.access_token);
            let response = self.call(client, request).await?;
            let more: Map<String, Value> = oidc::read(&response).map_err(|answered| of_issuer(client, answered))?;
            // OpenID Connect Core §5.3.2: it may be somebody else's.
            if more.get("sub") != told.get("sub") {
                return Err(refused("userinfo is of another subject than the ID token".into()));
            }
            for (name, value) in more {
                // How and when somebody logged in is the ID token's to say.
                if !["acr", "auth_time", "iss", "aud", "azp"].contains(&name.as_str()) {
                    told.entry(name).or_insert(value);
                }
            }
        }
        Ok(told)
    }
}

fn of_issuer(client: &Client, answered: Answered) -> Failure {
    match answered {
        Answered::Status { .. } | Answered::Unreadable { .. } => {
            Failure::IssuerUnreached { issuer: client.issuer.name.clone(), what: answered.to_string() }
        }
        other => Failure::LoginRefused { why: format!("{}: {other}", client.issuer.name) },
    }
}

fn pending(retry_after_s: u64) -> LoginState {
    LoginState { state: "pending".into(), retry_after_s: Some(retry_after_s.max(1)), ignored: Vec::new(), whoami: None }
}

/// RFC 8252 §7.3: a browser comes back to the computer that it runs on.
fn loopback(redirect: &str) -> Result<&str, Failure> {
    let rest = ["http://127.0.0.1:", "http://[::1]:"].iter().find_map(|host| redirect.strip_prefix(host));
    let port = rest.and_then(|rest| rest.split_once('/')).and_then(|(port, _)| port.parse::<u16>().ok());
    let is_plain = redirect.bytes().all(|byte| byte.is_ascii_graphic()) && !redirect.contains(['?', '#', '@', '\\']);
    if port.is_some() && is_plain && redirect.len() <= 256 {
        Ok(redirect)
    } else {
        Err(Failure::invalid("redirect is http://127.0.0.1:PORT/… or http://[::1]:PORT/…, without a query"))
    }
}

fn secret() -> Result<String, Failure> {
    let (one, two) = (random()?, random()?);
    Ok(URL_SAFE_NO_PAD.encode([one, two].concat()))
}
