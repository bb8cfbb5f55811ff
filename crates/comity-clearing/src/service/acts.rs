//! Acts at work: written down, approved, done, each in one SQL transaction with what it moves.

use comity_ledger::Db;
use comity_wire::{Amount, AwardId, Digest, LotId, Timestamp};

use super::{Clearing, amie, central, dispatch};
use crate::acts::{Act, ActRecord, Officer, Outcome, Signature, Verdict, WAITING_MAX, judge};
use crate::failure::Failure;
use crate::store;

/// Acts that the operator is shown at once.
const ACTS_SHOWN_MAX: u32 = 200;
/// The longest text of an act, bytes: a reason, a report, a funder's name.
pub(super) const TEXT_MAX: usize = 400;

/// What became of an act.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ActReply {
    pub id: Digest,
    /// Whether it is done; otherwise it waits for a second person.
    pub done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub award: Option<AwardId>,
    /// The lots that it made or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lots: Vec<LotId>,
}

impl Clearing {
    /// Does an act, or writes it down until a second person brings it too. What was done is never done again.
    ///
    /// # Errors
    /// [`Failure::DutyConflict`] where two persons are needed and this is not one of them or not the second; [`Failure`]
    /// where the act cannot be done.
    pub async fn act(&self, act: Act, by: Option<Signature>) -> Result<ActReply, Failure> {
        let (now, house) = (self.now(), self.clone());
        let is_issuer = matches!(act, Act::IssuerKey(_));
        let is_reversal = matches!(&act, Act::DisputeEnd(ask) if ask.outcome == Outcome::Reversed);
        let reply =
            self.write(move |conn| Box::pin(async move { act_in_tx(&house, conn, (&act, by), now).await })).await?;
        if is_issuer {
            // The other replicas look within a minute.
            self.issuing_look().await?;
        }
        if is_reversal && reply.done {
            self.standing_issue().await?;
        }
        Ok(reply)
    }

    /// Takes back an act that waits.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where none of this id waits.
    pub async fn act_drop(&self, id: Digest) -> Result<(), Failure> {
        let dropped =
            self.write(move |conn| Box::pin(async move { store::acts::act_drop_in_tx(conn, id).await })).await?;
        if dropped {
            Ok(())
        } else {
            Err(Failure::NotFound { what: format!("act {id} that waits for a second person") })
        }
    }

    /// The newest acts; those that wait stand first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn acts(&self) -> Result<Vec<ActRecord>, Failure> {
        store::acts::acts(&mut self.read().await?.db(), ACTS_SHOWN_MAX).await
    }

    /// Who keeps the books.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn officers(&self) -> Result<Vec<Officer>, Failure> {
        store::acts::officers(&mut self.read().await?.db()).await
    }
}

async fn act_in_tx(
    house: &Clearing,
    conn: &mut Db<'_>,
    (act, by): (&Act, Option<Signature>),
    now: Timestamp,
) -> Result<ActReply, Failure> {
    let id = act.id();
    let known = store::acts::act_find(conn, id).await?;
    let officers = store::acts::officers(conn).await?;
    let mut reply = ActReply { id, done: true, award: None, lots: Vec::new() };
    central::act_begins_in_tx(conn, id, now).await?;
    match judge(act, known.as_ref(), by.as_ref(), &officers)? {
        Verdict::Known => Ok(reply),
        Verdict::Propose => {
            if store::acts::acts_waiting(conn).await? >= WAITING_MAX {
                return Err(Failure::Limit {
                    what: "acts that wait for a second person",
                    max: WAITING_MAX.to_string(),
                });
            }
            // What cannot be done is better refused now than when a second person has come.
            dispatch::check(house, conn, act, now).await?;
            store::acts::act_insert_in_tx(conn, &record(act, id, by, now, None), act.word()).await?;
            reply.done = false;
            Ok(reply)
        }
        Verdict::Do => {
            let (award, lots) = dispatch::do_in_tx(house, conn, act, id, now).await?;
            match known {
                Some(_) => store::acts::act_approve_in_tx(conn, id, by.as_ref(), now).await?,
                None => {
                    store::acts::act_insert_in_tx(conn, &record(act, id, None, now, Some(now)), act.word()).await?;
                }
            }
            amie::act_in_tx(conn, &house.inner.keys.pseudonyms, (act, id), award, now).await?;
            central::act_done_in_tx(conn, &house.inner.keys.pseudonyms, (act, id), award, now).await?;
            tracing::info!(act = act.word(), %id, alone = by.is_none(), "an act was done");
            (reply.award, reply.lots) = (award, lots);
            Ok(reply)
        }
    }
}

fn record(act: &Act, id: Digest, by: Option<Signature>, now: Timestamp, done_at: Option<Timestamp>) -> ActRecord {
    ActRecord { id, body: act.body(), proposed_by: by, proposed_at: now, approved_by: None, done_at }
}

/// What a part of an award or a reason is named by: not empty, and no longer than [`TEXT_MAX`].
pub(super) fn text(what: &'static str, text: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::invalid(format!("{what} must not be empty")));
    }
    if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err(Failure::invalid(format!("{what} is one line of at most {TEXT_MAX} bytes")));
    }
    Ok(())
}

/// More than nothing.
pub(super) fn some(amount: Amount) -> Result<(), Failure> {
    if amount.is_zero() { Err(Failure::invalid("an amount is at least 1 µcr")) } else { Ok(()) }
}
