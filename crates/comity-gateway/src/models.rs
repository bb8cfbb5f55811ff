//! `GET /v1/models`, as OpenAI's clients read it, and `GET /health`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use comity_http::Refusal;
use comity_wire::Code;
use comity_wire::object::ModelState;
use serde_json::{Value, json};

use crate::config::Served;
use crate::gateway::{Gateway, Inner};
use crate::refusal;

/// Models that are served here and not withdrawn. Whether a caller may use one is search's and the door's answer.
pub(crate) async fn list(State(gateway): State<Gateway>) -> Json<Value> {
    let data: Vec<Value> = gateway.0.served().values().filter_map(|served| row(&gateway.0, served)).collect();
    Json(json!({"object": "list", "data": data}))
}

/// Ids contain a slash, so the route takes the whole tail.
pub(crate) async fn one(
    State(gateway): State<Gateway>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let served = gateway.0.served();
    let found = id.ok().and_then(|Path(id)| id.trim_end_matches('/').parse().ok()).and_then(|model| served.get(&model));
    let row = found.and_then(|served| row(&gateway.0, served));
    row.map(Json).ok_or_else(|| Refusal::new(Code::ModelNotFound, "this node does not serve that model").param("model"))
}

fn row(inner: &Inner, served: &Served) -> Option<Value> {
    let manifest = inner.directory.manifest(&served.model)?;
    let stands = manifest.status.state != ModelState::Withdrawn;
    stands.then(|| {
        json!({
            "id": served.model, "object": "model", "created": manifest.released_at.seconds(),
            "owned_by": served.model.organisation(),
        })
    })
}

/// Whether this process answers and can charge; says nothing of upstreams, asks nobody.
pub(crate) async fn health(State(gateway): State<Gateway>) -> Result<Json<Value>, Refusal> {
    if gateway.0.ledger.is_stopped() {
        return Err(refusal::ended());
    }
    Ok(Json(json!({"status": "ok"})))
}
