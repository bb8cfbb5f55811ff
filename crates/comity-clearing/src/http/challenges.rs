//! Challenges over HTTP (spec/07-settlement.md §5): by members, and for nodes.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use comity_http::Signed;
use comity_wire::api::challenge::{AnswerRequest, Challenge, ChallengeRequest, ChallengesReply};
use comity_wire::{Digest, NodeId};
use serde::Deserialize;

use super::{Answer, answer as answered};
use crate::failure::Failure;
use crate::service::Clearing;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfNode {
    pub(super) node: NodeId,
}

pub(super) async fn list(
    State(house): State<Clearing>,
    query: Result<Query<OfNode>, QueryRejection>,
    call: Signed,
) -> Answer<ChallengesReply> {
    answered(&call, async {
        let Query(OfNode { node }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        Ok(ChallengesReply { challenges: house.challenges_of(&call.caller.key, node).await? })
    })
    .await
}

pub(super) async fn challenge(State(house): State<Clearing>, call: Signed) -> Answer<Challenge> {
    answered(&call, async {
        let request: ChallengeRequest = call.json()?;
        Ok(house.challenge(&call.caller.key, &request).await?)
    })
    .await
}

pub(super) async fn answer(State(house): State<Clearing>, Path(id): Path<String>, call: Signed) -> Answer<Challenge> {
    answered(&call, async {
        let id: Digest = id.parse().map_err(|_| Failure::NotFound { what: format!("challenge {id}") })?;
        let request: AnswerRequest = call.json()?;
        Ok(house.answer(&call.caller.key, id, &request).await?)
    })
    .await
}
