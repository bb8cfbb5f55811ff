//! Disputes in SQL, and the credits that they hold.

use comity_ledger::db::{Db, Row, query};
use comity_ledger::{Group, LedgerTx, Store as _, Transfer, TransferId, TransferKind};
use comity_wire::{Amount, Digest, Timestamp, TokenId};

use super::tokens::TokenRow;
use super::{Cells, awards, money, seconds};
use crate::failure::Failure;
use crate::lots::give_back;

/// A dispute as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DisputeRow {
    pub(crate) id: Digest,
    pub(crate) token: TokenId,
    pub(crate) cause: String,
    pub(crate) evidence: Digest,
    pub(crate) held: Amount,
    pub(crate) opened_at: Timestamp,
    /// 0 open, 1 upheld, 2 reversed.
    pub(crate) state: i64,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) act: Option<Digest>,
}

fn row(row: &Row) -> Result<DisputeRow, Failure> {
    let cells = Cells { table: "dispute", row };
    Ok(DisputeRow {
        id: cells.digest("id")?,
        token: TokenId(cells.bytes("token")?),
        cause: cells.text("cause")?,
        evidence: cells.digest("evidence")?,
        held: cells.amount("held")?,
        opened_at: cells.time("opened_at")?,
        state: cells.int("state")?,
        ended_at: cells.time_maybe("ended_at")?,
        act: cells.bytes_maybe("act")?.map(Digest),
    })
}

pub(crate) async fn find(conn: &mut Db<'_>, id: Digest) -> Result<Option<DisputeRow>, Failure> {
    let found = query("SELECT * FROM dispute WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    found.as_ref().map(row).transpose()
}

pub(crate) async fn open_of(conn: &mut Db<'_>, token: TokenId) -> Result<Option<DisputeRow>, Failure> {
    let sql = "SELECT * FROM dispute WHERE token = ? AND state = 0";
    let found = query(sql).bind(token.0.to_vec()).fetch_optional(conn).await?;
    found.as_ref().map(row).transpose()
}

/// Open ones first, then the newest.
pub(crate) async fn all(conn: &mut Db<'_>, limit: u32) -> Result<Vec<DisputeRow>, Failure> {
    let rows =
        query("SELECT * FROM dispute ORDER BY CASE WHEN state = 0 THEN 0 ELSE 1 END, opened_at DESC, id LIMIT ?")
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
    rows.iter().map(row).collect()
}

/// Opens a dispute: what the owner was paid under the token and has not been paid out is set aside.
pub(crate) async fn open_in_tx(
    conn: &mut Db<'_>,
    token: &TokenRow,
    (id, cause, evidence): (Digest, &str, Digest),
    now: Timestamp,
) -> Result<Amount, Failure> {
    let (payable, hold) = (money::payable(token.owner), money::dispute_hold(token.id));
    let mut ledger = LedgerTx::new(conn);
    let earned = ledger.account_in_tx(payable.id).await?.map_or(Amount::ZERO, |account| account.available());
    let reversed = reversed(ledger.db(), token.id).await?;
    let held = token.paid.saturating_sub(reversed).saturating_sub(token.credited).min(earned);
    if !held.is_zero() {
        let mut ledger = LedgerTx::new(conn);
        money::open_in_tx(&mut ledger, &[payable, hold], now).await?;
        let transfer = Transfer {
            id: TransferId::near(TransferKind::Dispute, money::reference(token.id.0), &[id.as_bytes()]),
            kind: TransferKind::Dispute,
            debit: payable.id,
            credit: hold.id,
            amount: held,
            reference: money::reference(token.id.0),
            evidence,
        };
        money::post_in_tx(&mut ledger, Group::single(transfer), now).await?;
    }
    query("INSERT INTO dispute (id, token, cause, evidence, held, opened_at, state) VALUES (?, ?, ?, ?, ?, ?, 0)")
        .bind(id.0.to_vec())
        .bind(token.id.0.to_vec())
        .bind(cause)
        .bind(evidence.0.to_vec())
        .bind(held.ucr())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(held)
}

/// What earlier disputes took back under a token.
pub(super) async fn reversed(conn: &mut Db<'_>, token: TokenId) -> Result<Amount, Failure> {
    let row = query("SELECT CAST(COALESCE(SUM(held), 0) AS BIGINT) FROM dispute WHERE token = ? AND state = 2")
        .bind(token.0.to_vec())
        .fetch_one(conn)
        .await?;
    Amount::new(row.first()?).map_err(|_| Failure::Unreadable { table: "dispute", what: "held" })
}

/// Ends a dispute: what it holds goes back to the owner, or where it came from: the lots that the token was drawn on, and
/// suspense for what these did not pay.
pub(crate) async fn end_in_tx(
    conn: &mut Db<'_>,
    token: &TokenRow,
    dispute: &DisputeRow,
    upheld: bool,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let (about, hold) = (money::reference(token.id.0), money::dispute_hold(token.id));
    let transfer = |parts: &[&[u8]], credit, amount| Transfer {
        id: TransferId::near(TransferKind::DisputeEnd, about, parts),
        kind: TransferKind::DisputeEnd,
        debit: hold.id,
        credit,
        amount,
        reference: about,
        evidence: act,
    };
    let id = dispute.id.as_bytes();
    let mut transfers = Vec::new();
    let mut accounts = vec![hold];
    if dispute.held.is_zero() {
    } else if upheld {
        transfers.push(transfer(&[id], money::payable(token.owner).id, dispute.held));
    } else {
        let mut draws = awards::draws(conn, token.id).await?;
        let (home, left) = give_back(&mut draws, dispute.held);
        for (lot, part) in home {
            accounts.push(money::allocation(lot));
            transfers.push(transfer(&[id, lot.as_bytes()], money::allocation(lot).id, part));
        }
        if !left.is_zero() {
            accounts.push(money::suspense());
            transfers.push(transfer(&[id, b"suspense"], money::suspense().id, left));
        }
        for draw in &draws {
            awards::draw_returned_in_tx(conn, token.id, draw).await?;
        }
    }
    if !transfers.is_empty() {
        let mut ledger = LedgerTx::new(conn);
        money::open_in_tx(&mut ledger, &accounts, now).await?;
        money::post_in_tx(&mut ledger, Group(transfers), now).await?;
    }
    query("UPDATE dispute SET state = ?, ended_at = ?, act = ? WHERE id = ?")
        .bind(if upheld { 1 } else { 2 })
        .bind(seconds(now))
        .bind(act.0.to_vec())
        .bind(dispute.id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes down whether anything is paid under a token: nothing is while a dispute is open.
pub(crate) async fn freeze_in_tx(conn: &mut Db<'_>, token: TokenId) -> Result<(), Failure> {
    let number = if open_of(conn, token).await?.is_some() { 2 } else { 0 };
    query("UPDATE token SET frozen = ? WHERE id = ?").bind(number).bind(token.0.to_vec()).execute(conn).await?;
    Ok(())
}
