//! Credit notes: an order in a case is brought to the clearing house until it answers, by whichever process of the node comes first, and
//! what it says is an event of the case. Apart from what decisions do at the doors, since a house may be long in answering.

use std::time::Duration;

use comity_wire::{Amount, CreditNoteId, TokenId};

use super::{Desk, PAGE, TRIES_MAX, Trouble};
use crate::case::act::{Act, Actor, Effect, Role};
use crate::case::id::CaseId;
use crate::case::machine::{Answer, Case};
use crate::case::refused::Refused;

/// What is to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToGive {
    /// Which had paid.
    pub token: TokenId,
    pub amount: Amount,
    pub reason: String,
}

/// Whether an order may be the second one of its token in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    No,
    /// It is meant to be.
    Meant,
}

impl Desk {
    /// Orders credits of a token to be given back. Once a case: what was ordered twice by mistake would be given twice, so a second
    /// order of the same token has to be meant as one. What the house declined was no order.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn order(&self, id: CaseId, who: &Actor, ask: ToGive, again: Again) -> Result<Case, Trouble> {
        let ToGive { token, amount, reason } = ask;
        for _ in 0..TRIES_MAX {
            let case = self.find(id).await?;
            if again == Again::No && !case.ordered(token).is_zero() {
                return Err(Refused::Ordered { token, amount: case.ordered(token) }.into());
            }
            let note = CreditNoteId((self.0.entropy)());
            // Behind the link that was read: of two at the same moment one is second.
            match self.act(case, Act::Refund { note, token, amount, reason: reason.clone() }, who).await {
                Err(Trouble::Moved) => {}
                done => return done,
            }
        }
        Err(Trouble::Moved)
    }

    /// Brings a credit note to the house and writes down what it says. Until that is written the order stays noted: the house says the
    /// same as often as it is asked.
    async fn refund(&self, id: CaseId, n: u64) -> Result<(), String> {
        for _ in 0..TRIES_MAX {
            let case = self.find(id).await.map_err(|trouble| trouble.to_string())?;
            let Some(Effect::Refund(order)) = case.left(n) else { return self.answered(id, n).await };
            let note = order.note;
            let act = match self.0.doors.refund(order).await? {
                Answer::Booked { content, booked_at } => Act::Booked { note, content, booked_at },
                Answer::Declined { code, message } => Act::Declined { note, code, message },
            };
            let house = Actor { id: "house".into(), role: Role::Bot };
            // Read again: the house took its time.
            let case = self.find(id).await.map_err(|trouble| trouble.to_string())?;
            match self.act(case, act, &house).await {
                Ok(_) => return self.answered(id, n).await,
                // Something else happened, or another process was quicker: the house says the same again.
                Err(Trouble::Moved | Trouble::Refused(_)) => {}
                Err(trouble) => return Err(trouble.to_string()),
            }
        }
        Err("the house has answered, and others wrote in the case each time that was to be written down".into())
    }

    /// The case has the house's answer: nothing is left of the order.
    async fn answered(&self, id: CaseId, n: u64) -> Result<(), String> {
        self.0.store.case_effect_done(id, n).await.map_err(|error| error.to_string())
    }

    /// Brings each credit note that the house has not answered; how many still wait.
    pub async fn refunds(&self) -> usize {
        let (mut after, mut waiting) = (None, 0);
        loop {
            let notes = match self.0.store.case_effects(after, PAGE).await {
                Ok(notes) => notes,
                Err(error) => {
                    tracing::error!(%error, "cannot read which credit notes wait");
                    return waiting + 1;
                }
            };
            let Some(last) = notes.last().copied() else { return waiting };
            for (id, n) in notes {
                if !matches!(self.find(id).await.map(|case| case.left(n)), Ok(Some(Effect::Refund(_)))) {
                    continue;
                }
                if let Err(why) = self.refund(id, n).await {
                    tracing::warn!(case = %id, n, why, "a credit note is not booked yet; it is brought again");
                    waiting += 1;
                }
            }
            after = Some(last);
        }
    }

    /// Soon after an order, and again while the house has not answered: what it cannot book yet may wait for days.
    pub(super) async fn run_refunds(&self) -> std::convert::Infallible {
        const EVERY: Duration = Duration::from_secs(60);
        const FIRST: Duration = Duration::from_secs(2);
        let mut pause = FIRST;
        loop {
            let waiting = self.refunds().await;
            pause = if waiting == 0 { EVERY } else { (pause * 2).min(EVERY) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.ordered.notified() => pause = FIRST,
            }
        }
    }
}
