//! What the operator asks about owners.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_http::Refusal;
use comity_wire::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::http::{Body, Part};
use crate::reports::{Period, Report};
use crate::service::{Clearing, For, OwnerShow, PriceRow, RecoveryRow, RemittanceSet, ScheduleShow, TermsRow};

/// `POST /admin/owners/remittances`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemittanceAsk {
    /// The name of a run, or of a payment that was recorded by itself.
    pub run: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OrgId>,
    /// With projects, funders and award numbers.
    #[serde(default)]
    pub awards: bool,
}

pub(super) fn routes() -> Router<Clearing> {
    Router::new()
        .route("/admin/owners/terms", get(terms))
        .route("/admin/owners/schedules", get(schedules))
        .route("/admin/owners/show/{owner}", get(show))
        .route("/admin/owners/remittances", post(remittances))
}

async fn terms(State(house): State<Clearing>) -> Result<Json<Vec<TermsRow>>, Refusal> {
    Ok(Json(house.owner_terms().await?))
}

async fn show(State(house): State<Clearing>, Part(owner): Part<String>) -> Result<Json<OwnerShow>, Refusal> {
    let owner: OrgId = owner.parse().map_err(|_| Failure::invalid("an owner is an organisation's id, org-…"))?;
    Ok(Json(house.owner_show(owner).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PricesAsk {
    owner: Option<OrgId>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

pub(super) async fn prices(
    State(house): State<Clearing>,
    asked: Result<Query<PricesAsk>, QueryRejection>,
) -> Result<Json<Report<PriceRow>>, Refusal> {
    let Query(PricesAsk { owner, from, to }) = asked.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    Ok(Json(house.prices(owner, Period { from, to }).await?))
}

async fn schedules(State(house): State<Clearing>) -> Result<Json<Vec<ScheduleShow>>, Refusal> {
    Ok(Json(house.owner_schedules().await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecoveryAsk {
    year: String,
}

pub(super) async fn recovery(
    State(house): State<Clearing>,
    asked: Result<Query<RecoveryAsk>, QueryRejection>,
) -> Result<Json<Report<RecoveryRow>>, Refusal> {
    let Query(RecoveryAsk { year }) = asked.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    Ok(Json(house.recovery(&year).await?))
}

/// Read like a report; a run's name may hold what a path may not.
async fn remittances(
    State(house): State<Clearing>,
    Body(ask): Body<RemittanceAsk>,
) -> Result<Json<RemittanceSet>, Refusal> {
    let RemittanceAsk { run, owner, awards } = ask;
    let reader = if awards { For::Funds } else { For::Owner };
    Ok(Json(house.remittances(&run, owner, reader).await?))
}
