//! Lists over HTTP: statement, tokens, earnings, exceptions, a page at a time.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use comity_http::{Refusal, Signed};
use comity_wire::api::clearing::{EarningsReply, ExceptionsReply, Statement, TokensReply};
use comity_wire::{NodeId, ProjectId};
use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;

use super::pages::{CODES, Page, Paged};
use super::table::Route;
use super::{Api, MEMBER, Part, TRANSPORT, answer, project_id};
use crate::failure::Failure;
use crate::service::{Account, Clearing};

pub(super) fn routes() -> Vec<Route<Api>> {
    const EITHER: &str = "a key of the project, or a transport key of the node";
    vec![
        Route::get("tokens", "/v1/projects/{id}/tokens", tokens, "Every token of a project, by their ids")
            .signed_by(MEMBER)
            .path::<ProjectId>("id")
            .pages::<Plain, TokensReply>()
            .codes(CODES),
        Route::get("statement", "/v1/statement", statement, "Transfers of an account, in the order of the books")
            .signed_by(EITHER)
            .pages::<OfAccount, Statement>()
            .codes(CODES),
        Route::get("earnings", "/v1/earnings", earnings, "What each token brought a node's owner, by their ids")
            .signed_by(TRANSPORT)
            .pages::<OfNode, EarningsReply>()
            .codes(CODES),
        Route::get("exceptions", "/v1/exceptions", exceptions, "What was clamped in claims, in the order of the books")
            .signed_by(EITHER)
            .pages::<OfAccount, ExceptionsReply>()
            .codes(CODES),
    ]
}

/// How much of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Plain {
    /// Items on the page; left out: 100.
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<u32>,
    /// `next` of the page before.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    cursor: Option<String>,
}

impl Plain {
    pub(super) fn page(&self, list: &str) -> Result<Page, Failure> {
        Page::of(&[list.as_bytes()], self.limit, self.cursor.as_deref())
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct OfAccount {
    /// One of the caller's projects; may be left out where there is but one.
    project: Option<ProjectId>,
    /// Instead of a project: a node, whose owner's account it is.
    node: Option<NodeId>,
    /// Items on the page; left out: 100.
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<u32>,
    /// `next` of the page before.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    cursor: Option<String>,
}

impl OfAccount {
    fn page(&self, list: &str, caller: &Signed) -> Result<(Account, Page), Failure> {
        let (account, of) = match (self.project, self.node) {
            (Some(project), None) => (Account::Project(project), project.to_string()),
            (None, Some(node)) => (Account::Node(node), node.to_string()),
            (None, None) => (Account::Own, caller.caller.key.to_string()),
            (Some(_), Some(_)) => return Err(Failure::invalid("name a project or a node, not both")),
        };
        let page = Page::of(&[list.as_bytes(), of.as_bytes()], self.limit, self.cursor.as_deref())?;
        Ok((account, page))
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfNode {
    pub(super) node: NodeId,
    /// Items on the page; left out: 100.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    cursor: Option<String>,
}

impl OfNode {
    pub(super) fn page(&self, list: &str) -> Result<Page, Failure> {
        Page::of(&[list.as_bytes(), &self.node.0], self.limit, self.cursor.as_deref())
    }
}

/// A query that was read, or why not.
pub(super) type Asked<Q> = Result<Query<Q>, QueryRejection>;

pub(super) fn asked<Q>(query: Asked<Q>) -> Result<Q, Failure> {
    query.map(|Query(query)| query).map_err(|rejection| Failure::invalid(rejection.body_text()))
}

async fn tokens(
    State(house): State<Clearing>,
    Part(id): Part<String>,
    query: Asked<Plain>,
    uri: Uri,
    call: Signed,
) -> Result<Paged<TokensReply>, Refusal> {
    answer(&call, async {
        let (query, project) = (asked(query)?, project_id(&id)?);
        let page = Page::of(&[b"tokens", &project.0], query.limit, query.cursor.as_deref())?;
        let reply = house.tokens(&call.caller.key, project, &page).await?;
        Ok(Paged { next: reply.next.clone(), reply, uri })
    })
    .await
}

async fn statement(
    State(house): State<Clearing>,
    query: Asked<OfAccount>,
    uri: Uri,
    call: Signed,
) -> Result<Paged<Statement>, Refusal> {
    answer(&call, async {
        let (account, page) = asked(query)?.page("statement", &call)?;
        let reply = house.statement(&call.caller.key, account, &page).await?;
        Ok(Paged { next: reply.next.clone(), reply, uri })
    })
    .await
}

async fn earnings(
    State(house): State<Clearing>,
    query: Asked<OfNode>,
    uri: Uri,
    call: Signed,
) -> Result<Paged<EarningsReply>, Refusal> {
    answer(&call, async {
        let query = asked(query)?;
        let reply = house.earnings_of(&call.caller.key, query.node, &query.page("earnings")?).await?;
        Ok(Paged { next: reply.next.clone(), reply, uri })
    })
    .await
}

async fn exceptions(
    State(house): State<Clearing>,
    query: Asked<OfAccount>,
    uri: Uri,
    call: Signed,
) -> Result<Paged<ExceptionsReply>, Refusal> {
    answer(&call, async {
        let (account, page) = asked(query)?.page("exceptions", &call)?;
        let reply = house.exceptions_of(&call.caller.key, account, &page).await?;
        Ok(Paged { next: reply.next.clone(), reply, uri })
    })
    .await
}
