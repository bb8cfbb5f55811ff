//! Cases over HTTP, for the project that they are about (spec/11-access.md): `/comity/v1/access/cases`.
//!
//! A call is signed by the holder of the token in header `comity-token`, whose `sub` is the project's pseudonym here. A token of the node
//! itself does, too: whoever was stopped by a filter is heard, also where nobody knows them.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::from_fn;
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_http::body::Limit;
use comity_http::problem::problem_form;
use comity_http::signed::Guard;
use comity_http::{Refusal, Signed};
use comity_wire::api::access::ActRequest;
use comity_wire::api::case as api;
use comity_wire::api::decisions::{DecisionProof, ProofAsked};
use comity_wire::{Code, Timestamp};
use serde::Deserialize;

use super::act::Act;
use super::desk::{Desk, Trouble};
use super::event::Party;
use super::id::{CaseId, NotACaseId};
use super::refused::Refused;
use super::store::{PAGE_MAX, Which};
use super::view;
use crate::http::{Place, bad, project_of, signed, unproven};

/// Of a body; a text has at most 4,000 bytes, which JSON may write with six for each.
const BODY_BYTES_MAX: usize = 32 << 10;
/// Lines of a page where the caller does not say.
const PAGE: u32 = 100;

#[derive(Clone)]
struct Cases {
    desk: Desk,
    place: Place,
    guard: Guard,
}

/// The routes.
pub fn router(desk: Desk, place: Place) -> Router {
    let clock = place.clock.clone();
    let guard = Guard::new(Limit::bytes(BODY_BYTES_MAX), move || clock());
    Router::new()
        .route("/comity/v1/access/cases", get(list))
        .route("/comity/v1/access/cases/{id}", get(show))
        .route("/comity/v1/access/cases/{id}/acts", post(act))
        .route("/comity/v1/access/cases/{id}/proof", get(proof))
        .layer(from_fn(problem_form))
        .with_state(Cases { desk, place, guard })
}

/// What a page may be asked for. A word that is not known is refused, not passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    /// Those of which a move is due.
    open: bool,
    /// Lines, at most 1,000.
    limit: Option<u32>,
    /// What `next` of the page before said.
    after: Option<String>,
}

async fn list(
    State(cases): State<Cases>,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Result<Json<api::CasesReply>, Refusal> {
    let Query(Asked { open, limit, after }) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let (subject, _) = cases.project(request).await?;
    let after = after.map(|after| cursor(&after).ok_or_else(|| bad("after is what `next` of the page before said")));
    let which = Which { subject: Some(subject), open, after: after.transpose()? };
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX - 1);
    let mut rows = cases.desk.list(&which, limit + 1).await.map_err(|trouble| refused(&trouble))?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| has_more).map(|row| {
        let (at, id) = row.cursor();
        format!("{}.{id}", at.0)
    });
    Ok(Json(api::CasesReply { cases: rows.iter().map(view::listed).collect(), next }))
}

