//! From a student without anything to a vetted project, by the commands, with processes and an OpenID provider on loopback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::extract::{RawForm, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_node::shell;
use comity_tests::federation::{LOOPBACK, PER_REQUEST};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::SecretKey;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// An OpenID provider: whoever comes is the person of the hour.
struct Provider {
    issuer: String,
    state: Arc<Mutex<Saying>>,
}

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
    async fn start() -> Self {
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

    fn says(&self, claims: Value, waits: u32) {
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

fn pairs(text: &str) -> BTreeMap<String, String> {
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

/// Somebody with a profile of their own.
struct Person {
    home: PathBuf,
    key: String,
}

impl Person {
    async fn new(federation: &Federation, name: &str) -> Self {
        let home = federation.path().join(name);
        let roster = federation.path().join("roster/roster.cbor").display().to_string();
        let said = at(&home, &["init", "--roster", &roster, "--entry", &federation.address("hub")]).await;
        let key = said.split_whitespace().find(|word| word.starts_with("did:key:")).expect("a key").to_owned();
        Self { home, key }
    }

    async fn does(&self, arguments: &[&str]) -> String {
        at(&self.home, arguments).await
    }

    async fn asks(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(arguments).await).expect("JSON")
    }
}

async fn at(home: &Path, arguments: &[&str]) -> String {
    let home = home.display().to_string();
    process::expect(&[&["--home", &home], arguments].concat()).await
}

/// `comity login --browser`, with somebody who opens what it says.
async fn in_browser(person: &Person) -> String {
    let mut command = tokio::process::Command::new(process::binary());
    command.arg("--home").arg(&person.home).args(["login", "--browser"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let url = loop {
        let line = lines.next_line().await.expect("it is read").expect("it says what to open");
        if let Some((_, url)) = line.split_once("open   ") {
            break url.to_owned();
        }
    };
    let redirect = url.split("redirect_uri=").nth(1).and_then(|rest| rest.split('&').next()).expect("a redirect");
    let door = pairs(&format!("u={redirect}"))["u"].clone();
    // Somebody else's page knocks first, and is passed over.
    reqwest::get(format!("{door}?code=evil&state=evil")).await.expect("the door is open");
    let page = reqwest::get(&url).await.expect("the provider and the door answer");
    assert!(page.text().await.expect("a page").contains("can be closed"));
    let ended = child.wait_with_output().await.expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_student_comes_to_a_vetted_project_by_the_commands() {
    let provider = Provider::start().await;
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let believed = format!(
        "[[issuer]]\nname = \"uni\"\nissuer = \"{}\"\nclient_id = \"comity\"\nprofile = \"institution\"\naffiliation_scopes = [\"uni.example\"]\n",
        provider.issuer
    );
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == "house" {
            std::fs::write(home.join("clearing.toml"), &believed).expect("clearing.toml");
        }
    })
    .await;
    let house = federation.path().join("house").display().to_string();
    let operator =
        async |arguments: &[&str]| process::expect(&[&["clearing"], arguments, &["--home", &house]].concat()).await;
    let code = federation.path().join("conduct.txt");
    std::fs::write(&code, "Use what you are given for what you said.\n").expect("a text");
    operator(&["person", "conduct", "--name", "2026-1", &code.display().to_string()]).await;

    // The PI logs in with a second factor by a code on another device, signs, proposes.
    let ada = Person::new(&federation, "ada").await;
    let bob = Person::new(&federation, "bob").await;
    assert!(ada.does(&["whoami"]).await.contains(&ada.key));
    assert!(ada.does(&["login", "--list"]).await.contains("uni http://127.0.0.1"));
    provider.says(
        json!({
            "sub": "ada", "acr": "https://refeds.org/profile/mfa", "eduperson_scoped_affiliation": ["faculty@uni.example"],
            "eduperson_assurance": ["https://refeds.org/assurance/profile/cappuccino", "https://refeds.org/assurance/ATP/ePA-1m"],
        }),
        1,
    );
    assert!(ada.does(&["login", "--mfa"]).await.contains("known as ada at http://127.0.0.1"));
    assert!(ada.does(&["conduct", "show"]).await.contains("for what you said"));
    ada.does(&["conduct", "sign"]).await;
    let said = ada
        .does(&[
            "project",
            "propose",
            "--title",
            "Weather",
            "--purpose",
            "Whether small models know.",
            "--use-term",
            "DUO:0000042",
            "--member",
            &bob.key,
        ])
        .await;
    let project = said.split_whitespace().next().expect("an id").to_owned();
    assert!(
        project.starts_with("proj-") && said.contains("missing accepted") && said.contains("the move of: house"),
        "{said}"
    );
    // The operator reads it, takes it in, and gives it credits.
    let waiting: Value = serde_json::from_str(&operator(&["project", "proposals"]).await).expect("JSON");
    assert_eq!((&waiting[0]["project"], &waiting[0]["state"]), (&json!(project), &json!("waits")));
    operator(&["project", "accept", &project]).await;
    operator(&["project", "award", &project, "--credits", "1", "--funder", "F", "--award", "1"]).await;
    assert_eq!(ada.asks(&["whoami", "--json"]).await["projects"][0]["level"]["vetting"], json!("vetted"));
    // The student logs in with a browser on the same computer, signs, and is told that the PI is next.
    provider.says(json!({ "sub": "bob", "eduperson_assurance": "https://igtf.net/ap/authn-assurance/dogwood" }), 0);
    assert!(in_browser(&bob).await.contains("known as bob"));
    let said = bob.does(&["conduct", "sign"]).await;
    assert!(said.contains("missing sponsor") && said.contains("the move of: pi"), "{said}");
    ada.does(&["project", "sponsor", &bob.key, "--days", "120"]).await;
    let status = ada.asks(&["project", "status", "--json"]).await;
    let members: BTreeMap<String, Value> = status["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| (member["key"].as_str().expect("a key").to_owned(), member["level"].clone()))
        .collect();
    assert_eq!(
        (&members[&ada.key]["vetting"], &members[&bob.key]["vetting"]),
        (&json!("vetted"), &json!("vetted")),
        "{status}"
    );
    // It is good for an answer.
    assert!(ada.does(&["chat", "lab/model", "Where?"]).await.contains("Paris."));
    // One more device agrees to be the PI's; when it is lost it is ended, and stays so.
    let laptop = Person::new(&federation, "laptop").await;
    let person = ada.asks(&["whoami", "--json"]).await["person"].as_str().expect("a person").to_owned();
    let join = laptop.does(&["whoami", "--join", &person]).await;
    let add: Vec<&str> = join.split_whitespace().skip(1).collect();
    assert!(ada.does(&add).await.contains(&laptop.key));
    ada.does(&["whoami", "--revoke", &laptop.key]).await;
    assert!(laptop.does(&["whoami"]).await.contains("revoked at"));
    let evidence = operator(&["person", "evidence", &person]).await;
    assert!(evidence.contains("profile/cappuccino") && !evidence.contains("email"), "{evidence}");
    federation.end().await;
}
