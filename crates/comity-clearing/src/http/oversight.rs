//! Advisories over HTTP (spec/07-settlement.md §10), for nodes.

use axum::extract::State;
use comity_http::{Refusal, Signed};
use comity_wire::api::advisory::AdvisoriesReply;
use http::Uri;

use super::lists::{Asked, OfNode, asked};
use super::pages::{CODES, Paged};
use super::table::Route;
use super::{Api, TRANSPORT, answer};
use crate::service::Clearing;

pub(super) fn routes() -> Vec<Route<Api>> {
    const SUMMARY: &str = "Projects whose flags are spread over several owners, as far as they concern a node's owner";
    vec![
        Route::get("advisories", "/v1/advisories", list, SUMMARY)
            .signed_by(TRANSPORT)
            .pages::<OfNode, AdvisoriesReply>()
            .codes(CODES),
    ]
}

async fn list(
    State(house): State<Clearing>,
    query: Asked<OfNode>,
    uri: Uri,
    call: Signed,
) -> Result<Paged<AdvisoriesReply>, Refusal> {
    answer(&call, async {
        let query = asked(query)?;
        let reply = house.advisories_of(&call.caller.key, query.node, &query.page("advisories")?).await?;
        Ok(Paged { next: reply.next.clone(), reply, uri })
    })
    .await
}
