//! What the owner gives back without a case, through the admin socket.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use comity_gateway::{Gateway, GiveBack};
use comity_wire::object::CreditReason;
use comity_wire::{Amount, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::owner::answer;
use crate::failure::Failure;

pub const PATH: &str = "/admin/credits";
/// Credit notes that are shown.
const SHOWN_MAX: u32 = 1_000;

/// What `POST /admin/credits` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub token: TokenId,
    pub amount: Amount,
    pub reason: CreditReason,
    pub author: String,
    #[serde(default)]
    pub again: bool,
}

/// The routes of the admin socket.
pub fn router(gateway: Gateway) -> Router {
    Router::new().route(PATH, get(show).post(give)).with_state(gateway)
}

async fn show(State(gateway): State<Gateway>) -> Response {
    answer(gateway.credits(SHOWN_MAX).await.map_err(Failure::from).map(|notes| json!(notes)))
}

async fn give(State(gateway): State<Gateway>, Json(ask): Json<Ask>) -> Response {
    let Ask { token, amount, reason, author, again } = ask;
    let given = gateway.give_back(&GiveBack { token, amount, reason, author, again }).await;
    answer(given.map_err(Failure::from).and_then(|note| Ok::<Value, Failure>(serde_json::to_value(note)?)))
}
