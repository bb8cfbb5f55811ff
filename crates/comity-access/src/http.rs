//! The desk over HTTP (spec/11-access.md): `/comity/v1/access/` for those who apply, `/comity/v1/requests` for those who answer.
//!
//! An applicant signs with a key of the token in header `comity-token`, whose `sub` is the project's pseudonym here. Whoever answers
//! signs with the key that the owner's configuration names.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_http::body::Limit;
use comity_http::problem::problem_form;
use comity_http::signed::{Guard, refusal};
use comity_http::{Refusal, Signed};
use comity_token::request::header;
use comity_token::{Directory, Trust};
use comity_wire::api::access as api;
use comity_wire::api::decisions::{DecisionProof, ProofAsked};
use comity_wire::object::Chain;
use comity_wire::{Code, ModelId, NodeId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::act::{Act, State as Standing};
use crate::clock::Party;
use crate::config::Person;
use crate::desk::{Clock, Desk, Project, Trouble};
use crate::id::ApplicationId;
use crate::limit;
use crate::refused::Refused;
use crate::seal::Unproved;
use crate::store::{Filter, PAGE_MAX, Row};
use crate::view;

/// Of a body that is not an attachment.
const BODY_BYTES_MAX: usize = 128 << 10;
/// Lines of a page where the caller does not say.
const PAGE: u32 = 100;

/// What the routes need beside the desk.
#[derive(Clone)]
pub struct Place {
    /// The owner.
    pub org: OrgId,
    /// The node that tokens are for.
    pub node: NodeId,
    /// Whom tokens are verified with.
    pub directory: Arc<dyn Directory>,
    /// The time.
    pub clock: Clock,
}

#[derive(Clone)]
struct Desks {
    desk: Desk,
    place: Place,
    guard: Guard,
    attachments: Guard,
    /// Of its own, so that what strangers send makes no owner's call wait.
    owners: Guard,
}

/// The routes.
pub fn router(desk: Desk, place: Place) -> Router {
    let guard = |bytes| {
        let clock = Arc::clone(&place.clock);
        Guard::new(Limit::bytes(bytes), move || clock())
    };
    let (guard, attachments, owners) =
        (guard(BODY_BYTES_MAX), guard(limit::ATTACHMENT_BYTES_MAX as usize), guard(BODY_BYTES_MAX));
    Router::new()
        .route("/comity/v1/access/forms", get(form))
        .route("/comity/v1/access/applications", get(own).post(open))
        .route("/comity/v1/access/applications/{id}", get(show))
        .route("/comity/v1/access/applications/{id}/acts", post(act))
        .route("/comity/v1/access/applications/{id}/proof", get(proof))
        .route("/comity/v1/access/applications/{id}/attachments", put(attach))
        .route("/comity/v1/requests", get(requests))
        .route("/comity/v1/requests/{id}", get(request))
        .route("/comity/v1/requests/{id}/acts", post(answer))
        .route("/comity/v1/requests/{id}/attachments/{digest}", get(attachment))
        .layer(from_fn(problem_form))
        .with_state(Desks { desk, place, guard, attachments, owners })
}

#[derive(Deserialize)]
struct Model {
    model: ModelId,
}

/// What a page may be asked for. A word that is not known is refused, not passed over.
#[derive(Clone, Debug, Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// In a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Standing>,
    /// Whose move it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub party: Option<Party>,
    /// For a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// Those that are not over.
    pub open: bool,
    /// Lines, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// What `next` of the page before said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Asked {
    /// The page, of one project or of all.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn page(self, desk: &Desk, subject: Option<String>) -> Result<api::ListReply, Refusal> {
        let (rows, next) = self.rows(desk, subject).await?;
        Ok(api::ListReply { applications: rows.iter().map(view::listed).collect(), next })
    }

    /// The page, as one of the owner's persons sees it: it may be shorter than what was asked for, also where there is a next one.
    async fn page_for(self, desk: &Desk, person: &Person) -> Result<api::ListReply, Refusal> {
        let (rows, next) = self.rows(desk, None).await?;
        let rows = desk.seen_by(person, rows).await.map_err(|trouble| refused(&trouble))?;
        Ok(api::ListReply { applications: rows.iter().map(view::listed).collect(), next })
    }

    async fn rows(self, desk: &Desk, subject: Option<String>) -> Result<(Vec<Row>, Option<String>), Refusal> {
        let (filter, limit) = self.filter(subject)?;
        let mut rows = desk.list(&filter, limit + 1).await.map_err(|trouble| refused(&trouble))?;
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| has_more).map(|row| cursor_text(row.cursor()));
        Ok((rows, next))
    }

    fn filter(self, subject: Option<String>) -> Result<(Filter, u32), Refusal> {
        let Self { state, party, model, open, limit, after } = self;
        let after =
            after.map(|after| cursor(&after).ok_or_else(|| bad("after is what `next` of the page before said")));
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX - 1);
        Ok((Filter { subject, state, party, model, open, after: after.transpose()? }, limit))
    }
}

