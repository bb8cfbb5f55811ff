//! The log for everybody (spec/10-log.md §5): C2SP's static paths, and proofs as JSON. No signatures: nothing in it is secret.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Query, State};
use axum::response::{IntoResponse as _, Response};
use comity_http::Refusal;
use comity_wire::Code;
use comity_wire::api::clearing::{CosignatureRequest, LogConsistency, LogEnded, LogInclusion, LogReply};
use comity_wire::cbor::Bytes;
use comity_wire::log::{Entry, Resource};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::table::{self, Route};
use super::{Answer, Body, Part};
use crate::failure::Failure;
use crate::service::Clearing;

/// What never changes may be kept for a year.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A checkpoint is new each second.
const SHORT: &str = "public, max-age=1";

pub(super) fn routes<S>() -> Vec<Route<S>>
where
    S: Clone + Send + Sync + 'static,
    Clearing: FromRef<S>,
{
    vec![
        Route::get("logCheckpoint", "/log/checkpoint", checkpoint, "The newest signed checkpoint")
            .bytes(NOTE_TYPE)
            .codes(CODES),
        Route::get("logTile", "/log/tile/{*path}", tile, "A tile of the log, of hashes or of entries")
            .path::<TilePath>("path")
            .bytes(TILE_TYPE)
            .codes(CODES),
        Route::get("log", "/v1/log", status, "Which log the house writes").reply::<LogReply>().codes(CODES),
        Route::get("logInclusion", "/v1/log/inclusion", inclusion, "An entry, and that it is in the log")
            .query::<InclusionQuery>()
            .reply::<LogInclusion>()
            .codes(CODES),
        Route::get("logConsistency", "/v1/log/consistency", consistency, "That a log begins with an earlier one")
            .query::<ConsistencyQuery>()
            .reply::<LogConsistency>()
            .codes(CODES),
        Route::post("cosign", "/v1/log/cosignatures", cosignature, "Bring a witness's signature of a checkpoint")
            .body::<CosignatureRequest>()
            .reply::<Cosigned>()
            .codes(&[Code::NotFound, Code::NotYours]),
    ]
}

/// The same, for the operator's socket.
pub(crate) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Clearing: FromRef<S>,
{
    table::router(routes())
}

const CODES: &[Code] = &[Code::NotFound];
const NOTE_TYPE: &str = "text/plain; charset=utf-8";
const TILE_TYPE: &str = "application/octet-stream";

/// A path of C2SP's tiles.
struct TilePath;

impl JsonSchema for TilePath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TilePath".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(entries|[0-9]{1,2})(/x[0-9]{3})*/[0-9]{3}(\\.p/[0-9]{1,3})?$" })
    }

    fn inline_schema() -> bool {
        true
    }
}

async fn checkpoint(State(house): State<Clearing>) -> Result<Response, Refusal> {
    let note = house.log_checkpoint().await?;
    Ok(([(CONTENT_TYPE, NOTE_TYPE), (CACHE_CONTROL, SHORT)], note).into_response())
}

async fn tile(State(house): State<Clearing>, Part(path): Part<String>) -> Result<Response, Refusal> {
    let not_found = || Failure::NotFound { what: format!("tile {path}: not part of the signed log") };
    let resource = Resource::from_path(&path).ok_or_else(not_found)?;
    let bytes = house.log_resource(resource).await?.ok_or_else(not_found)?;
    Ok(([(CONTENT_TYPE, TILE_TYPE), (CACHE_CONTROL, IMMUTABLE)], bytes).into_response())
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

/// Numbers of the books are below 2⁶³.
fn number(number: u64) -> Result<u64, Failure> {
    if i64::try_from(number).is_ok() { Ok(number) } else { Err(Failure::invalid("no log has so many entries")) }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InclusionQuery {
    /// Of the entry, from 0.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    index: u64,
    /// Of the log that is meant; left out: of the newest that is signed.
    #[serde(default)]
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    size: Option<u64>,
}

async fn inclusion(
    State(house): State<Clearing>,
    query: Result<Query<InclusionQuery>, QueryRejection>,
) -> Answer<LogInclusion> {
    let Query(InclusionQuery { index, size }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    let found = house.log_inclusion(number(index)?, size).await?;
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConsistencyQuery {
    /// The smaller size.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    from: u64,
    /// The larger size; left out: of the newest log that is signed.
    #[serde(default)]
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
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

async fn cosignature(State(house): State<Clearing>, Body(request): Body<CosignatureRequest>) -> Answer<Cosigned> {
    house.log_cosign(number(request.size)?, &request.line).await?;
    Ok(axum::Json(Cosigned { size: request.size }))
}

#[derive(Serialize, JsonSchema)]
struct Cosigned {
    size: u64,
}
