//! Projects, members, vetting evidence, pseudonyms.

use std::collections::BTreeMap;

use comity_ledger::db::{Db, query};
use comity_ledger::values;
use comity_wire::object::Vetting;
use comity_wire::{Digest, OrgId, ProjectId, Pseudonym, PublicKey, Timestamp};

use super::{Cells, json, seconds};
use crate::failure::Failure;
use crate::mandates::Role;
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

/// What a key may see of a project: the project, what the key may do for it, and the evidence on it, oldest first.
pub(crate) type Membership = (Project, Role, Vec<Statement>);

/// Joined by the keys of `member`, row for row: the `COALESCE` keeps SQLite from making an index of what is asked by itself.
const MEMBERSHIPS: &str = "WITH asked (project, key) AS ({rows}) \
    SELECT p.*, m.key, m.role, v.seq, v.value, v.issuer, v.claim, v.from_at, COALESCE(v.until_at, -1) AS until_at FROM asked \
    JOIN member m ON m.project = COALESCE(asked.project, asked.project) AND m.key = COALESCE(asked.key, asked.key) \
    JOIN project p ON p.id = m.project LEFT JOIN vetting v ON v.project = p.id";

const ROLES: &str = "WITH asked (project, key) AS ({rows}) SELECT m.project, m.key, m.role, p.frozen FROM asked \
    JOIN member m ON m.project = COALESCE(asked.project, asked.project) AND m.key = COALESCE(asked.key, asked.key) \
    JOIN project p ON p.id = m.project";

/// Those that are there, in one statement.
pub(crate) async fn memberships(
    conn: &mut Db<'_>,
    asked: &[(ProjectId, PublicKey)],
) -> Result<BTreeMap<(ProjectId, [u8; 32]), Membership>, Failure> {
    let mut found = BTreeMap::new();
    let asking = query(MEMBERSHIPS).each(asked.iter().map(|(project, key)| values![project.0, *key.as_bytes()]));
    // A row may come twice.
    for row in asking.repeatable().fetch_all(conn).await? {
        let project = project(Cells { table: "project", row: &row })?;
        let member = Cells { table: "member", row: &row };
        let (key, role) = (member.bytes("key")?, role(member)?);
        let (_, _, statements) =
            found.entry((project.id, key)).or_insert_with(|| (project, role, BTreeMap::<i64, Statement>::new()));
        if let Some(seq) = row.int_maybe("seq")? {
            statements.insert(seq, statement(Cells { table: "vetting", row: &row })?);
        }
    }
    let in_order = |(project, role, statements): (Project, Role, BTreeMap<i64, Statement>)| {
        (project, role, statements.into_values().collect())
    };
    Ok(found.into_iter().map(|(of, one)| (of, in_order(one))).collect())
}

/// What keys may do for projects, and whether those are frozen: of those that are members', as they are in this transaction.
pub(crate) async fn roles_in_tx(
    conn: &mut Db<'_>,
    asked: &[(ProjectId, PublicKey)],
) -> Result<BTreeMap<(ProjectId, [u8; 32]), (Role, bool)>, Failure> {
    let asking = query(ROLES).each(asked.iter().map(|(project, key)| values![project.0, *key.as_bytes()]));
    let rows = asking.repeatable().fetch_all(conn).await?;
    let member = |row| {
        let member = Cells { table: "member", row };
        let of = (ProjectId(member.bytes("project")?), member.bytes("key")?);
        Ok((of, (role(member)?, Cells { table: "project", row }.int("frozen")? == 1)))
    };
    rows.iter().map(member).collect()
}

