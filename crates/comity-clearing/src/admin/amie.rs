//! What the operator does about AMIE's sites.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_http::Refusal;
use comity_wire::ProjectId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    AccountView, Announce, Bind, Merge, MeterRow, PacketAt, PacketRefuse, PacketView, PersonSay, ReportAs, SiteAdd,
    SiteChange, SiteKey, SiteRow, TransactionRow, UsagePage, UsageView,
};
use crate::amie;
use crate::failure::Failure;
use crate::http::{Body, Part};
use crate::reports::Period;
use crate::service::Clearing;

pub(super) fn routes() -> Router<Clearing> {
    Router::new()
        .route("/admin/amie/sites", get(sites).post(site_add))
        .route("/admin/amie/sites/{name}", post(site_change))
        .route("/admin/amie/persons", post(person))
        .route("/admin/amie/merge", post(merge))
        .route("/admin/amie/announce", post(announce))
        .route("/admin/amie/retry", post(retry))
        .route("/admin/amie/transactions", get(transactions))
        .route("/admin/amie/meter", get(meter))
        .route("/admin/amie/usage", post(usage))
        .route("/admin/amie/central/packets", get(central_packets))
        .route("/admin/amie/central/accounts", get(central_accounts))
        .route("/admin/amie/central/refuse", post(central_refuse))
        .route("/admin/amie/central/retry", post(central_retry))
        .route("/admin/amie/central/bind", post(central_bind))
        .route("/admin/amie/central/usage", get(central_usage))
        .route("/admin/amie/central/usage/again", post(central_usage_again))
}

async fn sites(State(house): State<Clearing>) -> Result<Json<Vec<SiteRow>>, Refusal> {
    Ok(Json(house.amie_sites().await?))
}

async fn site_add(State(house): State<Clearing>, Body(ask): Body<SiteAdd>) -> Result<Json<SiteKey>, Refusal> {
    Ok(Json(house.amie_site_add(ask).await?))
}

async fn site_change(
    State(house): State<Clearing>,
    Part(name): Part<String>,
    Body(change): Body<SiteChange>,
) -> Result<Json<SiteKey>, Refusal> {
    Ok(Json(house.amie_site_change(name, change).await?))
}

async fn person(State(house): State<Clearing>, Body(say): Body<PersonSay>) -> Result<Json<Value>, Refusal> {
    let (project, member) = (say.project, say.member);
    house.amie_person(say).await?;
    Ok(Json(json!({ "project": project, "member": member })))
}

async fn merge(State(house): State<Clearing>, Body(ask): Body<Merge>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "transactions": house.amie_merge(ask).await? })))
}

async fn announce(State(house): State<Clearing>, Body(ask): Body<Announce>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "transaction": house.amie_announce(ask).await? })))
}

/// `POST /admin/amie/retry`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    site: String,
    project: ProjectId,
}

async fn retry(State(house): State<Clearing>, Body(ask): Body<Retry>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "begun": house.amie_retry(ask.site, ask.project).await? })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Which {
    state: Option<String>,
}

async fn transactions(
    State(house): State<Clearing>,
    query: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<TransactionRow>>, Refusal> {
    let Query(Which { state }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    let read = |word: &str| {
        amie::State::from_word(word).ok_or_else(|| Failure::invalid("a state is in-progress, completed or failed"))
    };
    Ok(Json(house.amie_transactions(state.as_deref().map(read).transpose()?).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Month {
    site: String,
    month: String,
}

async fn meter(
    State(house): State<Clearing>,
    query: Result<Query<Month>, QueryRejection>,
) -> Result<Json<Vec<MeterRow>>, Refusal> {
    let Query(Month { site, month }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    Ok(Json(house.amie_meter(&site, &month).await?))
}

/// `POST /admin/amie/usage`: a page of what projects paid.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageAsk {
    #[serde(default)]
    period: Period,
    by: ReportAs,
    #[serde(default)]
    after: u64,
}

async fn usage(State(house): State<Clearing>, Body(ask): Body<UsageAsk>) -> Result<Json<UsagePage>, Refusal> {
    Ok(Json(house.amie_usage_export(ask.period, &ask.by, ask.after).await?))
}

async fn central_packets(State(house): State<Clearing>) -> Result<Json<Vec<PacketView>>, Refusal> {
    Ok(Json(house.central_packets().await?))
}

async fn central_accounts(State(house): State<Clearing>) -> Result<Json<Vec<AccountView>>, Refusal> {
    Ok(Json(house.central_accounts().await?))
}

async fn central_refuse(State(house): State<Clearing>, Body(ask): Body<PacketRefuse>) -> Result<Json<Value>, Refusal> {
    let packet = ask.packet;
    house.central_refuse(ask).await?;
    Ok(Json(json!({ "refused": packet })))
}

async fn central_retry(State(house): State<Clearing>, Body(ask): Body<PacketAt>) -> Result<Json<Value>, Refusal> {
    let packet = ask.packet;
    house.central_retry(ask).await?;
    Ok(Json(json!({ "sent_again": packet })))
}

async fn central_bind(State(house): State<Clearing>, Body(ask): Body<Bind>) -> Result<Json<Value>, Refusal> {
    let (person, member) = (ask.person, ask.member);
    house.central_bind(ask).await?;
    Ok(Json(json!({ "person": person, "member": member })))
}

async fn central_usage(State(house): State<Clearing>) -> Result<Json<Vec<UsageView>>, Refusal> {
    Ok(Json(house.central_usage().await?))
}

/// `POST /admin/amie/central/usage/again`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Again {
    central: String,
}

async fn central_usage_again(State(house): State<Clearing>, Body(ask): Body<Again>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "records": house.central_usage_again(ask.central).await? })))
}