/// The place where a page ended, as text.
fn cursor_text((at, id): (Timestamp, ApplicationId)) -> String {
    format!("{}.{id}", at.0)
}

/// And back.
fn cursor(text: &str) -> Option<(Timestamp, ApplicationId)> {
    let (at, id) = text.split_once('.')?;
    Some((Timestamp(at.parse().ok()?), id.parse().ok()?))
}

async fn form(
    State(desks): State<Desks>,
    asked: Result<Query<Model>, QueryRejection>,
) -> Result<Json<api::FormReply>, Refusal> {
    let Query(Model { model }) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let of = desks.desk.form_for(&[model]).map_err(|trouble| refused(&trouble))?;
    Ok(Json(view::form(&of.form, &of.text)))
}

async fn open(State(desks): State<Desks>, request: Request) -> Result<Response, Refusal> {
    let (project, call) = desks.project(request).await?;
    let api::OpenRequest { id, models, answers, copy_of } = call.json()?;
    let id = named(&id)?;
    let opened = match copy_of {
        None => desks.desk.open(&project, id, models, answers).await,
        Some(_) if !models.is_empty() || !answers.is_empty() => {
            return Err(bad("a copy takes its models and answers from what it copies"));
        }
        Some(of) => desks.desk.copy(&project, named(&of)?, id).await,
    };
    let opened = opened.map_err(|trouble| refused(&trouble))?;
    Ok((StatusCode::CREATED, Json(desks.desk.for_project(&project, &opened))).into_response())
}

