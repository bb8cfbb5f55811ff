//! `/v1/models`: what this project may use now.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use comity_sdk::client::Choice;
use comity_wire::Code;
use comity_wire::api::node::SearchQuery;
use serde_json::{Value, json};

use super::Proxied;
use crate::said::Said;

pub(super) async fn list(State(shared): State<Proxied>) -> Response {
    match usable(&shared).await {
        Ok(data) => Json(json!({"object": "list", "data": data})).into_response(),
        Err(said) => said.response(),
    }
}

/// Model ids contain `/`, so the id is the rest of the path.
pub(super) async fn one(State(shared): State<Proxied>, Path(id): Path<String>) -> Response {
    let id = id.trim_end_matches('/');
    let found = match usable(&shared).await {
        Ok(list) => list.into_iter().find(|entry| entry["id"] == id),
        Err(said) => return said.response(),
    };
    match found {
        Some(entry) => Json(entry).into_response(),
        None => {
            let message = format!("there is no model {id}, or this project may not use it: see `comity models search`");
            Said::new(StatusCode::NOT_FOUND, Code::ModelNotFound.as_str(), message).response()
        }
    }
}

async fn usable(shared: &Proxied) -> Result<Vec<Value>, Said> {
    let choices = shared.client.choices(&SearchQuery::default()).await.map_err(|error| Said::from(&error))?;
    let entry = |choice: &Choice| {
        let summary = &choice.summary;
        json!({"id": summary.model, "object": "model", "created": summary.released_at,
               "owned_by": summary.model.organisation()})
    };
    Ok(choices.iter().filter(|choice| choice.is_usable()).map(entry).collect())
}
