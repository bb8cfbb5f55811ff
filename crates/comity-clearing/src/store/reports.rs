//! Sums of transfers over a period, for reports. Each statement reads the transfers once.

use std::collections::BTreeMap;

use comity_ledger::AccountCode;
use comity_ledger::db::{Db, Row, query};
use comity_wire::{NodeId, OrgId, ProjectId, Timestamp, TokenId};

use super::{Cells, seconds};
use crate::failure::Failure;
use crate::reports::HoldRow;

/// Escrows that a report of holds has at most.
const HOLDS_MAX: i64 = 100_000;

/// A period as the statements take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// What was moved before a period and in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) before: i64,
    pub(crate) within: i64,
}

impl Moved {
    pub(crate) const fn whole(self) -> i64 {
        self.before + self.within
    }
}

/// Σ debits and Σ credits of all accounts of each code, up to a moment.
pub(crate) async fn code_sums(conn: &mut Db<'_>, to: Timestamp) -> Result<BTreeMap<AccountCode, (i64, i64)>, Failure> {
    let mut sums: BTreeMap<AccountCode, (i64, i64)> = AccountCode::ALL.map(|code| (code, (0, 0))).into();
    for side in ["debit", "credit"] {
        let sql = format!(
            "SELECT a.code, CAST(SUM(f.amount) AS BIGINT) AS amount FROM transfer f JOIN account a ON a.id = f.{side}_id \
             WHERE f.posted_at < ? GROUP BY a.code"
        );
        for row in query(sql).bind(seconds(to)).fetch_all(conn).await? {
            let cells = Cells { table: "transfer", row: &row };
            let code = AccountCode::from_number(cells.int("code")?).ok_or_else(|| cells.unreadable("code"))?;
            let sum = sums.entry(code).or_default();
            *(if side == "debit" { &mut sum.0 } else { &mut sum.1 }) = cells.int("amount")?;
        }
    }
    Ok(sums)
}

/// Σ of one kind of transfers for each project: joined to it through what `joined` says.
async fn by_project(
    conn: &mut Db<'_>,
    joined: &'static str,
    kind: i64,
    span: Span,
) -> Result<BTreeMap<ProjectId, Moved>, Failure> {
    let sql = format!(
        "SELECT x.project, CAST(SUM(CASE WHEN f.posted_at < ?1 THEN f.amount ELSE 0 END) AS BIGINT) AS before_it, \
         CAST(SUM(CASE WHEN f.posted_at >= ?1 THEN f.amount ELSE 0 END) AS BIGINT) AS within_it \
         FROM transfer f {joined} WHERE f.kind = ?2 AND f.posted_at < ?3 AND x.project IS NOT NULL GROUP BY x.project"
    );
    let asking = query(sql).bind(seconds(span.from)).bind(kind).bind(seconds(span.to));
    moved(asking.fetch_all(conn).await?, "project", ProjectId)
}

fn moved<K: Ord>(
    rows: Vec<Row>,
    name: &'static str,
    key: impl Fn([u8; 16]) -> K,
) -> Result<BTreeMap<K, Moved>, Failure> {
    let one = |row: &Row| {
        let cells = Cells { table: "transfer", row };
        let moved = Moved { before: cells.int("before_it")?, within: cells.int("within_it")? };
        Ok((key(cells.bytes(name)?), moved))
    };
    rows.iter().map(one).collect()
}

/// What made each project's credits more or fewer.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    pub(crate) awarded: BTreeMap<ProjectId, Moved>,
    /// Awards from before there were lots.
    pub(crate) pooled: BTreeMap<ProjectId, Moved>,
    pub(crate) moved_in: BTreeMap<ProjectId, Moved>,
    /// From what their organisations had earned.
    pub(crate) exchanged: BTreeMap<ProjectId, Moved>,
    pub(crate) moved_out: BTreeMap<ProjectId, Moved>,
    pub(crate) withdrawn: BTreeMap<ProjectId, Moved>,
    pub(crate) expired: BTreeMap<ProjectId, Moved>,
    pub(crate) settled: BTreeMap<ProjectId, Moved>,
    /// Settled, and taken back by a dispute.
    pub(crate) reversed: BTreeMap<ProjectId, Moved>,
    /// Settled, and given back by the owner.
    pub(crate) credited: BTreeMap<ProjectId, Moved>,
}

