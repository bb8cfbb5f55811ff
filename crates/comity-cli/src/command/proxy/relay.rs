//! One priced call: named, asked under its name, relayed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use comity_sdk::chat::{NotAQuery, Notes};
use comity_sdk::client::{Cost, Streaming, Tried};
use comity_sdk::keys::{Key, Origin};
use comity_sdk::route::Route;
use comity_sdk::{Answer, Client, Error, Name, Query};
use comity_wire::{Code, Digest};
use tokio::sync::{mpsc, oneshot};

use super::Proxied;
use super::call::{Found, Head, Waiting};
use super::connection::Connection;
use super::retry;
use crate::said::Said;

/// A text longer than this is no key.
const KEY_BYTES_MAX: usize = 255;
/// How far a stream may run ahead of its reader.
const FRAMES_AHEAD: usize = 64;
/// How long a model that is starting is waited for, at most, and between two tries.
const STARTING_MAX: Duration = Duration::from_secs(600);
const STARTING_STEP_MAX: Duration = Duration::from_secs(30);

/// How a caller's call is told from others.
struct Named {
    key: Key,
    /// Whether its caller is known to come again where it is lost.
    comes_again: bool,
}

pub(super) async fn ask(
    State(shared): State<Proxied>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    route: &'static Route,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&shared, &connection, route, &headers, &body).await.unwrap_or_else(Said::response)
}

async fn answer(
    shared: &Proxied,
    connection: &Connection,
    route: &'static Route,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Said> {
    let body = with_model(shared, body);
    let mut query = Query::<Name>::read(route.path, body).map_err(|error| not_a_query(&error))?;
    if let Some(run) = headers.get("comity-run").filter(|_| query.run.is_none()) {
        let run = run.to_str().unwrap_or_default().parse();
        query = query.within(&run.map_err(|error| Said::bad_request(format!("comity-run: {error}"), None))?);
    }
    let named = name(shared, connection, &query, headers).await?;
    let query = Query { key: Some(named.key), ..query };
    let waiting = loop {
        match shared.calls.find(&named.key.digest) {
            Found::Waiting(waiting) => break waiting,
            Found::Nothing => break start(shared, query, &named, headers),
            // At its end the node has its answer.
            Found::Ends(mut ended) => drop(ended.wait_for(|ended| *ended).await),
            Found::Taken => return Err(in_flight()),
        }
    };
    give(shared, route, &named.key, waiting).await
}

fn not_a_query(error: &NotAQuery) -> Said {
    let param = matches!(error, NotAQuery::Model | NotAQuery::Name(_)).then_some("model");
    Said::bad_request(error.to_string(), param)
}

/// The same key, the same call; else the same call where an SDK says that it asks again; else a call of its own.
async fn name(
    shared: &Proxied,
    connection: &Connection,
    query: &Query<Name>,
    headers: &HeaderMap,
) -> Result<Named, Said> {
    if let Some(text) = headers.get("idempotency-key") {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(Said::bad_request("Idempotency-Key has 1 to 255 bytes", None));
        }
        let key = Key::of_caller(text.as_bytes(), shared.client.now());
        return Ok(Named { key, comes_again: true });
    }
    let count: Option<u32> =
        headers.get("x-stainless-retry-count").and_then(|count| count.to_str().ok()?.trim().parse().ok());
    let Some(count) = count else { return Ok(Named { key: shared.client.new_key(), comes_again: false }) };
    let of = |name: header::HeaderName| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let digests = [
        Digest::of(query.path.as_bytes()),
        Digest::of(&query.body),
        Digest::of(of(header::USER_AGENT)),
        Digest::of(of(header::AUTHORIZATION)),
    ];
    let fingerprint = Digest::of_parts(&digests.each_ref().map(|digest| &digest.0[..]));
    let now = Instant::now();
    let again = shared.chains().again(&fingerprint, count, connection, now);
    if let Some(key) = again {
        return Ok(Named { key, comes_again: true });
    }
    let before = if count == 0 { None } else { before_the_restart(shared, query).await };
    let key = before.unwrap_or_else(|| shared.client.new_key());
    shared.chains().first(fingerprint, key, count, connection, now);
    Ok(Named { key, comes_again: true })
}

