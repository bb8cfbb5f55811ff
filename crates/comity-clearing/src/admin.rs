//! What the operator does: methods for a process that holds the house, and a router for its Unix socket.
//!
//! No signatures: whoever may open the socket (mode 0600, set by `node/`) is the operator.

mod amie;
mod owners;
mod persons;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::middleware::from_fn;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use comity_http::Refusal;
use comity_http::problem::{no_such_method, no_such_route, problem_form};
use comity_wire::api::advisory::CategorySum;
use comity_wire::api::challenge::Challenge;
use comity_wire::api::clearing::ProjectReply;
use comity_wire::api::count::MatchOfNode;
use comity_wire::object::Vetting;
use comity_wire::{AwardId, Digest, NodeId, OrgId, ProjectId, PublicKey, Timestamp, TokenId};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::owners::RemittanceAsk;
pub use self::persons::{
    ConductPublish, EvidenceRow, PersonKey, PersonRow, PersonShow, PersonVouch, ProposalDecide, ProposalRow,
};
use crate::acts::{Act, ActRecord, Officer, Signature};
use crate::audit::{AuditReport, Totals};
use crate::failure::Failure;
use crate::http::{Body, Part, project_id};
use crate::log::LogAgreement;
use crate::log::sample::Sample;
use crate::log::trail::Trail;
use crate::mandates::Role;
use crate::reports::{FundStatement, HoldRow, JournalPage, PayableRow, Period, Report, RollRow, TrialRow};
pub use crate::service::amie::{
    Announce, MemberOf, Merge, MeterRow, Person, PersonSay, ReportAs, SiteAdd, SiteChange, SiteKey, SiteRow,
    TransactionRow, UsagePage,
};
pub use crate::service::central::{AccountView, Bind, PacketAt, PacketRefuse, PacketView, UsageRefusal, UsageView};
pub use crate::service::findings::FindingAct;
use crate::service::log::LogStatus;
use crate::service::{ActReply, Clearing, ClosedPeriod, Contradiction, Dispute, IssuerView, Swept};

/// `POST /admin/projects`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectAdd {
    /// Left out: a new id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ProjectId>,
    pub title: String,
    #[serde(default)]
    pub purposes: Vec<String>,
    #[serde(default)]
    pub members: Vec<PublicKey>,
}

/// `POST /admin/members`: who may draw and spend for a project. Where two officers keep the books keys are added by an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    pub project: ProjectId,
    #[serde(default)]
    pub add: Vec<PublicKey>,
    /// What they drew stays valid; they draw nothing more.
    #[serde(default)]
    pub remove: Vec<PublicKey>,
    /// Of those who are added, also of those who were there. Left out: new keys are managers', the others stay what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Of an act: what it rests on; tells one time from the next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `POST /admin/vetting`: a statement on a project, kept as evidence. Where two officers keep the books only `none` needs no act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectVet {
    pub project: ProjectId,
    pub vetting: Vetting,
    /// Who states it.
    #[serde(default = "operator")]
    pub issuer: String,
    /// What was seen.
    #[serde(default)]
    pub claim: String,
    /// Left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Left out: until another statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

fn operator() -> String {
    "operator".to_owned()
}

/// `POST /admin/acts`: an act, and the word of the officer who brings it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActAsk {
    pub act: Act,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Signature>,
}

/// `POST /admin/awards/freeze`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwardFreeze {
    pub award: AwardId,
    pub frozen: bool,
}

/// `POST /admin/freeze`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    pub project: ProjectId,
    pub frozen: bool,
}

/// `POST /admin/revoke`: exactly one of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<OrgId>,
}

/// `POST /admin/counts`: what nodes are asked to read from their own meters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountAsk {
    /// Tokens issued from this moment on, up to and without the other.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Left out: every node that sold work then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// `POST /admin/sample`: payments that an auditor wants to see.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleAsk {
    pub n: usize,
    /// A text that the auditor chose.
    pub seed: String,
    /// Posted from this moment on, up to and without the other; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// `POST /admin/log/restart`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRestart {
    /// Why the log ends: everybody who verifies it reads this.
    pub why: String,
}

