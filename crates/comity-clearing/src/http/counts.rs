//! Counts over HTTP (spec/07-settlement.md §9), for nodes.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use comity_http::{Refusal, Signed};
use comity_wire::Code;
use comity_wire::NodeId;
use comity_wire::api::count::{CountReply, CountRequest, CountsReply};
use schemars::JsonSchema;
use serde::Deserialize;

use super::calls::{Call, answer_once};
use super::lists::{Asked, asked};
use super::table::Route;
use super::{Answer, Api, TRANSPORT, answer as answered, codes};
use crate::service::Clearing;

pub(super) fn routes() -> Vec<Route<Api>> {
    vec![
        Route::get("counts", "/v1/counts", list, "Counts that wait for a node, the oldest first")
            .signed_by(TRANSPORT)
            .query::<OfNode>()
            .reply::<CountsReply>()
            .codes(&[Code::NotFound]),
        Route::post("count", "/v1/counts", count, "Bring a page of a count")
            .signed_by(TRANSPORT)
            .body::<CountRequest>()
            .reply::<CountReply>()
            .codes(codes::EVIDENCE),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfNode {
    node: NodeId,
}

async fn list(State(house): State<Clearing>, query: Asked<OfNode>, call: Signed) -> Answer<CountsReply> {
    answered(&call, async {
        let OfNode { node } = asked(query)?;
        Ok(CountsReply { counts: house.counts_of(&call.caller.key, node).await? })
    })
    .await
    .map(Json)
}

async fn count(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: CountRequest = call.json()?;
        Ok(house.count(&call.signed.caller.key, &request.count).await?)
    })
    .await
}
