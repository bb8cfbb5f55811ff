//! What nodes and hubs serve to anyone: search, heads, frames and the roster. All of it is signed, so the caller verifies
//! and this side cannot lie.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query as Params, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use comity_registry::Query;
use comity_token::Directory as _;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::node::{HeadFrame, HeadsQuery, HeadsReply, SearchHit, SearchQuery, SearchReply};
use comity_wire::{Code, Digest};
use tokio::sync::{mpsc, oneshot};

use crate::driver::Command;
use crate::{Clock, Replica};

#[derive(Clone)]
struct Shared {
    replica: Arc<Replica>,
    clock: Clock,
    commands: mpsc::Sender<Command>,
}

/// How long a caller waits while a manifest is fetched from its author.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn router(replica: Arc<Replica>, clock: Clock, commands: mpsc::Sender<Command>) -> Router {
    Router::new()
        .route("/comity/v1/search", get(search))
        .route("/comity/v1/heads", get(heads))
        .route("/comity/v1/frames/{digest}", get(frame))
        .route("/comity/v1/roster", get(roster))
        .with_state(Shared { replica, clock, commands })
}

async fn search(
    State(shared): State<Shared>,
    asked: Result<Params<SearchQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Params(asked)) => asked,
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, Code::Malformed, &rejection.body_text()),
    };
    let query = match Query::new(asked) {
        Ok(query) => query,
        Err(bad) => return refuse(StatusCode::BAD_REQUEST, Code::Malformed, &bad.to_string()),
    };
    let now = (shared.clock)();
    let as_of = shared.replica.vector_root();
    let reply = shared.replica.search(&query, now, |page, feeds| SearchReply {
        hits: page
            .hits
            .iter()
            .map(|row| SearchHit {
                model: row.summary.model.clone(),
                org: row.summary.org,
                summary: signed(row.summary.bytes()),
                head_age_s: now.since(row.head_issued_at),
                head: feeds.get(&row.summary.org).map(|feed| shown(feed)),
            })
            .collect(),
        total: page.total,
        as_of,
    });
    Json(reply).into_response()
}

async fn heads(
    State(shared): State<Shared>,
    asked: Result<Params<HeadsQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let org = match asked {
        Ok(Params(asked)) => asked.org,
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, Code::Malformed, &rejection.body_text()),
    };
    let roster = shared.replica.roster();
    let heads: Vec<_> = match org {
        None => shared.replica.feeds().iter().map(|feed| shown(feed)).collect(),
        Some(name) => {
            let org = roster.organisation_named(&name);
            org.and_then(|org| shared.replica.feed(org.id)).iter().map(|feed| shown(feed)).collect()
        }
    };
    Json(HeadsReply { roster_version: roster.version, heads }).into_response()
}

fn shown(feed: &comity_registry::Complete) -> HeadFrame {
    HeadFrame { head: signed(feed.head.bytes()), writer: signed(feed.writer.bytes()) }
}

async fn frame(State(shared): State<Shared>, Path(digest): Path<String>) -> Response {
    let Ok(digest) = digest.parse::<Digest>() else {
        return refuse(StatusCode::BAD_REQUEST, Code::Malformed, "not a digest: 64 lower-case hex digits are expected");
    };
    let bytes = match shared.replica.frame(&digest) {
        Some(bytes) => Some(bytes),
        None => fetched(&shared, digest).await,
    };
    match bytes {
        Some(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, "application/cbor"),
                // A digest names one content for ever.
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (headers, bytes.to_vec()).into_response()
        }
        None => refuse(StatusCode::NOT_FOUND, Code::NotFound, "no such frame here; ask its author's node"),
    }
}

/// A manifest that some index names and nobody here has asked for before.
async fn fetched(shared: &Shared, digest: Digest) -> Option<Arc<[u8]>> {
    let (reply, answer) = oneshot::channel();
    shared.commands.try_send(Command::Fetch { digest, reply }).ok()?;
    let manifest = tokio::time::timeout(FETCH_TIMEOUT, answer).await.ok()?.ok()??;
    Some(Arc::from(manifest.bytes()))
}

async fn roster(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "application/cbor")], shared.replica.roster_bytes().to_vec()).into_response()
}

fn signed(bytes: &[u8]) -> SignedBytes {
    SignedBytes::new(bytes).expect("signed objects of a feed are smaller than 2 MiB")
}

/// RFC 9457, with our code.
fn refuse(status: StatusCode, code: Code, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "code": code.as_str(),
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