/// The proxy that the first try went to may have ended: what it named and nobody got is in the journal.
async fn before_the_restart(shared: &Proxied, query: &Query<Name>) -> Option<Key> {
    const WINDOW_S: u64 = 60;
    let started = shared.started;
    let since = comity_wire::Timestamp(started.seconds().saturating_sub(WINDOW_S));
    if shared.client.now() > started.plus(WINDOW_S) {
        return None;
    }
    shared.client.unanswered(query, since, started).await
}

fn start(shared: &Proxied, query: Query<Name>, named: &Named, headers: &HeaderMap) -> Waiting {
    let patience = if named.comes_again { retry::WINDOW } else { Duration::ZERO };
    let (head, waiting, ended) = shared.calls.start(named.key.digest, query.stream, patience);
    let shared = Arc::clone(shared);
    let until = Instant::now() + patience_of(headers);
    tokio::spawn(async move {
        if query.stream {
            stream(&shared, &query, until, head).await;
        } else {
            whole(&shared, &query, until, head).await;
        }
        drop(ended);
    });
    waiting
}

/// How long the client itself waits, where it says so; a little less, so that it still hears why.
fn patience_of(headers: &HeaderMap) -> Duration {
    let said = ["x-stainless-read-timeout", "x-stainless-timeout"].iter().find_map(|name| headers.get(*name));
    let seconds: Option<f64> = said.and_then(|value| value.to_str().ok()?.parse().ok());
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds - 2.0).ok());
    limit.unwrap_or(STARTING_MAX).min(STARTING_MAX)
}

/// How long until a model that is starting is asked again; `None` where the caller had better hear of it.
fn again_in(error: &Error, until: Instant) -> Option<Duration> {
    if error.code() != Some(Code::ModelStarting) {
        return None;
    }
    let wait = Duration::from_secs(error.retry_after_s().unwrap_or(5).max(1)).min(STARTING_STEP_MAX);
    (Instant::now() + wait < until).then_some(wait)
}

/// Where nobody waits any more, the node is let go, and then asked what it charged.
async fn whole(shared: &Proxied, query: &Query<Name>, until: Instant, mut head: oneshot::Sender<Head>) {
    let asked = async {
        loop {
            match shared.client.ask(query).await {
                Err(error) if again_in(&error, until).is_some() => {
                    tokio::time::sleep(again_in(&error, until).unwrap_or_default()).await;
                }
                outcome => return outcome,
            }
        }
    };
    let outcome = tokio::select! {
        outcome = asked => outcome,
        () = head.closed() => return shared.client.resolve_all().await,
    };
    let said = match outcome {
        Ok(answer) => Head::Whole(Box::new(answer)),
        Err(error) => Head::Failed(Box::new(Said::from(&error))),
    };
    head.send(said).ok();
}

async fn stream(shared: &Proxied, query: &Query<Name>, until: Instant, mut head: oneshot::Sender<Head>) {
    let opened = async {
        loop {
            match shared.client.stream(query).await {
                Err(error) if again_in(&error, until).is_some() => {
                    tokio::time::sleep(again_in(&error, until).unwrap_or_default()).await;
                }
                outcome => return outcome,
            }
        }
    };
    // Before the first byte a failure is a real status; after it, an error frame.
    let opened = tokio::select! {
        opened = opened => opened,
        () = head.closed() => return shared.client.resolve_all().await,
    };
    match opened {
        Ok(stream) => {
            let (send, receive) = mpsc::channel(FRAMES_AHEAD);
            if head.send(Head::Stream(stream.notes(), receive)).is_err() {
                return stream.abandon().await;
            }
            if pump(stream, query.op == comity_wire::Op::Responses, &send).await {
                answered(&shared.client, query.key.as_ref()).await;
            }
        }
        Err(error) => drop(head.send(Head::Failed(Box::new(Said::from(&error))))),
    }
}