/// `POST /admin/log/witness`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogWitness {
    /// A cosigner's C2SP vkey.
    pub vkey: String,
}

impl Clearing {
    /// The operator's routes, for a Unix socket:
    /// `POST /admin/{projects,members,vetting,acts,awards/freeze,freeze,revoke,sweep}`, `DELETE /admin/acts/{id}`,
    /// `GET /admin/{acts,officers,issuers,audit,totals,contradictions,disputes,challenges,periods,matches,oversight,findings}`, `POST /admin/{counts,findings}`, `GET /admin/projects/{id}`,
    /// `POST /admin/sample`, `GET /admin/sample/{index}`, `GET /admin/log{,/audit}`, `POST /admin/log/{seal,restart,witness}`; and the log itself; `/admin/amie/…` (docs/reference/amie.md);
    /// `GET /admin/reports/{trial-balance,roll-forward,holds,payables,prices,recovery,journal}`, `GET /admin/reports/statement/{project}`;
    /// `GET /admin/owners/{terms,schedules,show/{owner}}`, `POST /admin/owners/remittances`;
    /// `POST /admin/persons{,/keys,/keys/revoke}`, `GET /admin/persons{,/show/{id},/evidence/{id}}`, `POST /admin/conduct`, `GET /admin/proposals`, `POST /admin/proposals/decide`.
    pub fn admin_router(&self) -> Router {
        Router::new()
            .route("/admin/projects", post(project_add))
            .route("/admin/projects/{id}", get(project_show))
            .route("/admin/members", post(members))
            .route("/admin/vetting", post(project_vet))
            .route("/admin/acts", post(act).get(acts))
            .route("/admin/acts/{id}", delete(act_drop))
            .route("/admin/officers", get(officers))
            .route("/admin/issuers", get(issuers))
            .route("/admin/awards/freeze", post(award_freeze))
            .route("/admin/freeze", post(freeze))
            .route("/admin/revoke", post(revoke))
            .route("/admin/sweep", post(sweep))
            .route("/admin/reports/trial-balance", get(trial_balance))
            .route("/admin/reports/roll-forward", get(roll_forward))
            .route("/admin/reports/holds", get(holds))
            .route("/admin/reports/payables", get(payables))
            .route("/admin/reports/journal", get(journal))
            .route("/admin/reports/prices", get(owners::prices))
            .route("/admin/reports/recovery", get(owners::recovery))
            .route("/admin/reports/statement/{project}", get(fund_statement))
            .route("/admin/audit", get(audit))
            .route("/admin/totals", get(totals))
            .route("/admin/contradictions", get(contradictions))
            .route("/admin/disputes", get(disputes))
            .route("/admin/challenges", get(challenges))
            .route("/admin/periods", get(periods))
            .route("/admin/oversight", get(oversight))
            .route("/admin/findings", post(finding_act).get(findings))
            .route("/admin/counts", post(count_ask))
            .route("/admin/matches", get(matches))
            .route("/admin/sample", post(sample))
            .route("/admin/sample/{index}", get(trail))
            .route("/admin/log", get(log))
            .route("/admin/log/audit", get(log_audit))
            .route("/admin/log/seal", post(log_seal))
            .route("/admin/log/restart", post(log_restart))
            .route("/admin/log/witness", post(log_witness))
            .merge(amie::routes())
            .merge(owners::routes())
            .merge(persons::routes())
            .merge(crate::http::log::router())
            .fallback(no_such_route)
            .method_not_allowed_fallback(no_such_method)
            .layer(from_fn(problem_form))
            .with_state(self.clone())
    }
}

async fn project_add(State(house): State<Clearing>, Body(ask): Body<ProjectAdd>) -> Result<Json<Value>, Refusal> {
    let project = house.project_add(ask).await?;
    Ok(Json(json!({ "project": project })))
}

async fn project_show(State(house): State<Clearing>, Part(id): Part<String>) -> Result<Json<ProjectReply>, Refusal> {
    Ok(Json(house.project_status(project_id(&id)?).await?))
}

