//! Heads of decisions over HTTP (spec/11-access.md §9), for nodes.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use comity_http::{Refusal, Signed};
use comity_wire::api::decisions::{DecisionsReply, DecisionsRequest};
use comity_wire::{Code, NodeId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::calls::{Call, answer_once};
use super::lists::{Asked, asked};
use super::table::Route;
use super::{Answer, Api, TRANSPORT, answer as answered, codes};
use crate::service::Clearing;

pub(super) fn routes() -> Vec<Route<Api>> {
    vec![
        Route::get("decisions", "/v1/decisions", newest, "The newest head of what a node's people decided")
            .signed_by(TRANSPORT)
            .query::<OfNode>()
            .reply::<DecisionsReply>()
            .codes(&[Code::NotYours]),
        Route::post("decisionsHead", "/v1/decisions", take, "Bring the next head of what a node's people decided")
            .signed_by(TRANSPORT)
            .body::<DecisionsRequest>()
            .reply::<DecisionsReply>()
            .codes(codes::DECISIONS),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfNode {
    node: NodeId,
}

async fn newest(State(house): State<Clearing>, query: Asked<OfNode>, call: Signed) -> Answer<DecisionsReply> {
    answered(&call, async {
        let OfNode { node } = asked(query)?;
        Ok(house.decisions_of(&call.caller.key, node).await?)
    })
    .await
    .map(Json)
}

async fn take(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: DecisionsRequest = call.json()?;
        Ok(house.decisions(&call.signed.caller.key, &request).await?)
    })
    .await
}
