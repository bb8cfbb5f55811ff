//! A call that was signed before, or was refused: asked for again as it was signed, and what may be signed in its place.

use comity_wire::{Amount, Code, Digest, TokenId};

use super::{Sent, ask, sent};
use crate::chat::Query;
use crate::client::{Client, Error};
use crate::door::{DoorError, Response};
use crate::journal::Entry;
use crate::wallet::{Place, WalletError};

/// What came of asking once more.
pub(super) enum Again {
    Answered(Box<Sent>, Response),
    /// It was not charged and will not be: it may be signed anew. With what its node said, where it was asked for the first time.
    New(Option<Error>),
}

impl Client {
    /// What was charged or may have been is asked once more, and nothing else in its place.
    pub(super) async fn send_again(&self, query: &Query, mut sent: Sent) -> Result<Again, Error> {
        let door = match self.door(sent.node).await {
            Ok(door) => door,
            Err(error) if sent.again.is_some() => return Err(error),
            Err(error) => return Err(self.doubted(sent.token, sent.lane, error).await),
        };
        // Who signed it may have been dropped before it was on the disk.
        let on_disk = self.flushed().await?;
        self.world.at("send.before");
        let error = match self.exchange(&door, query, &mut sent, on_disk).await {
            Ok(response) => {
                self.world.at("send.after");
                return Ok(Again::Answered(Box::new(sent), response));
            }
            Err(error) => error,
        };
        let is_final = error.code().is_some_and(|code| !code.should_retry());
        match (sent.again, query.key) {
            // What cost nothing may be asked anew.
            (Some((_, charge)), Some(key)) if is_final && charge.is_zero() => {
                self.state.lock().await.wallet.forget(&key.digest);
                Ok(Again::New(None))
            }
            (Some((receipt, charge)), _) if is_final => Err(Error::Replayed { receipt, charge }),
            (Some(_), _) => Err(error.into()),
            // Free by now, or charged: the next time it is asked it is known which.
            (None, Some(_)) => {
                self.refused(&sent, &error, true).await?;
                Err(self.told(&sent, error.into()).await)
            }
            (None, None) => {
                let signs_anew = self.refused(&sent, &error, false).await?;
                match self.told(&sent, error.into()).await {
                    error if signs_anew || error.lets_another_try() => Ok(Again::New(Some(error))),
                    error => Err(error),
                }
            }
        }
    }

    /// What was signed of this very call before, and is charged or may be: to be asked once more as it stands. Where that cannot be,
    /// its node is asked what became of it before anything else is signed.
    pub(super) async fn take_up(&self, query: &Query) -> Result<Option<Sent>, Error> {
        let now = self.now();
        let most = query.max_charge.unwrap_or(Amount::MAX);
        let mut doubted = None;
        loop {
            let (begun, again, busy) = {
                let state = self.state.lock().await;
                let ask = ask(query, Digest([0; 32]), most);
                match state.wallet.place(&ask, &self.under_way.lanes(), now)? {
                    Place::New => return Ok(None),
                    Place::Other => return Err(Error::KeyConflict),
                    Place::UnderWay => return Err(WalletError::Named.into()),
                    Place::Gone { receipt, charge } => return Err(Error::Replayed { receipt, charge }),
                    Place::Unknown(begun) => {
                        let busy = self.under_way.start(begun.token, begun.lane);
                        (begun, None, Some(busy))
                    }
                    Place::Charged { begun, receipt, charge } => (begun, Some((receipt, charge)), None),
                    // Its node was asked, or may not be asked any more, and nothing changed.
                    Place::Doubt { token, lane } if doubted == Some((token, lane)) => {
                        let refused = state.wallet.purse(token)?.refused();
                        return Err(refused.map_or(Error::NoReceipt, Error::Wallet));
                    }
                    Place::Doubt { token, lane } => {
                        doubted = Some((token, lane));
                        drop(state);
                        self.settle_first(token, lane, query.key.is_some()).await?;
                        continue;
                    }
                }
            };
            let node = self.state.lock().await.wallet.purse(begun.token)?.node();
            let tariff = match self.tariff(&begun.authority.tariff, node).await {
                Ok(tariff) => tariff,
                Err(error) if again.is_some() => return Err(error),
                Err(error) => return Err(self.doubted(begun.token, begun.lane, error).await),
            };
            let state = self.state.lock().await;
            let purse = state.wallet.purse(begun.token)?;
            return Ok(Some(Sent { again, acknowledgement: None, ..sent(purse, begun, tariff, busy, now) }));
        }
    }