async fn show(
    State(cases): State<Cases>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<api::Case>, Refusal> {
    let (subject, _) = cases.project(request).await?;
    let found = cases.desk.of_project(&subject, named(&id)?).await;
    Ok(Json(view::shown(&found.map_err(|trouble| refused(&trouble))?)))
}

async fn proof(
    State(cases): State<Cases>,
    Path(id): Path<String>,
    asked: Result<Query<ProofAsked>, QueryRejection>,
    request: Request,
) -> Result<Json<DecisionProof>, Refusal> {
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let (subject, _) = cases.project(request).await?;
    let found = cases.desk.of_project(&subject, named(&id)?).await.map_err(|trouble| refused(&trouble))?;
    cases.desk.proof(found.id(), asked).await.map(Json).map_err(|unproved| unproven(&unproved))
}

async fn act(State(cases): State<Cases>, Path(id): Path<String>, request: Request) -> Result<Json<api::Case>, Refusal> {
    let (subject, call) = cases.project(request).await?;
    let ActRequest { after, act } = call.json()?;
    let act = match serde_json::from_value(act).map_err(|error| bad(format!("the act is not one: {error}")))? {
        api::Heard::Answer { text } => Act::Answer { text, brought_by: None },
        api::Heard::Appeal { reason } => Act::Appeal { reason, brought_by: None },
    };
    let done = cases.desk.act_of_project(&subject, named(&id)?, after, act).await;
    Ok(Json(view::shown(&done.map_err(|trouble| refused(&trouble))?)))
}

impl Cases {
    /// The project whose holder has signed the call. Of one that is refused no memory is kept, since keys cost nothing.
    async fn project(&self, request: Request) -> Result<(String, Signed), Refusal> {
        let (headers, call) = signed(&self.guard, request).await?;
        let project = project_of(&self.place, &headers, &call, true).and_then(|project| match project.is_holder {
            true => Ok(project),
            false => {
                let message = "a part of a token that was handed on does not speak for its project";
                Err(Refusal::new(Code::NotYours, message)
                    .hint("sign with the key that the token itself was drawn for")
                    .with("whose_move", "caller"))
            }
        });
        let project = project.inspect_err(|_| call.forget())?;
        Ok((project.subject, call))
    }
}

/// The place where a page ended.
fn cursor(text: &str) -> Option<(Timestamp, CaseId)> {
    let (at, id) = text.split_once('.')?;
    Some((Timestamp(at.parse().ok()?), id.parse().ok()?))
}

fn named(id: &str) -> Result<CaseId, Refusal> {
    id.parse().map_err(|error: NotACaseId| bad(error.to_string()))
}

/// A trouble as the project hears it.
fn refused(trouble: &Trouble) -> Refusal {
    let code = match trouble {
        Trouble::Refused(refused) => match refused {
            Refused::NotNow { .. } | Refused::TooEarly { .. } => Code::CaseState,
            Refused::NotYours { .. } | Refused::Stranger { .. } => Code::NotYours,
            Refused::TookPart { .. } => Code::DutyConflict,
            Refused::TooMuch { .. } => Code::LimitExceeded,
            Refused::NoReason { .. } | Refused::Content(_) | Refused::Ordered { .. } => Code::InvalidRequest,
        },
        Trouble::Moved => Code::CaseMoved,
        Trouble::NotFound => Code::NotFound,
        Trouble::TooMany { .. } => Code::LimitExceeded,
        Trouble::Unsealed(_) | Trouble::Store(_) => Code::StoreUnavailable,
    };
    let whose = match trouble {
        Trouble::Refused(Refused::NotNow { next, .. }) => match next {
            Party::Project => "caller",
            Party::Owner => "owner",
            Party::AppealReviewer => "appeal-reviewer",
            Party::Nobody => "nobody",
        },
        Trouble::Refused(Refused::TookPart { .. }) => "appeal-reviewer",
        Trouble::TooMany { .. } | Trouble::Unsealed(_) | Trouble::Store(_) => "owner",
        _ => "caller",
    };
    let refusal = match trouble {
        // What went wrong in the database is the owner's to read.
        Trouble::Unsealed(_) | Trouble::Store(_) => {
            tracing::error!(error = %trouble, "the store of cases failed");
            Refusal::new(code, "the cases cannot be reached at present").retry_after_s(5)
        }
        Trouble::Moved => Refusal::new(code, trouble.to_string()).hint("get the case again; `after` is its head"),
        trouble => Refusal::new(code, trouble.to_string()),
    };
    refusal.with("whose_move", whose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Kind, State as Standing};

    #[test]
    fn each_refusal_has_its_code() {
        let code = |trouble: Trouble| {
            let refusal = refused(&trouble);
            let whose = refusal.extra.get("whose_move").and_then(|whose| whose.as_str()).map(str::to_owned);
            (refusal.code, refusal.status.as_u16(), whose.expect("each says whose move it is"))
        };
        let state = Refused::NotNow { kind: Kind::Appeal, state: Standing::ToDecide, next: Party::Owner };
        assert_eq!(code(state.into()), ("case_state", 409, "owner".into()));
        assert_eq!(code(Trouble::Moved), ("case_moved", 409, "caller".into()));
        assert_eq!(code(Trouble::NotFound).0, "not_found");
        let much = Refused::TooMuch { what: "events of this kind in a case", most: 16 };
        assert_eq!(code(much.into()).0, "limit_exceeded");
    }
}
