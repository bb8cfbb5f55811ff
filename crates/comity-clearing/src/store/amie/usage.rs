//! What sites report of their own meters, which is kept and pays nobody; and what projects paid here, for a site that asks.

use comity_ledger::TransferKind;
use comity_ledger::db::{Db, Row, query};
use comity_wire::{Digest, NodeId, ProjectId, Timestamp};

use super::super::{Cells, int, json, seconds};
use crate::amie::{Body, Record};
use crate::failure::Failure;

/// Whether a site's record stands already, and with which content.
pub(crate) async fn usage_find(conn: &mut Db<'_>, site: &str, record: &str) -> Result<Option<Digest>, Failure> {
    let row = query("SELECT content FROM amie_usage WHERE site = ? AND record = ?")
        .bind(site)
        .bind(record)
        .fetch_optional(conn)
        .await?;
    row.map(|row| Cells { table: "amie_usage", row: &row }.digest("content")).transpose()
}

/// How many records a site has in a month.
pub(crate) async fn usage_count(conn: &mut Db<'_>, site: &str, month: u64) -> Result<u64, Failure> {
    let row = query("SELECT count(*) AS records FROM amie_usage WHERE site = ? AND month = ?")
        .bind(site)
        .bind(int(month))
        .fetch_one(conn)
        .await?;
    Cells { table: "amie_usage", row: &row }.uint("records")
}

pub(crate) async fn usage_insert_in_tx(
    conn: &mut Db<'_>,
    (site, project): (&str, ProjectId),
    record: &Record,
    (body, content): (&Body, Digest),
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO amie_usage (site, record, kind, month, project, login, charge, used_at, body, content, received_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(site)
    .bind(&record.id)
    .bind(i64::from(record.kind as u8))
    .bind(int(record.month()))
    .bind(project.0.to_vec())
    .bind(&record.login)
    .bind(record.charge)
    .bind(seconds(record.used_at))
    .bind(json(body))
    .bind(content.0.to_vec())
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// What a site's meter says over a time of receipt: records and µcr.
pub(crate) async fn usage_sums(
    conn: &mut Db<'_>,
    site: &str,
    (from, to): (Timestamp, Timestamp),
) -> Result<(u64, i64), Failure> {
    let row = query(
        "SELECT count(*) AS records, CAST(COALESCE(SUM(charge), 0) AS BIGINT) AS charge FROM amie_usage \
         WHERE site = ? AND received_at >= ? AND received_at < ?",
    )
    .bind(site)
    .bind(seconds(from))
    .bind(seconds(to))
    .fetch_one(conn)
    .await?;
    let cells = Cells { table: "amie_usage", row: &row };
    Ok((cells.uint("records")?, cells.int("charge")?))
}

/// A site's meter over a month: each project's records and µcr.
pub(crate) async fn usage_of_month(
    conn: &mut Db<'_>,
    site: &str,
    month: u64,
) -> Result<Vec<(ProjectId, u64, i64)>, Failure> {
    let rows = query(
        "SELECT project, count(*) AS records, CAST(SUM(charge) AS BIGINT) AS charge FROM amie_usage \
         WHERE site = ? AND month = ? GROUP BY project ORDER BY project",
    )
    .bind(site)
    .bind(int(month))
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "amie_usage", row };
        Ok((ProjectId(cells.bytes("project")?), cells.uint("records")?, cells.int("charge")?))
    };
    rows.iter().map(one).collect()
}

/// A record that was not taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failed {
    pub(crate) number: u64,
    pub(crate) body: Body,
    pub(crate) error: String,
}

/// How many failed records a site has not cleared.
pub(crate) async fn failures_count(conn: &mut Db<'_>, site: &str) -> Result<u64, Failure> {
    let row = query("SELECT count(*) AS failures FROM amie_failure WHERE site = ?").bind(site).fetch_one(conn).await?;
    Cells { table: "amie_failure", row: &row }.uint("failures")
}

