//! Projects, members, vetting evidence, pseudonyms.

use comity_ledger::db::{Db, list, padded_runs, query};
use comity_wire::object::Vetting;
use comity_wire::{OrgId, ProjectId, Pseudonym, PublicKey, Timestamp};

use super::{Cells, json, seconds};
use crate::failure::Failure;
use crate::vetting::Statement;

/// A project as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) title: String,
    pub(crate) purposes: Vec<String>,
    pub(crate) frozen: bool,
}

fn project(cells: Cells<'_>) -> Result<Project, Failure> {
    Ok(Project {
        id: ProjectId(cells.bytes("id")?),
        title: cells.text("title")?,
        purposes: cells.json("purposes")?,
        frozen: cells.int("frozen")? == 1,
    })
}

pub(crate) async fn project_insert_in_tx(conn: &mut Db<'_>, project: &Project, now: Timestamp) -> Result<(), Failure> {
    query("INSERT INTO project (id, title, purposes, created_at) VALUES (?, ?, ?, ?)")
        .bind(project.id.0.to_vec())
        .bind(&project.title)
        .bind(json(&project.purposes))
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn project_find(conn: &mut Db<'_>, id: ProjectId) -> Result<Option<Project>, Failure> {
    let row = query("SELECT * FROM project WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.map(|row| project(Cells { table: "project", row: &row })).transpose()
}

pub(crate) async fn projects(conn: &mut Db<'_>) -> Result<Vec<Project>, Failure> {
    let rows = query("SELECT * FROM project ORDER BY created_at, id").fetch_all(conn).await?;
    rows.iter().map(|row| project(Cells { table: "project", row })).collect()
}

pub(crate) async fn project_freeze_in_tx(conn: &mut Db<'_>, id: ProjectId, frozen: bool) -> Result<(), Failure> {
    let done = query("UPDATE project SET frozen = ? WHERE id = ?")
        .bind(i64::from(frozen))
        .bind(id.0.to_vec())
        .execute(conn)
        .await?;
    if done == 1 { Ok(()) } else { Err(Failure::NotFound { what: format!("project {id}") }) }
}

pub(crate) async fn member_insert_in_tx(
    conn: &mut Db<'_>,
    project: ProjectId,
    key: &PublicKey,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO member (project, key, added_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(project.0.to_vec())
        .bind(key.as_bytes().to_vec())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn member_remove_in_tx(conn: &mut Db<'_>, project: ProjectId, key: &PublicKey) -> Result<(), Failure> {
    query("DELETE FROM member WHERE project = ? AND key = ?")
        .bind(project.0.to_vec())
        .bind(key.as_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// How many members' keys a project has.
pub(crate) async fn members(conn: &mut Db<'_>, project: ProjectId) -> Result<u64, Failure> {
    let row = query("SELECT count(*) AS members FROM member WHERE project = ?")
        .bind(project.0.to_vec())
        .fetch_one(conn)
        .await?;
    Cells { table: "member", row: &row }.uint("members")
}

/// The projects that `key` belongs to, in order of their ids.
pub(crate) async fn projects_of_member(conn: &mut Db<'_>, key: &PublicKey) -> Result<Vec<ProjectId>, Failure> {
    let rows = query("SELECT project FROM member WHERE key = ? ORDER BY project")
        .bind(key.as_bytes().to_vec())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok(ProjectId(Cells { table: "member", row }.bytes("project")?))).collect()
}

pub(crate) async fn vetting_insert_in_tx(
    conn: &mut Db<'_>,
    project: ProjectId,
    statement: &Statement,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO vetting (project, value, issuer, claim, from_at, until_at, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(project.0.to_vec())
        .bind(i64::from(statement.value.number()))
        .bind(&statement.issuer)
        .bind(&statement.claim)
        .bind(seconds(statement.from))
        .bind(statement.until.map(seconds))
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// The evidence on a project, oldest first.
pub(crate) async fn vetting_statements(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<Statement>, Failure> {
    let rows = query("SELECT value, issuer, claim, from_at, COALESCE(until_at, -1) AS until_at FROM vetting WHERE project = ? ORDER BY seq")
        .bind(project.0.to_vec())
        .fetch_all(conn)
        .await?;
    let statement = |row| {
        let cells = Cells { table: "vetting", row };
        Ok(Statement {
            value: Vetting::from_number(cells.uint("value")?).ok_or_else(|| cells.unreadable("value"))?,
            issuer: cells.text("issuer")?,
            claim: cells.text("claim")?,
            from: cells.time("from_at")?,
            until: u64::try_from(cells.int("until_at")?).ok().map(Timestamp),
        })
    };
    rows.iter().map(statement).collect()
}

/// Remembers what each of these owners knows a project by.
pub(crate) async fn pseudonyms_insert_in_tx(
    conn: &mut Db<'_>,
    subjects: &[(ProjectId, OrgId, Pseudonym)],
) -> Result<(), Failure> {
    for run in padded_runs(subjects) {
        let sql = format!(
            "INSERT INTO pseudonym (subject, project, owner) VALUES {} ON CONFLICT (project, owner) DO NOTHING",
            list("(?,?,?)", run.len())
        );
        let inserting = run.iter().fold(query(sql), |inserting, (project, owner, subject)| {
            inserting.bind(subject.0.to_vec()).bind(project.0.to_vec()).bind(owner.0.to_vec())
        });
        inserting.execute(conn).await?;
    }
    Ok(())
}

pub(crate) async fn pseudonyms(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<(OrgId, Pseudonym)>, Failure> {
    let rows = query("SELECT owner, subject FROM pseudonym WHERE project = ? ORDER BY owner")
        .bind(project.0.to_vec())
        .fetch_all(conn)
        .await?;
    let pair = |row| {
        let cells = Cells { table: "pseudonym", row };
        Ok((OrgId(cells.bytes("owner")?), Pseudonym(cells.bytes("subject")?)))
    };
    rows.iter().map(pair).collect()
}