/// Payloads to the caller; once the caller has gone, the node is let go too and the lane resolved. Gives whether it got all.
async fn pump(mut stream: Streaming<'_>, events: bool, send: &mpsc::Sender<Bytes>) -> bool {
    loop {
        match stream.next().await {
            Ok(Some(payload)) => {
                if send.send(frame(&payload, events)).await.is_err() {
                    stream.abandon().await;
                    return false;
                }
            }
            Ok(None) => break,
            Err(error) => {
                let last = stream.reported().map_or_else(|| Said::from(&error).frame(), |said| frame(said, false));
                send.send(last).await.ok();
                stream.abandon().await;
                return false;
            }
        }
    }
    let last = match stream.receipt().await {
        Ok(_) => Bytes::from_static(b"data: [DONE]\n\n"),
        Err(error) => Said::from(&error).frame(),
    };
    send.send(last).await.is_ok()
}

/// The responses API names its events beside the data too.
fn frame(payload: &str, events: bool) -> Bytes {
    let kind = || serde_json::from_str::<serde_json::Value>(payload).ok()?.get("type")?.as_str().map(str::to_owned);
    match events.then(kind).flatten() {
        Some(kind) => Bytes::from(format!("event: {kind}\ndata: {payload}\n\n")),
        None => Bytes::from(format!("data: {payload}\n\n")),
    }
}

/// What a proxy named and somebody got is no retry's to take after a restart.
async fn answered(client: &Client, key: Option<&Key>) {
    if let Some(key) = key.filter(|key| key.origin == Origin::Proxy)
        && let Err(error) = client.answered(key).await
    {
        tracing::warn!(%error, "cannot note that a call was answered");
    }
}

async fn give(shared: &Proxied, route: &Route, key: &Key, mut waiting: Waiting) -> Result<Response, Said> {
    match (&mut waiting).await {
        Some(Head::Whole(answer)) => {
            let (client, key) = (Arc::clone(&shared.client), *key);
            tokio::spawn(async move { answered(&client, Some(&key)).await });
            Ok(whole_response(*answer))
        }
        Some(Head::Stream(notes, frames)) => {
            let headers = notes.clone();
            let mut response = Response::new(Body::from_stream(waiting.frames(notes, frames)));
            note(&mut response, &headers);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            Ok(response)
        }
        Some(Head::Failed(said)) => {
            shared.chains().refused(key, said.retry_after_s, Instant::now());
            Err(*said)
        }
        None => {
            tracing::error!(path = route.path, "a call ended without an answer");
            Err(Said::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal.as_str(), "the call ended early"))
        }
    }
}

fn whole_response(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    note(&mut response, &answer.notes);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A replay costs nothing, and the node says so.
    headers.entry("comity-cost").or_insert(HeaderValue::from(answer.receipt.charge.ucr()));
    if let Ok(id) = HeaderValue::from_str(&answer.receipt.id().to_string()) {
        headers.insert("comity-receipt-id", id);
    }
    response
}

