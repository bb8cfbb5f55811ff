//! AMIE's wire (docs/reference/amie.md), as `amieclient` speaks it: a door of its own, keys in headers, JSON.
//!
//! Not merged into the house's signed API: whoever holds a site's key can do what that site can, and nothing else here.
//! Refusals are problems, with `message` and `error` beside `detail`, which are where AMIE's and usage clients look.

use axum::body::Body as HttpBody;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json, Router};
use comity_http::Refusal;
use comity_http::body::{self, Limit};
use comity_http::problem::{no_such_method, no_such_route, problem_form};
use comity_wire::Code;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Part;
use crate::amie::iso;
use crate::failure::Failure;
use crate::service::Clearing;
use crate::service::amie::{List, Note, UsageMessage};
use crate::store::amie::Site;

/// AMIE's own bound; its clients send at most three quarters of it.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A refusal is small.
const REFUSAL_BYTES_MAX: usize = 1 << 20;
/// Failed records that one call clears: what a path holds.
const CLEARED_MAX: usize = 1_000;

impl Clearing {
    /// AMIE's routes, for a listener of their own behind a proxy with a certificate that sites trust.
    pub fn amie_router(&self) -> Router {
        let packets = Router::new()
            .route("/packets/{site}", get(list).post(take))
            .route("/packets/{site}/{id}", get(packet))
            .route("/packets/{site}/{id}/client_state", delete(state_clear))
            .route("/packets/{site}/{id}/client_state/{state}", put(state_set))
            .route("/packets/{site}/{id}/client_json", put(json_set).delete(json_clear))
            .route("/transactions/{site}/{id}/packets", get(transaction))
            .route("/transactions/{site}/{id}/state/failed", put(fail));
        let usage = Router::new()
            .route("/usage/", post(usage))
            .route("/usage", post(usage))
            .route("/usage/failed", get(failed))
            .route("/usage/failed/{ids}", delete(clear))
            .route("/usage/status", get(status));
        Router::new()
            .nest("/amie/v0.10", packets)
            .nest("/amie/usage/api/v1", usage)
            .fallback(no_such_route)
            .method_not_allowed_fallback(no_such_method)
            .layer(axum::middleware::from_fn_with_state(self.clone(), known))
            .layer(from_fn(problem_form))
            .layer(from_fn(for_clients))
            .with_state(self.clone())
    }
}

/// Lets a site in by its key, and only to what is its own.
async fn known(State(house): State<Clearing>, mut request: Request, next: Next) -> Result<Response, Refusal> {
    let (name, key) = (header(&request, "xa-site"), header(&request, "xa-api-key"));
    let site = house.amie_site(&name, &key).await?;
    let site = site.ok_or_else(|| {
        Refusal::new(Code::NotRegistered, "XA-SITE and XA-API-KEY are not those of a site of this house")
            .hint("ask the clearing house's operator for a key: comity clearing amie site rekey")
    })?;
    // `…/packets/{site}/…` and `…/transactions/{site}/…`.
    let named = request.uri().path().strip_prefix("/amie/v0.10/").and_then(|path| path.split('/').nth(1));
    if named.is_some_and(|named| named != site.name) {
        return Err(Failure::NotYours { what: "another site's" }.into());
    }
    request.extensions_mut().insert(site);
    Ok(next.run(request).await)
}

fn header(request: &Request, name: &str) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// `amieclient` reads `message` of AMIE's refusals and `error` of the usage API's, and takes 200 alone for success.
async fn for_clients(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status().is_success() {
        return response;
    }
    let (parts, whole) = response.into_parts();
    let bytes = axum::body::to_bytes(whole, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let Ok(Value::Object(mut said)) = serde_json::from_slice::<Value>(&bytes) else {
        return Response::from_parts(parts, HttpBody::from(bytes));
    };
    let detail = said.get("detail").cloned().unwrap_or_else(|| json!("refused"));
    said.entry("message").or_insert_with(|| detail.clone());
    said.entry("error").or_insert(detail);
    let mut response = Response::from_parts(parts, HttpBody::from(Value::Object(said).to_string()));
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    response
}

type Answer = Result<Json<Value>, Refusal>;

fn ok(result: Value) -> Answer {
    Ok(Json(json!({ "message": "OK", "result": result })))
}

fn number(what: &'static str, text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::NotFound { what: format!("{what} {text}") })
}

async fn read<T: serde::de::DeserializeOwned>(headers: &HeaderMap, whole: HttpBody) -> Result<T, Refusal> {
    let bytes = body::read(headers, whole, Limit::bytes(BODY_BYTES_MAX)).await?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::invalid(format!("the body is not right: {error}")).into())
}

