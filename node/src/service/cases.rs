//! Cases through the admin socket.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_access::case::store::Which;
use comity_access::case::{CaseId, Quarter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cases::pass::PassAsk;
use crate::cases::publish::Publisher;
use crate::cases::refund::RefundAsk;
use crate::cases::{Ask, OpenAsk};
use crate::failure::Failure;

use super::owner::answer;

/// What a list is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListAsk {
    pub project: Option<String>,
    pub undecided: bool,
}

/// The routes of the admin socket.
pub fn router(publisher: Publisher) -> Router {
    Router::new()
        .route("/admin/cases", get(list).post(open))
        .route("/admin/cases/passes", get(passes))
        .route("/admin/cases/statistics", get(statistics))
        .route("/admin/cases/statistics/{quarter}", get(look).post(publish))
        .route("/admin/cases/{id}", get(show).post(act))
        .route("/admin/cases/{id}/pass", post(pass))
        .route("/admin/cases/{id}/refund", get(charges).post(refund))
        .with_state(publisher)
}

async fn list(State(node): State<Publisher>, Query(ask): Query<ListAsk>) -> Response {
    let which = Which { subject: ask.project, open: ask.undecided, after: None };
    answer(value(node.casework.list(&which).await))
}

async fn open(State(node): State<Publisher>, Json(ask): Json<OpenAsk>) -> Response {
    answer(value(node.casework.word(ask).await))
}

async fn statistics(State(node): State<Publisher>) -> Response {
    answer(value(node.casework.desk.statistics().await.map_err(Failure::from)))
}

async fn look(State(node): State<Publisher>, Path(quarter): Path<String>) -> Response {
    answer(match quarter.parse::<Quarter>() {
        Ok(quarter) => value(node.look(quarter).await),
        Err(error) => Err(error.into()),
    })
}

async fn publish(State(node): State<Publisher>, Path(quarter): Path<String>) -> Response {
    answer(match quarter.parse::<Quarter>() {
        Ok(quarter) => value(node.publish(quarter).await),
        Err(error) => Err(error.into()),
    })
}

async fn show(State(node): State<Publisher>, Path(id): Path<CaseId>) -> Response {
    answer(value(node.casework.show(id).await))
}

async fn act(State(node): State<Publisher>, Path(id): Path<CaseId>, Json(ask): Json<Ask>) -> Response {
    answer(value(node.casework.act(id, ask).await))
}

async fn pass(State(node): State<Publisher>, Path(id): Path<CaseId>, Json(ask): Json<PassAsk>) -> Response {
    answer(value(node.casework.pass(id, ask).await))
}

async fn passes(State(node): State<Publisher>) -> Response {
    answer(value(node.casework.passes().await))
}

async fn charges(State(node): State<Publisher>, Path(id): Path<CaseId>) -> Response {
    answer(value(node.casework.charges(id).await))
}

async fn refund(State(node): State<Publisher>, Path(id): Path<CaseId>, Json(ask): Json<RefundAsk>) -> Response {
    answer(value(node.casework.refund(id, ask).await))
}

fn value(done: Result<impl Serialize, Failure>) -> Result<Value, Failure> {
    Ok(serde_json::to_value(done?)?)
}
