//! What is kept of one project, through the admin socket: for whoever asks an owner what it has about them.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use comity_access::store::{Filter, Row};
use comity_access::{Act, Desk, Event};
use comity_gateway::{CALLS_MAX, CallKept, CallPlace, Gateway};
use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::{operator, shown};
use super::owner::answer;
use crate::failure::Failure;

/// Applications of one page: each is its whole log.
const APPLICATIONS_MAX: u32 = 50;

#[derive(Clone)]
pub struct Exports {
    pub gateway: Gateway,
    pub desk: Desk,
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

/// Where a page of applications ended.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AfterApplication {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Applications {
    pub applications: Vec<Value>,
    /// Attachments that they name, with the application.
    pub attachments: Vec<(String, Digest)>,
    pub next: Option<(Timestamp, String)>,
}

impl Exports {
    /// The routes of the admin socket.
    pub fn router(self) -> Router {
        Router::new()
            .route("/admin/kept/{project}", get(beside))
            .route("/admin/kept/{project}/calls", get(calls))
            .route("/admin/kept/{project}/applications", get(applications))
            .with_state(self)
    }

    async fn applications(&self, project: String, after: AfterApplication) -> Result<Applications, Failure> {
        let after = match (after.at, after.id) {
            (Some(at), Some(id)) => Some((at, id.parse().map_err(|_| Failure::new("that is no application's id"))?)),
            _ => None,
        };
        let filter = Filter { subject: Some(project), after, ..Filter::default() };
        let rows = self.desk.list(&filter, APPLICATIONS_MAX).await?;
        let next = rows.last().filter(|_| rows.len() == APPLICATIONS_MAX as usize).map(Row::cursor);
        let (mut applications, mut attachments) = (Vec::new(), Vec::new());
        let who = operator(&self.desk);
        for row in &rows {
            let found = self.desk.find(row.id).await?;
            for event in found.events() {
                let Event { act, .. } = event.event();
                if let Act::Attach { digest, .. } = act {
                    attachments.push((row.id.to_string(), *digest));
                }
            }
            applications.push(serde_json::to_value(self.desk.for_person(&who, &found))?);
        }
        Ok(Applications { applications, attachments, next: next.map(|(at, id)| (at, id.to_string())) })
    }
}

/// Grants, stops and counts.
async fn beside(State(exports): State<Exports>, Path(project): Path<String>) -> Response {
    let Exports { gateway, .. } = &exports;
    let grants = gateway.grants_ever().into_iter().filter(|(grant, _)| grant.subject.as_str() == project);
    let grants: Vec<_> = grants.map(|(grant, withdrawn)| shown(&grant, withdrawn)).collect();
    let said = async {
        let target = comity_gateway::store::stops::Target::Project(project.clone());
        let stops: Vec<_> = gateway.stops_now().await?.into_iter().filter(|stop| stop.target == target).collect();
        let counted = gateway.counted_of(&project).await?;
        Ok::<_, Failure>(json!({ "grants": grants, "stops": stops, "counted": counted }))
    };
    answer(said.await)
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
