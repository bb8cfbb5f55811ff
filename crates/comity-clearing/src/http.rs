//! The house's HTTP API (spec/09-http.md §2): `comity_wire::api::clearing` over axum.
//!
//! Each call is signed by its caller's key (tag `comity-api-v1`) and runs once per nonce. Signed anew it is harmless too:
//! every write is named by what it carries. Refusals are problems (RFC 9457).

mod amie;
mod calls;
mod challenges;
mod counts;
mod credits;
mod decisions;
mod findings;
mod lists;
pub(crate) mod log;
mod openapi;
mod oversight;
pub(crate) mod pages;
mod persons;
mod table;

use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use comity_http::body::Limit;
use comity_http::problem::{no_such_method, no_such_route, problem_form};
use comity_http::signed::Guard;
use comity_http::{Refusal, Signed};
use comity_wire::Code;
use comity_wire::api::clearing::{
    ClaimReply, ClaimRequest, FinalReply, FinalRequest, HouseReply, MandateReply, MandateRequest, MandateRevokeRequest,
    ProjectReply, QuoteReply, QuoteRequest, RefundRequest, ReservationReply, ReservationRequest, SignedBytes,
};
use comity_wire::{Amount, LotId, MandateId, ProjectId};
use http::header;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::answers::RETRY_AFTER_S;
use crate::failure::{self, Failure};
use crate::lots::Unusable;
use crate::service::Clearing;
use crate::settlement;
pub(crate) use calls::{Body, Part};
use calls::{Call, answer, answer_once};
pub use openapi::openapi;
use table::Route;

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
        table::router(routes())
            .fallback(no_such_route)
            .method_not_allowed_fallback(no_such_method)
            .layer(from_fn(problem_form))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Api { house: self.clone(), guard })
    }
}

const MEMBER: &str = "a key of the project";
const TRANSPORT: &str = "a transport key of the node";

