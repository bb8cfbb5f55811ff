//! `/v1/models`: what this project may use now.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use comity_sdk::discover::Hit;
use comity_sdk::token::policy;
use comity_wire::Code;
use comity_wire::api::node::SearchQuery;
use comity_wire::cbor::Text;
use comity_wire::object::Vetting;
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
    let hits = shared.client.search(&SearchQuery::default()).await.map_err(|error| Said::from(&error))?;
    // Without a house the caller is nobody in particular; open models are theirs too.
    let project = shared.client.project().await.ok();
    let vetting = project.as_ref().map_or(Vetting::None, |project| project.vetting);
    let purposes = project.map(|project| project.purposes).unwrap_or_default();
    let purposes: Vec<_> = purposes.iter().filter_map(|purpose| Text::new(purpose.as_str()).ok()).collect();
    let now = shared.client.now();
    let may = |hit: &&Hit| {
        let summary = &hit.summary;
        summary.ops.iter().any(|row| {
            let (model, op) = (&summary.model, row.op);
            let ask = policy::Ask {
                model,
                op,
                vetting,
                purposes: &purposes,
                grants: &[],
                plans: &[],
                run: None,
                agreed: &[],
                delegated: false,
                now,
            };
            policy::decide_summary(summary, &ask).is_ok()
        })
    };
    let entry = |hit: &Hit| {
        json!({"id": hit.summary.model, "object": "model", "created": hit.summary.released_at,
               "owned_by": hit.summary.model.organisation()})
    };
    Ok(hits.iter().filter(may).map(entry).collect())
}