pub(crate) async fn flows(conn: &mut Db<'_>, span: Span) -> Result<Flows, Failure> {
    const LOT: &str = "JOIN lot x ON x.id = f.reference";
    const AWARD: &str = "JOIN award x ON x.id = f.reference AND x.pooled = 1";
    const TO: &str = "JOIN account c ON c.id = f.credit_id JOIN lot x ON x.id = c.reference";
    const TOKEN: &str = "JOIN token x ON x.id = f.reference";
    Ok(Flows {
        awarded: by_project(conn, LOT, 1, span).await?,
        pooled: by_project(conn, AWARD, 1, span).await?,
        moved_in: by_project(conn, TO, 13, span).await?,
        exchanged: by_project(conn, LOT, 14, span).await?,
        moved_out: by_project(conn, LOT, 13, span).await?,
        withdrawn: by_project(conn, LOT, 11, span).await?,
        expired: by_project(conn, LOT, 7, span).await?,
        settled: by_project(conn, TOKEN, 4, span).await?,
        reversed: by_project(conn, TO, 9, span).await?,
        credited: by_project(conn, TO, 15, span).await?,
    })
}

/// Σ of transfers into (`credit`) or out of (`debit`) each owner's payable, by their kind.
pub(crate) async fn payables(
    conn: &mut Db<'_>,
    side: &'static str,
    kinds: &'static str,
    span: Span,
) -> Result<BTreeMap<OrgId, Moved>, Failure> {
    let sql = format!(
        "SELECT a.reference AS owner, CAST(SUM(CASE WHEN f.posted_at < ?1 THEN f.amount ELSE 0 END) AS BIGINT) AS before_it, \
         CAST(SUM(CASE WHEN f.posted_at >= ?1 THEN f.amount ELSE 0 END) AS BIGINT) AS within_it \
         FROM transfer f JOIN account a ON a.id = f.{side}_id WHERE a.code = 5 AND f.kind IN ({kinds}) AND f.posted_at < ?2 \
         GROUP BY a.reference"
    );
    let asking = query(sql).bind(seconds(span.from)).bind(seconds(span.to));
    moved(asking.fetch_all(conn).await?, "owner", OrgId)
}

/// Escrows that hold something, the oldest first.
pub(crate) async fn holds(conn: &mut Db<'_>, now: Timestamp) -> Result<Vec<HoldRow>, Failure> {
    let rows = query(
        "SELECT t.id, t.project, t.owner, t.node, t.issued_at, t.settle_by, t.phase, e.credits - e.debits AS held \
         FROM account e JOIN token t ON t.id = e.reference WHERE e.code = 4 AND e.credits > e.debits \
         ORDER BY t.issued_at, t.id LIMIT ?",
    )
    .bind(HOLDS_MAX)
    .fetch_all(conn)
    .await?;
    let hold = |row| {
        let cells = Cells { table: "token", row };
        let (issued_at, settle_by) = (cells.time("issued_at")?, cells.time("settle_by")?);
        Ok(HoldRow {
            token: TokenId(cells.bytes("id")?),
            project: cells.bytes_maybe("project")?.map(ProjectId),
            owner: OrgId(cells.bytes("owner")?),
            node: NodeId(cells.bytes("node")?),
            held_ucr: cells.int("held")?,
            issued_at: issued_at.to_string(),
            settle_by: settle_by.to_string(),
            age_days: now.since(issued_at) / comity_wire::time::DAY_S,
            phase: match cells.int("phase")? {
                0 => "open",
                1 => "final",
                _ => "closed",
            }
            .to_owned(),
            overdue: now >= settle_by,
        })
    };
    rows.iter().map(hold).collect()
}