/// Everything that the house serves at its door.
fn routes() -> Vec<Route<Api>> {
    let own = vec![
        Route::post("quote", "/v1/quotes", quotes, "Pin a price for work at a node")
            .signed_by(MEMBER)
            .body::<QuoteRequest>()
            .reply::<QuoteReply>()
            .codes(codes::QUOTE),
        Route::post("reserve", "/v1/reservations", reservations, "Set credits aside and draw a token for them")
            .signed_by(MEMBER)
            .body::<ReservationRequest>()
            .reply::<ReservationReply>()
            .codes(codes::RESERVE),
        Route::post("claim", "/v1/claims", claims, "Claim what calls were charged")
            .signed_by(TRANSPORT)
            .body::<ClaimRequest>()
            .reply::<ClaimReply>()
            .codes(codes::EVIDENCE),
        Route::post("final", "/v1/finals", finals, "Bring a node's word that a token is done with")
            .body::<FinalRequest>()
            .reply::<FinalReply>()
            .codes(codes::EVIDENCE),
        Route::post("refund", "/v1/refunds", refunds, "Ask for what a token did not use")
            .signed_by(MEMBER)
            .body::<RefundRequest>()
            .reply::<FinalReply>()
            .codes(codes::REFUND),
        Route::post("redeemMandate", "/v1/mandates", mandates, "Redeem a mandate")
            .signed_by("the key that redeems it")
            .body::<MandateRequest>()
            .reply::<MandateReply>()
            .codes(codes::MANDATE),
        Route::get("mandate", "/v1/mandates/{id}", mandate, "How a mandate stands")
            .signed_by("who redeemed it, a PI, a co-PI or an assistant")
            .path::<MandateId>("id")
            .reply::<MandateReply>()
            .codes(&[Code::NotFound]),
        Route::post("revokeMandate", "/v1/mandates/{id}/revoke", mandate_revoke, "End a mandate")
            .signed_by("a PI, a co-PI or an assistant")
            .path::<MandateId>("id")
            .body::<MandateRevokeRequest>()
            .reply::<MandateReply>()
            .codes(&[Code::NotFound, Code::UnsupportedMediaType, Code::LimitExceeded]),
        Route::get("project", "/v1/projects/{id}", project, "A project's credits, lots and newest tokens")
            .signed_by(MEMBER)
            .path::<ProjectId>("id")
            .reply::<ProjectReply>()
            .codes(&[Code::NotFound]),
        Route::get("house", "/v1/house", about, "Since when the house takes claims").reply::<HouseReply>(),
        Route::get("openapi", "/v1/openapi.json", described, "This document").bytes("application/json"),
        Route::get("standing", "/comity/v1/standing", standing, "The newest revocation list, signed")
            .bytes(LIST_TYPE)
            .codes(&[Code::NotFound]),
        Route::get("health", "/health", health, "Whether the books can be read and the house's tasks run")
            .reply::<Health>(),
        Route::get("healthz", "/healthz", healthz, "Whether the process serves").reply::<Live>(),
        Route::get("readyz", "/readyz", readyz, "Whether every part of the house is as it must be").reply::<Ready>(),
    ];
    [
        own,
        persons::routes(),
        lists::routes(),
        challenges::routes(),
        counts::routes(),
        decisions::routes(),
        credits::routes(),
        oversight::routes(),
        findings::routes(),
        log::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What each kind of call may be refused for. Tests of the house fail where one is missing (`table::held`).
mod codes {
    use comity_wire::Code::{self, *};

    /// Faults of a signed object that was handed in.
    macro_rules! with_object {
        ($($code:ident),*) => { &[NonDeterministic, TooDeep, TooLarge, Malformed, UnknownField, InvalidKey, WrongKind, WrongAlgorithm, WrongKey, BadSignature, $($code),*] };
    }
    pub(super) const QUOTE: &[Code] = &[
        NotFound,
        ModelNotFound,
        Withdrawn,
        OpNotOffered,
        LimitExceeded,
        Revoked,
        RosterExpired,
        VettingTooLow,
        WrongIssuer,
        OwnerTerms,
        RosterBehind,
        DutyConflict,
        TooManyRequests,
    ];
    pub(super) const RESERVE: &[Code] = with_object!(
        NotFound,
        Frozen,
        BalanceTooLow,
        MandateRequired,
        ReservationConflict,
        Expired,
        LimitExceeded,
        Revoked,
        RosterExpired,
        WrongIssuer,
        RosterBehind,
        DutyConflict
    );
    pub(super) const EVIDENCE: &[Code] = with_object!(
        NotFound,
        NotYours,
        NotRegistered,
        WrongIssuer,
        WrongFederation,
        WrongAudience,
        TokenConflict,
        BlockSpliced,
        BlockOrder,
        BlockWidens,
        LaneBeyondMax,
        ClaimOlder,
        ClaimLower,
        SettledDiffers,
        BrokenHistory,
        Closed,
        TooEarly,
        Expired,
        NotYetValid,
        Revoked,
        RosterExpired,
        RosterBehind,
        StandingStale
    );
    pub(super) const DECISIONS: &[Code] = with_object!(NotYours, BrokenHistory, TooManyRequests);
    pub(super) const CREDIT_NOTE: &[Code] = with_object!(
        NotFound,
        NotYours,
        WrongAudience,
        NotYetValid,
        LimitExceeded,
        CreditTooHigh,
        CreditWaits,
        Closed,
        IdempotencyConflict
    );
    pub(super) const REFUND: &[Code] = &[NotFound, TooEarly];
    pub(super) const MANDATE: &[Code] = with_object!(NotFound, MandateRequired, LimitExceeded);
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

async fn quotes(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: QuoteRequest = call.json()?;
        let quote = house.quote(&call.signed.caller.key, &request).await?;
        Ok(QuoteReply { quote: SignedBytes::new(quote.bytes()).map_err(Failure::invalid)? })
    })
    .await
}

async fn reservations(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: ReservationRequest = call.json()?;
        Ok(house.reserve(&call.signed.caller.key, &request).await?)
    })
    .await
}

async fn claims(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: ClaimRequest = call.json()?;
        Ok(house.claim(&call.signed.caller.key, &request.claim).await?)
    })
    .await
}

/// Whoever holds a final may bring it, and needs no signature of their own.
async fn finals(State(house): State<Clearing>, Body(request): Body<FinalRequest>) -> Answer<FinalReply> {
    Ok(Json(house.final_(&request.final_).await?))
}

async fn refunds(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: RefundRequest = call.json()?;
        Ok(house.refund(&call.signed.caller.key, request.token).await?)
    })
    .await
}

async fn mandates(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: MandateRequest = call.json()?;
        Ok(house.mandate_redeem(&call.signed.caller.key, &request).await?)
    })
    .await
}

async fn mandate(State(house): State<Clearing>, Part(id): Part<String>, call: Signed) -> Answer<MandateReply> {
    answer(&call, async { Ok(house.mandate(&call.caller.key, mandate_id(&id)?).await?) }).await.map(Json)
}

