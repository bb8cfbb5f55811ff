//! Credit notes: an owner gives back of what it earned under a token (spec/07-settlement.md §11).

use comity_ledger::Db;
use comity_wire::api::credit::CreditNoteReply;
use comity_wire::object::CreditNote;
use comity_wire::{Amount, Code, OrgId, PublicKey, Signed, Timestamp, Unverified, Verified};

use super::Clearing;
use super::nodes::Known;
use crate::failure::Failure;
use crate::settlement::CHALLENGE_S;
use crate::settlement::credit::{self, Book, Booked};
use crate::store;
use crate::store::tokens::TokenRow;

/// How far a node's clock may be ahead.
const AHEAD_S: u64 = 60;

impl Clearing {
    /// Books a credit note. The same note again gets the same answer, and so does one that a newer key signed anew.
    ///
    /// # Errors
    /// [`Failure`]; then nothing moved.
    pub async fn credit_note(&self, caller: &PublicKey, bytes: &[u8]) -> Result<CreditNoteReply, Failure> {
        let signed = Signed::<CreditNote>::decode(bytes)?;
        let node = signed.unverified().node;
        let known = self.known(node).await?;
        // Keys rotate, and a certificate takes its time to come here: no last word.
        let owner = known.owner.filter(|_| known.transport_keys.contains(caller));
        let owner = owner.ok_or(Failure::NodeKeyUnknown { node })?;
        let (now, house) = (self.now(), self.clone());
        let note = in_force(signed, &known, now)?;
        let since = self.calendar().since(now, CHALLENGE_S);
        let turn = self.inner.brought.take(owner, note.object(), now)?;
        // To decide on a note all that its owner may still be asked for is added up: one that waits must not keep others from writing.
        let decided = async {
            let mut conn = self.read().await?;
            let mut snapshot = conn.snapshot().await?;
            decide_in_tx(&mut snapshot.db(), &note, owner, (since, now)).await?;
            snapshot.rollback().await?;
            drop(conn);
            let note = note.clone();
            let writing = self.write(move |conn| {
                Box::pin(async move {
                    let reply = credit_note_in_tx(conn, &note, owner, (since, now)).await?;
                    house.fail("credit_note.before_commit");
                    Ok(reply)
                })
            });
            writing.await.inspect(|_| self.fail("credit_note.after_commit"))
        };
        match decided.await {
            Err(Failure::Credit(why)) if why.code() == Code::CreditWaits => Err(turn.waits(note.object(), why, now)),
            decided => {
                turn.decided(note.object());
                decided
            }
        }
    }
}

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

/// What a note comes to.
enum Decided {
    /// It was booked before.
    Before(CreditNoteReply),
    Now(Box<(TokenRow, Book, Booked)>),
}

async fn decide_in_tx(
    conn: &mut Db<'_>,
    note: &Verified<CreditNote>,
    owner: OrgId,
    (since, now): (Timestamp, Timestamp),
) -> Result<Decided, Failure> {
    let (id, token) = (note.object().id, note.token);
    if let Some((before, reply)) = store::credits::find(conn, note.node, id).await? {
        return if before == *note.object() {
            Ok(Decided::Before(reply))
        } else {
            Err(Failure::CreditNoteConflict { id })
        };
    }
    let row = store::tokens::token_find(conn, token).await?;
    let row = row.ok_or_else(|| Failure::NotFound { what: format!("token {token}") })?;
    if (row.node, row.owner) != (note.node, owner) {
        return Err(Failure::NotYours { what: "a credit note is for a token of the node that makes it" });
    }
    let before = store::credits::book_in_tx(conn, &row, since).await?;
    let booked = credit::book(now, &before, note.amount)?;
    Ok(Decided::Now(Box::new((row, before, booked))))
}

async fn credit_note_in_tx(
    conn: &mut Db<'_>,
    note: &Verified<CreditNote>,
    owner: OrgId,
    (since, now): (Timestamp, Timestamp),
) -> Result<CreditNoteReply, Failure> {
    let (row, before, booked) = match decide_in_tx(conn, note, owner, (since, now)).await? {
        Decided::Before(reply) => return Ok(reply),
        Decided::Now(decided) => *decided,
    };
    let (id, token) = (note.object().id, note.token);
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
