//! What the operator says and asks of persons.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_http::Refusal;
use comity_wire::api::person::{KeyRevokeRequest, KeyStatus, ProjectOfKey, Subject};
use comity_wire::api::proposal::ConductReply;
use comity_wire::object::Vetting;
use comity_wire::{MemberId, ProjectId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::http::{Body, Part};
use crate::service::Clearing;
use crate::vetting::Evidence;

/// `POST /admin/persons`: the house's own check of a person. Where two officers keep the books only `none` needs no act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonVouch {
    /// A person's id, `mem-…`, or a key, `did:key:…`: one that nobody has makes a new person.
    pub who: String,
    /// `none` takes an earlier check back.
    pub vetting: Vetting,
    /// What was seen: a letter, of whom; a passport, by whom.
    pub seen: String,
    /// Left out: until another check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// `POST /admin/persons/keys`; an act, where two officers keep the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonKey {
    pub person: MemberId,
    pub key: PublicKey,
    /// Of an act: what it rests on; tells one time from the next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonRow {
    pub person: MemberId,
    pub since: Timestamp,
    pub subjects: Vec<Subject>,
    /// Those in force.
    pub keys: Vec<PublicKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonShow {
    pub person: MemberId,
    pub subjects: Vec<Subject>,
    pub keys: Vec<KeyStatus>,
    pub projects: Vec<ProjectOfKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvidenceRow {
    #[serde(flatten)]
    pub evidence: Evidence,
    pub note: String,
    pub recorded_by: String,
    pub recorded_at: Timestamp,
}

/// `POST /admin/conduct`: what every person signs from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConductPublish {
    pub version: String,
    pub body: String,
}

/// `POST /admin/proposals/decide`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalDecide {
    pub project: ProjectId,
    pub accept: bool,
    /// Needed for a no.
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProposalRow {
    pub project: ProjectId,
    pub title: String,
    pub proposer: MemberId,
    pub purpose: String,
    pub use_terms: Vec<String>,
    pub data_classes: Vec<String>,
    /// How many keys it has.
    pub members: u64,
    pub proposed_at: Timestamp,
    /// `waits`, `accepted`, `declined`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    pub reason: String,
}

pub(super) fn routes() -> Router<Clearing> {
    Router::new()
        .route("/admin/persons", post(vouch).get(list))
        .route("/admin/persons/keys", post(key_add))
        .route("/admin/persons/keys/revoke", post(key_revoke))
        .route("/admin/persons/show/{id}", get(show))
        .route("/admin/persons/evidence/{id}", get(evidence))
        .route("/admin/conduct", post(conduct))
        .route("/admin/proposals", get(proposals))
        .route("/admin/proposals/decide", post(decide))
}

async fn vouch(State(house): State<Clearing>, Body(ask): Body<PersonVouch>) -> Result<Json<PersonShow>, Refusal> {
    Ok(Json(house.person_vouch(ask).await?))
}

async fn list(State(house): State<Clearing>) -> Result<Json<Vec<PersonRow>>, Refusal> {
    Ok(Json(house.persons().await?))
}

async fn key_add(State(house): State<Clearing>, Body(ask): Body<PersonKey>) -> Result<Json<PersonShow>, Refusal> {
    Ok(Json(house.person_key_add(ask).await?))
}

async fn key_revoke(State(house): State<Clearing>, Body(ask): Body<KeyRevokeRequest>) -> Result<Json<Value>, Refusal> {
    let tokens = house.key_revoke(None, ask.key).await?;
    Ok(Json(json!({ "key": ask.key, "revoked": true, "tokens": tokens })))
}

async fn show(State(house): State<Clearing>, Part(id): Part<String>) -> Result<Json<PersonShow>, Refusal> {
    Ok(Json(house.person_show(member_id(&id)?).await?))
}

async fn evidence(State(house): State<Clearing>, Part(id): Part<String>) -> Result<Json<Vec<EvidenceRow>>, Refusal> {
    Ok(Json(house.person_evidence(member_id(&id)?).await?))
}

fn member_id(text: &str) -> Result<MemberId, Failure> {
    text.parse().map_err(|_| Failure::NotFound { what: format!("person {text}") })
}

async fn conduct(
    State(house): State<Clearing>,
    Body(ask): Body<ConductPublish>,
) -> Result<Json<ConductReply>, Refusal> {
    Ok(Json(house.conduct_publish(ask).await?))
}

async fn proposals(State(house): State<Clearing>) -> Result<Json<Vec<ProposalRow>>, Refusal> {
    Ok(Json(house.proposals().await?))
}

async fn decide(State(house): State<Clearing>, Body(ask): Body<ProposalDecide>) -> Result<Json<ProposalRow>, Refusal> {
    Ok(Json(house.proposal_decide(ask).await?))
}
