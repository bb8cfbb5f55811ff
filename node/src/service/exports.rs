//! What is kept of one project, through the admin socket: for whoever asks an owner what it has about them.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_access::case::store::Which;
use comity_access::store::{Filter, PAGE_MAX};
use comity_access::{Act, ApplicationId, Desk, Event};
use comity_gateway::store::GRANTS_MAX;
use comity_gateway::store::stops::Said;
use comity_gateway::{CALLS_MAX, CallKept, CallPlace, Gateway};
use comity_wire::object::Export;
use comity_wire::time::SKEW_S;
use comity_wire::{Digest, NodeId, SecretKey, Timestamp, cose};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access::{operator, shown};
use super::owner::answer;
use crate::cases::Casework;
use crate::command::policy::AgreementShown;
use crate::failure::Failure;
use crate::handed::Missing;

/// Applications of one page: each is its whole log.
const APPLICATIONS_MAX: usize = 50;
/// Cases of one page: each is its whole log, with what was seen.
const CASES_MAX: u32 = 20;
/// Lines of the log of stops that are looked at.
const STOPS_MAX: u32 = 100_000;

#[derive(Clone)]
pub struct Exports {
    pub gateway: Gateway,
    pub desk: Desk,
    pub casework: Casework,
    pub node: NodeId,
    pub receipt_key: SecretKey,
    /// As this process began with it.
    pub certificate: Arc<[u8]>,
}

/// Where a page of cases ended.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AfterCase {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Cases {
    pub cases: Vec<Value>,
    pub missing: Vec<Missing>,
    pub next: Option<(Timestamp, String)>,
}

/// `POST /admin/kept/{project}/signed`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    pub contents: Digest,
    pub complete: bool,
    pub at: Timestamp,
}

/// Both base64url.
#[derive(Debug, Serialize, Deserialize)]
pub struct SignedExport {
    pub export: String,
    pub certificate: String,
}

/// What an export has beside calls, applications, cases and texts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Beside {
    pub grants: Vec<Value>,
    pub stops: Vec<Value>,
    pub stop_log: Vec<Said>,
    pub counted: Value,
    /// Credit notes.
    pub credits: Vec<Value>,
    /// To terms of use.
    pub agreements: Vec<Value>,
    /// What was let pass after a case, and held again.
    pub passes: Vec<Value>,
    /// Homes of this node's processes in which texts lie.
    pub homes: Vec<comity_gateway::store::TextHome>,
    pub missing: Vec<Missing>,
}

/// Where a page of calls ended; absent: from the beginning.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AfterCall {
    /// [`CallPlace`] as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Calls {
    pub calls: Vec<CallKept>,
    pub next: Option<CallPlace>,
}

/// Which applications, of all that the first page names.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AfterApplication {
    /// The last one of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Applications {
    pub applications: Vec<Value>,
    /// Attachments that they name, with the application.
    pub attachments: Vec<(String, Digest)>,
    /// The last one, where there are more.
    pub next: Option<String>,
    pub missing: Vec<Missing>,
}

impl Exports {
    /// The routes of the admin socket.
    pub fn router(self) -> Router {
        Router::new()
            .route("/admin/kept/{project}", get(beside))
            .route("/admin/kept/{project}/calls", get(calls))
            .route("/admin/kept/{project}/applications", get(applications))
            .route("/admin/kept/{project}/cases", get(cases))
            .route("/admin/kept/{project}/signed", post(sign))
            .with_state(self)
    }

    async fn applications(&self, project: String, after: AfterApplication) -> Result<Applications, Failure> {
        let after =
            after.id.map(|id| id.parse::<ApplicationId>().map_err(|_| Failure::new("that is no application's id")));
        let after = after.transpose()?;
        // In one statement, and by id: in the list's own order one whose clock moves meanwhile could be passed over.
        let filter = Filter { subject: Some(project), ..Filter::default() };
        let mut ids: Vec<_> = self.desk.list(&filter, PAGE_MAX).await?.into_iter().map(|row| row.id).collect();
        let mut missing = Vec::new();
        if ids.len() >= PAGE_MAX as usize && after.is_none() {
            let why = format!("{PAGE_MAX} are looked at, and there may be more");
            missing.push(Missing { what: "applications".to_owned(), why });
        }
        ids.sort_unstable();
        ids.retain(|id| after.is_none_or(|after| *id > after));
        let next = ids.get(APPLICATIONS_MAX - 1).filter(|_| ids.len() > APPLICATIONS_MAX).map(ToString::to_string);
        ids.truncate(APPLICATIONS_MAX);
        let (mut applications, mut attachments) = (Vec::new(), Vec::new());
        let who = operator(&self.desk);
        for id in ids {
            let found = self.desk.find(id).await?;
            for event in found.events() {
                let Event { act, .. } = event.event();
                if let Act::Attach { digest, .. } = act {
                    attachments.push((id.to_string(), *digest));
                }
            }
            applications.push(serde_json::to_value(self.desk.for_person(&who, &found))?);
        }
        Ok(Applications { applications, attachments, next, missing })
    }
}

