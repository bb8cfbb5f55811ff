//! The house's HTTP API (spec/09-http.md §2): `comity_wire::api::clearing` over axum.
//!
//! Each call is signed by its caller's key (tag `comity-api-v1`). A signed call that somebody sends again is harmless:
//! reads tell its key's owner nothing new, and every write is named by what it carries.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_token::{Denied, verify_api};
use comity_wire::api::clearing::{
    ClaimRequest, FinalRequest, QuoteReply, QuoteRequest, RefundRequest, ReservationRequest, SignedBytes,
};
use comity_wire::{Code, NodeId, ProjectId, PublicKey};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::service::Clearing;
use crate::service::read::Account;

/// A claim of 2 MiB in base64, and a little.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
const LIST_TYPE: &str = "application/vnd.comity.revocation-list.v1";

impl Clearing {
    /// The routes for members and nodes, beside `/health` and the house's revocation list.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/quotes", post(quotes))
            .route("/v1/reservations", post(reservations))
            .route("/v1/claims", post(claims))
            .route("/v1/finals", post(finals))
            .route("/v1/refunds", post(refunds))
            .route("/v1/projects/{id}", get(project))
            .route("/v1/statement", get(statement))
            .route("/comity/v1/standing", get(standing))
            .route("/health", get(health))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self.clone())
    }
}

async fn quotes(State(house): State<Clearing>, call: Call) -> Response {
    let done = async {
        let request: QuoteRequest = call.json()?;
        let quote = house.quote(&call.key, &request).await?;
        Ok(QuoteReply { quote: SignedBytes::new(quote.bytes()).map_err(Failure::invalid)? })
    };
    answer(done.await)
}

async fn reservations(State(house): State<Clearing>, call: Call) -> Response {
    let done = async {
        let request: ReservationRequest = call.json()?;
        house.reserve(&call.key, &request).await
    };
    answer(done.await)
}

async fn claims(State(house): State<Clearing>, call: Call) -> Response {
    let done = async {
        let request: ClaimRequest = call.json()?;
        house.claim(&call.key, &request.claim).await
    };
    answer(done.await)
}

/// Whoever holds a final may bring it, and needs no signature of their own.
async fn finals(State(house): State<Clearing>, ApiJson(request): ApiJson<FinalRequest>) -> Response {
    answer(house.final_(&request.final_).await)
}

async fn refunds(State(house): State<Clearing>, call: Call) -> Response {
    let done = async {
        let request: RefundRequest = call.json()?;
        house.refund(&call.key, request.token).await
    };
    answer(done.await)
}

async fn project(State(house): State<Clearing>, Path(id): Path<String>, call: Call) -> Response {
    match id.parse() {
        Ok(id) => answer(house.project(&call.key, id).await),
        Err(_) => refuse(&Failure::NotFound { what: format!("project {id}") }),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatementQuery {
    project: Option<ProjectId>,
    node: Option<NodeId>,
}

async fn statement(State(house): State<Clearing>, query: Result<Query<StatementQuery>, axum::extract::rejection::QueryRejection>, call: Call) -> Response {
    let account = match query {
        Ok(Query(StatementQuery { project: Some(project), node: None })) => Account::Project(project),
        Ok(Query(StatementQuery { project: None, node: Some(node) })) => Account::Node(node),
        Ok(Query(StatementQuery { project: None, node: None })) => Account::Own,
        Ok(_) => return refuse(&Failure::invalid("name a project or a node, not both")),
        Err(rejection) => return refuse(&Failure::invalid(rejection.body_text())),
    };
    answer(house.statement(&call.key, account).await)
}

async fn standing(State(house): State<Clearing>) -> Response {
    match house.standing() {
        Some(list) => ([(header::CONTENT_TYPE, LIST_TYPE)], list.bytes().to_vec()).into_response(),
        None => refuse(&Failure::NotFound { what: "revocation list".into() }),
    }
}

/// 200 while the books can be read and the house's tasks run.
async fn health(State(house): State<Clearing>) -> Response {
    match house.health().await {
        Ok(()) => Json(json!({ "status": "ok" })).into_response(),
        Err(failure) => refuse(&failure),
    }
}

/// A call whose signature stands: whose key it was, and the body that it covers.
pub struct Call {
    pub key: PublicKey,
    body: Bytes,
}

impl Call {
    fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        parse(&self.body)
    }
}

impl FromRequest<Clearing> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, house: &Clearing) -> Result<Self, Response> {
        // The path as it was signed: merge this router, do not nest it, since nesting cuts the path.
        let uri = request.uri().clone();
        let method = request.method().clone();
        let headers: HeaderMap = request.headers().clone();
        let body = read_body(request, house).await?;
        let (path, query) = (uri.path(), uri.query().unwrap_or(""));
        let caller = verify_api(method.as_str(), path, query, &headers, &body, house.now());
        let caller = caller.map_err(|denied| refuse_at(&denied.into(), Some(house)))?;
        Ok(Self { key: caller.key, body })
    }
}

/// JSON whose refusal has a code like every other.
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Clearing> for ApiJson<T> {
    type Rejection = Response;

    async fn from_request(request: Request, house: &Clearing) -> Result<Self, Response> {
        let body = read_body(request, house).await?;
        parse(&body).map(Self).map_err(|failure| refuse(&failure))
    }
}

async fn read_body(request: Request, house: &Clearing) -> Result<Bytes, Response> {
    Bytes::from_request(request, house).await.map_err(|rejection| {
        let (status, text) = (rejection.status(), rejection.body_text());
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE { Code::BodyTooLarge } else { Code::InvalidRequest };
        problem(code, &text, Value::Null)
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::invalid(format!("the body is not what this route takes: {error}")))
}

/// A reply, or the refusal in its place.
pub fn answer<T: Serialize>(done: Result<T, Failure>) -> Response {
    match done {
        Ok(reply) => Json(reply).into_response(),
        Err(failure) => refuse(&failure),
    }
}

/// The refusal's one form: OpenAI's body, the code's status, `x-should-retry`.
pub fn refuse(failure: &Failure) -> Response {
    refuse_at(failure, None)
}

fn refuse_at(failure: &Failure, house: Option<&Clearing>) -> Response {
    let code = failure.code();
    if code.status() >= 500 {
        tracing::error!(code = %code, error = %crate::failure::chain(failure), "a call failed");
    }
    let mut details = match failure {
        Failure::BalanceTooLow { asked, available } => json!({ "asked_ucr": asked, "available_ucr": available }),
        _ => json!({}),
    };
    // A caller whose clock is off learns what time it is here.
    if let (Failure::Denied(Denied::Stale { .. }), Some(house)) = (failure, house) {
        details["now"] = json!(house.now());
    }
    problem(code, &failure.message(), details)
}

fn problem(code: Code, message: &str, details: Value) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = match code.status() {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        404 | 410 => "not_found_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let mut error = json!({ "message": message, "type": kind, "param": null, "code": code });
    if let Value::Object(details) = details {
        for (name, value) in details {
            error[name] = value;
        }
    }
    let retry = HeaderValue::from_static(if code.should_retry() { "true" } else { "false" });
    let mut response = (status, Json(json!({ "error": error }))).into_response();
    response.headers_mut().insert("x-should-retry", retry);
    response
}
