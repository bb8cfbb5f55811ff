//! Findings over HTTP (spec/13-checks.md §13.4): for the node that they are about, and, once they are published, for everybody.

use axum::extract::State;
use axum::response::Response;
use comity_http::{Refusal, Signed};
use comity_probe::Finding;
use comity_wire::{Code, Digest};
use http::Uri;

use super::calls::{Call, answer_once};
use super::lists::{Asked, OfNode, Plain, asked};
use super::pages::{CODES, Paged};
use super::table::Route;
use super::{Api, Part, TRANSPORT, answer};
use crate::failure::Failure;
use crate::service::Clearing;
use crate::service::findings::{FindingAnswer, FindingsReply};

pub(super) fn routes() -> Vec<Route<Api>> {
    vec![
        Route::get("findings", "/v1/findings", published, "Findings on models that were published, the oldest first")
            .pages::<Plain, FindingsReply>()
            .codes(CODES),
        Route::get("findingsShown", "/v1/findings/shown", shown, "Findings that a node's owner was shown")
            .signed_by(TRANSPORT)
            .pages::<OfNode, FindingsReply>()
            .codes(CODES),
        Route::post("findingAnswer", "/v1/findings/{id}/answers", say, "Say what there is to say of a finding")
            .signed_by(TRANSPORT)
            .path::<Digest>("id")
            .body::<FindingAnswer>()
            .reply::<Finding>()
            .codes(&[Code::NotFound, Code::Closed]),
    ]
}

async fn published(
    State(house): State<Clearing>,
    query: Asked<Plain>,
    uri: Uri,
) -> Result<Paged<FindingsReply>, Refusal> {
    let page = asked(query)?.page("findings")?;
    let reply = house.findings_published(&page).await?;
    Ok(Paged { next: reply.next.clone(), reply, uri })
}

async fn shown(
    State(house): State<Clearing>,
    query: Asked<OfNode>,
    uri: Uri,
    call: Signed,
) -> Result<Paged<FindingsReply>, Refusal> {
    answer(&call, async {
        let query = asked(query)?;
        let reply = house.findings_of(&call.caller.key, query.node, &query.page("findings/shown")?).await?;
        Ok(Paged { next: reply.next.clone(), reply, uri })
    })
    .await
}

async fn say(State(house): State<Clearing>, Part(id): Part<String>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let id: Digest = id.parse().map_err(|_| Failure::NotFound { what: format!("finding {id}") })?;
        let FindingAnswer { answer } = call.json()?;
        Ok(house.finding_answer(&call.signed.caller.key, id, answer).await?)
    })
    .await
}