/// Keeps a failed record, and gives its number.
pub(crate) async fn failure_insert_in_tx(
    conn: &mut Db<'_>,
    site: &str,
    (body, error): (&Body, &str),
    now: Timestamp,
) -> Result<u64, Failure> {
    query("UPDATE amie_site SET failures = failures + 1 WHERE name = ?").bind(site).execute(conn).await?;
    let row = query("SELECT failures FROM amie_site WHERE name = ?").bind(site).fetch_one(conn).await?;
    let number = Cells { table: "amie_site", row: &row }.uint("failures")?;
    query("INSERT INTO amie_failure (site, number, body, error, received_at) VALUES (?, ?, ?, ?, ?)")
        .bind(site)
        .bind(int(number))
        .bind(json(body))
        .bind(error)
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(number)
}

/// A site's failed records that came in a time, oldest first.
pub(crate) async fn failures(
    conn: &mut Db<'_>,
    site: &str,
    (from, to): (Timestamp, Timestamp),
    limit: u32,
) -> Result<Vec<Failed>, Failure> {
    let rows = query(
        "SELECT * FROM amie_failure WHERE site = ? AND received_at >= ? AND received_at < ? ORDER BY number LIMIT ?",
    )
    .bind(site)
    .bind(seconds(from))
    .bind(seconds(to))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "amie_failure", row };
        Ok(Failed { number: cells.uint("number")?, body: cells.json("body")?, error: cells.text("error")? })
    };
    rows.iter().map(one).collect()
}

/// Forgets failed records that the site has seen to.
pub(crate) async fn failures_clear_in_tx(conn: &mut Db<'_>, site: &str, numbers: &[u64]) -> Result<u64, Failure> {
    let mut cleared = 0;
    for number in numbers {
        cleared += query("DELETE FROM amie_failure WHERE site = ? AND number = ?")
            .bind(site)
            .bind(int(*number))
            .execute(conn)
            .await?;
    }
    Ok(cleared)
}

/// A transfer that took credits from a project for a token, or gave them back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charged {
    pub(crate) seq: u64,
    pub(crate) transfer: [u8; 16],
    /// By a claim, rather than by a challenge or a correction.
    pub(crate) settled: bool,
    /// Whether the credits left the project.
    pub(crate) leaves: bool,
    pub(crate) amount: i64,
    pub(crate) posted_at: Timestamp,
    pub(crate) project: ProjectId,
    pub(crate) issued_at: Timestamp,
    pub(crate) node: NodeId,
    pub(crate) payload: Option<Vec<u8>>,
}

/// What projects paid for tokens in a time, behind a place. A project's side is what it may spend, may spend later, or has set
/// aside (codes 2, 3, 4): what moves within it is no charge.
pub(crate) async fn charged(
    conn: &mut Db<'_>,
    after: u64,
    (from, to): (Timestamp, Timestamp),
    limit: u32,
) -> Result<Vec<Charged>, Failure> {
    let rows = query(
        "SELECT f.seq, f.id, f.kind, f.amount, f.posted_at, t.project, t.issued_at, t.node, t.payload, \
         CAST(CASE WHEN d.code IN (2, 3, 4) THEN 1 ELSE 0 END AS BIGINT) AS leaves \
         FROM transfer f JOIN token t ON t.id = f.reference JOIN account d ON d.id = f.debit_id \
         JOIN account c ON c.id = f.credit_id WHERE f.seq > ? AND f.posted_at >= ? AND f.posted_at < ? AND t.project IS NOT NULL \
         AND (CASE WHEN d.code IN (2, 3, 4) THEN 1 ELSE 0 END) <> (CASE WHEN c.code IN (2, 3, 4) THEN 1 ELSE 0 END) \
         ORDER BY f.seq LIMIT ?",
    )
    .bind(int(after))
    .bind(seconds(from))
    .bind(seconds(to))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(charged_row).collect()
}

pub(crate) fn charged_row(row: &Row) -> Result<Charged, Failure> {
    let cells = Cells { table: "transfer", row };
    Ok(Charged {
        seq: cells.uint("seq")?,
        transfer: cells.bytes("id")?,
        settled: cells.int("kind")? == i64::from(TransferKind::Settle.number()),
        leaves: cells.int("leaves")? == 1,
        amount: cells.int("amount")?,
        posted_at: cells.time("posted_at")?,
        project: ProjectId(cells.bytes("project")?),
        issued_at: cells.time("issued_at")?,
        node: NodeId(cells.bytes("node")?),
        payload: cells.blob_maybe("payload")?,
    })
}