fn note(response: &mut Response, notes: &Notes) {
    let headers = response.headers_mut();
    headers.extend(notes.headers.iter().cloned());
    if let Ok(node) = HeaderValue::from_str(&notes.node.to_string()) {
        headers.insert("comity-served-by", node);
    }
    // Which door it was, and who was tried, is the caller's side to say: a node's word for it is not passed on.
    for name in ["comity-door", "comity-asked", "comity-model", "comity-tried"] {
        headers.remove(name);
    }
    if let Some(door) = notes.door {
        headers.insert("comity-door", HeaderValue::from_static(door.as_str()));
    }
    let Some(served) = &notes.served else { return };
    let tried = (!served.tried.is_empty()).then(|| tried(&served.tried));
    let said = [
        ("comity-asked", Some(served.asked.clone())),
        ("comity-model", Some(served.model.to_string())),
        ("comity-tried", tried),
    ];
    for (name, value) in said {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
}

/// A structured-field list (RFC 9651): each model that did not answer, why, and what that cost in micro-credits.
fn tried(tried: &[Tried]) -> String {
    let one = |tried: &Tried| {
        let cost = match tried.cost {
            Cost::Charged(charge) => format!("cost={}", charge.ucr()),
            Cost::UpTo(most) => format!("cost-max={}", most.ucr()),
        };
        format!("\"{}\";code={};{cost}", tried.model, tried.code)
    };
    tried.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn in_flight() -> Said {
    let said = "the same call is being answered: ask again when it has ended";
    Said::new(StatusCode::CONFLICT, Code::InFlight.as_str(), said).after(1)
}

/// Tokenizer clients name no model: where the proxy was started with one, it is meant.
fn with_model(shared: &Proxied, body: &[u8]) -> Vec<u8> {
    let Some(model) = &shared.model else { return body.to_vec() };
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(serde_json::Value::Object(mut fields)) if !fields.contains_key("model") => {
            fields.insert("model".to_owned(), model.to_string().into());
            serde_json::Value::Object(fields).to_string().into_bytes()
        }
        _ => body.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use comity_sdk::client::Served;
    use comity_wire::object::DoorKind;
    use comity_wire::{Amount, NodeId};

    use super::*;

    #[test]
    fn which_door_it_was_is_our_word_and_never_the_nodes() {
        let said = |word: &'static str| vec![(HeaderName::from_static("comity-door"), HeaderValue::from_static(word))];
        let notes = |door, headers| Notes { node: NodeId([7; 16]), headers, door, served: None };
        for (notes, shown) in [
            (notes(Some(DoorKind::Quic), vec![]), Some("quic")),
            (notes(Some(DoorKind::Https), said("quic")), Some("https")),
            (notes(Some(DoorKind::Relayed), said("carrier pigeon")), Some("relayed")),
            (notes(None, said("quic")), None),
        ] {
            let mut response = Response::new(Body::empty());
            note(&mut response, &notes);
            let words: Vec<_> = response.headers().get_all("comity-door").iter().collect();
            assert_eq!(words, Vec::from_iter(shown), "{notes:?}");
            assert_eq!(response.headers()["comity-served-by"], NodeId([7; 16]).to_string().as_str());
        }
    }

    #[test]
    fn who_served_a_call_that_left_it_open_is_our_word_too() {
        let said = |name| (HeaderName::from_static(name), HeaderValue::from_static("a lie"));
        let headers = vec![said("comity-model"), said("comity-tried"), said("comity-asked")];
        let notes = Notes { node: NodeId([7; 16]), headers, door: None, served: None };
        let mut response = Response::new(Body::empty());
        note(&mut response, &notes);
        assert_eq!(response.headers().len(), 1, "{:?}", response.headers());

        let failed = |name: &str, code: &str, cost| Tried { model: name.parse().unwrap(), code: code.to_owned(), cost };
        let tried = vec![
            failed("lab/m", "node_unreachable", Cost::Charged(Amount::ZERO)),
            failed("museum/m", "upstream_failed", Cost::UpTo(Amount::from_ucr(7))),
        ];
        let model = "institute/m".parse().unwrap();
        let served = Served { asked: "same:lab/m".to_owned(), model, node: NodeId([7; 16]), tried };
        let notes = Notes { served: Some(Box::new(served)), ..notes };
        note(&mut response, &notes);
        let shown = |name| response.headers()[name].to_str().unwrap();
        assert_eq!((shown("comity-asked"), shown("comity-model")), ("same:lab/m", "institute/m"));
        let list = r#""lab/m";code=node_unreachable;cost=0, "museum/m";code=upstream_failed;cost-max=7"#;
        assert_eq!(shown("comity-tried"), list);
    }
}
