//! Credit notes: an order in a case is brought to the clearing house until it answers, by whichever process of the node comes first, and
//! what it says is an event of the case. Apart from what decisions do at the doors, since a house may be long in answering.

use std::time::Duration;

use super::{Desk, PAGE, TRIES_MAX, Trouble};
use crate::case::act::{Act, Actor, Effect, Role};
use crate::case::id::CaseId;
use crate::case::machine::Answer;

impl Desk {
    /// Brings a credit note to the house and writes down what it says. While it says nothing the order stays noted.
    async fn refund(&self, id: CaseId, n: u64) -> Result<(), String> {
        for _ in 0..TRIES_MAX {
            let case = self.find(id).await.map_err(|trouble| trouble.to_string())?;
            let Some(Effect::Refund(order)) = case.left(n) else { break };
            let note = order.note;
            let act = match self.0.doors.refund(order).await? {
                Answer::Booked { content, booked_at } => Act::Booked { note, content, booked_at },
                Answer::Declined { code, message } => Act::Declined { note, code, message },
            };
            let house = Actor { id: "house".into(), role: Role::Bot };
            // Read again: the house took its time.
            let case = self.find(id).await.map_err(|trouble| trouble.to_string())?;
            match self.act(case, act, &house).await {
                Ok(_) => break,
                // Something else happened, or another process was quicker: the house says the same again.
                Err(Trouble::Moved | Trouble::Refused(_)) => {}
                Err(trouble) => return Err(trouble.to_string()),
            }
        }
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
