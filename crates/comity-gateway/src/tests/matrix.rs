//! Who gets what on which route: every route of the table, asked by every kind of caller.
//!
//! A route without a row fails, and `docs/reference/routes.md` says what the rows do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use axum::body::Body;
use axum::response::Response;
use comity_supply::Answer;
use comity_supply::scripted::Script;
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Grant, Tier, Token};
use comity_wire::{Code, GrantId, Op, cose};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::agreed;
use super::canaries::good;
use super::world::*;
use crate::routes::{FREE, PRICED, Route};
use crate::store::stops::{Running, Stop, Target, Word};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// Nobody in particular: no token, no signature.
    Nobody,
    /// A token that does not name the route's op.
    AnotherOp,
    /// A token, and its key, of a project that the owner has not let in.
    AnotherProject,
    Expired,
    Revoked,
    /// The right token, where no tier that it reaches has the op.
    TierWithoutOp,
    /// The right token, where the operator has stopped the node.
    Stopped,
    Right,
}

use Caller::{AnotherOp, AnotherProject, Expired, Nobody, Revoked, Right, Stopped, TierWithoutOp};

const CALLERS: [Caller; 8] = [Nobody, AnotherOp, AnotherProject, Expired, Revoked, TierWithoutOp, Stopped, Right];

/// The code that each caller gets, in the order of [`CALLERS`]; `ok` is 200.
type Row = (&'static str, &'static str, [&'static str; 8]);

const PAID: [&str; 8] =
    ["unsigned", "op_not_in_scope", "grant_required", "expired", "revoked", "op_not_offered", "stopped", "ok"];
const OPEN: [&str; 8] = ["ok"; 8];
/// Settling goes on after expiry and revocation and while the node is stopped, and asks for no op.
const HELD: [&str; 8] = ["unsigned", "ok", "not_yours", "ok", "ok", "ok", "ok", "ok"];
/// The object is signed, whoever brings it.
const CARRIED: [&str; 8] = ["invalid_request", "ok", "wrong_key", "ok", "ok", "ok", "ok", "ok"];

/// Who agrees for a project is its own, with a token that lives; no op is asked for.
const SIGNED: [&str; 8] = ["unsigned", "ok", "not_yours", "expired", "revoked", "ok", "ok", "ok"];

const ROWS: &[Row] = &[
    ("POST", "/v1/chat/completions", PAID),
    ("POST", "/v1/completions", PAID),
    ("POST", "/v1/responses", PAID),
    ("POST", "/v1/embeddings", PAID),
    ("POST", "/tokenize", PAID),
    ("POST", "/detokenize", PAID),
    ("GET", "/tokenizer_info", PAID),
    ("POST", "/v1/moderations", PAID),
    ("POST", "/v1/predict", PAID),
    ("GET", "/v1/models", OPEN),
    ("GET", "/v1/models/{*id}", OPEN),
    ("GET", "/health", OPEN),
    ("POST", "/comity/v1/tokens", HELD),
    ("POST", "/comity/v1/acknowledgements", CARRIED),
    ("GET", "/comity/v1/receipts", HELD),
    ("POST", "/comity/v1/receipts", CARRIED),
    ("POST", "/comity/v1/finals", HELD),
    ("GET", "/comity/v1/lanes", HELD),
    ("GET", "/comity/v1/plans", HELD),
    ("GET", "/comity/v1/terms/{digest}", OPEN),
    ("GET", "/comity/v1/agreements", HELD),
    ("POST", "/comity/v1/agreements", SIGNED),
    ("GET", "/comity/v1/node", OPEN),
];

/// A world in which the owner has let one project in.
async fn granted(without: Option<Op>) -> World {
    let mut setting = Setting { without, ..Setting::default() };
    setting.tier.grant = true;
    let world = World::new(setting).await;
    let grant = Grant {
        id: GrantId([1; 16]),
        org: LAB,
        subject: Text::new("sub-of-the-project").unwrap(),
        models: List::new(vec![model()]).unwrap(),
        tier: Tier::Open,
        ops: List::default(),
        not_before: NOW,
        not_after: NOW.plus(100_000),
        plan: None,
        executions: None,
        reason: Text::new("").unwrap(),
    };
    world.gateway.grant_put(cose::sign(&grant, &secret("lab writer")).bytes()).await.unwrap();
    world.gateway.terms_put(&agreed::terms(1).to_bytes().unwrap()).await.unwrap();
    let whole = |body: Value| move |_: &comity_supply::Call| Script::Whole(Answer { body: body.clone(), usage: None });
    world.upstream.set_answer(Op::Embeddings, whole(json!({"data": [{"embedding": [1.0]}]})));
    world.upstream.set_answer(Op::Tokenize, whole(json!({"tokens": [1], "prompt": "a"})));
    world.upstream.set_answer(Op::Predict, whole(json!({"outputs": [0.5]})));
    world
}

async fn stop(world: &World) {
    let word = Word { author: "ada".into(), reason: "an audit".into(), at: NOW };
    let stop = Stop { target: Target::Node, running: Running::Finishes, word };
    world.gateway.stop_put(stop).await.unwrap();
}

fn scoped(token: &mut Token, ops: Vec<Op>) {
    let mut scope = token.terms.scope[0].clone();
    scope.ops = List::new(ops).unwrap();
    token.terms.scope = List::new(vec![scope]).unwrap();
}

async fn unsigned(world: &World, method: &str, path: &str, body: &Value) -> Response {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(path).body(Body::from(bytes)).unwrap();
    world.gateway.router().oneshot(request).await.unwrap()
}

async fn priced(route: &'static Route, caller: Caller) -> Response {
    let world = granted((caller == TierWithoutOp).then_some(route.op)).await;
    let mut body = good(route.paths[0]);
    body["model"] = "lab/tiny".into();
    if route.op == Op::Predict {
        body["inputs"] = json!([{"age": 3}]);
    }
    let (method, body) = match route.method {
        http::Method::GET => ("GET", Value::Null),
        _ => ("POST", body),
    };
    let others: Vec<Op> = OPS.into_iter().filter(|op| *op != route.op).collect();
    let chain = match caller {
        Nobody => return unsigned(&world, method, route.paths[0], &body).await,
        AnotherOp => world.mint(|token| scoped(token, others)),
        AnotherProject => world.mint(|token| token.subject = Text::new("sub-of-another").unwrap()),
        Expired => world.mint(|token| {
            (token.expires_at, token.not_before, token.issued_at) = (NOW.minus(60), NOW.minus(99), NOW.minus(99));
        }),
        Revoked => {
            world.revoke_token();
            world.mint(|_| {})
        }
        Stopped => {
            stop(&world).await;
            world.mint(|_| {})
        }
        TierWithoutOp | Right => world.mint(|_| {}),
    };
    let path = if method == "GET" { format!("{}?model=lab/tiny", route.paths[0]) } else { route.paths[0].to_owned() };
    let mut ask = world.ask(&chain).to(&path, body);
    ask.method = method;
    let response = world.send(&ask).await;
    if response.status() != 200 {
        assert!(world.upstream.calls().is_empty(), "{} {caller:?}: the model was asked", route.paths[0]);
    }
    response
}

/// A route that costs nothing, asked about a token under which one call was charged.
async fn free(method: &'static str, path: &str, caller: Caller) -> Response {
    let world = granted(None).await;
    let chain = world.mint(|token| {
        if caller == AnotherOp {
            scoped(token, vec![Op::Chat]);
        }
    });
    let (_, headers, _) = read(world.send(&world.ask(&chain)).await).await;
    let receipt = receipt(&headers);
    match caller {
        Expired => drop(world.clock.fetch_add(7_200, std::sync::atomic::Ordering::SeqCst)),
        Revoked => world.revoke_token(),
        Stopped => stop(&world).await,
        _ => {}
    }
    let key = secret(if caller == AnotherProject { "of another project" } else { "holder" });
    let signed = |bytes: &[u8]| comity_wire::api::clearing::SignedBytes::new(bytes).unwrap();
    let slot = format!("token={TOKEN}&leaf={}&lane=0&seq=1", receipt.leaf);
    let (query, body) = match (method, path) {
        ("POST", "/comity/v1/tokens") => {
            (String::new(), json!({"holder": secret("holder").public(), "models": ["lab/tiny"], "valid_s": 600}))
        }
        ("POST", "/comity/v1/acknowledgements") if caller != Nobody => {
            (String::new(), json!({"acknowledgement": signed(&acknowledge(&[&receipt], &key))}))
        }
        ("POST", "/comity/v1/receipts") if caller != Nobody => {
            let forged = cose::sign(receipt.object(), &key);
            let shown = if caller == AnotherProject { forged.bytes() } else { receipt.bytes() };
            (String::new(), json!({"receipt": signed(shown)}))
        }
        ("POST", "/comity/v1/finals") => (String::new(), json!({"token": TOKEN})),
        ("GET", "/comity/v1/receipts") => (slot, Value::Null),
        ("POST", "/comity/v1/agreements") if caller != Nobody => {
            (String::new(), agreed::agreement(&world, &key, |_| {}))
        }
        ("GET", "/comity/v1/lanes" | "/comity/v1/plans" | "/comity/v1/agreements") => {
            (format!("token={TOKEN}"), Value::Null)
        }
        _ => (String::new(), Value::Null),
    };
    let path = path.replace("{*id}", "lab/tiny").replace("{digest}", &agreed::terms(1).digest().to_string());
    if caller == Nobody {
        let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
        return unsigned(&world, method, &uri, &body).await;
    }
    world.call(method, &path, &query, &body, &key).await
}

#[tokio::test]
async fn every_caller_gets_what_its_row_says_on_every_route() {
    let rows: BTreeSet<_> = ROWS.iter().map(|(method, path, _)| (*method, *path)).collect();
    let priced_routes = PRICED.iter().map(|route| (route.method.as_str(), route.paths[0]));
    let routes: BTreeSet<_> = priced_routes.chain(FREE.iter().map(|route| (route.method, route.paths[0]))).collect();
    assert_eq!(rows, routes, "each route has a row here, and each row is a route");
    for (method, path, expected) in ROWS {
        for (caller, expected) in CALLERS.into_iter().zip(expected) {
            let route = PRICED.iter().find(|route| route.paths[0] == *path && route.method == *method);
            let response = match route {
                Some(route) => priced(route, caller).await,
                None => free(method, path, caller).await,
            };
            assert_eq!(code(response).await, *expected, "{method} {path}: {caller:?}");
        }
    }
}

/// `docs/reference/routes.md` between its marks.
fn page() -> String {
    let mut page = String::from(
        "| route | no token | token without the op | of another project | expired | revoked | tier without the op | node stopped | right |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (method, path, expected) in ROWS {
        write!(page, "| `{method}` `{}` |", path.replace("{*id}", "{id}")).unwrap();
        for code in expected {
            let status = if *code == "ok" { 200 } else { code.parse::<Code>().unwrap().status() };
            write!(page, " {status}{} |", if *code == "ok" { String::new() } else { format!(" `{code}`") }).unwrap();
        }
        page.push('\n');
    }
    page
}

#[test]
fn the_page_says_who_gets_what() {
    let written = include_str!("../../../../docs/reference/routes.md");
    let between =
        written.split("<!-- callers:begin -->\n").nth(1).and_then(|rest| rest.split("<!-- callers:end -->").next());
    let page = page();
    assert!(between == Some(&*page), "docs/reference/routes.md: between its marks there should be\n{page}");
}
