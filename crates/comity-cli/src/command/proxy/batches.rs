//! `/v1/batches`: create, get, list, cancel.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Proxied;
use super::files::{Page, stored};
use crate::batch::input;
use crate::batch::object::Batch;
use crate::batch::store::new_id;
use crate::said::Said;

#[derive(Deserialize)]
struct Create {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    metadata: Option<Map<String, Value>>,
}

/// OpenAI's bounds on what a caller writes on a batch.
const METADATA_MAX: usize = 16;
const METADATA_BYTES_MAX: usize = 512;

pub(super) async fn create(State(shared): State<Proxied>, body: Bytes) -> Response {
    match begin(&shared, &body) {
        Ok(batch) => Json(batch).into_response(),
        Err(said) => said.response(),
    }
}

pub(super) async fn one(State(shared): State<Proxied>, Path(id): Path<String>) -> Response {
    match shared.batches.show(&id) {
        Ok(batch) => Json(batch).into_response(),
        Err(error) => stored(&error).response(),
    }
}

pub(super) async fn list(State(shared): State<Proxied>, Query(page): Query<Page>) -> Response {
    let listed = shared.batches.store().batches().and_then(|batches| {
        batches.into_iter().map(|batch| shared.batches.show(&batch.id)).collect::<Result<Vec<_>, _>>()
    });
    match listed {
        Ok(batches) => page.of(batches, |batch| &batch.id, 100),
        Err(error) => stored(&error).response(),
    }
}

pub(super) async fn cancel(State(shared): State<Proxied>, Path(id): Path<String>) -> Response {
    match shared.batches.cancel(&id, shared.client.now().seconds()) {
        Ok(batch) => Json(batch).into_response(),
        Err(error) => stored(&error).response(),
    }
}

fn begin(shared: &Proxied, body: &[u8]) -> Result<Batch, Said> {
    let create: Create =
        serde_json::from_slice(body).map_err(|error| Said::bad_request(format!("not a batch: {error}"), None))?;
    let route = input::endpoint(&create.endpoint)
        .ok_or_else(|| Said::bad_request(format!("no batch can ask {}", create.endpoint), Some("endpoint")))?;
    if create.completion_window != Batch::WINDOW {
        return Err(Said::bad_request("completion_window is \"24h\"", Some("completion_window")));
    }
    let metadata = create.metadata.unwrap_or_default();
    let is_short = |value: &Value| value.as_str().is_some_and(|text| text.len() <= METADATA_BYTES_MAX);
    if metadata.len() > METADATA_MAX || !metadata.values().all(is_short) {
        return Err(Said::bad_request("metadata has at most 16 texts of 512 bytes", Some("metadata")));
    }
    let store = shared.batches.store();
    let file = store.file(&create.input_file_id).map_err(|error| stored(&error))?;
    store.room_for_a_batch().map_err(|error| stored(&error))?;
    let mut batch = Batch::new(new_id("batch_"), route.path.to_owned(), file.id, shared.client.now().seconds());
    batch.metadata = (!metadata.is_empty()).then_some(metadata);
    store.keep_batch(&batch).map_err(|error| stored(&error))?;
    shared.batches.start(batch.clone());
    Ok(batch)
}
