//! Credit notes in SQL, and what each of them moves.

use comity_ledger::db::{Db, query};
use comity_ledger::{Group, LedgerTx, Store as _, Transfer, TransferId, TransferKind};
use comity_wire::object::CreditNote;
use comity_wire::{Amount, Digest, NodeId, OrgId, Signed, Timestamp, TokenId, Verified};
use futures::TryStreamExt as _;

use super::tokens::TokenRow;
use super::{Cells, awards, disputes, json, money, seconds};
use crate::failure::Failure;
use crate::settlement::credit::{Book, Booked, Kept, Other};

/// The note that a node brought under an id, and what it was answered.
pub(crate) async fn find<T: serde::de::DeserializeOwned>(
    conn: &mut Db<'_>,
    node: NodeId,
    id: comity_wire::CreditNoteId,
) -> Result<Option<(CreditNote, T)>, Failure> {
    let row = query("SELECT bytes, reply FROM credit_note WHERE node = ? AND note = ?")
        .bind(node.0.to_vec())
        .bind(id.0.to_vec())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let cells = Cells { table: "credit_note", row: &row };
    let signed = Signed::<CreditNote>::decode(&cells.blob("bytes")?).map_err(|_| cells.unreadable("bytes"))?;
    Ok(Some((signed.unverified().clone(), cells.json("reply")?)))
}

/// What the books have of a token for a credit note, where a window that began at `since` is just over.
pub(crate) async fn book_in_tx(conn: &mut Db<'_>, token: &TokenRow, since: Timestamp) -> Result<Book, Failure> {
    let sql = "SELECT (SELECT COUNT(*) FROM credit_note WHERE token = ?1) AS notes, waiting, \
               (SELECT CAST(COALESCE(SUM(l.amount), 0) AS BIGINT) FROM payout_line l WHERE l.owner = ?2 AND l.token = ?1) AS paid_out \
               FROM token WHERE id = ?1";
    let row = query(sql).bind(token.id.0.to_vec()).bind(token.owner.0.to_vec()).fetch_one(conn).await?;
    let cells = Cells { table: "credit_note", row: &row };
    let (notes, waiting, paid_out) = (cells.uint("notes")?, cells.amount("waiting")?, cells.amount("paid_out")?);
    let escrow = money::escrow_of(conn, token.id).await?;
    let mut balances = [Amount::ZERO; 2];
    for (balance, account) in balances.iter_mut().zip([escrow, money::payable(token.owner)]) {
        let account = LedgerTx::new(conn).account_in_tx(account.id).await?;
        *balance = account.map_or(Amount::ZERO, |account| account.available());
    }
    let [held, owed] = balances;
    Ok(Book {
        budget: token.budget,
        settled: token.paid,
        reversed: disputes::reversed(conn, token.id).await?,
        credited: token.credited,
        notes,
        held,
        paid_out,
        owed,
        kept: kept_in_tx(conn, (token.owner, Some(token.id)), since, |_| ()).await?,
        is_disputed: disputes::open_of(conn, token.id).await?.is_some(),
        is_open: token.phase < 2 || !waiting.is_zero(),
        settle_by: token.settle_by,
        draws: awards::draws(conn, token.id).await?,
    })
}

/// What is looked at of an owner's tokens for what disputes may ask for: by two indexes, each of that owner's alone. Which these are is for
/// speed; whether a token can still come into dispute is decided where the note or the payment is.
pub(crate) const DISPUTABLE: &str = "SELECT t.id, t.paid, t.credited, t.phase, t.waiting, t.undecided, t.final_at, \
     (SELECT CAST(COALESCE(SUM(d.held), 0) AS BIGINT) FROM dispute d WHERE d.token = t.id AND d.state <> 1) AS disputed, \
     (SELECT CAST(COALESCE(SUM(l.amount), 0) AS BIGINT) FROM payout_line l WHERE l.owner = t.owner AND l.token = t.id) AS paid_out \
     FROM (SELECT u.id FROM token u WHERE u.owner = ?1 AND u.paid > 0 AND (u.phase < 2 OR u.waiting > 0 OR u.undecided > 0) UNION \
     SELECT f.id FROM token f WHERE f.owner = ?1 AND f.final_at > ?2) w JOIN token t ON t.id = w.id WHERE t.paid > 0";

