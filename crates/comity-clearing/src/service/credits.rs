//! Credit notes: an owner gives back of what it earned under a token (spec/07-settlement.md §11).

use comity_ledger::Db;
use comity_wire::api::credit::CreditNoteReply;
use comity_wire::object::CreditNote;
use comity_wire::{Amount, OrgId, PublicKey, Signed, Timestamp, Unverified, Verified};

use super::Clearing;
use super::nodes::Known;
use crate::failure::Failure;
use crate::settlement::credit;
use crate::store;

/// How far a node's clock may be ahead.
const AHEAD_S: u64 = 60;

impl Clearing {
    /// Books a credit note. The same note again gets the same answer, and so does one that a newer key signed anew.
    ///
    /// # Errors
    /// [`Failure`]; then nothing moved.
    pub async fn credit_note(&self, caller: &PublicKey, bytes: &[u8]) -> Result<CreditNoteReply, Failure> {
        let signed = Signed::<CreditNote>::decode(bytes)?;
        let known = self.node_asking(caller, signed.unverified().node, CALLER).await?;
        let (now, house) = (self.now(), self.clone());
        let note = in_force(signed, &known, now)?;
        let owner = known.owner.ok_or(Failure::NotYours { what: CALLER })?;
        self.write(move |conn| {
            Box::pin(async move {
                let reply = credit_note_in_tx(conn, &note, owner, now).await?;
                house.fail("credit_note.before_commit");
                Ok(reply)
            })
        })
        .await
        .inspect(|_| self.fail("credit_note.after_commit"))
    }
}

const CALLER: &str = "a credit note is sent by the node that makes it, with its transport key";

/// A claim pays an owner what others signed for, so an old key is good enough for it. A note gives the owner's money away on its
/// word alone: the key has to be one that the owner certifies today.
fn in_force(signed: Signed<CreditNote>, known: &Known, now: Timestamp) -> Result<Verified<CreditNote>, Failure> {
    if signed.unverified().at > now.plus(AHEAD_S) {
        return Err(Failure::NotYet { what: "the credit note's time lies ahead: set the node's clock" });
    }
    let certificate = known.certificate.as_ref().filter(|found| found.not_before <= now && now < found.not_after);
    let Some(certificate) = certificate else {
        return Err(Unverified::WrongKey { kind: "credit-note" }.into());
    };
    let keys: Vec<PublicKey> = certificate
        .receipt_keys
        .iter()
        .filter(|entry| entry.from <= now && now < entry.until)
        .map(|entry| entry.key)
        .collect();
    Ok(signed.verify_any(&keys)?)
}

async fn credit_note_in_tx(
    conn: &mut Db<'_>,
    note: &Verified<CreditNote>,
    owner: OrgId,
    now: Timestamp,
) -> Result<CreditNoteReply, Failure> {
    let (id, token) = (note.object().id, note.token);
    if let Some((before, reply)) = store::credits::find(conn, note.node, id).await? {
        return if before == *note.object() { Ok(reply) } else { Err(Failure::CreditNoteConflict { id }) };
    }
    let row = store::tokens::token_find(conn, token).await?;
    let row = row.ok_or_else(|| Failure::NotFound { what: format!("token {token}") })?;
    if (row.node, row.owner) != (note.node, owner) {
        return Err(Failure::NotYours { what: "a credit note is for a token of the node that makes it" });
    }
    let before = store::credits::book_in_tx(conn, &row).await?;
    let booked = credit::book(now, &before, note.amount)?;
    let returned = booked.home.iter().fold(Amount::ZERO, |sum, (_, part)| sum.saturating_add(*part));
    let reply = CreditNoteReply {
        id,
        content: note.id(),
        token,
        amount: note.amount,
        returned,
        to_suspense: booked.to_suspense,
        left: booked.left,
        taken_at: now,
    };
    store::credits::booked_in_tx(conn, &row, note, (&before, &booked), &reply, now).await?;
    tracing::info!(%token, note = %id, amount = note.amount.ucr(), reason = %note.reason, "an owner gave credits back");
    Ok(reply)
}