async fn members(State(house): State<Clearing>, Body(ask): Body<Members>) -> Result<Json<Value>, Refusal> {
    let project = ask.project;
    let members = house.members(ask).await?;
    Ok(Json(json!({ "project": project, "members": members })))
}

async fn project_vet(State(house): State<Clearing>, Body(ask): Body<ProjectVet>) -> Result<Json<Value>, Refusal> {
    let project = ask.project;
    let vetting = house.project_vet(ask).await?;
    Ok(Json(json!({ "project": project, "vetting": vetting })))
}

async fn act(State(house): State<Clearing>, Body(ask): Body<ActAsk>) -> Result<Json<ActReply>, Refusal> {
    Ok(Json(house.act(ask.act, ask.by).await?))
}

async fn acts(State(house): State<Clearing>) -> Result<Json<Vec<ActRecord>>, Refusal> {
    Ok(Json(house.acts().await?))
}

async fn act_drop(State(house): State<Clearing>, Part(id): Part<String>) -> Result<Json<Value>, Refusal> {
    let id: Digest = id.parse().map_err(|_| Failure::invalid("an act's id is 64 hex digits"))?;
    house.act_drop(id).await?;
    Ok(Json(json!({ "id": id, "dropped": true })))
}

async fn officers(State(house): State<Clearing>) -> Result<Json<Vec<Officer>>, Refusal> {
    Ok(Json(house.officers().await?))
}

async fn issuers(State(house): State<Clearing>) -> Result<Json<Vec<IssuerView>>, Refusal> {
    Ok(Json(house.issuer_keys().await?))
}

async fn award_freeze(State(house): State<Clearing>, Body(ask): Body<AwardFreeze>) -> Result<Json<Value>, Refusal> {
    house.award_freeze(ask.award, ask.frozen).await?;
    Ok(Json(json!({ "award": ask.award, "frozen": ask.frozen })))
}

async fn freeze(State(house): State<Clearing>, Body(ask): Body<Freeze>) -> Result<Json<Value>, Refusal> {
    house.freeze(ask.project, ask.frozen).await?;
    Ok(Json(json!({ "project": ask.project, "frozen": ask.frozen })))
}

async fn revoke(State(house): State<Clearing>, Body(ask): Body<Revoke>) -> Result<Json<Value>, Refusal> {
    let number = match (ask.token, ask.node, ask.organisation) {
        (Some(token), None, None) => house.revoke(token).await?,
        (None, Some(node), None) => house.revoke_node(node).await?,
        (None, None, Some(org)) => house.revoke_organisation(org).await?,
        _ => return Err(Failure::invalid("name one of token, node, organisation").into()),
    };
    Ok(Json(json!({ "standing": number })))
}

async fn sweep(State(house): State<Clearing>) -> Result<Json<Swept>, Refusal> {
    Ok(Json(house.sweep().await?))
}

async fn trial_balance(State(house): State<Clearing>, Over(period): Over) -> Result<Json<Report<TrialRow>>, Refusal> {
    Ok(Json(house.trial_balance(period).await?))
}

async fn roll_forward(State(house): State<Clearing>, Over(period): Over) -> Result<Json<Report<RollRow>>, Refusal> {
    Ok(Json(house.roll_forward(period).await?))
}

async fn holds(State(house): State<Clearing>) -> Result<Json<Report<HoldRow>>, Refusal> {
    Ok(Json(house.holds().await?))
}

async fn payables(State(house): State<Clearing>, Over(period): Over) -> Result<Json<Report<PayableRow>>, Refusal> {
    Ok(Json(house.payables(period).await?))
}

