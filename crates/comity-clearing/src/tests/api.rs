//! The house's HTTP API as a whole: what is described is what is served, and every refusal is a problem.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use comity_wire::Digest;
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;
use crate::http::openapi;

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_document_in_spec_is_what_the_code_serves() {
    assert!(file("spec/openapi/clearing.json") == openapi(), "make it anew: cargo xtask openapi");
}

fn described() -> Value {
    serde_json::from_str(openapi()).unwrap()
}

/// `GET /v1/house` and the like.
fn routes() -> BTreeSet<String> {
    let document = described();
    let paths = document["paths"].as_object().unwrap().iter();
    let of = |(path, methods): (&String, &Value)| {
        let methods: Vec<String> = methods.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    paths.flat_map(of).collect()
}

#[test]
fn the_spec_lists_every_route_and_no_other() {
    let chapter = file("spec/09-http.md");
    let (_, rest) = chapter.split_once("\n## 9.2 ").expect("§9.2");
    let (section, _) = rest.split_once("\n## 9.3 ").expect("§9.3");
    let first = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> = first.map(|route| route.split('?').next().unwrap_or(route).to_owned()).collect();
    assert_eq!(listed, routes(), "routes of spec/09-http.md §9.2, and those of the table");
}

#[test]
fn requests_are_closed_and_every_reference_leads_somewhere() {
    let document = described();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut bodies = 0;
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let Some(name) = schema.as_str().and_then(|path| path.strip_prefix("#/components/schemas/")) else {
                continue;
            };
            assert_eq!(schemas[name]["additionalProperties"], json!(false), "{name} takes unknown fields");
            bodies += 1;
        }
    }
    assert!(bodies >= 8, "{bodies} bodies");
    let text = openapi();
    for reference in text.split("\"$ref\": \"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}

async fn raw(world: &World, request: Request<Body>) -> (u16, http::HeaderMap, Value) {
    let response: Response<Body> = world.house.router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn is_problem((status, headers, problem): &(u16, http::HeaderMap, Value), expected: (u16, &str)) {
    assert_eq!((*status, problem["code"].as_str()), (expected.0, Some(expected.1)), "{problem}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{problem}");
    assert_eq!(problem["status"], json!(status), "{problem}");
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
}

async fn every_refusal_is_a_problem(on: On) {
    let world = World::new(on, 1_000).await;
    let plain = |method: &str, uri: &str, body: Vec<u8>| {
        let request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, "application/json");
        request.body(Body::from(body)).unwrap()
    };
    let signed = |method: &str, uri: &str, body: Value| world.request(method, uri, &body, &world.member);
    let too_large = vec![b' '; 3 * 1024 * 1024 + 1];
    let node = format!("node={NODE}");
    for (request, expected) in [
        (plain("GET", "/v1/nowhere", vec![]), (404, "not_found")),
        (plain("DELETE", "/v1/quotes", vec![]), (405, "method_not_allowed")),
        (plain("TRACE", "/v1/house", vec![]), (405, "method_not_allowed")),
        (plain("POST", "/v1/quotes", b"{}".to_vec()), (401, "unsigned")),
        (plain("POST", "/v1/finals", b"{".to_vec()), (400, "invalid_request")),
        (plain("POST", "/v1/finals", vec![]), (400, "invalid_request")),
        (plain("POST", "/v1/finals", vec![0xff, 0xfe]), (400, "invalid_request")),
        (plain("POST", "/v1/finals", br#"{"final":"AA","more":1}"#.to_vec()), (400, "invalid_request")),
        (plain("POST", "/v1/finals", too_large), (413, "body_too_large")),
        (plain("GET", "/v1/log/inclusion", vec![]), (400, "invalid_request")),
        (plain("GET", "/v1/log/inclusion?index=-1", vec![]), (400, "invalid_request")),
        (plain("GET", "/v1/log/inclusion?index=18446744073709551615", vec![]), (400, "invalid_request")),
        (plain("GET", "/v1/log/consistency?from=1&from=2", vec![]), (400, "invalid_request")),
        (plain("GET", "/log/tile/99/000", vec![]), (404, "not_found")),
        (
            plain("POST", "/v1/log/cosignatures", br#"{"size":18446744073709551615,"line":""}"#.to_vec()),
            (400, "invalid_request"),
        ),
        (signed("GET", "/v1/projects/nobody", Value::Null), (404, "not_found")),
        (signed("GET", "/v1/projects/%FF", Value::Null), (400, "invalid_request")),
        (signed("GET", "/v1/mandates/nobody", Value::Null), (404, "not_found")),
        (signed("POST", "/v1/challenges/none/answers", json!({"shown": []})), (404, "not_found")),
        (signed("GET", "/v1/statement?limit=0", Value::Null), (400, "invalid_request")),
        (signed("GET", "/v1/statement?limit=1001", Value::Null), (400, "invalid_request")),
        (signed("GET", "/v1/statement?unknown=1", Value::Null), (400, "invalid_request")),
        (signed("GET", "/v1/statement?cursor=AAAA", Value::Null), (400, "invalid_request")),
        (signed("GET", &format!("/v1/statement?{node}"), Value::Null), (403, "not_yours")),
        (signed("GET", &format!("/v1/earnings?{node}"), Value::Null), (403, "not_yours")),
        (signed("GET", &format!("/v1/exceptions?{node}"), Value::Null), (403, "not_yours")),
        (signed("POST", "/v1/quotes", json!(7)), (400, "invalid_request")),
    ] {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = raw(&world, request).await;
        assert_eq!(answer.0, expected.0, "{what}: {}", answer.2);
        is_problem(&answer, expected);
        if expected.0 == 405 {
            assert!(answer.1.contains_key(header::ALLOW), "{what} says what it takes");
        }
    }
    let mut other = signed("POST", "/v1/quotes", world.quote_request());
    other.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    is_problem(&raw(&world, other).await, (415, "unsupported_media_type"));
    let mut own = signed("POST", "/v1/quotes", world.quote_request());
    own.headers_mut().insert(header::CONTENT_TYPE, "Application/JSON; charset=utf-8".parse().unwrap());
    assert_eq!(raw(&world, own).await.0, 200);
}

async fn the_document_is_served(on: On) {
    let world = World::new(on, 0).await;
    let request = Request::builder().uri("/v1/openapi.json").body(Body::empty()).unwrap();
    let (status, headers, body) = raw(&world, request).await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE], &body),
        (200, &"application/json".parse().unwrap(), &described())
    );
}

/// A `POST` with a key.
async fn keyed(world: &World, key: &str, uri: &str, body: &Value) -> (u16, bool, Value) {
    let mut request = world.request("POST", uri, body, &world.member);
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    let (status, headers, body) = raw(world, request).await;
    (status, headers.contains_key("comity-replayed"), body)
}

async fn a_key_has_one_answer(on: On) {
    let mut world = World::new(on, 10_000).await;
    let quote = world.quote().await;
    let ask = world.reservation(&quote, 600);
    let (status, replayed, first) = keyed(&world, "k1", "/v1/reservations", &ask).await;
    assert_eq!((status, replayed, &first["created"]), (200, false, &json!(true)), "{first}");
    // Word for word, where the call by itself would say that it was there.
    assert_eq!(keyed(&world, "k1", "/v1/reservations", &ask).await, (200, true, first.clone()));
    assert_eq!(world.post("/v1/reservations", ask.clone(), &world.member).await.1["created"], json!(false));
    world.restart().await;
    assert_eq!(keyed(&world, "k1", "/v1/reservations", &ask).await, (200, true, first.clone()), "after a restart");

    let other = world.reservation(&quote, 700);
    let (status, replayed, refused) = keyed(&world, "k1", "/v1/reservations", &other).await;
    assert_eq!((status, replayed, &refused["code"]), (422, false, &json!("idempotency_conflict")), "{refused}");
    assert_eq!(keyed(&world, "k1", "/v1/quotes", &world.quote_request()).await.0, 422, "another route is another call");
    assert_eq!(world.sums().await, [10_000, 0, 600, 9_400], "nothing was drawn for a call that was refused");
    // Another signer's key is another key: this one is registered nowhere, and gets no answer of anybody's.
    let mut strange = world.request("POST", "/v1/reservations", &ask, &secret("stranger"));
    strange.headers_mut().insert("idempotency-key", "k1".parse().unwrap());
    is_problem(&raw(&world, strange).await, (401, "not_registered"));

    world.pass(24 * 3_600 + 1).await;
    let (status, replayed, late) = keyed(&world, "k1", "/v1/quotes", &world.quote_request()).await;
    assert_eq!((status, replayed), (200, false), "after 24 h the key is free: {late}");
    assert_eq!(world.count("SELECT COUNT(*) FROM answer").await, 1, "and what it had is gone");
}

async fn refusals_keep_no_key(on: On) {
    let world = World::new(on, 1_000).await;
    let quote = world.quote().await;
    let (status, _, refused) = keyed(&world, "k", "/v1/reservations", &world.reservation(&quote, 1_001)).await;
    assert_eq!((status, &refused["code"]), (402, &json!("balance_too_low")));
    assert_eq!(world.count("SELECT COUNT(*) FROM answer").await, 0);
    assert_eq!(keyed(&world, "k", "/v1/reservations", &world.reservation(&quote, 900)).await.0, 200);
    for bad in ["", "two words", "x".repeat(256).as_str()] {
        assert_eq!(keyed(&world, bad, "/v1/quotes", &world.quote_request()).await.2["param"], json!("idempotency-key"));
    }
    assert_eq!(keyed(&world, &"x".repeat(255), "/v1/quotes", &world.quote_request()).await.0, 200);
}

async fn a_crash_between_effect_and_answer_costs_nothing(on: On) {
    let mut world = World::new(on, 10_000).await;
    world
        .restart_failing(std::sync::Arc::new(|point| assert_ne!(point, "answer.before_keep", "the machine stops here")))
        .await;
    let ask = world.reservation(&world.quote().await, 600);
    let (status, _, lost) = keyed(&world, "k", "/v1/reservations", &ask).await;
    assert_eq!((status, &lost["code"]), (503, &json!("store_unavailable")), "{lost}");
    assert_eq!(world.sums().await, [10_000, 0, 600, 9_400], "the effect was there");
    world.restart().await;
    let (status, replayed, again) = keyed(&world, "k", "/v1/reservations", &ask).await;
    assert_eq!((status, replayed, &again["created"]), (200, false, &json!(false)), "{again}");
    assert_eq!(keyed(&world, "k", "/v1/reservations", &ask).await, (200, true, again));
    assert_eq!(world.sums().await, [10_000, 0, 600, 9_400]);
}

async fn one_call_of_a_key_at_a_time(on: On) {
    let world = World::new(on, 10_000).await;
    let ask = world.reservation(&world.quote().await, 600);
    let all = futures::future::join_all((0..6).map(|_| keyed(&world, "k", "/v1/reservations", &ask))).await;
    let done = all.iter().filter(|(status, replayed, _)| (*status, *replayed) == (200, false)).count();
    assert_eq!(done, 1, "{all:?}");
    for (status, replayed, body) in &all {
        let is_waiting = (*status, &body["code"], &body["retry_after_s"]) == (409, &json!("in_flight"), &json!(1));
        assert!(*status == 200 || is_waiting, "{status} {replayed} {body}");
    }
    assert!(all.iter().any(|(status, ..)| *status == 409), "they were made at once: {all:?}");
    assert_eq!(world.sums().await, [10_000, 0, 600, 9_400]);
    assert!(keyed(&world, "k", "/v1/reservations", &ask).await.1, "and when it is over it is kept");
}

async fn a_caller_who_is_gone_finds_the_answer(on: On) {
    let world = World::new(on, 10_000).await;
    let ask = world.reservation(&world.quote().await, 600);
    // Polled until it waits for the books, then cut.
    let mut call = Box::pin(keyed(&world, "k", "/v1/reservations", &ask));
    let polled = futures::poll!(&mut call);
    assert!(polled.is_pending());
    while world.count("SELECT COUNT(*) FROM token").await == 0 {
        let _ = futures::poll!(&mut call);
        tokio::task::yield_now().await;
    }
    drop(call);
    let kept = loop {
        let answer = keyed(&world, "k", "/v1/reservations", &ask).await;
        if answer.0 != 409 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((kept.0, kept.1, &kept.2["created"]), (200, true, &json!(true)), "{}", kept.2);
}

async fn answers_are_bounded(on: On) {
    let world = World::new(on, 1_000).await;
    let body = world.quote_request();
    for key in 0..3 {
        assert_eq!(keyed(&world, &format!("k{key}"), "/v1/quotes", &body).await.0, 200);
    }
    // As if this signer had kept as many as one may: the next pushes the oldest out, and no other signer's.
    world.tamper("UPDATE answer SET place = place + 1000").await;
    let filler = "INSERT INTO answer (place, signer, key, call, status, body, answered_at) SELECT ";
    for (place, signer) in (4_i64..1_001).map(|place| (place, "own")).chain([(1, "other")]) {
        let key = hex(&Digest::of(&place.to_be_bytes()).0);
        let signer = if signer == "own" { hex(world.member.public().as_bytes()) } else { "07".repeat(32) };
        let blob = |hex: &str| if on == On::Sqlite { format!("X'{hex}'") } else { format!("'\\x{hex}'::bytea") };
        let sql = format!(
            "{filler}{place}, {}, {}, {}, 200, {}, {}",
            blob(&signer),
            blob(&key),
            blob(&key),
            blob("7b7d"),
            world.now().0
        );
        world.tamper(sql.leak()).await;
    }
    assert_eq!(world.count("SELECT COUNT(*) FROM answer").await, 1_001);
    assert_eq!(keyed(&world, "one-more", "/v1/quotes", &body).await.0, 200);
    assert_eq!(world.count("SELECT COUNT(*) FROM answer").await, 1_001);
    assert_eq!(world.count("SELECT MIN(place) FROM answer").await, 1, "another signer's stays");
    assert_eq!(world.count("SELECT MIN(place) FROM answer WHERE place > 1").await, 5, "the oldest gave way");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Follows `next` to the end, `limit` at a time: what each page has under `items`.
async fn pages(world: &World, (uri, items): (&str, &str), key: &comity_wire::SecretKey, limit: u32) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for _ in 0..100 {
        let asked = format!("{uri}{}limit={limit}{cursor}", if uri.contains('?') { "&" } else { "?" });
        let (status, headers, page) = raw(world, world.request("GET", &asked, &Value::Null, key)).await;
        assert_eq!(status, 200, "{asked}: {page}");
        let found = page[items].as_array().unwrap();
        assert!(found.len() <= limit as usize);
        all.extend(found.iter().cloned());
        let Some(next) = page["next"].as_str() else {
            assert!(!headers.contains_key(header::LINK), "the last page leads nowhere");
            return all;
        };
        assert_eq!(found.len(), limit as usize, "only a full page leads on");
        let link = headers[header::LINK].to_str().unwrap();
        assert!(link.starts_with('<') && link.ends_with(">; rel=\"next\"") && link.contains(next), "{link}");
        cursor = format!("&cursor={next}");
    }
    panic!("{uri} has no end");
}

async fn a_list_is_the_same_in_pages(on: On) {
    let world = World::new(on, 10_000).await;
    let mut labs = Vec::new();
    for _ in 0..5 {
        labs.push(world.buy(300).await);
    }
    for lab in &mut labs {
        for _ in 0..10 {
            lab.charge(lab.root(), 0, PRICE);
        }
        let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
        assert_eq!(world.claim(&claim).await.0, 200);
        lab.taken();
    }
    let transport = secret("transport");
    let statement = ("/v1/statement", "lines");
    let earned = (&*format!("/v1/statement?node={NODE}"), "lines");
    let tokens = (&*format!("/v1/projects/{}/tokens", world.project), "tokens");
    let earnings = (&*format!("/v1/earnings?node={NODE}"), "earnings");
    for (list, key, count) in
        [(statement, &world.member, 6), (earned, &transport, 5), (tokens, &world.member, 5), (earnings, &transport, 5)]
    {
        let whole = pages(&world, list, key, 1_000).await;
        assert_eq!(whole.len(), count, "{list:?} {whole:?}");
        for limit in [1, 2, 5] {
            assert_eq!(pages(&world, list, key, limit).await, whole, "{list:?} by {limit}");
        }
    }
    // Each page of a statement begins with the balance at which the one before ended.
    let (_, first) = world.get("/v1/statement?limit=2", &world.member).await;
    assert_eq!((&first["opening"], &first["closing"]), (&json!(0), &json!(9_700)), "{first}");
    let next = first["next"].as_str().unwrap();
    // What comes in meanwhile is on a later page.
    world.buy(100).await;
    let (_, second) = world.get(&format!("/v1/statement?limit=2&cursor={next}"), &world.member).await;
    assert_eq!((&second["opening"], &second["closing"]), (&json!(9_700), &json!(9_100)), "{second}");
    assert_eq!(second["lines"].as_array().unwrap().len(), 2);
    let all = pages(&world, statement, &world.member, 2).await;
    assert_eq!((all.len(), &all[6]["amount"]), (7, &json!(100)));
    // A cursor of one list is none of another's.
    for other in
        [format!("/v1/statement?project={}&cursor={next}", world.project), format!("/v1/exceptions?cursor={next}")]
    {
        let (status, refused) = world.get(&other, &world.member).await;
        assert_eq!((status, &refused["code"]), (400, &json!("invalid_request")), "{other}");
    }
    assert_eq!(world.get(&format!("{}&cursor={next}", earned.0), &transport).await.0, 400);
}

async fn exceptions_are_listed_to_those_they_concern(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    for _ in 0..150 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    let (status, reply) = world.claim(&claim).await;
    assert_eq!((status, &reply["exceptions"][0]["code"]), (200, &json!("claim_clamped")), "{reply}");
    let node = format!("/v1/exceptions?node={NODE}");
    let seen = pages(&world, (&node, "exceptions"), &secret("transport"), 1).await;
    assert_eq!(
        (seen.len(), &seen[0]["code"], &seen[0]["amount"]),
        (1, &json!("claim_clamped"), &json!(500)),
        "{seen:?}"
    );
    assert_eq!(pages(&world, ("/v1/exceptions", "exceptions"), &world.member, 1).await, seen);
    assert_eq!(world.get(&node, &secret("rival transport")).await.0, 403);
    assert_eq!(world.get("/v1/exceptions", &secret("stranger")).await.0, 401);
}

on_each_store! {
    every_refusal_is_a_problem
    the_document_is_served
    a_key_has_one_answer
    refusals_keep_no_key
    a_crash_between_effect_and_answer_costs_nothing
    one_call_of_a_key_at_a_time
    a_caller_who_is_gone_finds_the_answer
    answers_are_bounded
    a_list_is_the_same_in_pages
    exceptions_are_listed_to_those_they_concern
}