/// One of them; none where the project is no member's of this key.
pub(crate) async fn project_of_member(
    conn: &mut Db<'_>,
    id: ProjectId,
    key: &PublicKey,
) -> Result<Option<Membership>, Failure> {
    Ok(memberships(conn, &[(id, *key)]).await?.into_values().next())
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

/// Adds a key, or gives one that is there another role. One that its person revoked acts for nobody any more.
pub(crate) async fn member_put_in_tx(
    conn: &mut Db<'_>,
    project: ProjectId,
    key: &PublicKey,
    role: Role,
    now: Timestamp,
) -> Result<(), Failure> {
    if super::persons::key_find(conn, key).await?.is_some_and(|bound| bound.revoked_at.is_some()) {
        return Err(Failure::invalid(format!("{key} was revoked: its person makes another one (comity init)")));
    }
    let put = "INSERT INTO member (project, key, added_at, role) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (project, key) DO UPDATE SET role = ?4";
    query(put)
        .bind(project.0.to_vec())
        .bind(key.as_bytes().to_vec())
        .bind(seconds(now))
        .bind(i64::from(role as u8))
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

/// What a key may do for a project; none where it is no member's.
pub(crate) async fn role_of(conn: &mut Db<'_>, project: ProjectId, key: &PublicKey) -> Result<Option<Role>, Failure> {
    let row = query("SELECT role FROM member WHERE project = ? AND key = ?")
        .bind(project.0.to_vec())
        .bind(key.as_bytes().to_vec())
        .fetch_optional(conn)
        .await?;
    row.map(|row| role(Cells { table: "member", row: &row })).transpose()
}

fn role(cells: Cells<'_>) -> Result<Role, Failure> {
    Role::from_number(cells.uint("role")?).ok_or_else(|| cells.unreadable("role"))
}

/// How many members' keys a project has.
pub(crate) async fn members(conn: &mut Db<'_>, project: ProjectId) -> Result<u64, Failure> {
    let row = query("SELECT count(*) AS members FROM member WHERE project = ?")
        .bind(project.0.to_vec())
        .fetch_one(conn)
        .await?;
    Cells { table: "member", row: &row }.uint("members")
}

/// A project's members, PIs first, then by when they came.
pub(crate) async fn members_of(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<(PublicKey, Role)>, Failure> {
    let rows = query("SELECT key, role FROM member WHERE project = ? ORDER BY role, added_at, key")
        .bind(project.0.to_vec())
        .fetch_all(conn)
        .await?;
    let member = |row| {
        let cells = Cells { table: "member", row };
        Ok((cells.key("key")?, role(cells)?))
    };
    rows.iter().map(member).collect()
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
    rows.iter().map(|row| statement(Cells { table: "vetting", row })).collect()
}

fn statement(cells: Cells<'_>) -> Result<Statement, Failure> {
    Ok(Statement {
        value: Vetting::from_number(cells.uint("value")?).ok_or_else(|| cells.unreadable("value"))?,
        issuer: cells.text("issuer")?,
        claim: cells.text("claim")?,
        from: cells.time("from_at")?,
        until: u64::try_from(cells.int("until_at")?).ok().map(Timestamp),
    })
}

/// Remembers what each of these owners knows a project by.
pub(crate) async fn pseudonyms_insert_in_tx(
    conn: &mut Db<'_>,
    subjects: &[(ProjectId, OrgId, Pseudonym)],
) -> Result<(), Failure> {
    let inserting =
        query("INSERT INTO pseudonym (subject, project, owner) {rows} ON CONFLICT (project, owner) DO NOTHING");
    let rows = subjects.iter().map(|(project, owner, subject)| values![subject.0, project.0, owner.0]);
    inserting.each(rows).repeatable().execute(conn).await?;
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

/// Whose project it is, as it was stated last.
pub(crate) async fn organisation_of(conn: &mut Db<'_>, project: ProjectId) -> Result<Option<OrgId>, Failure> {
    let sql = "SELECT organisation FROM project_of WHERE project = ? ORDER BY place DESC LIMIT 1";
    let row = query(sql).bind(project.0.to_vec()).fetch_optional(conn).await?;
    row.map(|row| Ok(OrgId(Cells { table: "project_of", row: &row }.bytes("organisation")?))).transpose()
}

pub(crate) async fn organisation_put_in_tx(
    conn: &mut Db<'_>,
    project: ProjectId,
    organisation: OrgId,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO project_of (project, place, organisation, act, recorded_at) \
         VALUES (?1, (SELECT COALESCE(MAX(place), 0) + 1 FROM project_of WHERE project = ?1), ?2, ?3, ?4)",
    )
    .bind(project.0.to_vec())
    .bind(organisation.0.to_vec())
    .bind(act.0.to_vec())
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use comity_ledger::Database;
    use comity_ledger::books;
    use comity_ledger::db::{ROWS_PER_STATEMENT_MAX, list};

    use super::*;

    #[tokio::test]
    async fn members_are_found_by_their_key_however_many_are_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::sqlite(folder.path().join("house.sqlite"));
        books::migrate(&database, crate::store::migrations()).await.expect("the tables");
        let mut conn = database.connect().await.expect("a connection");
        let asked = [1, ROWS_PER_STATEMENT_MAX]
            .map(|rows| [(MEMBERSHIPS, &["m", "p", "v"][..], rows), (ROLES, &["m", "p"], rows)]);
        for (sql, tables, rows) in asked.into_iter().flatten() {
            let rows = format!("VALUES {}", list("(x'00',x'00')", rows));
            let plan = query(format!("EXPLAIN QUERY PLAN {}", sql.replace("{rows}", &rows)));
            let steps = plan.fetch_all(&mut conn.db()).await.expect("a plan");
            let steps: Vec<String> = steps.iter().map(|row| row.text("detail").expect("a step")).collect();
            for table in tables {
                assert!(steps.iter().any(|step| step.starts_with(&format!("SEARCH {table} USING"))), "{steps:?}");
            }
            assert!(!steps.iter().any(|step| step.contains("AUTOMATIC")), "{steps:?}");
        }
    }
}
