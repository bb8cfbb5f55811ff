//! The settlement core's escrows in SQL: loaded, and put back with what moved, in one transaction with the ledger.

use std::collections::BTreeMap;

use comity_ledger::db::{Db, Row, query};
use comity_ledger::{Group, LedgerTx, NewAccount, Store as _, Transfer, TransferId, TransferKind, values};
use comity_wire::{Amount, Digest, LotId, Timestamp, TokenId};

use super::awards;
use super::money;
use super::tokens::TokenRow;
use super::{Cells, int, json, seconds};
use crate::failure::Failure;
use crate::lots::{Draw, give_back};
use crate::service::Contradiction;
use crate::settlement::{Escrow, Exception, Head, Lane, LaneKey, Movement, MovementKind, Output, Phase, Refused};

/// Loads the escrow of a token. `content` is the content id of the token's signed form.
pub(crate) async fn escrow_in_tx(conn: &mut Db<'_>, row: &TokenRow, content: Digest) -> Result<Escrow, Failure> {
    let account = money::escrow_of(conn, row.id).await?;
    let held = LedgerTx::new(conn).account_in_tx(account.id).await?;
    let phase = match (row.phase, row.final_) {
        (0, _) => Phase::Open,
        (1, Some(id)) => Phase::Final(id),
        (2, _) => Phase::Closed,
        _ => return Err(Failure::Unreadable { table: "token", what: "phase" }),
    };
    Ok(Escrow {
        token: row.id,
        content,
        node: row.node,
        owner: row.owner,
        budget: row.budget,
        window: row.window,
        lanes_max: row.lanes_max,
        issued_at: row.issued_at,
        settle_by: row.settle_by,
        phase,
        is_disputed: row.is_disputed,
        held: held.map_or(Amount::ZERO, |account| account.available()),
        paid: row.paid,
        refunded: row.refunded,
        clamped: row.clamped,
        late: row.late,
        movements: row.movements,
        lanes: lanes(conn, row.id).await?,
        heads: heads(conn, row.id).await?,
    })
}

/// Puts an output into the books: transfers, their lines, lanes, heads, exceptions, the token's sums.
pub(crate) async fn output_apply_in_tx(
    conn: &mut Db<'_>,
    row: &TokenRow,
    before: &Escrow,
    output: &Output,
    evidence: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let after = &output.after;
    // Lanes first: the lines of a transfer refer to them.
    let lanes: Vec<_> = after.lanes.iter().filter(|(key, lane)| before.lanes.get(key) != Some(lane)).collect();
    lanes_put_in_tx(conn, row.id, &lanes).await?;
    let heads: Vec<_> = after.heads.iter().filter(|(key, _)| !before.heads.contains_key(key)).collect();
    heads_put_in_tx(conn, row.id, &heads).await?;
    let escrow = money::escrow_of(conn, row.id).await?;
    movements_post_in_tx(conn, row, escrow, &output.movements, now).await?;
    for exception in &output.exceptions {
        exception_insert_in_tx(conn, row.id, exception, evidence, now).await?;
    }
    token_put_in_tx(conn, after, output.unacknowledged).await?;
    // Read back: what the core thinks is held is what the ledger holds.
    let held = LedgerTx::new(conn).account_in_tx(escrow.id).await?;
    let held = held.map_or(Amount::ZERO, |account| account.available());
    if held == after.held {
        Ok(())
    } else {
        Err(Failure::Books { what: format!("escrow of {} holds {held}, settlement says {}", row.id, after.held) })
    }
}

const fn kind(kind: MovementKind) -> TransferKind {
    match kind {
        MovementKind::Settle => TransferKind::Settle,
        MovementKind::Suspense => TransferKind::SuspenseSettle,
        MovementKind::Refund => TransferKind::Refund,
    }
}

async fn movements_post_in_tx(
    conn: &mut Db<'_>,
    row: &TokenRow,
    escrow: NewAccount,
    movements: &[Movement],
    now: Timestamp,
) -> Result<(), Failure> {
    if movements.is_empty() {
        return Ok(());
    }
    let mut home = Home::of(conn, row, movements).await?;
    let mut ledger = LedgerTx::new(conn);
    let mut accounts = vec![money::payable(row.owner), money::suspense()];
    accounts.extend(home.draws.iter().map(|draw| money::allocation(draw.lot)));
    money::open_in_tx(&mut ledger, &accounts, now).await?;
    let mut transfers = Vec::with_capacity(movements.len());
    let mut lines = Vec::new();
    for movement in movements {
        let (token, serial) = (money::reference(row.id.0), movement.serial.to_be_bytes());
        let id = TransferId::near(kind(movement.kind), token, &[&serial]);
        let transfer = |id, debit: NewAccount, credit: NewAccount, amount| Transfer {
            id,
            kind: kind(movement.kind),
            debit: debit.id,
            credit: credit.id,
            amount,
            reference: token,
            evidence: movement.evidence,
        };
        let payable = money::payable(row.owner);
        match movement.kind {
            MovementKind::Settle => transfers.push(transfer(id, escrow, payable, movement.amount)),
            MovementKind::Suspense => transfers.push(transfer(id, money::suspense(), payable, movement.amount)),
            MovementKind::Refund => {
                for (lot, part) in home.send(movement.amount)? {
                    let id = TransferId::near(TransferKind::Refund, token, &[&serial, lot.as_bytes()]);
                    transfers.push(transfer(id, escrow, money::allocation(lot), part));
                }
            }
        }
        lines.extend(movement.lines.iter().map(|(key, amount)| (id, *key, *amount)));
    }
    money::post_in_tx(&mut ledger, Group(transfers), now).await?;
    lines_insert_in_tx(conn, row.id, &lines).await?;
    home.put_in_tx(conn).await
}

