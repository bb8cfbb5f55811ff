//! How projects and accounts stand at sites.

use comity_ledger::db::{Db, Row, query};
use comity_wire::{Digest, ProjectId, PublicKey};

use super::super::Cells;
use crate::amie::{Flow, Known, Standing};
use crate::failure::Failure;

/// How a project stands at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectAt {
    pub(crate) site: String,
    pub(crate) project: ProjectId,
    pub(crate) site_project: Option<String>,
    pub(crate) grant_number: String,
    pub(crate) known: Known,
}

/// How an account stands at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountAt {
    pub(crate) member: PublicKey,
    pub(crate) person: String,
    pub(crate) login: String,
    pub(crate) pi: bool,
    pub(crate) known: Known,
    /// A digest of what the site knows of the person; none: it was told before that was kept.
    pub(crate) told: Option<Digest>,
}

fn known(cells: Cells<'_>) -> Result<Known, Failure> {
    Ok(Known {
        standing: Standing::from_number(cells.uint("standing")?).ok_or_else(|| cells.unreadable("standing"))?,
        refused: Flow::from_number(cells.uint("refused")?),
        waits: cells.int("waits")? > 0,
    })
}

fn project_at(row: &Row) -> Result<ProjectAt, Failure> {
    let cells = Cells { table: "amie_project", row };
    Ok(ProjectAt {
        site: cells.text("site")?,
        project: ProjectId(cells.bytes("project")?),
        site_project: Some(cells.text("site_name")?).filter(|name| !name.is_empty()),
        grant_number: cells.text("grant_number")?,
        known: known(cells)?,
    })
}

const PROJECT_AT: &str = "SELECT a.site, a.project, COALESCE(a.site_project, '') AS site_name, a.grant_number, a.standing, a.refused, \
     (SELECT count(*) FROM amie_transaction t WHERE t.site = a.site AND t.project = a.project AND t.member IS NULL AND t.flow IN (3, 4) \
     AND t.state = 0) AS waits FROM amie_project a JOIN amie_site s ON s.name = a.site";

/// At which sites that may call a project is known, or asked for.
pub(crate) async fn projects_at(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<ProjectAt>, Failure> {
    let rows = query(format!("{PROJECT_AT} WHERE a.project = ? AND s.revoked_at IS NULL ORDER BY a.site"))
        .bind(project.0.to_vec())
        .fetch_all(conn)
        .await?;
    rows.iter().map(project_at).collect()
}

pub(crate) async fn project_at_find(
    conn: &mut Db<'_>,
    site: &str,
    project: ProjectId,
) -> Result<Option<ProjectAt>, Failure> {
    let row = query(format!("{PROJECT_AT} WHERE a.site = ? AND a.project = ?"))
        .bind(site)
        .bind(project.0.to_vec())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(project_at).transpose()
}

/// The project that a site calls so.
pub(crate) async fn project_called(conn: &mut Db<'_>, site: &str, called: &str) -> Result<Option<ProjectId>, Failure> {
    let row = query("SELECT project FROM amie_project WHERE site = ? AND site_project = ?")
        .bind(site)
        .bind(called)
        .fetch_optional(conn)
        .await?;
    row.map(|row| Ok(ProjectId(Cells { table: "amie_project", row: &row }.bytes("project")?))).transpose()
}

pub(crate) async fn project_at_put_in_tx(conn: &mut Db<'_>, at: &ProjectAt) -> Result<(), Failure> {
    query(
        "INSERT INTO amie_project (site, project, site_project, grant_number, standing, refused) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (site, project) DO UPDATE SET site_project = excluded.site_project, grant_number = excluded.grant_number, \
         standing = excluded.standing, refused = excluded.refused",
    )
    .bind(&at.site)
    .bind(at.project.0.to_vec())
    .bind(at.site_project.clone())
    .bind(&at.grant_number)
    .bind(i64::from(at.known.standing as u8))
    .bind(at.known.refused.map_or(0, |flow| i64::from(flow as u8)))
    .execute(conn)
    .await?;
    Ok(())
}

/// The accounts of a project at a site.
pub(crate) async fn accounts_at(conn: &mut Db<'_>, site: &str, project: ProjectId) -> Result<Vec<AccountAt>, Failure> {
    let rows = query(
        "SELECT a.*, (SELECT count(*) FROM amie_transaction t WHERE t.site = a.site AND t.project = a.project \
         AND t.member = a.member AND t.state = 0) AS waits \
         FROM amie_account a WHERE a.site = ? AND a.project = ? ORDER BY a.member",
    )
    .bind(site)
    .bind(project.0.to_vec())
    .fetch_all(conn)
    .await?;
    let account = |row: &Row| {
        let cells = Cells { table: "amie_account", row };
        Ok(AccountAt {
            member: cells.key("member")?,
            person: cells.text("person")?,
            login: cells.text("login")?,
            pi: cells.int("pi")? == 1,
            known: known(cells)?,
            told: cells.bytes_maybe("told")?.map(Digest),
        })
    };
    rows.iter().map(account).collect()
}

pub(crate) async fn account_at_put_in_tx(
    conn: &mut Db<'_>,
    (site, project): (&str, ProjectId),
    at: &AccountAt,
) -> Result<(), Failure> {
    query(
        "INSERT INTO amie_account (site, project, member, person, login, pi, standing, refused, told) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (site, project, member) DO UPDATE SET person = excluded.person, login = excluded.login, pi = excluded.pi, \
         standing = excluded.standing, refused = excluded.refused, told = excluded.told",
    )
    .bind(site)
    .bind(project.0.to_vec())
    .bind(at.member.as_bytes().to_vec())
    .bind(&at.person)
    .bind(&at.login)
    .bind(i64::from(at.pi))
    .bind(i64::from(at.known.standing as u8))
    .bind(at.known.refused.map_or(0, |flow| i64::from(flow as u8)))
    .bind(at.told.map(|told| told.0.to_vec()))
    .execute(conn)
    .await?;
    Ok(())
}

/// The operator says something of a member: sites that were told before that was kept, or that refused to hear it, are told.
pub(crate) async fn accounts_untold_in_tx(
    conn: &mut Db<'_>,
    project: ProjectId,
    member: &PublicKey,
) -> Result<(), Failure> {
    query(
        "UPDATE amie_account SET told = COALESCE(told, ?), refused = CASE WHEN refused = 7 THEN 0 ELSE refused END \
         WHERE project = ? AND member = ?",
    )
    .bind(Digest::ZERO.0.to_vec())
    .bind(project.0.to_vec())
    .bind(member.as_bytes().to_vec())
    .execute(conn)
    .await?;
    Ok(())
}

/// A site took two of its persons for one.
pub(crate) async fn persons_merge_in_tx(
    conn: &mut Db<'_>,
    site: &str,
    (keep, gone): (&str, &str),
) -> Result<(), Failure> {
    query("UPDATE amie_account SET person = ? WHERE site = ? AND person = ?")
        .bind(keep)
        .bind(site)
        .bind(gone)
        .execute(conn)
        .await?;
    Ok(())
}

/// A project that is inactive has no account that is active.
pub(crate) async fn accounts_rest_in_tx(conn: &mut Db<'_>, site: &str, project: ProjectId) -> Result<(), Failure> {
    query("UPDATE amie_account SET standing = 2 WHERE site = ? AND project = ? AND standing = 1")
        .bind(site)
        .bind(project.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}
