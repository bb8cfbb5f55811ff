//! Counts over HTTP (spec/07-settlement.md §9), for nodes.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use comity_http::Signed;
use comity_wire::api::count::{CountReply, CountRequest, CountsReply};

use super::challenges::OfNode;
use super::{Answer, answer as answered};
use crate::failure::Failure;
use crate::service::Clearing;

pub(super) async fn list(
    State(house): State<Clearing>,
    query: Result<Query<OfNode>, QueryRejection>,
    call: Signed,
) -> Answer<CountsReply> {
    answered(&call, async {
        let Query(OfNode { node }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        Ok(CountsReply { counts: house.counts_of(&call.caller.key, node).await? })
    })
    .await
}

pub(super) async fn count(State(house): State<Clearing>, call: Signed) -> Answer<CountReply> {
    answered(&call, async {
        let request: CountRequest = call.json()?;
        Ok(house.count(&call.caller.key, &request.count).await?)
    })
    .await
}