/// Where refunds of a token go: to the lots that it was drawn from.
struct Home {
    token: TokenId,
    draws: Vec<Draw>,
    before: Vec<Draw>,
}

impl Home {
    async fn of(conn: &mut Db<'_>, row: &TokenRow, movements: &[Movement]) -> Result<Self, Failure> {
        let refunds = movements.iter().any(|movement| movement.kind == MovementKind::Refund);
        let draws = if refunds { awards::draws(conn, row.id).await? } else { Vec::new() };
        Ok(Self { token: row.id, before: draws.clone(), draws })
    }

    fn send(&mut self, amount: Amount) -> Result<Vec<(LotId, Amount)>, Failure> {
        let (home, left) = give_back(&mut self.draws, amount);
        if left.is_zero() {
            Ok(home)
        } else {
            Err(Failure::Books { what: format!("{left} of {} came from no lot", self.token) })
        }
    }

    async fn put_in_tx(&self, conn: &mut Db<'_>) -> Result<(), Failure> {
        for draw in self.draws.iter().zip(&self.before).filter(|(now, before)| now != before).map(|(now, _)| now) {
            awards::draw_returned_in_tx(conn, self.token, draw).await?;
        }
        Ok(())
    }
}

async fn lines_insert_in_tx(
    conn: &mut Db<'_>,
    token: TokenId,
    lines: &[(TransferId, LaneKey, Amount)],
) -> Result<(), Failure> {
    let rows = lines
        .iter()
        .map(|(transfer, key, amount)| values![transfer.0, token.0, key.leaf.0, i64::from(key.lane), amount.ucr()]);
    query("INSERT INTO line (transfer, token, leaf, lane, amount) {rows}").each(rows).execute(conn).await?;
    Ok(())
}

fn key(cells: Cells<'_>) -> Result<LaneKey, Failure> {
    let lane = u16::try_from(cells.uint("lane")?).map_err(|_| cells.unreadable("lane"))?;
    Ok(LaneKey { leaf: cells.digest("leaf")?, lane })
}

pub(crate) async fn lanes(conn: &mut Db<'_>, token: TokenId) -> Result<BTreeMap<LaneKey, Lane>, Failure> {
    let rows = query("SELECT * FROM lane WHERE token = ?").bind(token.0.to_vec()).fetch_all(conn).await?;
    let lane = |row: &Row| {
        let cells = Cells { table: "lane", row };
        let lane = Lane {
            path: cells.json("path")?,
            n: cells.uint("n")?,
            total: cells.amount("total")?,
            receipt: cells.digest("receipt")?,
            history: cells.digest("history")?,
            claim: cells.bytes_maybe("claim")?.map_or(Digest::ZERO, Digest),
            acknowledged: cells.amount("acknowledged")?,
            acknowledged_n: cells.uint("acknowledged_n")?,
            proven: cells.amount("proven")?,
            stopped: cells.amount_maybe("stopped")?,
            paid: cells.amount("paid")?,
            tails: cells.json("tails")?,
        };
        Ok((key(cells)?, lane))
    };
    rows.iter().map(lane).collect()
}

async fn heads(conn: &mut Db<'_>, token: TokenId) -> Result<BTreeMap<LaneKey, Head>, Failure> {
    let rows = query("SELECT * FROM head WHERE token = ?").bind(token.0.to_vec()).fetch_all(conn).await?;
    let head = |row: &Row| {
        let cells = Cells { table: "head", row };
        let head = Head { n: cells.uint("n")?, total: cells.amount("total")?, receipt: cells.digest("receipt")? };
        Ok((key(cells)?, head))
    };
    rows.iter().map(head).collect()
}

async fn lanes_put_in_tx(conn: &mut Db<'_>, token: TokenId, lanes: &[(&LaneKey, &Lane)]) -> Result<(), Failure> {
    let putting = query(
        "INSERT INTO lane (token, leaf, lane, path, n, total, receipt, history, claim, acknowledged, acknowledged_n, proven, \
         stopped, paid, tails) {rows} \
         ON CONFLICT (token, leaf, lane) DO UPDATE SET n = excluded.n, total = excluded.total, \
         receipt = excluded.receipt, history = excluded.history, claim = excluded.claim, acknowledged = excluded.acknowledged, \
         acknowledged_n = excluded.acknowledged_n, proven = excluded.proven, stopped = excluded.stopped, \
         paid = excluded.paid, tails = excluded.tails",
    );
    let rows = lanes.iter().map(|(key, lane)| {
        values![
            token.0,
            key.leaf.0,
            i64::from(key.lane),
            json(&lane.path),
            int(lane.n),
            lane.total.ucr(),
            lane.receipt.0,
            lane.history.0,
            (lane.claim != Digest::ZERO).then(|| lane.claim.0.to_vec()),
            lane.acknowledged.ucr(),
            int(lane.acknowledged_n),
            lane.proven.ucr(),
            lane.stopped.map(Amount::ucr),
            lane.paid.ucr(),
            json(&lane.tails),
        ]
    });
    putting.each(rows).execute(conn).await?;
    Ok(())
}

