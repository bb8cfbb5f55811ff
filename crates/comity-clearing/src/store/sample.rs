//! What the tables have about one settlement.

use comity_ledger::db::{Db, query};
use comity_ledger::{LedgerTx, Posted, Store as _, TransferId};
use comity_wire::api::clearing::SignedBytes;
use comity_wire::{Amount, Digest, LotId, NodeId, ProjectId, Timestamp, TokenId};

use super::{Cells, int, seconds};
use crate::acts::ActRecord;
use crate::failure::Failure;
use crate::log::trail::{LineView, PaidOutView};
use crate::store::acts::act_find;

/// Acts that one report shows.
const ACTS_MAX: usize = 256;
/// Lines of payments that one report shows.
const PAID_OUT_MAX: i64 = 1_000;
/// Quotes that one report shows.
const QUOTES_MAX: i64 = 16;

/// The transfers of a kind that are about something, oldest first. In a snapshot.
pub(crate) async fn transfers_about(conn: &mut Db<'_>, reference: [u8; 16], kind: u16) -> Result<Vec<Posted>, Failure> {
    let rows = query("SELECT id FROM transfer WHERE reference = ? AND kind = ? ORDER BY seq")
        .bind(reference.to_vec())
        .bind(i64::from(kind))
        .fetch_all(conn)
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = TransferId(Cells { table: "transfer", row }.bytes("id")?);
        let posted = LedgerTx::new(conn).transfer_in_tx(id).await?;
        found.push(posted.ok_or(Failure::Unreadable { table: "transfer", what: "a row that was there" })?);
    }
    Ok(found)
}

/// Paid under a token before the transfer at `seq`.
pub(crate) async fn settled_before(conn: &mut Db<'_>, token: TokenId, seq: u64) -> Result<Amount, Failure> {
    let row = query(
        "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) AS settled FROM transfer WHERE reference = ? AND kind IN (4, 6) AND seq < ?",
    )
    .bind(token.0.to_vec())
    .bind(int(seq))
    .fetch_one(conn)
    .await?;
    Cells { table: "transfer", row: &row }.amount("settled")
}

/// What a settlement was for, lane by lane, and what was paid for each lane before it.
pub(crate) async fn lines(conn: &mut Db<'_>, settlement: TransferId, seq: u64) -> Result<Vec<LineView>, Failure> {
    let rows = query(
        "SELECT n.leaf, n.lane, n.amount, (SELECT CAST(COALESCE(SUM(o.amount), 0) AS BIGINT) FROM line o \
         JOIN transfer f ON f.id = o.transfer WHERE o.token = n.token AND o.leaf = n.leaf AND o.lane = n.lane AND f.seq < ?) \
         AS paid_before FROM line n WHERE n.transfer = ? ORDER BY n.leaf, n.lane",
    )
    .bind(int(seq))
    .bind(settlement.0.to_vec())
    .fetch_all(conn)
    .await?;
    let line = |row| {
        let cells = Cells { table: "line", row };
        let lane = u16::try_from(cells.uint("lane")?).map_err(|_| cells.unreadable("lane"))?;
        Ok(LineView {
            leaf: cells.digest("leaf")?,
            lane,
            amount: cells.amount("amount")?,
            before: cells.amount("paid_before")?,
        })
    };
    rows.iter().map(line).collect()
}

/// Ids of the acts that brought credits into these lots.
pub(crate) async fn acts_of_lots(conn: &mut Db<'_>, lots: &[LotId]) -> Result<Vec<Digest>, Failure> {
    let mut ids: Vec<Digest> = Vec::new();
    for lot in lots {
        let rows = query(
            "SELECT DISTINCT f.evidence FROM transfer f JOIN account c ON c.id = f.credit_id \
             WHERE c.reference = ? AND c.code IN (2, 3) AND f.kind IN (1, 2, 13, 14)",
        )
        .bind(lot.0.to_vec())
        .fetch_all(conn)
        .await?;
        for row in &rows {
            ids.push(Cells { table: "transfer", row }.digest("evidence")?);
        }
    }
    Ok(ids)
}

/// What of a token's earnings was paid out, oldest first.
pub(crate) async fn paid_out(conn: &mut Db<'_>, token: TokenId) -> Result<Vec<PaidOutView>, Failure> {
    let rows = query(
        "SELECT p.transfer, p.run, p.paid_on, p.act, l.amount, l.terms FROM payout_line l JOIN payout p ON p.transfer = l.payout \
         WHERE l.token = ? ORDER BY p.made_at, p.transfer, l.place LIMIT ?",
    )
    .bind(token.0.to_vec())
    .bind(PAID_OUT_MAX)
    .fetch_all(conn)
    .await?;
    let line = |row| {
        let cells = Cells { table: "payout_line", row };
        Ok(PaidOutView {
            transfer: TransferId(cells.bytes("transfer")?).to_string(),
            run: cells.text("run")?,
            paid_on: cells.time("paid_on")?,
            amount_ucr: cells.int("amount")?,
            terms: cells.digest("terms")?,
            act: cells.digest("act")?,
        })
    };
    rows.iter().map(line).collect()
}

/// Acts by their ids, each once.
pub(crate) async fn acts(conn: &mut Db<'_>, mut ids: Vec<Digest>) -> Result<Vec<ActRecord>, Failure> {
    ids.sort_unstable();
    ids.dedup();
    let mut acts = Vec::new();
    for id in ids.into_iter().take(ACTS_MAX) {
        acts.extend(act_find(conn, id).await?);
    }
    Ok(acts)
}

/// Quotes for a project and a node that held at a moment.
pub(crate) async fn quotes_at(
    conn: &mut Db<'_>,
    project: ProjectId,
    node: NodeId,
    at: Timestamp,
) -> Result<Vec<SignedBytes>, Failure> {
    let rows = query(
        "SELECT bytes FROM quote WHERE project = ? AND node = ? AND expires_at >= ? ORDER BY expires_at, id LIMIT ?",
    )
    .bind(project.0.to_vec())
    .bind(node.0.to_vec())
    .bind(seconds(at))
    .bind(QUOTES_MAX)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| signed(Cells { table: "quote", row })).collect()
}

pub(crate) async fn tariff_find(conn: &mut Db<'_>, id: Digest) -> Result<Option<SignedBytes>, Failure> {
    let row = query("SELECT bytes FROM tariff WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.map(|row| signed(Cells { table: "tariff", row: &row })).transpose()
}

fn signed(cells: Cells<'_>) -> Result<SignedBytes, Failure> {
    SignedBytes::new(cells.blob("bytes")?).map_err(|_| cells.unreadable("bytes"))
}