async fn own(
    State(desks): State<Desks>,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Result<Json<api::ListReply>, Refusal> {
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let (project, _) = desks.project(request).await?;
    asked.page(&desks.desk, Some(project.subject)).await.map(Json)
}

async fn show(
    State(desks): State<Desks>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<api::Application>, Refusal> {
    let (project, _) = desks.project(request).await?;
    let found = desks.desk.of_project(&project, named(&id)?).await.map_err(|trouble| refused(&trouble))?;
    Ok(Json(desks.desk.for_project(&project, &found)))
}

async fn proof(
    State(desks): State<Desks>,
    Path(id): Path<String>,
    asked: Result<Query<ProofAsked>, QueryRejection>,
    request: Request,
) -> Result<Json<DecisionProof>, Refusal> {
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let (project, _) = desks.project(request).await?;
    let found = desks.desk.of_project(&project, named(&id)?).await.map_err(|trouble| refused(&trouble))?;
    desks.desk.proof(&found, asked).await.map(Json).map_err(|unproved| unproven(&unproved))
}

/// Why there is no proof, as the caller hears it.
pub(crate) fn unproven(unproved: &Unproved) -> Refusal {
    match unproved {
        Unproved::NotSealed => {
            Refusal::new(Code::NotFound, unproved.to_string()).hint("ask again in a minute").with("whose_move", "owner")
        }
        Unproved::Store(_) | Unproved::Tiles(_) => {
            tracing::error!(error = %unproved, "an event could not be proved");
            Refusal::new(Code::StoreUnavailable, "the proof cannot be made at present")
                .retry_after_s(5)
                .with("whose_move", "owner")
        }
    }
}

async fn act(
    State(desks): State<Desks>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<api::Application>, Refusal> {
    let (project, call) = desks.project(request).await?;
    let api::ActRequest { after, act } = call.json()?;
    let done = desks.desk.act_of_project(&project, named(&id)?, after, read(act)?).await;
    Ok(Json(desks.desk.for_project(&project, &done.map_err(|trouble| refused(&trouble))?)))
}

async fn attach(State(desks): State<Desks>, Path(id): Path<String>, request: Request) -> Result<StatusCode, Refusal> {
    let (headers, call) = signed(&desks.attachments, request).await?;
    let project = desks.of_token(&headers, &call)?;
    desks.desk.attach(&project, named(&id)?, &call.body).await.map_err(|trouble| refused(&trouble))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn requests(
    State(desks): State<Desks>,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Result<Json<api::ListReply>, Refusal> {
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let (person, _) = desks.person(request).await?;
    asked.page_for(&desks.desk, &person).await.map(Json)
}

async fn request(
    State(desks): State<Desks>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<api::Application>, Refusal> {
    let (person, _) = desks.person(request).await?;
    let found = desks.desk.find_for(&person, named(&id)?).await.map_err(|trouble| refused(&trouble))?;
    Ok(Json(desks.desk.for_person(&person, &found)))
}

async fn answer(
    State(desks): State<Desks>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<api::Application>, Refusal> {
    let (person, call) = desks.person(request).await?;
    let api::ActRequest { after, act } = call.json()?;
    let (id, act) = (named(&id)?, read(act)?);
    desks.desk.find_for(&person, id).await.map_err(|trouble| refused(&trouble))?;
    let done = desks.desk.act_of_owner(&person, None, id, Some(after), act).await;
    Ok(Json(desks.desk.for_person(&person, &done.map_err(|trouble| refused(&trouble))?)))
}

async fn attachment(
    State(desks): State<Desks>,
    Path((id, digest)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (person, _) = desks.person(request).await?;
    let (id, digest) = (named(&id)?, digest.parse().map_err(|_| bad("a digest is 64 lower-case hex digits"))?);
    desks.desk.find_for(&person, id).await.map_err(|trouble| refused(&trouble))?;
    let bytes = desks.desk.attachment(id, digest).await.map_err(|trouble| refused(&trouble))?;
    // Whatever it is, no browser shows it as a page of this node.
    let headers = [("content-type", "application/octet-stream"), ("content-disposition", "attachment")];
    Ok((headers, bytes).into_response())
}

impl Desks {
    async fn project(&self, request: Request) -> Result<(Project, Signed), Refusal> {
        let (headers, call) = signed(&self.guard, request).await?;
        Ok((self.of_token(&headers, &call)?, call))
    }

    /// [`Desks::known`]; of a call that is refused no memory is kept, since keys cost nothing.
    fn of_token(&self, headers: &HeaderMap, call: &Signed) -> Result<Project, Refusal> {
        self.known(headers, call).inspect_err(|_| call.forget())
    }

    fn known(&self, headers: &HeaderMap, call: &Signed) -> Result<Project, Refusal> {
        project_of(&self.place, headers, call, self.desk.config().strangers)
    }

    /// The owner's person whose key has signed the call.
    async fn person(&self, request: Request) -> Result<(Person, Signed), Refusal> {
        let (_, call) = signed(&self.owners, request).await?;
        let found = self.desk.persons().iter().find(|person| person.key == Some(call.caller.key)).cloned();
        match found {
            Some(person) => Ok((person, call)),
            None => {
                call.forget();
                let message = "the key that signed this call is nobody's who answers applications here";
                Err(Refusal::new(Code::NotYours, message)
                    .hint("the owner names persons and their keys in node.toml: [[access.person]]")
                    .with("whose_move", "owner"))
            }
        }
    }
}

/// The project of the token in header `comity-token`, one of whose keys has signed the call. A stranger has a token that this node gave
/// itself.
pub(crate) fn project_of(
    place: &Place,
    headers: &HeaderMap,
    call: &Signed,
    strangers: bool,
) -> Result<Project, Refusal> {
    let chain = chain(headers)?;
    let trust = Trust { directory: &*place.directory, node: place.node, now: (place.clock)() };
    let capability = comity_token::verify(&chain, &trust).map_err(|denied| refusal(&denied))?;
    if !capability.keys().contains(&&call.caller.key) {
        let message = "the key that signed this call does not hold the token in header comity-token";
        return Err(Refusal::new(Code::NotYours, message).with("whose_move", "caller"));
    }
    let token = capability.token();
    if token.issuer() == place.org && !strangers {
        let message =
            "an application is made by a project that a clearing house knows, and this token is this node's own";
        return Err(Refusal::new(Code::NotRegistered, message)
            .hint("draw a token of your project from the clearing house, also of budget 0")
            .with("whose_move", "caller"));
    }
    Ok(Project {
        subject: token.subject.as_str().to_owned(),
        is_holder: *capability.root_holder() == call.caller.key,
        vetting: token.terms.vetting,
        purposes: token.terms.purposes.iter().map(|purpose| purpose.as_str().to_owned()).collect(),
    })
}

pub(crate) async fn signed(guard: &Guard, request: Request) -> Result<(HeaderMap, Signed), Refusal> {
    let headers = request.headers().clone();
    Ok((headers, guard.check(request).await?))
}

/// The chain in header `comity-token`, `:base64:` (RFC 9651 §3.3.5), once.
fn chain(headers: &HeaderMap) -> Result<Vec<u8>, Refusal> {
    let mut lines = headers.get_all(header::TOKEN).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok(),
        _ => None,
    };
    let text = line.and_then(|text| text.strip_prefix(':')?.strip_suffix(':'));
    let bytes = text.and_then(|text| STANDARD.decode(text).ok()).filter(|bytes| bytes.len() <= Chain::BYTES_MAX);
    bytes.ok_or_else(|| {
        Refusal::new(
            Code::TokenUnknown,
            "say which project applies: its token for this node in header comity-token, ':base64:'",
        )
        .with("whose_move", "caller")
    })
}

fn named(id: &str) -> Result<ApplicationId, Refusal> {
    id.parse().map_err(|error: crate::id::NotAnApplicationId| bad(error.to_string()))
}

fn read(act: serde_json::Value) -> Result<Act, Refusal> {
    serde_json::from_value(act).map_err(|error| bad(format!("the act is not one: {error}")))
}

pub(crate) fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message).with("whose_move", "caller")
}

/// A trouble as outsiders hear it.
pub fn refused(trouble: &Trouble) -> Refusal {
    let code = match trouble {
        Trouble::Refused(refused) => match refused {
            Refused::NotNow { .. } | Refused::Unmet { .. } | Refused::TooEarly { .. } => Code::ApplicationState,
            Refused::NotYours { .. } | Refused::Stranger { .. } => Code::NotYours,
            Refused::Conflict { .. } | Refused::TookPart { .. } => Code::DutyConflict,
            Refused::Incomplete(_) => Code::ApplicationIncomplete,
            Refused::TooMuch { .. } => Code::LimitExceeded,
            Refused::NoReason { .. } | Refused::Content(_) => Code::InvalidRequest,
        },
        Trouble::Moved => Code::ApplicationMoved,
        Trouble::SteppedBack => Code::DutyConflict,
        Trouble::NotFound => Code::NotFound,
        Trouble::TooMany { .. } => Code::LimitExceeded,
        Trouble::NoForm | Trouble::Content(_) => Code::InvalidRequest,
        Trouble::Unknown(_) => Code::NotYours,
        Trouble::Store(_) => Code::StoreUnavailable,
    };
    let refusal = match trouble {
        // What went wrong in the database is the owner's to read.
        Trouble::Store(error) => {
            tracing::error!(%error, "the store of applications failed");
            Refusal::new(code, "the applications cannot be reached at present").retry_after_s(5)
        }
        trouble => Refusal::new(code, trouble.to_string()),
    };
    let whose = match trouble {
        Trouble::Refused(refused) => refused.next().word(),
        Trouble::TooMany { what: "open applications at this node" | "MiB of attachments at this node", .. }
        | Trouble::Store(_) => "owner",
        _ => "caller",
    };
    let refusal = refusal.with("whose_move", whose);
    match trouble {
        Trouble::Refused(Refused::Incomplete(missing)) => {
            let fields: Vec<_> = missing
                .iter()
                .map(|missing| serde_json::json!({"field": missing.field, "what": missing.what}))
                .collect();
            refusal.with("fields", fields)
        }
        Trouble::Moved => refusal.hint("get the application again; `after` is its head"),
        _ => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::form::Missing;

    #[test]
    fn each_refusal_has_its_code() {
        let code = |trouble: Trouble| {
            let refusal = refused(&trouble);
            let whose = refusal.extra.get("whose_move").and_then(|whose| whose.as_str()).map(str::to_owned);
            (refusal.code, refusal.status.as_u16(), whose.expect("each says whose move it is"))
        };
        let state = Refused::NotNow { kind: Kind::Vote, state: Standing::Draft, next: Party::Applicant };
        assert_eq!(code(state.into()), ("application_state", 409, "applicant".into()));
        let missing = Missing { field: "purpose".into(), what: "is missing" };
        assert_eq!(code(Refused::Incomplete(vec![missing]).into()), ("application_incomplete", 422, "caller".into()));
        assert_eq!(code(Trouble::Moved), ("application_moved", 409, "caller".into()));
        let took_part = Refused::TookPart { who: "dora".into() };
        assert_eq!(code(took_part.into()), ("duty_conflict", 403, "appeal-reviewer".into()));
        assert_eq!(code(Trouble::NotFound).0, "not_found");
    }
}
