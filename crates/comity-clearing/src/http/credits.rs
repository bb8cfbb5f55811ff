//! Credit notes over HTTP (spec/07-settlement.md §11), for nodes.

use axum::extract::State;
use axum::response::Response;
use comity_http::Refusal;
use comity_wire::api::credit::{CreditNoteReply, CreditNoteRequest};

use super::calls::{Call, answer_once};
use super::table::Route;
use super::{Api, TRANSPORT, codes};
use crate::service::Clearing;

pub(super) fn routes() -> Vec<Route<Api>> {
    vec![
        Route::post("creditNote", "/v1/credit-notes", credit_note, "Give back of what was earned under a token")
            .signed_by(TRANSPORT)
            .body::<CreditNoteRequest>()
            .reply::<CreditNoteReply>()
            .codes(codes::CREDIT_NOTE),
    ]
}

async fn credit_note(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: CreditNoteRequest = call.json()?;
        Ok(house.credit_note(&call.signed.caller.key, &request.note).await?)
    })
    .await
}
