//! The house's HTTP API (spec/09-http.md §2): `comity_wire::api::clearing` over axum.
//!
//! Each call is signed by its caller's key (tag `comity-api-v1`) and runs once per nonce. Signed anew it is harmless too:
//! every write is named by what it carries. Refusals are problems (RFC 9457).

mod amie;
mod challenges;
mod counts;
pub(crate) mod log;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, Path, Query, Request, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_http::body::{self, Limit};
use comity_http::problem::{no_such_method, no_such_route, problem_form};
use comity_http::signed::Guard;
use comity_http::{Refusal, Signed};
use comity_wire::Code;
use comity_wire::api::clearing::{
    ClaimReply, ClaimRequest, FinalReply, FinalRequest, HouseReply, MandateReply, MandateRequest, ProjectReply,
    QuoteReply, QuoteRequest, RefundRequest, ReservationReply, ReservationRequest, SignedBytes, Statement,
};
use comity_wire::{Amount, LotId, MandateId, NodeId, ProjectId};
use http::header;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::failure::{self, Failure};
use crate::lots::Unusable;
use crate::service::{Account, Clearing};
use crate::settlement;

/// A claim of 2 MiB in base64, and a little.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
const LIST_TYPE: &str = "application/vnd.comity.revocation-list.v1";

/// What the handlers share.
#[derive(Clone)]
struct Api {
    house: Clearing,
    guard: Guard,
}

impl Clearing {
    /// The routes for members and nodes, beside `/health` and the house's revocation list. Merge it, do not nest it:
    /// callers sign the whole path.
    pub fn router(&self) -> Router {
        let house = self.clone();
        let guard = Guard::new(Limit::bytes(BODY_BYTES_MAX), move || house.now());
        Router::new()
            .route("/v1/quotes", post(quotes))
            .route("/v1/reservations", post(reservations))
            .route("/v1/claims", post(claims))
            .route("/v1/finals", post(finals))
            .route("/v1/refunds", post(refunds))
            .route("/v1/mandates", post(mandates))
            .route("/v1/mandates/{id}", get(mandate))
            .route("/v1/mandates/{id}/revoke", post(mandate_revoke))
            .route("/v1/challenges", get(challenges::list).post(challenges::challenge))
            .route("/v1/challenges/{id}/answers", post(challenges::answer))
            .route("/v1/counts", get(counts::list).post(counts::count))
            .route("/v1/projects/{id}", get(project))
            .route("/v1/statement", get(statement))
            .route("/v1/house", get(about))
            .route("/comity/v1/standing", get(standing))
            .route("/health", get(health))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .merge(log::routes())
            .fallback(no_such_route)
            .method_not_allowed_fallback(no_such_method)
            .layer(from_fn(problem_form))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Api { house: self.clone(), guard })
    }
}

impl Clearing {
    /// `/healthz` and `/readyz` alone, for a listener of the operator's.
    pub fn health_router(&self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .layer(from_fn(problem_form))
            .with_state(self.clone())
    }
}

type Answer<T> = Result<Json<T>, Refusal>;

/// Answers a signed call. One that was refused for who made it or what it says is forgotten: it would be refused again, and
/// nobody shall fill the memory of nonces with keys that are registered nowhere.
async fn answer<T>(call: &Signed, work: impl Future<Output = Result<T, Refusal>>) -> Answer<T> {
    let done = work.await;
    if let Err(refusal) = &done
        && (matches!(refusal.status.as_u16(), 400 | 401 | 404) || refusal.code == Code::NotYours.as_str())
    {
        call.forget();
    }
    done.map(Json)
}

async fn quotes(State(house): State<Clearing>, call: Signed) -> Answer<QuoteReply> {
    answer(&call, async {
        let request: QuoteRequest = call.json()?;
        let quote = house.quote(&call.caller.key, &request).await?;
        Ok(QuoteReply { quote: SignedBytes::new(quote.bytes()).map_err(Failure::invalid)? })
    })
    .await
}

async fn reservations(State(house): State<Clearing>, call: Signed) -> Answer<ReservationReply> {
    answer(&call, async {
        let request: ReservationRequest = call.json()?;
        Ok(house.reserve(&call.caller.key, &request).await?)
    })
    .await
}

async fn claims(State(house): State<Clearing>, call: Signed) -> Answer<ClaimReply> {
    answer(&call, async {
        let request: ClaimRequest = call.json()?;
        Ok(house.claim(&call.caller.key, &request.claim).await?)
    })
    .await
}

/// Whoever holds a final may bring it, and needs no signature of their own.
async fn finals(State(house): State<Clearing>, Body(request): Body<FinalRequest>) -> Answer<FinalReply> {
    Ok(Json(house.final_(&request.final_).await?))
}

async fn refunds(State(house): State<Clearing>, call: Signed) -> Answer<FinalReply> {
    answer(&call, async {
        let request: RefundRequest = call.json()?;
        Ok(house.refund(&call.caller.key, request.token).await?)
    })
    .await
}

async fn mandates(State(house): State<Clearing>, call: Signed) -> Answer<MandateReply> {
    answer(&call, async {
        let request: MandateRequest = call.json()?;
        Ok(house.mandate_redeem(&call.caller.key, &request).await?)
    })
    .await
}