impl Exports {
    async fn beside(&self, project: String) -> Result<Beside, Failure> {
        let gateway = &self.gateway;
        let mut missing = Vec::new();
        let mut lacks = |what: &str, why: String| missing.push(Missing { what: what.to_owned(), why });
        let ever = gateway.grants_ever();
        if ever.len() >= GRANTS_MAX {
            lacks("grants", format!("this process looks at {GRANTS_MAX} grants, and there may be more"));
        }
        let grants = ever.into_iter().filter(|(grant, _)| grant.subject.as_str() == project);
        let grants = grants
            .map(|(grant, withdrawn)| serde_json::to_value(shown(&grant, withdrawn)))
            .collect::<Result<_, _>>()?;
        let target = comity_gateway::store::stops::Target::Project(project.clone());
        let stops = gateway.stops_now().await?.into_iter().filter(|stop| stop.target == target);
        let stops = stops.map(serde_json::to_value).collect::<Result<_, _>>()?;
        let (stop_log, is_all) = gateway.stop_log_of(&project, STOPS_MAX).await?;
        if !is_all {
            lacks("the log of stops", format!("older lines than the newest {STOPS_MAX} were not looked at"));
        }
        let (credits, is_all) = gateway.credits_of(&project).await?;
        if !is_all {
            lacks("credit notes", "there may be older ones than those that were looked at".to_owned());
        }
        let credits = credits.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        let title = |terms: &Digest| gateway.terms(terms).map(|terms| terms.title.as_str().to_owned());
        let agreed = gateway.agreements_of(&project).await?.into_iter();
        let agreements = agreed.map(|agreed| serde_json::to_value(AgreementShown::of(agreed, title)));
        let agreements = agreements.collect::<Result<_, _>>()?;
        let passes = gateway.pass_log_of(&project).await?.into_iter();
        let passes = passes.map(serde_json::to_value).collect::<Result<_, _>>()?;
        let (counted, homes) = (gateway.counted_of(&project).await?, gateway.text_homes().await?);
        Ok(Beside { grants, stops, stop_log, counted, credits, agreements, passes, homes, missing })
    }

    async fn cases(&self, project: String, after: AfterCase) -> Result<Cases, Failure> {
        let after = match (after.at, after.id) {
            (Some(at), Some(id)) => Some((at, id.parse().map_err(|_| Failure::new("that is no case's id"))?)),
            _ => None,
        };
        let which = Which { subject: Some(project), open: false, after };
        let rows = self.casework.desk.list(&which, CASES_MAX).await?;
        let next = rows.last().filter(|_| rows.len() == CASES_MAX as usize).map(|row| row.cursor());
        let (mut cases, mut missing) = (Vec::new(), Vec::new());
        for row in &rows {
            let shown = self.casework.show(row.id).await?;
            if let Some(why) = &shown.seen_sealed {
                missing.push(Missing { what: format!("what was seen in {}, opened", row.id), why: why.clone() });
            }
            cases.push(serde_json::to_value(shown)?);
        }
        Ok(Cases { cases, missing, next: next.map(|(at, id)| (at, id.to_string())) })
    }

    fn sign(&self, project: &str, Sign { contents, complete, at }: Sign) -> Result<SignedExport, Failure> {
        let now = crate::shell::now();
        if at > now.plus(SKEW_S) || at < now.minus(SKEW_S) {
            return Err(Failure::new("an export is signed when it is made, and not later"));
        }
        let subject = crate::home::text("a project's pseudonym", project)?;
        let export = Export { node: self.node, subject, contents, complete, at };
        let export = cose::try_sign(&export, &self.receipt_key)?;
        tracing::info!(project, %contents, complete, "what is kept of a project was handed over");
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Ok(SignedExport { export: text(export.bytes()), certificate: text(&self.certificate) })
    }
}

/// Grants, stops, counts, and where texts lie.
async fn beside(State(exports): State<Exports>, Path(project): Path<String>) -> Response {
    answer(exports.beside(project).await.and_then(|beside| Ok(serde_json::to_value(beside)?)))
}

async fn cases(
    State(exports): State<Exports>,
    Path(project): Path<String>,
    Query(after): Query<AfterCase>,
) -> Response {
    answer(exports.cases(project, after).await.and_then(|cases| Ok(serde_json::to_value(cases)?)))
}

async fn sign(State(exports): State<Exports>, Path(project): Path<String>, Json(asked): Json<Sign>) -> Response {
    answer(exports.sign(&project, asked).and_then(|signed| Ok(serde_json::to_value(signed)?)))
}

async fn calls(
    State(exports): State<Exports>,
    Path(project): Path<String>,
    Query(AfterCall { after }): Query<AfterCall>,
) -> Response {
    let said = async {
        let after = after.map(|after| serde_json::from_str::<CallPlace>(&after)).transpose()?;
        let (calls, next) = exports.gateway.calls_of(&project, after, CALLS_MAX).await?;
        Ok::<_, Failure>(serde_json::to_value(Calls { calls, next })?)
    };
    answer(said.await)
}

async fn applications(
    State(exports): State<Exports>,
    Path(project): Path<String>,
    Query(after): Query<AfterApplication>,
) -> Result<Json<Applications>, Response> {
    exports.applications(project, after).await.map(Json).map_err(|failure| answer(Err(failure)))
}
