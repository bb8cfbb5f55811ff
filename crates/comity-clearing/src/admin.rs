//! What the operator does: methods for a process that holds the house, and a router for its Unix socket.
//!
//! No signatures: whoever may open the socket (mode 0600, set by `node/`) is the operator.

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_wire::object::Vetting;
use comity_wire::{Amount, NodeId, OrgId, ProjectId, PublicKey, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::failure::Failure;
use crate::http::{ApiJson, answer, refuse};
use crate::service::Clearing;

/// `POST /admin/projects`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectAdd {
    /// Left out: a new id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ProjectId>,
    pub title: String,
    #[serde(default)]
    pub purposes: Vec<String>,
    #[serde(default)]
    pub members: Vec<PublicKey>,
}

/// `POST /admin/vetting`: a statement on a project, kept as evidence.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectVet {
    pub project: ProjectId,
    pub vetting: Vetting,
    /// Who states it.
    #[serde(default = "operator")]
    pub issuer: String,
    /// What was seen.
    #[serde(default)]
    pub claim: String,
    /// Left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Left out: until another statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

fn operator() -> String {
    "operator".to_owned()
}

/// `POST /admin/awards`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwardAsk {
    pub project: ProjectId,
    pub amount: Amount,
    pub funder: String,
    pub award_number: String,
    pub ends_at: Timestamp,
}

/// `POST /admin/freeze`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    pub project: ProjectId,
    pub frozen: bool,
}

/// `POST /admin/revoke`: exactly one of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<OrgId>,
}

const BODY_BYTES_MAX: usize = 64 * 1024;

impl Clearing {
    /// The operator's routes, for a Unix socket:
    /// `POST /admin/{projects,vetting,awards,freeze,revoke,sweep}`, `GET /admin/{audit,totals}`, `GET /admin/projects/{id}`.
    pub fn admin_router(&self) -> Router {
        Router::new()
            .route("/admin/projects", post(project_add))
            .route("/admin/projects/{id}", get(project_show))
            .route("/admin/vetting", post(project_vet))
            .route("/admin/awards", post(award))
            .route("/admin/freeze", post(freeze))
            .route("/admin/revoke", post(revoke))
            .route("/admin/sweep", post(sweep))
            .route("/admin/audit", get(audit))
            .route("/admin/totals", get(totals))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self.clone())
    }
}

async fn project_add(State(house): State<Clearing>, ApiJson(ask): ApiJson<ProjectAdd>) -> Response {
    answer(house.project_add(ask).await.map(|project| json!({ "project": project })))
}

async fn project_show(State(house): State<Clearing>, Path(id): Path<String>) -> Response {
    match id.parse() {
        Ok(id) => answer(house.project_status(id).await),
        Err(_) => refuse(&Failure::NotFound { what: format!("project {id}") }),
    }
}

async fn project_vet(State(house): State<Clearing>, ApiJson(ask): ApiJson<ProjectVet>) -> Response {
    let project = ask.project;
    answer(house.project_vet(ask).await.map(|vetting| json!({ "project": project, "vetting": vetting })))
}

async fn award(State(house): State<Clearing>, ApiJson(ask): ApiJson<AwardAsk>) -> Response {
    let project = ask.project;
    answer(house.award(ask).await.map(|available| json!({ "project": project, "available": available })))
}

async fn freeze(State(house): State<Clearing>, ApiJson(ask): ApiJson<Freeze>) -> Response {
    let done = house.freeze(ask.project, ask.frozen).await;
    answer(done.map(|()| json!({ "project": ask.project, "frozen": ask.frozen })))
}

async fn revoke(State(house): State<Clearing>, ApiJson(ask): ApiJson<Revoke>) -> Response {
    let done = match (ask.token, ask.node, ask.organisation) {
        (Some(token), None, None) => house.revoke(token).await,
        (None, Some(node), None) => house.revoke_node(node).await,
        (None, None, Some(org)) => house.revoke_organisation(org).await,
        _ => Err(Failure::invalid("name one of token, node, organisation")),
    };
    answer(done.map(|number| json!({ "standing": number })))
}

async fn sweep(State(house): State<Clearing>) -> Response {
    answer(house.sweep().await)
}

async fn audit(State(house): State<Clearing>) -> Response {
    answer(house.audit().await)
}

async fn totals(State(house): State<Clearing>) -> Response {
    match house.totals().await {
        Ok(totals) => Json(totals).into_response(),
        Err(failure) => refuse(&failure),
    }
}
