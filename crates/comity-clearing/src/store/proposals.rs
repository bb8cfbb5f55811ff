//! Projects that were proposed, and codes of conduct.

use comity_ledger::db::{Db, Row, query};
use comity_wire::api::proposal::ConductReply;
use comity_wire::{Digest, MemberId, ProjectId, PublicKey, Timestamp};

use super::{Cells, json, seconds};
use crate::failure::Failure;

/// How a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Waits = 0,
    Accepted = 1,
    Declined = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) project: ProjectId,
    pub(crate) proposer: MemberId,
    pub(crate) purpose: String,
    pub(crate) data_classes: Vec<String>,
    /// Who becomes a member when it is taken in.
    pub(crate) members: Vec<PublicKey>,
    pub(crate) request: Digest,
    pub(crate) proposed_at: Timestamp,
    pub(crate) state: State,
    pub(crate) decided_at: Option<Timestamp>,
    pub(crate) reason: String,
}

fn proposal(row: &Row) -> Result<Proposal, Failure> {
    let cells = Cells { table: "proposal", row };
    Ok(Proposal {
        project: ProjectId(cells.bytes("project")?),
        proposer: MemberId(cells.bytes("proposer")?),
        purpose: cells.text("purpose")?,
        data_classes: cells.json("data_classes")?,
        members: cells.json("members")?,
        request: cells.digest("request")?,
        proposed_at: cells.time("proposed_at")?,
        state: match cells.uint("state")? {
            0 => State::Waits,
            1 => State::Accepted,
            2 => State::Declined,
            _ => return Err(cells.unreadable("state")),
        },
        decided_at: cells.time_maybe("decided_at")?,
        reason: cells.text("reason")?,
    })
}

pub(crate) async fn proposal_find(conn: &mut Db<'_>, project: ProjectId) -> Result<Option<Proposal>, Failure> {
    let row = query("SELECT * FROM proposal WHERE project = ?").bind(project.0.to_vec()).fetch_optional(conn).await?;
    row.as_ref().map(proposal).transpose()
}

/// Those that wait stand first, the oldest of them at the top.
pub(crate) async fn proposals(conn: &mut Db<'_>, limit: u32) -> Result<Vec<Proposal>, Failure> {
    let rows =
        query("SELECT * FROM proposal ORDER BY CASE WHEN state = 0 THEN 0 ELSE 1 END, proposed_at, project LIMIT ?");
    rows.bind(i64::from(limit)).fetch_all(conn).await?.iter().map(proposal).collect()
}

/// How many of a person's wait.
pub(crate) async fn proposals_waiting(conn: &mut Db<'_>, proposer: MemberId) -> Result<u64, Failure> {
    let row = query("SELECT count(*) AS waiting FROM proposal WHERE proposer = ? AND state = 0");
    let row = row.bind(proposer.0.to_vec()).fetch_one(conn).await?;
    Cells { table: "proposal", row: &row }.uint("waiting")
}

pub(crate) async fn proposal_insert_in_tx(conn: &mut Db<'_>, proposal: &Proposal) -> Result<(), Failure> {
    query(
        "INSERT INTO proposal (project, proposer, purpose, data_classes, members, request, proposed_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(proposal.project.0.to_vec())
    .bind(proposal.proposer.0.to_vec())
    .bind(&proposal.purpose)
    .bind(json(&proposal.data_classes))
    .bind(json(&proposal.members))
    .bind(proposal.request.0.to_vec())
    .bind(seconds(proposal.proposed_at))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn proposal_decide_in_tx(
    conn: &mut Db<'_>,
    project: ProjectId,
    (state, reason): (State, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    query("UPDATE proposal SET state = ?, reason = ?, decided_at = ? WHERE project = ?")
        .bind(i64::from(state as u8))
        .bind(reason)
        .bind(seconds(now))
        .bind(project.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// The code of conduct that has to be signed now.
pub(crate) async fn conduct_newest(conn: &mut Db<'_>) -> Result<Option<ConductReply>, Failure> {
    let row = query("SELECT * FROM conduct ORDER BY place DESC LIMIT 1").fetch_optional(conn).await?;
    row.as_ref().map(conduct).transpose()
}

pub(crate) async fn conduct_find(conn: &mut Db<'_>, version: &str) -> Result<Option<ConductReply>, Failure> {
    let row = query("SELECT * FROM conduct WHERE version = ?").bind(version).fetch_optional(conn).await?;
    row.as_ref().map(conduct).transpose()
}

fn conduct(row: &Row) -> Result<ConductReply, Failure> {
    let cells = Cells { table: "conduct", row };
    Ok(ConductReply { version: cells.text("version")?, digest: cells.digest("digest")?, body: cells.text("body")? })
}

pub(crate) async fn conduct_insert_in_tx(
    conn: &mut Db<'_>,
    conduct: &ConductReply,
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO conduct (version, place, digest, body, since) \
         VALUES (?1, (SELECT COALESCE(MAX(place), 0) + 1 FROM conduct), ?2, ?3, ?4)",
    )
    .bind(&conduct.version)
    .bind(conduct.digest.0.to_vec())
    .bind(&conduct.body)
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}
