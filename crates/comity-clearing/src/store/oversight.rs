//! Flags by project, owner and hour in SQL, and the advisories that came of them.

use std::collections::BTreeMap;

use comity_guard::{Band, Category};
use comity_ledger::db::{Db, query};
use comity_wire::api::advisory::Sum;
use comity_wire::{MemberId, OrgId, ProjectId, Timestamp, TokenId};

use super::{Cells, seconds};
use crate::failure::Failure;
use crate::settlement::LaneKey;

/// An advisory as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdvisoryRow {
    pub(crate) project: ProjectId,
    pub(crate) category: Category,
    pub(crate) day: u64,
    pub(crate) first_at: Timestamp,
    pub(crate) at: Timestamp,
    pub(crate) count: u64,
    pub(crate) bound: u64,
    pub(crate) band: Band,
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What was counted of a lane, by category's number.
pub(crate) async fn lane_flags(conn: &mut Db<'_>, token: TokenId, key: LaneKey) -> Result<BTreeMap<i64, u64>, Failure> {
    let rows = query("SELECT category, total FROM lane_flag WHERE token = ? AND leaf = ? AND lane = ?")
        .bind(token.0.to_vec())
        .bind(key.leaf.0.to_vec())
        .bind(i64::from(key.lane))
        .fetch_all(conn)
        .await?;
    let read = |row| {
        let cells = Cells { table: "lane_flag", row };
        Ok((cells.int("category")?, cells.uint("total")?))
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn lane_flag_put_in_tx(
    conn: &mut Db<'_>,
    token: TokenId,
    key: LaneKey,
    category: Category,
    total: u64,
) -> Result<(), Failure> {
    query(
        "INSERT INTO lane_flag (token, leaf, lane, category, total) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (token, leaf, lane, category) DO UPDATE SET total = ?5",
    )
    .bind(token.0.to_vec())
    .bind(key.leaf.0.to_vec())
    .bind(i64::from(key.lane))
    .bind(i64::from(category.number()))
    .bind(int(total))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn flags_add_in_tx(
    conn: &mut Db<'_>,
    (project, owner): (ProjectId, OrgId),
    category: Category,
    hour: u64,
    count: u64,
) -> Result<(), Failure> {
    query(
        "INSERT INTO project_flag (project, category, hour, owner, count) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (project, category, hour, owner) DO UPDATE SET count = project_flag.count + excluded.count",
    )
    .bind(project.0.to_vec())
    .bind(i64::from(category.number()))
    .bind(int(hour))
    .bind(owner.0.to_vec())
    .bind(int(count))
    .execute(conn)
    .await?;
    Ok(())
}

/// Flags of a project since an hour, by owner.
pub(crate) async fn flags_by_owner(
    conn: &mut Db<'_>,
    project: ProjectId,
    category: Category,
    from_hour: u64,
) -> Result<Vec<(OrgId, u64)>, Failure> {
    let rows = query(
        "SELECT owner, CAST(SUM(count) AS BIGINT) AS flags FROM project_flag WHERE project = ? AND category = ? AND hour >= ? GROUP BY owner",
    )
    .bind(project.0.to_vec())
    .bind(i64::from(category.number()))
    .bind(int(from_hour))
    .fetch_all(conn)
    .await?;
    let read = |row| {
        let cells = Cells { table: "project_flag", row };
        Ok((OrgId(cells.bytes("owner")?), cells.uint("flags")?))
    };
    rows.iter().map(read).collect()
}

/// Projects that a person leads, as PI or co-PI: those with the newest ids, at most `limit`.
pub(crate) async fn led_by(conn: &mut Db<'_>, person: MemberId, limit: u32) -> Result<Vec<ProjectId>, Failure> {
    let rows = query(
        "SELECT DISTINCT m.project FROM person_key k JOIN member m ON m.key = k.key AND m.role <= 2 \
         WHERE k.person = ? AND k.revoked_at IS NULL ORDER BY m.project DESC LIMIT ?",
    );
    let rows = rows.bind(person.0.to_vec()).bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(ProjectId(Cells { table: "member", row }.bytes("project")?))).collect()
}

/// Who leads the projects that are in a sum: a line for each PI and co-PI who is a person here, one without where none is.
pub(crate) async fn leaders(
    conn: &mut Db<'_>,
    category: Category,
    from_hour: u64,
    limit: u32,
) -> Result<Vec<(ProjectId, Option<MemberId>)>, Failure> {
    let rows = query(
        "SELECT DISTINCT f.project, k.person FROM project_flag f \
         LEFT JOIN member m ON m.project = f.project AND m.role <= 2 \
         LEFT JOIN person_key k ON k.key = m.key AND k.revoked_at IS NULL \
         WHERE f.category = ? AND f.hour >= ? ORDER BY f.project LIMIT ?",
    )
    .bind(i64::from(category.number()))
    .bind(int(from_hour))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let read = |row| {
        let cells = Cells { table: "project_flag", row };
        Ok((ProjectId(cells.bytes("project")?), cells.bytes_maybe("person")?.map(MemberId)))
    };
    rows.iter().map(read).collect()
}

/// Writes an advisory; of one that is there already, how it is now.
pub(crate) async fn advisory_put_in_tx(conn: &mut Db<'_>, row: &AdvisoryRow) -> Result<(), Failure> {
    query(
        "INSERT INTO advisory (project, category, day, first_at, at, count, bound, band) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (project, category, day) DO UPDATE SET at = ?5, count = ?6, bound = ?7, band = ?8",
    )
    .bind(row.project.0.to_vec())
    .bind(i64::from(row.category.number()))
    .bind(int(row.day))
    .bind(seconds(row.first_at))
    .bind(seconds(row.at))
    .bind(int(row.count))
    .bind(int(row.bound))
    .bind(if row.band == Band::High { 2_i64 } else { 1 })
    .execute(conn)
    .await?;
    Ok(())
}

/// Where a page of advisories ended.
pub(crate) type Place = (ProjectId, i64, u64);

/// The advisories since a time of projects that an owner saw flagged since an hour, or that hold a token there now.
pub(crate) async fn advisories_of(
    conn: &mut Db<'_>,
    owner: OrgId,
    (since, from_hour, now): (Timestamp, u64, Timestamp),
    after: Option<Place>,
    limit: u32,
) -> Result<Vec<AdvisoryRow>, Failure> {
    let (project, category, day) =
        after.map_or((Vec::new(), -1, -1), |(project, category, day)| (project.0.to_vec(), category, int(day)));
    let rows = query(
        "SELECT a.* FROM advisory a WHERE a.at > ?1 AND (a.project, a.category, a.day) > (?2, ?3, ?4) AND (\
         EXISTS (SELECT 1 FROM project_flag f WHERE f.project = a.project AND f.owner = ?5 AND f.hour >= ?6) OR \
         EXISTS (SELECT 1 FROM token t WHERE t.project = a.project AND t.owner = ?5 AND t.expires_at > ?7)) \
         ORDER BY a.project, a.category, a.day LIMIT ?8",
    )
    .bind(seconds(since))
    .bind(project)
    .bind(category)
    .bind(day)
    .bind(owner.0.to_vec())
    .bind(int(from_hour))
    .bind(seconds(now))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().filter_map(|row| read(Cells { table: "advisory", row }).transpose()).collect()
}

/// `None` where this version knows no such category.
fn read(cells: Cells<'_>) -> Result<Option<AdvisoryRow>, Failure> {
    let number = u8::try_from(cells.int("category")?).map_err(|_| cells.unreadable("category"))?;
    let Some(category) = Category::from_number(number) else { return Ok(None) };
    Ok(Some(AdvisoryRow {
        project: ProjectId(cells.bytes("project")?),
        category,
        day: cells.uint("day")?,
        first_at: cells.time("first_at")?,
        at: cells.time("at")?,
        count: cells.uint("count")?,
        bound: cells.uint("bound")?,
        band: if cells.int("band")? == 2 { Band::High } else { Band::Medium },
    }))
}

/// Sums of a category since an hour.
pub(crate) async fn sum(conn: &mut Db<'_>, category: Category, from_hour: u64) -> Result<Sum, Failure> {
    let row = query(
        "SELECT COUNT(DISTINCT project) AS projects, COUNT(DISTINCT owner) AS owners, \
         CAST(COALESCE(SUM(count), 0) AS BIGINT) AS flags FROM project_flag WHERE category = ? AND hour >= ?",
    )
    .bind(i64::from(category.number()))
    .bind(int(from_hour))
    .fetch_one(conn)
    .await?;
    let cells = Cells { table: "project_flag", row: &row };
    Ok(Sum { projects: cells.uint("projects")?, owners: cells.uint("owners")?, flags: cells.uint("flags")? })
}

/// Drops what is too old to be looked at.
pub(crate) async fn forget_in_tx(conn: &mut Db<'_>, before: Timestamp) -> Result<(), Failure> {
    query("DELETE FROM project_flag WHERE hour < ?").bind(int(before.seconds() / 3_600)).execute(conn).await?;
    query("DELETE FROM advisory WHERE at < ?").bind(seconds(before)).execute(conn).await?;
    query("DELETE FROM lane_flag WHERE token IN (SELECT id FROM token WHERE phase >= 2 AND settle_by < ?)")
        .bind(seconds(before))
        .execute(conn)
        .await?;
    Ok(())
}