    /// Asks what became of a call that cannot be asked again. One that nobody named and that was paid for is told of: whether another
    /// is paid for its caller decides.
    pub(super) async fn settle_first(&self, token: TokenId, lane: u16, is_named: bool) -> Result<(), Error> {
        let error = match Box::pin(self.settle(token, lane)).await {
            Ok(Some(receipt)) if !is_named && !receipt.charge.is_zero() => {
                Error::Replayed { receipt: receipt.id(), charge: receipt.charge }
            }
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        Err(self.doubted(token, lane, error).await)
    }

    /// What a refusal means for the lane: a stored receipt is taken in, a clear no frees the seq, all else stays in doubt.
    /// Gives whether the call may be signed anew, since this one was not charged and will not be.
    pub(super) async fn refused(&self, sent: &Sent, error: &DoorError, is_named: bool) -> Result<bool, Error> {
        let code = error.code();
        if let Some(receipt) = error.receipt() {
            self.take_receipt(sent, &receipt, None).await?;
            // The receipt is of another request of this seq that was believed free: this one has no place yet.
            return Ok(code == Some(Code::SequenceConflict));
        }
        // A retry may have been sent before, when the node could be reached; so was what was sent once more over a new connection.
        let was_sent = sent.was_sent || error.is_of_a_repeat();
        if error.is_unsent() {
            self.forget_door(sent.node);
        }
        if !(error.is_refusal() || error.is_unsent() && !was_sent) {
            return Ok(false);
        }
        if was_sent {
            // A node looks at what it can take before it looks up what it has charged: what it refuses now says nothing of
            // the try before. So it is asked.
            match Box::pin(self.settle(sent.token, sent.lane)).await {
                // Who comes again under its name finds it charged, and is given the answer.
                Ok(Some(receipt)) if !is_named => {
                    return Err(Error::Replayed { receipt: receipt.id(), charge: receipt.charge });
                }
                Ok(None) if !self.is_open(sent).await => {}
                Ok(_) => return Ok(false),
                Err(fault) => {
                    tracing::info!(error = %crate::chain(&fault), token = %sent.token, "a call stays in doubt");
                    return Ok(false);
                }
            }
        }
        let mut state = self.state.lock().await;
        if !was_sent {
            // Lost, its node is asked, and says so again.
            state.note(&Entry::Free { token: sent.token, lane: sent.lane, seq: sent.begun.authority.seq })?;
        }
        match code {
            Some(Code::Closed | Code::Superseded | Code::Revoked) => {
                state.write(&Entry::Ended { token: sent.token })?;
                // A revoked token was ended by somebody: drawing the next one is for the user to say.
                Ok(code != Some(Code::Revoked))
            }
            // The window is full at the node alone: it never saw the last acknowledgement.
            Some(Code::AckRequired) => {
                drop(state);
                self.acknowledge(sent.token).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether it is not known what became of it.
    pub(super) async fn is_open(&self, sent: &Sent) -> bool {
        let state = self.state.lock().await;
        let lane = state.wallet.purse(sent.token).ok().and_then(|purse| purse.lane(sent.lane));
        let open = lane.and_then(|lane| lane.open.as_ref());
        open.is_some_and(|open| open.authority == sent.begun.authority.id())
    }
}
