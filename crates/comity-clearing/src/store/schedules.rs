//! Schedules of recharge owners and their years' costs, in SQL.

use comity_ledger::db::{Db, Row, query};
use comity_wire::{Amount, Digest, OrgId, Timestamp};

use super::{Cells, json, seconds};
use crate::failure::Failure;
use crate::recharge::Schedule;

/// Costs of a year as they were reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    pub(crate) fiscal_year: String,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) costs: Amount,
    pub(crate) evidence: String,
}

pub(super) fn schedule(row: &Row) -> Result<Schedule, Failure> {
    let cells = Cells { table: "owner_schedule", row };
    Ok(Schedule {
        name: cells.text("name")?,
        from: cells.time("from_at")?,
        approved_by: cells.text("approved_by")?,
        fiscal_year: cells.text("fiscal_year")?,
        costs: cells.amount("costs")?,
        rates: cells.json("rates")?,
    })
}

/// An owner's, as they were recorded.
pub(crate) async fn of(conn: &mut Db<'_>, owner: OrgId) -> Result<Vec<Schedule>, Failure> {
    let sql = "SELECT * FROM owner_schedule WHERE owner = ? ORDER BY place";
    query(sql).bind(owner.0.to_vec()).fetch_all(conn).await?.iter().map(schedule).collect()
}

/// Everybody's, with the act of each.
pub(crate) async fn all(conn: &mut Db<'_>) -> Result<Vec<(OrgId, Digest, Schedule)>, Failure> {
    let rows = query("SELECT * FROM owner_schedule ORDER BY owner, place").fetch_all(conn).await?;
    let one = |row: &Row| {
        let cells = Cells { table: "owner_schedule", row };
        Ok((OrgId(cells.bytes("owner")?), cells.digest("act")?, schedule(row)?))
    };
    rows.iter().map(one).collect()
}

pub(crate) async fn insert_in_tx(
    conn: &mut Db<'_>,
    owner: OrgId,
    schedule: &Schedule,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO owner_schedule (act, owner, place, name, from_at, approved_by, fiscal_year, costs, rates, recorded_at) \
         VALUES (?1, ?2, (SELECT COALESCE(MAX(place), 0) + 1 FROM owner_schedule WHERE owner = ?2), ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(act.0.to_vec())
    .bind(owner.0.to_vec())
    .bind(&schedule.name)
    .bind(seconds(schedule.from))
    .bind(&schedule.approved_by)
    .bind(&schedule.fiscal_year)
    .bind(schedule.costs.ucr())
    .bind(json(&schedule.rates))
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn costs_insert_in_tx(
    conn: &mut Db<'_>,
    owner: OrgId,
    costs: &Costs,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO owner_costs (act, owner, place, fiscal_year, from_at, until_at, costs, evidence, recorded_at) \
         VALUES (?1, ?2, (SELECT COALESCE(MAX(place), 0) + 1 FROM owner_costs WHERE owner = ?2), ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(act.0.to_vec())
    .bind(owner.0.to_vec())
    .bind(&costs.fiscal_year)
    .bind(seconds(costs.from))
    .bind(seconds(costs.until))
    .bind(costs.costs.ucr())
    .bind(&costs.evidence)
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// An owner's years in their order, each as it was reported last.
pub(crate) async fn years(conn: &mut Db<'_>, owner: OrgId) -> Result<Vec<Costs>, Failure> {
    let sql = "SELECT * FROM owner_costs o WHERE o.owner = ?1 AND o.place = (SELECT MAX(l.place) FROM owner_costs l \
               WHERE l.owner = ?1 AND l.fiscal_year = o.fiscal_year) ORDER BY o.from_at";
    query(sql).bind(owner.0.to_vec()).fetch_all(conn).await?.iter().map(costs).collect()
}

pub(super) fn costs(row: &Row) -> Result<Costs, Failure> {
    let cells = Cells { table: "owner_costs", row };
    Ok(Costs {
        fiscal_year: cells.text("fiscal_year")?,
        from: cells.time("from_at")?,
        until: cells.time("until_at")?,
        costs: cells.amount("costs")?,
        evidence: cells.text("evidence")?,
    })
}

/// Owners of whom there are costs, a schedule, or terms of recharge.
pub(crate) async fn owners(conn: &mut Db<'_>) -> Result<Vec<OrgId>, Failure> {
    let sql = "SELECT owner FROM owner_costs UNION SELECT owner FROM owner_schedule \
               UNION SELECT owner FROM owner_terms WHERE kind = 1 ORDER BY owner";
    let rows = query(sql).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(OrgId(Cells { table: "owner_costs", row }.bytes("owner")?))).collect()
}
