//! Cases through the admin socket.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use comity_access::case::CaseId;
use comity_access::case::store::Which;
use comity_gateway::Gateway;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cases::{Ask, Desk, OpenAsk};
use crate::failure::Failure;

use super::owner::answer;

/// What a list is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListAsk {
    pub project: Option<String>,
    pub undecided: bool,
}

#[derive(Clone)]
struct Admin {
    desk: Desk,
    gateway: Gateway,
}

/// The routes of the admin socket.
pub fn router(desk: Desk, gateway: Gateway) -> Router {
    Router::new()
        .route("/admin/cases", get(list).post(open))
        .route("/admin/cases/statistics", get(statistics))
        .route("/admin/cases/{id}", get(show).post(act))
        .with_state(Admin { desk, gateway })
}

async fn list(State(admin): State<Admin>, Query(ask): Query<ListAsk>) -> Response {
    let which = Which { subject: ask.project, undecided: ask.undecided };
    answer(value(admin.desk.list(&which).await))
}

async fn open(State(admin): State<Admin>, Json(ask): Json<OpenAsk>) -> Response {
    answer(value(admin.desk.word(ask).await))
}

async fn statistics(State(admin): State<Admin>) -> Response {
    answer(value(admin.desk.statistics().await))
}

async fn show(State(admin): State<Admin>, Path(id): Path<CaseId>) -> Response {
    answer(value(admin.desk.show(id).await))
}

async fn act(State(admin): State<Admin>, Path(id): Path<CaseId>, Json(ask): Json<Ask>) -> Response {
    answer(value(admin.desk.act(&admin.gateway, id, ask).await))
}

fn value(done: Result<impl Serialize, Failure>) -> Result<Value, Failure> {
    Ok(serde_json::to_value(done?)?)
}