/// Goes through those of the owner's tokens, but for one, of which something may still come into dispute, where a window that began at
/// `since` is just over. What disputes may ask for in all.
pub(crate) async fn kept_in_tx(
    conn: &mut Db<'_>,
    (owner, but): (OrgId, Option<TokenId>),
    since: Timestamp,
    mut each: impl FnMut(TokenId) + Send,
) -> Result<Kept, Failure> {
    let looked_at = query(DISPUTABLE).bind(owner.0.to_vec()).bind(seconds(since));
    let (mut kept, mut rows) = (Kept::default(), looked_at.fetch(conn));
    while let Some(row) = rows.try_next().await? {
        let cells = Cells { table: "token", row: &row };
        let id = TokenId(cells.bytes("id")?);
        if but == Some(id) {
            continue;
        }
        let other = Other {
            settled: cells.amount("paid")?,
            gone: cells.amount("credited")?.saturating_add(cells.amount("disputed")?),
            paid_out: cells.amount("paid_out")?,
            is_closed: cells.int("phase")? == 2,
            waiting: cells.amount("waiting")?,
            is_undecided: cells.int("undecided")? != 0,
            final_at: cells.time_maybe("final_at")?,
        };
        if kept.add(&other, since) {
            each(id);
        }
    }
    Ok(kept)
}

/// Moves what was decided and keeps the note.
pub(crate) async fn booked_in_tx<T: serde::Serialize>(
    conn: &mut Db<'_>,
    token: &TokenRow,
    note: &Verified<CreditNote>,
    (before, booked): (&Book, &Booked),
    reply: &T,
    now: Timestamp,
) -> Result<(), Failure> {
    let (payable, about) = (money::payable(token.owner), money::reference(token.id.0));
    let transfer = |to: &[u8], credit, amount| Transfer {
        id: TransferId::near(TransferKind::CreditNote, about, &[note.node.as_bytes(), note.object().id.as_bytes(), to]),
        kind: TransferKind::CreditNote,
        debit: payable.id,
        credit,
        amount,
        reference: about,
        evidence: note.id(),
    };
    let (mut transfers, mut accounts) = (Vec::new(), vec![payable]);
    for (lot, part) in &booked.home {
        accounts.push(money::allocation(*lot));
        transfers.push(transfer(lot.as_bytes(), money::allocation(*lot).id, *part));
    }
    if !booked.to_suspense.is_zero() {
        accounts.push(money::suspense());
        transfers.push(transfer(b"suspense", money::suspense().id, booked.to_suspense));
    }
    let mut ledger = LedgerTx::new(conn);
    money::open_in_tx(&mut ledger, &accounts, now).await?;
    money::post_in_tx(&mut ledger, Group(transfers), now).await?;
    for (draw, _) in booked.draws.iter().zip(&before.draws).filter(|(after, before)| after != before) {
        awards::draw_returned_in_tx(conn, token.id, draw).await?;
    }
    query("INSERT INTO credit_note (id, note, node, token, amount, bytes, reply, taken_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(note.id().0.to_vec())
        .bind(note.object().id.0.to_vec())
        .bind(note.node.0.to_vec())
        .bind(token.id.0.to_vec())
        .bind(note.amount.ucr())
        .bind(note.bytes().to_vec())
        .bind(json(reply))
        .bind(seconds(now))
        .execute(conn)
        .await?;
    query("UPDATE token SET credited = credited + ? WHERE id = ?")
        .bind(note.amount.ucr())
        .bind(token.id.0.to_vec())
        .execute(conn)
        .await?;
    read_back(conn, token, note.id(), (before, note.amount)).await
}

/// Read back: the owner has so much less, and what the token's notes gave back is what was settled at most.
async fn read_back(
    conn: &mut Db<'_>,
    token: &TokenRow,
    evidence: Digest,
    (before, amount): (&Book, Amount),
) -> Result<(), Failure> {
    let payable = money::payable(token.owner);
    let owed = LedgerTx::new(conn).account_in_tx(payable.id).await?;
    let owed = owed.map_or(Amount::ZERO, |account| account.available());
    let row = query(
        "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) AS credited, \
         CAST(COALESCE(SUM(CASE WHEN evidence = ? THEN amount ELSE 0 END), 0) AS BIGINT) AS moved \
         FROM transfer WHERE reference = ? AND kind = 15",
    )
    .bind(evidence.0.to_vec())
    .bind(token.id.0.to_vec())
    .fetch_one(conn)
    .await?;
    let cells = Cells { table: "transfer", row: &row };
    let (credited, moved) = (cells.amount("credited")?, cells.amount("moved")?);
    let most = before.settled.saturating_sub(before.reversed);
    let is_so = owed.checked_add(amount) == Some(before.owed)
        && before.credited.checked_add(amount) == Some(credited)
        && moved == amount
        && credited <= most;
    if is_so {
        Ok(())
    } else {
        Err(Failure::Books {
            what: format!("note {evidence} over {amount} moved {moved}; {owed} owed, {credited} of {most} given back"),
        })
    }
}