async fn mandate(State(house): State<Clearing>, Path(id): Path<String>, call: Signed) -> Answer<MandateReply> {
    answer(&call, async { Ok(house.mandate(&call.caller.key, mandate_id(&id)?).await?) }).await
}

async fn mandate_revoke(State(house): State<Clearing>, Path(id): Path<String>, call: Signed) -> Answer<MandateReply> {
    answer(&call, async { Ok(house.mandate_revoke(&call.caller.key, mandate_id(&id)?).await?) }).await
}

fn mandate_id(text: &str) -> Result<MandateId, Failure> {
    text.parse().map_err(|_| Failure::NotFound { what: format!("mandate {text}") })
}

async fn project(State(house): State<Clearing>, Path(id): Path<String>, call: Signed) -> Answer<ProjectReply> {
    answer(&call, async { Ok(house.project(&call.caller.key, project_id(&id)?).await?) }).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatementQuery {
    project: Option<ProjectId>,
    node: Option<NodeId>,
}

async fn statement(
    State(house): State<Clearing>,
    query: Result<Query<StatementQuery>, QueryRejection>,
    call: Signed,
) -> Answer<Statement> {
    answer(&call, async {
        let Query(query) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        let account = match (query.project, query.node) {
            (Some(project), None) => Account::Project(project),
            (None, Some(node)) => Account::Node(node),
            (None, None) => Account::Own,
            (Some(_), Some(_)) => return Err(Failure::invalid("name a project or a node, not both").into()),
        };
        Ok(house.statement(&call.caller.key, account).await?)
    })
    .await
}

async fn about(State(house): State<Clearing>) -> Json<HouseReply> {
    Json(house.about())
}

async fn standing(State(house): State<Clearing>) -> Result<Response, Refusal> {
    let list = house.standing().ok_or_else(|| Failure::NotFound { what: "revocation list".into() })?;
    Ok(([(header::CONTENT_TYPE, LIST_TYPE)], list.bytes().to_vec()).into_response())
}

/// 200 while the process serves: whoever supervises it starts it again where there is no answer.
async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "live": true }))
}

/// 200 where every part is as it must be, else 503: whoever balances loads sends nobody. Which part is not well is for anybody;
/// why, for the house's log.
async fn readyz(State(house): State<Clearing>) -> Answer<serde_json::Value> {
    let vital = house.vital().await;
    let parts: serde_json::Map<_, _> =
        vital.parts.iter().map(|(part, is_well)| ((*part).to_owned(), (*is_well).into())).collect();
    if vital.is_ready() {
        return Ok(Json(json!({ "ready": true, "parts": parts })));
    }
    let refusal = Refusal::new(Code::StoreUnavailable, "the house is not ready");
    Err(refusal.with("ready", false).with("parts", parts).hint("whoever runs it: comity clearing doctor"))
}

/// 200 while the books can be read and the house's tasks run.
async fn health(State(house): State<Clearing>) -> Answer<serde_json::Value> {
    house.health().await?;
    Ok(Json(json!({ "status": "ok" })))
}

pub(crate) fn project_id(text: &str) -> Result<ProjectId, Failure> {
    text.parse().map_err(|_| Failure::NotFound { what: format!("project {text}") })
}

/// A JSON body that nobody signed, refused in the one form.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, whole) = request.into_parts();
        let bytes = body::read(&parts.headers, whole, Limit::bytes(BODY_BYTES_MAX)).await?;
        let read = serde_json::from_slice(&bytes);
        read.map(Self).map_err(|error| Failure::invalid(format!("the body is not right: {error}")).into())
    }
}

impl FromRef<Api> for Clearing {
    fn from_ref(api: &Api) -> Self {
        api.house.clone()
    }
}

impl FromRef<Api> for Guard {
    fn from_ref(api: &Api) -> Self {
        api.guard.clone()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let code = failure.code();
        // A log that stopped was told once a minute by its own task, and anybody may ask for it.
        let is_told = matches!(failure, Failure::LogStopped { .. });
        if matches!(code, Code::Internal | Code::StoreUnavailable) && !is_told {
            tracing::error!(%code, error = %failure::chain(&failure), "a call failed");
        }
        let refusal = Self::new(code, failure.message());
        match failure {
            Failure::BalanceTooLow { asked, available, unusable } => {
                let lot = |(lot, award, amount, why): (LotId, String, Amount, Unusable)| json!({ "lot": lot, "award_number": award, "available_ucr": amount.ucr(), "reason": why });
                refusal
                    .with("asked_ucr", asked.ucr())
                    .with("available_ucr", available.ucr())
                    .with("unusable", unusable.into_iter().map(lot).collect::<Vec<_>>())
                    .hint("ask for less, or wait until other tokens come home")
            }
            Failure::OwnerTerms { whose_move, .. } => refusal.with("whose_move", whose_move),
            Failure::DutyConflict { .. } => refusal.hint("comity clearing act list, and another officer's key"),
            Failure::Settlement(settlement::Refused::SettledDiffers { lanes }) => refusal.with("settled", json!(lanes)),
            Failure::NotRegistered => refusal.hint("comity clearing project add --member <your key>, by the operator"),
            Failure::ReservationConflict { .. } => refusal.hint("use a new id for a new reservation"),
            Failure::QuoteExpired { .. } => refusal.hint("ask for a new quote"),
            _ => refusal,
        }
    }
}