async fn heads_put_in_tx(conn: &mut Db<'_>, token: TokenId, heads: &[(&LaneKey, &Head)]) -> Result<(), Failure> {
    let rows = heads.iter().map(|(key, head)| {
        values![token.0, key.leaf.0, i64::from(key.lane), int(head.n), head.total.ucr(), head.receipt.0]
    });
    query("INSERT INTO head (token, leaf, lane, n, total, receipt) {rows}").each(rows).execute(conn).await?;
    Ok(())
}

async fn exception_insert_in_tx(
    conn: &mut Db<'_>,
    token: TokenId,
    exception: &Exception,
    evidence: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO exception (token, code, amount, message, evidence, at) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(token.0.to_vec())
        .bind(exception.code.as_str())
        .bind(exception.amount.ucr())
        .bind(&exception.message)
        .bind(evidence.0.to_vec())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

async fn token_put_in_tx(conn: &mut Db<'_>, after: &Escrow, waiting: Amount) -> Result<(), Failure> {
    let (phase, final_) = match after.phase {
        Phase::Open => (0_i64, None),
        Phase::Final(id) => (1, Some(id.0.to_vec())),
        Phase::Closed => (2, None),
    };
    query(
        "UPDATE token SET phase = ?, final = COALESCE(?, final), paid = ?, refunded = ?, clamped = ?, late = ?, waiting = ?, movements = ? \
         WHERE id = ?",
    )
    .bind(phase)
    .bind(final_)
    .bind(after.paid.ucr())
    .bind(after.refunded.ucr())
    .bind(after.clamped.ucr())
    .bind(after.late.ucr())
    .bind(waiting.ucr())
    .bind(int(after.movements))
    .bind(after.token.0.to_vec())
    .execute(conn)
    .await?;
    Ok(())
}

/// The reply that was given to this very claim.
pub(crate) async fn claim_reply<T: serde::de::DeserializeOwned>(
    conn: &mut Db<'_>,
    id: Digest,
) -> Result<Option<T>, Failure> {
    let row = query("SELECT reply FROM claim WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.map(|row| Cells { table: "claim", row: &row }.json("reply")).transpose()
}

pub(crate) async fn claim_insert_in_tx<T: serde::Serialize>(
    conn: &mut Db<'_>,
    id: Digest,
    (token, number): (TokenId, u64),
    bytes: &[u8],
    reply: &T,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO claim (id, token, number, bytes, reply, taken_at, drawn) VALUES (?, ?, ?, ?, ?, ?, 0)")
        .bind(id.0.to_vec())
        .bind(token.0.to_vec())
        .bind(int(number))
        .bind(bytes.to_vec())
        .bind(json(reply))
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn final_insert_in_tx(
    conn: &mut Db<'_>,
    id: Digest,
    token: TokenId,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO final (id, token, bytes, taken_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(id.0.to_vec())
        .bind(token.0.to_vec())
        .bind(bytes.to_vec())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// Contradictions kept for one token; the first prove as much as all, and a node could send them for ever.
pub(crate) const CONTRADICTIONS_MAX: u32 = 16;

/// Keeps a refused claim or final as evidence.
pub(crate) async fn contradiction_insert_in_tx(
    conn: &mut Db<'_>,
    id: Digest,
    token: TokenId,
    refused: &Refused,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO contradiction (id, token, code, message, bytes, taken_at) SELECT ?1, ?2, ?3, ?4, ?5, ?6 \
         WHERE (SELECT COUNT(*) FROM contradiction WHERE token = ?2) < ?7 ON CONFLICT DO NOTHING",
    )
    .bind(id.0.to_vec())
    .bind(token.0.to_vec())
    .bind(refused.code().as_str())
    .bind(refused.to_string())
    .bind(bytes.to_vec())
    .bind(seconds(now))
    .bind(i64::from(CONTRADICTIONS_MAX))
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest contradictions, at most `limit`.
pub(crate) async fn contradictions(conn: &mut Db<'_>, limit: u32) -> Result<Vec<Contradiction>, Failure> {
    let rows = query("SELECT id, token, code, message, taken_at FROM contradiction ORDER BY taken_at DESC, id LIMIT ?")
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "contradiction", row };
        Ok(Contradiction {
            id: cells.digest("id")?,
            token: TokenId(cells.bytes("token")?),
            code: cells.text("code")?,
            message: cells.text("message")?,
            taken_at: cells.time("taken_at")?,
        })
    };
    rows.iter().map(one).collect()
}
