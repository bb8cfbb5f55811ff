//! Awards, their lots, and what tokens drew on them.

use std::collections::BTreeMap;

use comity_ledger::db::{Db, Row, query};
use comity_ledger::{AccountCode, values};
use comity_wire::{Amount, AwardId, LotId, Op, OrgId, ProjectId, Timestamp, TokenId};

use super::{Cells, int, json, seconds};
use crate::audit::code;
use crate::failure::Failure;
use crate::lots::{Draw, FundKind, Lot};

/// An award and its terms, which hold for each of its lots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Award {
    pub(crate) id: AwardId,
    pub(crate) project: ProjectId,
    /// Over all lots, supplements included.
    pub(crate) amount: Amount,
    pub(crate) funder: String,
    pub(crate) award_number: String,
    pub(crate) listing: String,
    pub(crate) kind: FundKind,
    pub(crate) starts_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    pub(crate) owners: Vec<OrgId>,
    pub(crate) ops: Vec<Op>,
    pub(crate) forfeits: bool,
    pub(crate) frozen: bool,
}

/// A lot as it is written down; what lies in its accounts is the ledger's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LotRow {
    pub(crate) id: LotId,
    pub(crate) project: ProjectId,
    pub(crate) award: AwardId,
    pub(crate) part: String,
    pub(crate) amount: Amount,
    pub(crate) opens_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    pub(crate) released_at: Option<Timestamp>,
    pub(crate) report: String,
    pub(crate) origin: Option<LotId>,
    pub(crate) expiries: u64,
}

