//! Challenges over HTTP (spec/07-settlement.md §5): by members, and for nodes.

use axum::extract::State;
use axum::response::Response;
use comity_http::{Refusal, Signed};
use comity_wire::api::challenge::{AnswerRequest, Challenge, ChallengeRequest, ChallengesReply};
use comity_wire::{Code, Digest};
use http::Uri;

use super::calls::{Call, answer_once};
use super::lists::{Asked, OfNode, asked};
use super::pages::{CODES, Paged};
use super::table::Route;
use super::{Api, MEMBER, Part, TRANSPORT, answer as answered};
use crate::failure::Failure;
use crate::service::Clearing;

pub(super) fn routes() -> Vec<Route<Api>> {
    vec![
        Route::get("challenges", "/v1/challenges", list, "Challenges that wait for a node, the oldest first")
            .signed_by(TRANSPORT)
            .pages::<OfNode, ChallengesReply>()
            .codes(CODES),
        Route::post("challenge", "/v1/challenges", challenge, "Challenge what nobody acknowledged of a lane")
            .signed_by(MEMBER)
            .body::<ChallengeRequest>()
            .reply::<Challenge>()
            .codes(&[Code::NotFound, Code::LimitExceeded, Code::TooEarly, Code::Closed]),
        Route::post("answer", "/v1/challenges/{id}/answers", answer, "Show receipts that a challenge asks for")
            .signed_by(TRANSPORT)
            .path::<Digest>("id")
            .body::<AnswerRequest>()
            .reply::<Challenge>()
            .codes(&[Code::NotFound, Code::LimitExceeded]),
    ]
}

async fn list(
    State(house): State<Clearing>,
    query: Asked<OfNode>,
    uri: Uri,
    call: Signed,
) -> Result<Paged<ChallengesReply>, Refusal> {
    answered(&call, async {
        let query = asked(query)?;
        let reply = house.challenges_of(&call.caller.key, query.node, &query.page("challenges")?).await?;
        Ok(Paged { next: reply.next.clone(), reply, uri })
    })
    .await
}

async fn challenge(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: ChallengeRequest = call.json()?;
        Ok(house.challenge(&call.signed.caller.key, &request).await?)
    })
    .await
}

async fn answer(State(house): State<Clearing>, Part(id): Part<String>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let id: Digest = id.parse().map_err(|_| Failure::NotFound { what: format!("challenge {id}") })?;
        let request: AnswerRequest = call.json()?;
        Ok(house.answer(&call.signed.caller.key, id, &request).await?)
    })
    .await
}