async fn fund_statement(
    State(house): State<Clearing>,
    Part(project): Part<String>,
    Over(period): Over,
) -> Result<Json<FundStatement>, Refusal> {
    Ok(Json(house.fund_statement(project_id(&project)?, period).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct After {
    after: u64,
}

async fn journal(
    State(house): State<Clearing>,
    after: Result<Query<After>, QueryRejection>,
) -> Result<Json<JournalPage>, Refusal> {
    let Query(After { after }) = after.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    Ok(Json(house.journal(after).await?))
}

/// The period of a report, refused in the one form.
struct Over(Period);

impl<S: Send + Sync> FromRequestParts<S> for Over {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<Period>::from_request_parts(parts, state).await;
        let Query(period) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        Ok(Self(period))
    }
}

async fn audit(State(house): State<Clearing>) -> Result<Json<AuditReport>, Refusal> {
    Ok(Json(house.audit().await?))
}

async fn totals(State(house): State<Clearing>) -> Result<Json<Totals>, Refusal> {
    Ok(Json(house.totals().await?))
}

async fn log(State(house): State<Clearing>) -> Result<Json<LogStatus>, Refusal> {
    Ok(Json(house.log_status().await?))
}

async fn log_audit(State(house): State<Clearing>) -> Result<Json<LogAgreement>, Refusal> {
    Ok(Json(house.log_audit().await?))
}

/// Seals and signs what waits now, rather than within a second.
async fn log_seal(State(house): State<Clearing>) -> Result<Json<LogStatus>, Refusal> {
    house.log_advance().await?;
    Ok(Json(house.log_status().await?))
}

async fn log_restart(State(house): State<Clearing>, Body(ask): Body<LogRestart>) -> Result<Json<LogStatus>, Refusal> {
    Ok(Json(house.log_restart(&ask.why).await?))
}

async fn log_witness(State(house): State<Clearing>, Body(ask): Body<LogWitness>) -> Result<Json<LogStatus>, Refusal> {
    house.log_witness(&ask.vkey).await?;
    Ok(Json(house.log_status().await?))
}

async fn disputes(State(house): State<Clearing>) -> Result<Json<Vec<Dispute>>, Refusal> {
    Ok(Json(house.disputes().await?))
}

async fn periods(State(house): State<Clearing>) -> Result<Json<Vec<ClosedPeriod>>, Refusal> {
    Ok(Json(house.periods().await?))
}

async fn sample(State(house): State<Clearing>, Body(ask): Body<SampleAsk>) -> Result<Json<Sample>, Refusal> {
    Ok(Json(house.sample(ask.n, &ask.seed, ask.from, ask.to).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InTree {
    size: u64,
}

async fn trail(
    State(house): State<Clearing>,
    Part(index): Part<String>,
    query: Result<Query<InTree>, QueryRejection>,
) -> Result<Json<Trail>, Refusal> {
    let Query(InTree { size }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    let index = index.parse().map_err(|_| Failure::NotFound { what: format!("entry {index}") })?;
    Ok(Json(house.trail(index, size).await?))
}

async fn count_ask(State(house): State<Clearing>, Body(ask): Body<CountAsk>) -> Result<Json<Value>, Refusal> {
    let asked = house.count_ask(ask.from, ask.to, ask.node).await?;
    Ok(Json(json!({ "asked": asked })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted {
    from: Timestamp,
    to: Timestamp,
}

async fn matches(
    State(house): State<Clearing>,
    query: Result<Query<Counted>, QueryRejection>,
) -> Result<Json<Vec<MatchOfNode>>, Refusal> {
    let Query(Counted { from, to }) = query.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
    Ok(Json(house.matches(from, to).await?))
}

/// `GET /admin/oversight?days=…`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Days {
    days: u32,
}

async fn oversight(
    State(house): State<Clearing>,
    Query(Days { days }): Query<Days>,
) -> Result<Json<Vec<CategorySum>>, Refusal> {
    Ok(Json(house.oversight(days).await?))
}

async fn findings(State(house): State<Clearing>) -> Result<Json<Vec<comity_probe::Finding>>, Refusal> {
    Ok(Json(house.findings().await?))
}

async fn finding_act(
    State(house): State<Clearing>,
    Body(act): Body<FindingAct>,
) -> Result<Json<comity_probe::Finding>, Refusal> {
    Ok(Json(house.finding_act(act).await?))
}

async fn challenges(State(house): State<Clearing>) -> Result<Json<Vec<Challenge>>, Refusal> {
    Ok(Json(house.challenges().await?))
}

async fn contradictions(State(house): State<Clearing>) -> Result<Json<Vec<Contradiction>>, Refusal> {
    Ok(Json(house.contradictions().await?))
}
