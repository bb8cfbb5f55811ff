//! Records of what a central site's projects used: made once from the ledger, sent, and taken there or not.

use comity_ledger::db::{Db, Row, query};
use comity_wire::{ProjectId, Timestamp};

use super::super::amie::{Charged, charged_row};
use super::super::{Cells, int, json, seconds};
use crate::amie::{Body, UsageKind};
use crate::failure::Failure;

/// Up to which transfer records were made.
pub(crate) async fn reported(conn: &mut Db<'_>, central: &str) -> Result<u64, Failure> {
    let row = query("SELECT seq FROM central_reported WHERE central = ?").bind(central).fetch_optional(conn).await?;
    row.map_or(Ok(0), |row| Cells { table: "central_reported", row: &row }.uint("seq"))
}

pub(crate) async fn reported_put_in_tx(conn: &mut Db<'_>, central: &str, seq: u64) -> Result<(), Failure> {
    query(
        "INSERT INTO central_reported (central, seq) VALUES (?, ?) \
         ON CONFLICT (central) DO UPDATE SET seq = excluded.seq",
    )
    .bind(central)
    .bind(int(seq))
    .execute(conn)
    .await?;
    Ok(())
}

/// What a central site's projects paid behind a place, in the order of the ledger.
pub(crate) async fn charged_after(
    conn: &mut Db<'_>,
    central: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<Charged>, Failure> {
    let rows = query(
        "SELECT f.seq, f.id, f.kind, f.amount, f.posted_at, t.project, t.issued_at, t.node, t.payload, \
         CAST(CASE WHEN d.code IN (2, 3, 4) THEN 1 ELSE 0 END AS BIGINT) AS leaves \
         FROM transfer f JOIN token t ON t.id = f.reference JOIN central_grant g ON g.project = t.project \
         JOIN account d ON d.id = f.debit_id JOIN account c ON c.id = f.credit_id WHERE f.seq > ? AND g.central = ? \
         AND (CASE WHEN d.code IN (2, 3, 4) THEN 1 ELSE 0 END) <> (CASE WHEN c.code IN (2, 3, 4) THEN 1 ELSE 0 END) \
         ORDER BY f.seq LIMIT ?",
    )
    .bind(int(after))
    .bind(central)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(charged_row).collect()
}

/// µcr of a project that were made into records.
pub(crate) async fn total(conn: &mut Db<'_>, central: &str, project: ProjectId) -> Result<i64, Failure> {
    let row = query("SELECT ucr FROM central_total WHERE central = ? AND project = ?")
        .bind(central)
        .bind(project.0.to_vec())
        .fetch_optional(conn)
        .await?;
    row.map_or(Ok(0), |row| Cells { table: "central_total", row: &row }.int("ucr"))
}

pub(crate) async fn total_put_in_tx(
    conn: &mut Db<'_>,
    central: &str,
    (project, ucr): (ProjectId, i64),
) -> Result<(), Failure> {
    query(
        "INSERT INTO central_total (central, project, ucr) VALUES (?, ?, ?) \
         ON CONFLICT (central, project) DO UPDATE SET ucr = excluded.ucr",
    )
    .bind(central)
    .bind(project.0.to_vec())
    .bind(ucr)
    .execute(conn)
    .await?;
    Ok(())
}

/// A record, and how it stands at the central site.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UsageRow {
    pub(crate) record: String,
    pub(crate) seq: u64,
    pub(crate) project: ProjectId,
    pub(crate) kind: UsageKind,
    pub(crate) body: Body,
    pub(crate) error: String,
}

pub(crate) async fn usage_insert_in_tx(
    conn: &mut Db<'_>,
    central: &str,
    row: &UsageRow,
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO central_usage (central, record, seq, project, kind, body, made_at, changed_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(central)
    .bind(&row.record)
    .bind(int(row.seq))
    .bind(row.project.0.to_vec())
    .bind(i64::from(row.kind as u8))
    .bind(json(&row.body))
    .bind(seconds(now))
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

fn usage(row: &Row) -> Result<UsageRow, Failure> {
    let cells = Cells { table: "central_usage", row };
    Ok(UsageRow {
        record: cells.text("record")?,
        seq: cells.uint("seq")?,
        project: ProjectId(cells.bytes("project")?),
        kind: if cells.int("kind")? == 1 { UsageKind::Compute } else { UsageKind::Adjustment },
        body: cells.json("body")?,
        error: cells.text("error")?,
    })
}

/// How a record stands at the central site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Sent {
    Waits = 0,
    Taken = 1,
    Refused = 2,
}

/// Records that stand so, of one kind, in the order of the ledger.
pub(crate) async fn usages(
    conn: &mut Db<'_>,
    central: &str,
    (sent, kind): (Sent, UsageKind),
    limit: u32,
) -> Result<Vec<UsageRow>, Failure> {
    let rows =
        query("SELECT * FROM central_usage WHERE central = ? AND state = ? AND kind = ? ORDER BY seq, record LIMIT ?")
            .bind(central)
            .bind(i64::from(sent as u8))
            .bind(i64::from(kind as u8))
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
    rows.iter().map(usage).collect()
}

/// How a record stands from now on.
pub(crate) async fn usage_put_in_tx(
    conn: &mut Db<'_>,
    (central, record): (&str, &str),
    (sent, error): (Sent, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    query("UPDATE central_usage SET state = ?, error = ?, changed_at = ? WHERE central = ? AND record = ?")
        .bind(i64::from(sent as u8))
        .bind(error)
        .bind(seconds(now))
        .bind(central)
        .bind(record)
        .execute(conn)
        .await?;
    Ok(())
}

/// What was refused is to be sent again; how much that is.
pub(crate) async fn usages_again_in_tx(conn: &mut Db<'_>, central: &str, now: Timestamp) -> Result<u64, Failure> {
    let again = query("UPDATE central_usage SET state = 0, error = '', changed_at = ? WHERE central = ? AND state = 2")
        .bind(seconds(now))
        .bind(central)
        .execute(conn)
        .await?;
    Ok(again)
}

/// How many records of each central site stand so.
pub(crate) async fn usage_counts(conn: &mut Db<'_>) -> Result<Vec<(String, u64, u64)>, Failure> {
    let rows = query(
        "SELECT central, state, count(*) AS records FROM central_usage GROUP BY central, state ORDER BY central, state",
    )
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "central_usage", row };
        Ok((cells.text("central")?, cells.uint("state")?, cells.uint("records")?))
    };
    rows.iter().map(one).collect()
}

/// The records that a central site refused, oldest first.
pub(crate) async fn usages_refused(conn: &mut Db<'_>, limit: u32) -> Result<Vec<(String, UsageRow)>, Failure> {
    let rows = query("SELECT * FROM central_usage WHERE state = 2 ORDER BY central, seq, record LIMIT ?")
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((Cells { table: "central_usage", row }.text("central")?, usage(row)?))).collect()
}