pub(crate) async fn award_insert_in_tx(conn: &mut Db<'_>, award: &Award, now: Timestamp) -> Result<(), Failure> {
    query(
        "INSERT INTO award (id, project, amount, funder, award_number, listing, kind, starts_at, ends_at, owners, ops, \
         forfeits, awarded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(award.id.0.to_vec())
    .bind(award.project.0.to_vec())
    .bind(award.amount.ucr())
    .bind(&award.funder)
    .bind(&award.award_number)
    .bind(&award.listing)
    .bind(i64::from(award.kind as u8))
    .bind(seconds(award.starts_at))
    .bind(seconds(award.ends_at))
    .bind(json(&award.owners))
    .bind(json(&award.ops))
    .bind(i64::from(award.forfeits))
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

fn award(row: &Row) -> Result<Award, Failure> {
    let cells = Cells { table: "award", row };
    Ok(Award {
        id: AwardId(cells.bytes("id")?),
        project: ProjectId(cells.bytes("project")?),
        amount: cells.amount("amount")?,
        funder: cells.text("funder")?,
        award_number: cells.text("award_number")?,
        listing: cells.text("listing")?,
        kind: FundKind::from_number(cells.uint("kind")?).ok_or_else(|| cells.unreadable("kind"))?,
        starts_at: cells.time("starts_at")?,
        ends_at: cells.time("ends_at")?,
        owners: cells.json("owners")?,
        ops: cells.json("ops")?,
        forfeits: cells.int("forfeits")? == 1,
        frozen: cells.int("frozen")? == 1,
    })
}

pub(crate) async fn award_find(conn: &mut Db<'_>, id: AwardId) -> Result<Option<Award>, Failure> {
    let row = query("SELECT * FROM award WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.as_ref().map(award).transpose()
}

/// The awards that were given to a project, or that one of its lots was moved out of.
pub(crate) async fn awards(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<Award>, Failure> {
    let rows = query(
        "SELECT * FROM award WHERE project = ?1 OR id IN (SELECT award FROM lot WHERE project = ?1) ORDER BY awarded_at, id",
    )
    .bind(project.0.to_vec())
    .fetch_all(conn)
    .await?;
    rows.iter().map(award).collect()
}

/// The award has grown by a supplement, or its end has moved.
pub(crate) async fn award_put_in_tx(conn: &mut Db<'_>, award: &Award) -> Result<(), Failure> {
    query("UPDATE award SET amount = ?, ends_at = ?, frozen = ? WHERE id = ?")
        .bind(award.amount.ucr())
        .bind(seconds(award.ends_at))
        .bind(i64::from(award.frozen))
        .bind(award.id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn lot_insert_in_tx(conn: &mut Db<'_>, lot: &LotRow) -> Result<(), Failure> {
    query(
        "INSERT INTO lot (id, project, award, part, amount, opens_at, ends_at, released_at, report, origin) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(lot.id.0.to_vec())
    .bind(lot.project.0.to_vec())
    .bind(lot.award.0.to_vec())
    .bind(&lot.part)
    .bind(lot.amount.ucr())
    .bind(seconds(lot.opens_at))
    .bind(seconds(lot.ends_at))
    .bind(lot.released_at.map(seconds))
    .bind(&lot.report)
    .bind(lot.origin.map(|lot| lot.0.to_vec()))
    .execute(conn)
    .await?;
    Ok(())
}

/// What of a lot may change: its end, its release, how often it expired.
pub(crate) async fn lot_put_in_tx(conn: &mut Db<'_>, lot: &LotRow) -> Result<(), Failure> {
    query("UPDATE lot SET ends_at = ?, released_at = ?, report = ?, expiries = ? WHERE id = ?")
        .bind(seconds(lot.ends_at))
        .bind(lot.released_at.map(seconds))
        .bind(&lot.report)
        .bind(int(lot.expiries))
        .bind(lot.id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

fn lot_row(row: &Row) -> Result<LotRow, Failure> {
    let cells = Cells { table: "lot", row };
    Ok(LotRow {
        id: LotId(cells.bytes("id")?),
        project: ProjectId(cells.bytes("project")?),
        award: AwardId(cells.bytes("award")?),
        part: cells.text("part")?,
        amount: cells.amount("amount")?,
        opens_at: cells.time("opens_at")?,
        ends_at: cells.time("ends_at")?,
        released_at: cells.time_maybe("released_at")?,
        report: cells.text("report")?,
        origin: cells.bytes_maybe("origin")?.map(LotId),
        expiries: cells.uint("expiries")?,
    })
}

pub(crate) async fn lot_find(conn: &mut Db<'_>, id: LotId) -> Result<Option<LotRow>, Failure> {
    let row = query("SELECT * FROM lot WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.as_ref().map(lot_row).transpose()
}

pub(crate) async fn lots_of_award(conn: &mut Db<'_>, award: AwardId) -> Result<Vec<LotRow>, Failure> {
    let rows =
        query("SELECT * FROM lot WHERE award = ? ORDER BY opens_at, id").bind(award.0.to_vec()).fetch_all(conn).await?;
    rows.iter().map(lot_row).collect()
}

pub(crate) async fn lots_of_project(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<LotRow>, Failure> {
    let rows = query("SELECT * FROM lot WHERE project = ? ORDER BY opens_at, id")
        .bind(project.0.to_vec())
        .fetch_all(conn)
        .await?;
    rows.iter().map(lot_row).collect()
}

/// Everything that reservations of these projects may draw on, with its balance.
pub(crate) async fn lots_to_draw(
    conn: &mut Db<'_>,
    projects: &[ProjectId],
) -> Result<BTreeMap<ProjectId, Vec<Lot>>, Failure> {
    let mut lots: BTreeMap<ProjectId, BTreeMap<LotId, Lot>> = BTreeMap::new();
    let sql = format!(
        "SELECT l.id, l.project, l.award, l.opens_at, l.ends_at, l.released_at, a.award_number, a.owners, a.ops, \
         CAST(CASE WHEN a.frozen = 1 OR p.frozen = 1 THEN 1 ELSE 0 END AS BIGINT) AS frozen, \
         COALESCE(c.credits - c.debits, 0) AS balance FROM lot l JOIN award a ON a.id = l.award \
         JOIN project p ON p.id = l.project LEFT JOIN account c ON c.reference = l.id AND c.code = {} \
         WHERE l.project {{any}}",
        code(AccountCode::Allocation),
    );
    let asking = query(sql).each(projects.iter().map(|project| values![project.0]));
    for row in asking.repeatable().fetch_all(conn).await? {
        let cells = Cells { table: "lot", row: &row };
        let lot = Lot {
            id: LotId(cells.bytes("id")?),
            project: ProjectId(cells.bytes("project")?),
            award: AwardId(cells.bytes("award")?),
            award_number: cells.text("award_number")?,
            opens_at: cells.time("opens_at")?,
            ends_at: cells.time("ends_at")?,
            released: cells.time_maybe("released_at")?.is_some(),
            frozen: cells.int("frozen")? == 1,
            owners: cells.json("owners")?,
            ops: cells.json("ops")?,
            balance: cells.amount("balance")?,
        };
        lots.entry(lot.project).or_default().insert(lot.id, lot);
    }
    Ok(lots.into_iter().map(|(project, lots)| (project, lots.into_values().collect())).collect())
}

/// Lots whose time is over and that still hold something which then expires, in the order of their ends, at most `limit`.
pub(crate) async fn lots_to_expire(conn: &mut Db<'_>, now: Timestamp, limit: u32) -> Result<Vec<LotId>, Failure> {
    let rows = query(
        "SELECT l.id FROM lot l JOIN award a ON a.id = l.award \
         WHERE l.ends_at <= ?1 AND a.forfeits = 1 AND EXISTS (SELECT 1 FROM account c WHERE c.reference = l.id AND \
         c.code IN (2, 3) AND c.credits > c.debits) ORDER BY l.ends_at, l.id LIMIT ?2",
    )
    .bind(seconds(now))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(LotId(Cells { table: "lot", row }.bytes("id")?))).collect()
}

/// Writes down what new tokens drew.
pub(crate) async fn draws_insert_in_tx(conn: &mut Db<'_>, drawn: &[(TokenId, Vec<Draw>)]) -> Result<(), Failure> {
    let rows = drawn.iter().flat_map(|(token, draws)| {
        (0_i64..).zip(draws).map(|(place, draw)| values![token.0, draw.lot.0, place, draw.amount.ucr()])
    });
    query("INSERT INTO draw (token, lot, place, amount) {rows}").each(rows).execute(conn).await?;
    Ok(())
}

fn draw(row: &Row) -> Result<Draw, Failure> {
    let cells = Cells { table: "draw", row };
    Ok(Draw { lot: LotId(cells.bytes("lot")?), amount: cells.amount("amount")?, returned: cells.amount("returned")? })
}

/// What a token drew, in the order in which charges fall on it.
pub(crate) async fn draws(conn: &mut Db<'_>, token: TokenId) -> Result<Vec<Draw>, Failure> {
    let rows =
        query("SELECT * FROM draw WHERE token = ? ORDER BY place").bind(token.0.to_vec()).fetch_all(conn).await?;
    rows.iter().map(draw).collect()
}

/// What the tokens of a project drew.
pub(crate) async fn draws_of_project(
    conn: &mut Db<'_>,
    project: ProjectId,
) -> Result<BTreeMap<TokenId, Vec<Draw>>, Failure> {
    let rows =
        query("SELECT w.* FROM draw w JOIN token t ON t.id = w.token WHERE t.project = ? ORDER BY w.token, w.place")
            .bind(project.0.to_vec())
            .fetch_all(conn)
            .await?;
    let mut draws: BTreeMap<TokenId, Vec<Draw>> = BTreeMap::new();
    for row in &rows {
        let token = TokenId(Cells { table: "draw", row }.bytes("token")?);
        draws.entry(token).or_default().push(draw(row)?);
    }
    Ok(draws)
}

/// Writes down what came home of a token's draws.
pub(crate) async fn draw_returned_in_tx(conn: &mut Db<'_>, token: TokenId, draw: &Draw) -> Result<(), Failure> {
    query("UPDATE draw SET returned = ? WHERE token = ? AND lot = ?")
        .bind(draw.returned.ucr())
        .bind(token.0.to_vec())
        .bind(draw.lot.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}
