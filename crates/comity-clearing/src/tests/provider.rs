//! An OpenID provider in this process: fixed keys, the world's clock, and whatever a test wants it to say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_wire::{SecretKey, Timestamp};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::world::*;
use crate::persons::Issuer;
use crate::persons::oidc::{Client, Line, Secret, Unreached};

pub(super) const ISSUER: &str = "https://idp.uni.example";

/// What it would do now.
pub(super) struct Saying {
    /// Paths that were asked for, in order.
    pub(super) calls: Vec<String>,
    /// The newest form.
    pub(super) form: BTreeMap<String, String>,
    pub(super) authorization: String,
    /// What it signs with, and what it says that it does.
    pub(super) key: SecretKey,
    pub(super) published: SecretKey,
    pub(super) kid: String,
    pub(super) header: Value,
    /// Claims of the next ID token, over what one needs.
    pub(super) claims: Value,
    pub(super) userinfo: Value,
    /// What the token endpoint answers in place of tokens.
    pub(super) refuses: Option<&'static str>,
    pub(super) metadata: Value,
    pub(super) is_down: bool,
    /// Of the authorization request that a browser opened.
    pub(super) nonce: Option<String>,
    pub(super) challenge: Option<String>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Provider(pub(super) Arc<Mutex<Saying>>, pub(super) Arc<std::sync::atomic::AtomicU64>);

pub(super) fn issuer() -> Issuer {
    let text = r#"{"name": "uni", "issuer": "https://idp.uni.example", "client_id": "comity", "profile": "institution",
        "affiliation_scopes": ["uni.example"], "scopes": ["profile"]}"#;
    serde_json::from_str(text).unwrap()
}

impl Provider {
    /// One that says everything a PI needs, believed by the world's house.
    pub(super) fn of(world: &World, issuer: Issuer) -> Self {
        let metadata = json!({
            "issuer": ISSUER, "authorization_endpoint": format!("{ISSUER}/authorize"), "token_endpoint": format!("{ISSUER}/token"),
            "jwks_uri": format!("{ISSUER}/jwks"), "userinfo_endpoint": format!("{ISSUER}/userinfo"),
            "device_authorization_endpoint": format!("{ISSUER}/device"),
        });
        let saying = Saying {
            calls: Vec::new(),
            form: BTreeMap::new(),
            authorization: String::new(),
            key: secret("op"),
            published: secret("op"),
            kid: "k1".into(),
            header: json!({ "alg": "EdDSA", "kid": "k1", "typ": "JWT" }),
            claims: json!({}),
            userinfo: json!({}),
            refuses: None,
            metadata,
            is_down: false,
            nonce: None,
            challenge: None,
        };
        let provider = Self(Arc::new(Mutex::new(saying)), Arc::clone(&world.clock));
        let secret = Some(Secret(zeroize::Zeroizing::new("pass/word".to_owned())));
        world.house.believe(vec![Client { issuer, secret }], Arc::new(provider.clone())).unwrap();
        provider
    }

    pub(super) fn says<T>(&self, change: impl FnOnce(&mut Saying) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.1.load(std::sync::atomic::Ordering::SeqCst))
    }

    /// Everything that a PI needs, said of `sub`.
    pub(super) fn professor(&self, sub: &str) -> Value {
        json!({
            "sub": sub, "eduperson_scoped_affiliation": ["faculty@uni.example"],
            "eduperson_assurance": ["https://refeds.org/assurance/profile/cappuccino", "https://refeds.org/assurance/ATP/ePA-1m"],
            "acr": "https://refeds.org/profile/mfa", "auth_time": self.now().0,
        })
    }

    /// A browser opens `url`, and the person in front of it agrees.
    pub(super) fn opens(&self, url: &str) -> BTreeMap<String, String> {
        let (place, query) = url.split_once('?').unwrap();
        assert_eq!(place, format!("{ISSUER}/authorize"));
        let query = form(query.as_bytes());
        assert_eq!((query["response_type"].as_str(), query["code_challenge_method"].as_str()), ("code", "S256"));
        self.says(|saying| {
            (saying.nonce, saying.challenge) = (Some(query["nonce"].clone()), Some(query["code_challenge"].clone()));
        });
        query
    }

    fn answer(&self, request: &Request<Vec<u8>>) -> (u16, Value) {
        let now = self.now();
        let mut saying = self.0.lock().unwrap();
        let path = request.uri().path().to_owned();
        saying.calls.push(path.clone());
        match path.as_str() {
            "/.well-known/openid-configuration" => (200, saying.metadata.clone()),
            "/jwks" => {
                let x = URL_SAFE_NO_PAD.encode(saying.published.public().as_bytes());
                let kid = &saying.kid;
                (
                    200,
                    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA" }] }),
                )
            }
            "/device" => {
                saying.form = form(request.body());
                let page = format!("{ISSUER}/activate");
                (
                    200,
                    json!({ "device_code": "dev-1", "user_code": "WDJB-MJHT", "verification_uri": page, "expires_in": 600, "interval": 5 }),
                )
            }
            "/token" => {
                saying.form = form(request.body());
                saying.authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
                if let Some(error) = saying.refuses {
                    return (400, json!({ "error": error, "error_description": "said by a test" }));
                }
                if saying.form["grant_type"] == "authorization_code" {
                    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(saying.form["code_verifier"].as_bytes()));
                    if saying.form["code"] != "good" || saying.challenge.as_deref() != Some(challenge.as_str()) {
                        return (400, json!({ "error": "invalid_grant" }));
                    }
                } else if saying.form["device_code"] != "dev-1" {
                    return (400, json!({ "error": "invalid_grant" }));
                }
                let mut claims = json!({ "iss": ISSUER, "aud": "comity", "iat": now.0, "exp": now.plus(300).0 });
                if let Some(nonce) = &saying.nonce {
                    claims["nonce"] = json!(nonce);
                }
                for (name, value) in saying.claims.as_object().unwrap() {
                    if value.is_null() {
                        claims.as_object_mut().unwrap().remove(name);
                    } else {
                        claims[name] = value.clone();
                    }
                }
                (
                    200,
                    json!({ "access_token": "at", "token_type": "Bearer", "id_token": signed(&saying.header, &claims, &saying.key) }),
                )
            }
            "/userinfo" => {
                assert_eq!(request.headers()["authorization"], "Bearer at");
                (200, saying.userinfo.clone())
            }
            other => panic!("{other}"),
        }
    }
}

/// A JWT: whatever its header says, signed by Ed25519.
pub(super) fn signed(header: &Value, claims: &Value, key: &SecretKey) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap());
    let text = format!("{}.{}", part(header), part(claims));
    let signature =
        if header["alg"] == "none" { String::new() } else { URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes())) };
    format!("{text}.{signature}")
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(body).unwrap();
    let plain = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, more)) = rest.split_first() {
            if *first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&more[..2]).unwrap(), 16).unwrap());
                rest = &more[2..];
            } else {
                bytes.push(*first);
                rest = more;
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (plain(name), plain(value))).collect()
}

impl Line for Provider {
    fn call(&self, request: Request<Vec<u8>>) -> BoxFuture<'_, Result<Response<Vec<u8>>, Unreached>> {
        if self.says(|saying| saying.is_down) {
            return std::future::ready(Err(Unreached { what: "connection refused".into() })).boxed();
        }
        let (status, body) = self.answer(&request);
        let response = Response::builder().status(status).body(serde_json::to_vec(&body).unwrap()).unwrap();
        std::future::ready(Ok(response)).boxed()
    }
}
