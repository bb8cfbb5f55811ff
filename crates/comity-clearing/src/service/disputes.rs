//! Disputes: opened by what a node signed or did not show, ended by two persons.

use comity_ledger::Db;
use comity_wire::{Amount, Digest, OrgId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use super::Clearing;
use super::acts::text;
use super::claims::Timed;
use crate::acts::{DisputeEnd, DisputeOpen, Outcome};
use crate::failure::Failure;
use crate::settlement::Calendar;
use crate::store;
use crate::store::disputes::DisputeRow;

/// Disputes that the operator is shown at once.
const DISPUTES_SHOWN_MAX: u32 = 200;

/// A dispute, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    pub id: Digest,
    pub token: TokenId,
    pub owner: OrgId,
    /// `challenge_missed`, `officers`, or the code of the contradiction.
    pub cause: String,
    /// The contradiction, the challenge or the act.
    pub evidence: Digest,
    /// Taken from what the owner is to be paid.
    pub held: Amount,
    pub opened_at: Timestamp,
    /// `open`, `upheld`, `reversed`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Who ended it and why stands in this act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Digest>,
}

impl Clearing {
    /// Those that are open, then the newest.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn disputes(&self) -> Result<Vec<Dispute>, Failure> {
        let mut conn = self.read().await?;
        let rows = store::disputes::all(&mut conn.db(), DISPUTES_SHOWN_MAX).await?;
        let mut disputes = Vec::with_capacity(rows.len());
        for row in rows {
            let token = store::tokens::token_find(&mut conn.db(), row.token).await?;
            let token = token.ok_or(Failure::Unreadable { table: "dispute", what: "token" })?;
            disputes.push(told(row, token.owner));
        }
        Ok(disputes)
    }

    /// Opens a dispute under a token, unless one is open: nothing is paid under it from here on.
    pub(super) async fn dispute_in_tx(
        &self,
        conn: &mut Db<'_>,
        token: TokenId,
        cause: &str,
        evidence: Digest,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let not_found = || Failure::NotFound { what: format!("token {token}") };
        let row = store::tokens::token_find(conn, token).await?.ok_or_else(not_found)?;
        let id = Digest::of_parts(&[b"comity/dispute/v1", token.as_bytes(), evidence.as_bytes()]);
        // One at a time; and what was judged once is not judged again.
        if store::disputes::open_of(conn, token).await?.is_some() || store::disputes::find(conn, id).await?.is_some() {
            return Ok(());
        }
        let held = store::disputes::open_in_tx(conn, &row, (id, cause, evidence), now).await?;
        store::disputes::freeze_in_tx(conn, token).await?;
        tracing::error!(%token, dispute = %id, cause, %held, "a dispute is open: nothing is paid until two persons have decided");
        Ok(())
    }

    /// Whether an act could open a dispute.
    pub(super) async fn dispute_open_check(conn: &mut Db<'_>, ask: &DisputeOpen) -> Result<(), Failure> {
        text("the reason", &ask.reason)?;
        let not_found = || Failure::NotFound { what: format!("token {}", ask.token) };
        store::tokens::token_find(conn, ask.token).await?.ok_or_else(not_found)?;
        match store::disputes::open_of(conn, ask.token).await? {
            Some(open) => {
                Err(Failure::invalid(format!("dispute {} about this token is open: decide it first", open.id)))
            }
            None => Ok(()),
        }
    }

    /// Whether an act could end a dispute.
    pub(super) async fn dispute_check(conn: &mut Db<'_>, ask: &DisputeEnd) -> Result<DisputeRow, Failure> {
        text("the reason", &ask.reason)?;
        let found = store::disputes::find(conn, ask.dispute).await?;
        let found = found.ok_or_else(|| Failure::NotFound { what: format!("dispute {}", ask.dispute) })?;
        if found.state == 0 {
            Ok(found)
        } else {
            Err(Failure::invalid("this dispute has ended: what was decided stands"))
        }
    }

    /// Ends a dispute. Upheld: the owner gets what was held, and what is due is paid. Reversed: the payer gets it back, and
    /// the token is over: it is on the next revocation list, so that no node serves what it will not be paid for.
    pub(super) async fn dispute_end_in_tx(
        &self,
        conn: &mut Db<'_>,
        ask: &DisputeEnd,
        act: Digest,
        calendar: &Calendar,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let dispute = Self::dispute_check(conn, ask).await?;
        let token = store::tokens::token_find(conn, dispute.token).await?;
        let token = token.ok_or(Failure::Unreadable { table: "dispute", what: "token" })?;
        let upheld = ask.outcome == Outcome::Upheld;
        store::disputes::end_in_tx(conn, &token, &dispute, upheld, act, now).await?;
        if !upheld && token.expires_at > now && !self.revoke_in_tx(conn, token.id, now).await? {
            tracing::error!(token = %token.id, "the revocation list is full: a token whose dispute was reversed serves on, unpaid");
        }
        let step = if upheld { Timed::Sweep } else { Timed::Stop(None, act) };
        self.unfreeze_in_tx(conn, token.id, step, calendar, now).await
    }

    /// Says anew whether anything is paid under a token, and does what was waiting for it.
    pub(super) async fn unfreeze_in_tx(
        &self,
        conn: &mut Db<'_>,
        token: TokenId,
        step: Timed,
        calendar: &Calendar,
        now: Timestamp,
    ) -> Result<(), Failure> {
        store::disputes::freeze_in_tx(conn, token).await?;
        self.time_in_tx(conn, token, step, calendar, now).await
    }
}

fn told(row: DisputeRow, owner: OrgId) -> Dispute {
    Dispute {
        id: row.id,
        token: row.token,
        owner,
        cause: row.cause,
        evidence: row.evidence,
        held: row.held,
        opened_at: row.opened_at,
        state: match row.state {
            0 => "open",
            1 => "upheld",
            _ => "reversed",
        }
        .into(),
        ended_at: row.ended_at,
        act: row.act,
    }
}
