//! The log for everybody (spec/10-log.md §5): C2SP's static paths, and proofs as JSON. No signatures: nothing in it is secret.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use comity_http::Refusal;
use comity_wire::api::clearing::{CosignatureRequest, LogConsistency, LogEnded, LogInclusion, LogReply};
use comity_wire::cbor::Bytes;
use comity_wire::log::{Entry, Resource};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Deserialize;

use super::{Answer, Body};
use crate::failure::Failure;
use crate::service::Clearing;

/// What never changes may be kept for a year.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A checkpoint is new each second.
const SHORT: &str = "public, max-age=1";

pub(crate) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Clearing: FromRef<S>,
{
    Router::new()
        .route("/log/checkpoint", get(checkpoint))
        .route("/log/tile/{*path}", get(tile))
        .route("/v1/log", get(status))
        .route("/v1/log/inclusion", get(inclusion))
        .route("/v1/log/consistency", get(consistency))
        .route("/v1/log/cosignatures", post(cosignature))
}

async fn checkpoint(State(house): State<Clearing>) -> Result<Response, Refusal> {
    let note = house.log_checkpoint().await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, SHORT)], note).into_response())
}

async fn tile(State(house): State<Clearing>, Path(path): Path<String>) -> Result<Response, Refusal> {
    let not_found = || Failure::NotFound { what: format!("tile {path}: not part of the signed log") };
    let resource = Resource::from_path(&path).ok_or_else(not_found)?;
    let bytes = house.log_resource(resource).await?.ok_or_else(not_found)?;
    Ok(([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, IMMUTABLE)], bytes).into_response())
}

async fn status(State(house): State<Clearing>) -> Answer<LogReply> {
    let status = house.log_status().await?;
    let ended = |ended: crate::service::log::Ended| LogEnded {
        origin: house.log_origin(ended.epoch),
        checkpoint: ended.note,
        why: ended.why,
        ended_at: ended.ended_at,
    };
    Ok(axum::Json(LogReply {
        origin: status.origin,
        vkey: status.vkey,
        size: status.size,
        witnesses: status.witnesses,
        ended: status.ended.into_iter().map(ended).collect(),
        stopped: status.stopped,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InclusionQuery {
    index: u64,
    size: Option<u64>,
}

async fn inclusion(
    State(house): State<Clearing>,
    query: Result<Query<InclusionQuery>, QueryRejection>,
) -> Answer<LogInclusion> {
    let Query(InclusionQuery { index, size }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    let found = house.log_inclusion(index, size).await?;
    let said =
        Entry::from_bytes(&found.entry).map_err(|_| Failure::Unreadable { table: "log_entry", what: "an entry" })?;
    Ok(axum::Json(LogInclusion {
        index,
        size: found.size,
        root: found.root,
        entry: Bytes::new(found.entry).map_err(Failure::invalid)?,
        said: serde_json::to_value(&said).map_err(Failure::invalid)?,
        proof: found.proof,
        checkpoint: found.checkpoint,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsistencyQuery {
    from: u64,
    to: Option<u64>,
}

async fn consistency(
    State(house): State<Clearing>,
    query: Result<Query<ConsistencyQuery>, QueryRejection>,
) -> Answer<LogConsistency> {
    let Query(ConsistencyQuery { from, to }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    let found = house.log_consistency(from, to).await?;
    Ok(axum::Json(LogConsistency {
        from,
        to: found.size,
        root: found.root,
        proof: found.proof,
        checkpoint: found.checkpoint,
    }))
}

async fn cosignature(
    State(house): State<Clearing>,
    Body(request): Body<CosignatureRequest>,
) -> Answer<serde_json::Value> {
    house.log_cosign(request.size, &request.line).await?;
    Ok(axum::Json(serde_json::json!({ "size": request.size })))
}