async fn list(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    query: Result<Query<List>, QueryRejection>,
) -> Answer {
    let Query(list) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    let (packets, more) = house.amie_packets(&site, &list).await?;
    let message = if more { "more packets wait: answer these, or narrow the list" } else { "OK" };
    Ok(Json(json!({ "message": message, "result": packets })))
}

async fn take(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    headers: HeaderMap,
    whole: HttpBody,
) -> Answer {
    let packet = read(&headers, whole).await?;
    ok(house.amie_take(&site, packet).await?)
}

async fn packet(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    Part((_, id)): Part<(String, String)>,
) -> Answer {
    ok(house.amie_packet(&site, number("packet", &id)?).await?)
}

async fn note(house: &Clearing, site: &Site, id: &str, note: Note) -> Answer {
    let id = number("packet", id)?;
    house.amie_note(site, id, note).await?;
    ok(house.amie_packet(site, id).await?)
}

async fn state_set(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    Part((_, id, state)): Part<(String, String, String)>,
) -> Answer {
    note(&house, &site, &id, Note::State(state)).await
}

async fn state_clear(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    Part((_, id)): Part<(String, String)>,
) -> Answer {
    note(&house, &site, &id, Note::NoState).await
}

async fn json_set(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    Part((_, id)): Part<(String, String)>,
    headers: HeaderMap,
    whole: HttpBody,
) -> Answer {
    let said = read(&headers, whole).await?;
    note(&house, &site, &id, Note::Json(said)).await
}

async fn json_clear(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    Part((_, id)): Part<(String, String)>,
) -> Answer {
    note(&house, &site, &id, Note::NoJson).await
}

async fn transaction(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    Part((_, id)): Part<(String, String)>,
) -> Answer {
    ok(house.amie_transaction(&site, number("transaction", &id)?).await?)
}

async fn fail(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    Part((_, id)): Part<(String, String)>,
) -> Answer {
    let id = number("transaction", &id)?;
    house.amie_fail(&site, id).await?;
    ok(house.amie_transaction(&site, id).await?)
}

async fn usage(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    headers: HeaderMap,
    whole: HttpBody,
) -> Answer {
    let message: UsageMessage = read(&headers, whole).await?;
    let loaded = house.amie_usage(&site, message).await?;
    let said = format!("{} records taken, {} failed", loaded.taken, loaded.failed.len());
    Ok(Json(json!({ "Message": said, "ValidationFailedRecords": loaded.failed })))
}

async fn failed(State(house): State<Clearing>, Extension(site): Extension<Site>) -> Answer {
    let failed = house.amie_failures(&site).await?;
    Ok(Json(json!({ "Message": format!("{} failed records", failed.len()), "ValidationFailedRecords": failed })))
}

async fn clear(State(house): State<Clearing>, Extension(site): Extension<Site>, Part(ids): Part<String>) -> Answer {
    let numbers: Result<Vec<u64>, Failure> = ids.split(',').map(|id| number("failed record", id.trim())).collect();
    let numbers = numbers?;
    if numbers.len() > CLEARED_MAX {
        return Err(Failure::Limit { what: "failed records cleared at once", max: CLEARED_MAX.to_string() }.into());
    }
    let cleared = house.amie_failures_clear(&site, numbers).await?;
    Ok(Json(json!({ "Message": format!("{cleared} failed records cleared") })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatusQuery {
    #[serde(rename = "FromTime")]
    from: Option<String>,
    #[serde(rename = "ToTime")]
    to: Option<String>,
}

async fn status(
    State(house): State<Clearing>,
    Extension(site): Extension<Site>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    let time = |what: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => iso(text).map(Some).ok_or_else(|| Failure::invalid(format!("{what} is not a time of ISO 8601"))),
    };
    let status = house.amie_status(&site, (time("FromTime", &query.from)?, time("ToTime", &query.to)?)).await?;
    Ok(Json(json!([{
        "Resource": site.resource,
        "LoadedRecordCount": status.records,
        "FailedJobCount": status.failed,
        "TotalCharge": status.charge,
        "Errors": status.errors,
    }])))
}
