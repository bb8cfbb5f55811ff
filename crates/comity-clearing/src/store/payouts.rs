//! Payments to owners in SQL: each with the tokens whose earnings it was for.

use comity_ledger::TransferId;
use comity_ledger::db::{Db, Row, query};
use comity_ledger::values;
use comity_wire::{Amount, Digest, OrgId, ProjectId, Timestamp, TokenId};

use super::{Cells, seconds};
use crate::failure::Failure;
use crate::lots::FundKind;
use crate::owners::Portions;

/// A payment as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payout {
    pub(crate) transfer: TransferId,
    pub(crate) owner: OrgId,
    pub(crate) run: String,
    pub(crate) paid_on: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) amount: Amount,
    pub(crate) held: Amount,
    pub(crate) act: Digest,
    pub(crate) made_at: Timestamp,
}

/// A part of a payment: what of a token's earnings, from `begins` on, it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) token: TokenId,
    pub(crate) terms: Digest,
    pub(crate) begins: i64,
    pub(crate) amount: i64,
}

pub(crate) async fn insert_in_tx(conn: &mut Db<'_>, payout: &Payout, lines: &[Line]) -> Result<(), Failure> {
    query(
        "INSERT INTO payout (transfer, owner, run, paid_on, until_at, amount, held, act, made_at, lined) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
    )
    .bind(payout.transfer.0.to_vec())
    .bind(payout.owner.0.to_vec())
    .bind(&payout.run)
    .bind(seconds(payout.paid_on))
    .bind(seconds(payout.until))
    .bind(payout.amount.ucr())
    .bind(payout.held.ucr())
    .bind(payout.act.0.to_vec())
    .bind(seconds(payout.made_at))
    .execute(conn)
    .await?;
    let rows = (0_i64..).zip(lines).map(|(place, line)| {
        values![payout.transfer.0, place, payout.owner.0, line.token.0, line.terms.0, line.begins, line.amount]
    });
    query("INSERT INTO payout_line (payout, place, owner, token, terms, begins, amount) {rows}")
        .each(rows)
        .execute(conn)
        .await?;
    Ok(())
}

/// What an owner was paid of each token before a moment, by the terms that paid it; and what it was paid before payments
/// had lines.
pub(crate) async fn paid(conn: &mut Db<'_>, owner: OrgId, until: Timestamp) -> Result<(Portions, i64), Failure> {
    let rows = query(
        "SELECT l.token, l.terms, CAST(SUM(l.amount) AS BIGINT) AS amount FROM payout_line l \
         JOIN payout p ON p.transfer = l.payout WHERE l.owner = ? AND p.made_at < ? GROUP BY l.token, l.terms",
    )
    .bind(owner.0.to_vec())
    .bind(seconds(until))
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "payout_line", row };
        Ok(((TokenId(cells.bytes("token")?), cells.digest("terms")?), cells.int("amount")?))
    };
    let portions = rows.iter().map(one).collect::<Result<_, Failure>>()?;
    let unlined = query(
        "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM payout WHERE owner = ? AND made_at < ? AND lined = 0",
    )
    .bind(owner.0.to_vec())
    .bind(seconds(until))
    .fetch_one(conn)
    .await?;
    Ok((portions, unlined.first()?))
}

/// The payments of a run, or the one that was recorded under this name.
pub(crate) async fn of_run(conn: &mut Db<'_>, run: &str, limit: u32) -> Result<Vec<Payout>, Failure> {
    let sql = "SELECT * FROM payout WHERE run = ? AND lined = 1 ORDER BY owner LIMIT ?";
    let rows = query(sql).bind(run).bind(i64::from(limit)).fetch_all(conn).await?;
    let payout = |row: &Row| {
        let cells = Cells { table: "payout", row };
        Ok(Payout {
            transfer: TransferId(cells.bytes("transfer")?),
            owner: OrgId(cells.bytes("owner")?),
            run: cells.text("run")?,
            paid_on: cells.time("paid_on")?,
            until: cells.time("until_at")?,
            amount: cells.amount("amount")?,
            held: cells.amount("held")?,
            act: cells.digest("act")?,
            made_at: cells.time("made_at")?,
        })
    };
    rows.iter().map(payout).collect()
}

/// A line, who paid the token, and what was drawn for it.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    pub(crate) line: Line,
    pub(crate) project: Option<ProjectId>,
    /// Award and amount, in the order in which charges fall on them.
    pub(crate) drawn: Vec<(Source, i64)>,
}

/// Whose credits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) fund: FundKind,
    pub(crate) funder: String,
    pub(crate) award_number: String,
    pub(crate) listing: String,
}

/// The lines of a payment in their order.
pub(crate) async fn traced(conn: &mut Db<'_>, payout: TransferId) -> Result<Vec<Traced>, Failure> {
    let rows = query(
        "SELECT l.place, l.token, l.terms, l.begins, l.amount, t.project, w.amount AS drawn, \
         a.kind AS fund, a.funder, a.award_number, a.listing FROM payout_line l JOIN token t ON t.id = l.token \
         LEFT JOIN draw w ON w.token = l.token LEFT JOIN lot o ON o.id = w.lot LEFT JOIN award a ON a.id = o.award \
         WHERE l.payout = ? ORDER BY l.place, w.place",
    )
    .bind(payout.0.to_vec())
    .fetch_all(conn)
    .await?;
    let mut lines: Vec<Traced> = Vec::new();
    let mut place = None;
    for row in &rows {
        let cells = Cells { table: "payout_line", row };
        let at = cells.int("place")?;
        if place != Some(at) {
            place = Some(at);
            let line = Line {
                token: TokenId(cells.bytes("token")?),
                terms: cells.digest("terms")?,
                begins: cells.int("begins")?,
                amount: cells.int("amount")?,
            };
            lines.push(Traced { line, project: cells.bytes_maybe("project")?.map(ProjectId), drawn: Vec::new() });
        }
        // A token that the house learnt of from a claim was drawn on nothing.
        let Some(drawn) = row.int_maybe("drawn")? else { continue };
        let source = Source {
            fund: FundKind::from_number(cells.uint("fund")?).ok_or_else(|| cells.unreadable("fund"))?,
            funder: cells.text("funder")?,
            award_number: cells.text("award_number")?,
            listing: cells.text("listing")?,
        };
        lines.last_mut().expect("a line was begun").drawn.push((source, drawn));
    }
    Ok(lines)
}