async fn mandate_revoke(
    State(house): State<Clearing>,
    Part(id): Part<String>,
    call: Call,
) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let ask: MandateRevokeRequest = call.json()?;
        Ok(house.mandate_revoke(&call.signed.caller.key, mandate_id(&id)?, ask).await?)
    })
    .await
}

fn mandate_id(text: &str) -> Result<MandateId, Failure> {
    text.parse().map_err(|_| Failure::NotFound { what: format!("mandate {text}") })
}

async fn project(State(house): State<Clearing>, Part(id): Part<String>, call: Signed) -> Answer<ProjectReply> {
    answer(&call, async { Ok(house.project(&call.caller.key, project_id(&id)?).await?) }).await.map(Json)
}

async fn about(State(house): State<Clearing>) -> Json<HouseReply> {
    Json(house.about())
}

async fn described() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}

async fn standing(State(house): State<Clearing>) -> Result<Response, Refusal> {
    // Another replica may have made a newer one.
    house.standing_look().await?;
    let list = house.standing().ok_or_else(|| Failure::NotFound { what: "revocation list".into() })?;
    Ok(([(header::CONTENT_TYPE, LIST_TYPE)], list.bytes().to_vec()).into_response())
}

#[derive(Serialize, JsonSchema)]
struct Live {
    live: bool,
}

#[derive(Serialize, JsonSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct Ready {
    ready: bool,
    /// Each part, and whether it is well.
    parts: std::collections::BTreeMap<String, bool>,
}

/// 200 while the process serves: whoever supervises it starts it again where there is no answer.
async fn healthz() -> Json<Live> {
    Json(Live { live: true })
}

/// 200 where every part is as it must be, else 503: whoever balances loads sends nobody. Which part is not well is for anybody;
/// why, for the house's log.
async fn readyz(State(house): State<Clearing>) -> Answer<Ready> {
    let vital = house.vital().await;
    let parts = vital.parts.iter().map(|(part, is_well)| ((*part).to_owned(), *is_well)).collect();
    if vital.is_ready() {
        return Ok(Json(Ready { ready: true, parts }));
    }
    let refusal = Refusal::new(Code::StoreUnavailable, "the house is not ready");
    Err(refusal.with("ready", false).with("parts", json!(parts)).hint("whoever runs it: comity clearing doctor"))
}

/// 200 while the books can be read and the house's tasks run.
async fn health(State(house): State<Clearing>) -> Answer<Health> {
    house.health().await?;
    Ok(Json(Health { status: "ok" }))
}

pub(crate) fn project_id(text: &str) -> Result<ProjectId, Failure> {
    text.parse().map_err(|_| Failure::NotFound { what: format!("project {text}") })
}

impl FromRef<Api> for Clearing {
    fn from_ref(api: &Api) -> Self {
        api.house.clone()
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
            Failure::LoginRefused { .. } => {
                refusal.with("whose_move", "person").hint("comity login, again; docs/start/researcher.md")
            }
            Failure::IssuerUnreached { .. } => refusal
                .with("whose_move", "the issuer's")
                .retry_after_s(RETRY_AFTER_S)
                .hint("log in again after a while"),
            Failure::TooSoon { wait_s, .. } => refusal
                .retry_after_s(wait_s)
                .with("whose_move", "owner")
                .hint("the node brings the next head by itself"),
            Failure::CreditWaits { wait_s, .. } => {
                refusal.retry_after_s(wait_s).hint("the node brings it again by itself")
            }
            Failure::OwnerBusy => refusal.retry_after_s(RETRY_AFTER_S).with("whose_move", "owner"),
            Failure::DecisionsBroken { .. } => refusal
                .with("whose_move", "owner")
                .hint("comity node decisions check, on the node; where its store was set back: comity node decisions renew --reason"),
            Failure::DutyConflict { .. } => refusal.hint("comity clearing act list, and another officer's key"),
            Failure::Settlement(settlement::Refused::SettledDiffers { lanes }) => refusal.with("settled", json!(lanes)),
            Failure::NotRegistered => refusal.hint("comity clearing project add --member <your key>, by the operator"),
            Failure::ReservationConflict { .. } => refusal.hint("use a new id for a new reservation"),
            Failure::QuoteExpired { .. } => refusal.hint("ask for a new quote"),
            Failure::InFlight => refusal
                .retry_after_s(RETRY_AFTER_S)
                .with("whose_move", "the house's: it is at work")
                .hint("sign the same call again after a moment, with the same key"),
            Failure::IdempotencyConflict => {
                refusal.with("whose_move", "the caller's").hint("use a new Idempotency-Key for a new call")
            }
            _ => refusal,
        }
    }
}
