//! An OpenID provider on loopback, over real HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{RawForm, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_node::shell;
use comity_wire::SecretKey;
use serde_json::{Value, json};

/// Whoever comes is the person of the hour.
#[derive(Debug)]
pub struct Provider {
    issuer: String,
    state: Arc<Mutex<Saying>>,
}

#[derive(Debug)]
struct Saying {
    issuer: String,
    claims: Value,
    /// How often a device is told to wait.
    waits: u32,
    nonce: Option<String>,
    key: SecretKey,
}

type Shared = Arc<Mutex<Saying>>;

impl Provider {
    /// # Panics
    /// Where the machine has no free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let key = SecretKey::from_seed(shell::random());
        let saying = Saying { issuer: issuer.clone(), claims: json!({}), waits: 0, nonce: None, key };
        let state = Arc::new(Mutex::new(saying));
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/device", post(device))
            .route("/token", post(token))
            .route("/authorize", get(authorize))
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { issuer, state }
    }

    /// What a house's `clearing.toml` says of it, under the name `uni`.
    pub fn believed(&self) -> String {
        format!(
            "[[issuer]]\nname = \"uni\"\nissuer = \"{}\"\nclient_id = \"comity\"\nprofile = \"institution\"\naffiliation_scopes = [\"uni.example\"]\n",
            self.issuer
        )
    }

    /// Who comes next, and how often their device is told to wait.
    ///
    /// # Panics
    /// Where a request panicked.
    pub fn says(&self, claims: Value, waits: u32) {
        let mut saying = self.state.lock().expect("nobody panicked");
        (saying.claims, saying.waits, saying.nonce) = (claims, waits, None);
    }
}

async fn metadata(State(state): State<Shared>) -> Json<Value> {
    let issuer = state.lock().expect("nobody panicked").issuer.clone();
    Json(json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/jwks"), "token_endpoint": format!("{issuer}/token"),
        "authorization_endpoint": format!("{issuer}/authorize"), "device_authorization_endpoint": format!("{issuer}/device"),
    }))
}

async fn jwks(State(state): State<Shared>) -> Json<Value> {
    let x = URL_SAFE_NO_PAD.encode(state.lock().expect("nobody panicked").key.public().as_bytes());
    Json(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "use": "sig", "alg": "EdDSA" }] }))
}

async fn device(State(state): State<Shared>) -> Json<Value> {
    let page = format!("{}/activate", state.lock().expect("nobody panicked").issuer);
    Json(
        json!({ "device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": page, "expires_in": 600, "interval": 1 }),
    )
}

async fn authorize(State(state): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = pairs(query.as_deref().unwrap_or_default());
    state.lock().expect("nobody panicked").nonce = Some(query["nonce"].clone());
    Redirect::to(&format!("{}?code=good&state={}", query["redirect_uri"], query["state"])).into_response()
}

async fn token(State(state): State<Shared>, RawForm(form): RawForm) -> Response {
    let form = pairs(std::str::from_utf8(&form).expect("a form"));
    let mut saying = state.lock().expect("nobody panicked");
    let is_device = form["grant_type"].ends_with(":device_code");
    if is_device && saying.waits > 0 {
        saying.waits -= 1;
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "authorization_pending" }))).into_response();
    }
    let now = shell::now().seconds();
    let mut claims =
        json!({ "iss": saying.issuer, "aud": form["client_id"], "iat": now, "exp": now + 300, "auth_time": now });
    if let Some(nonce) = &saying.nonce {
        claims["nonce"] = json!(nonce);
    }
    claims.as_object_mut().expect("an object").extend(saying.claims.as_object().expect("an object").clone());
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({ "alg": "EdDSA", "kid": "k" })), part(&claims));
    let id_token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(saying.key.sign(text.as_bytes())));
    Json(json!({ "access_token": "at", "token_type": "Bearer", "id_token": id_token })).into_response()
}

/// A query or a form, read.
///
/// # Panics
/// Where it is neither.
pub fn pairs(text: &str) -> BTreeMap<String, String> {
    let plain = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next().expect("two digits"), rest.next().expect("two digits")];
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).expect("text")
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (plain(name), plain(value))).collect()
}
