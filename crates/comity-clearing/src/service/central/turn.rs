//! A turn with a central site: what waits there is taken in, and what is to be answered is answered.
//!
//! An answer is sent once. Whether it arrived is read back before it is sent, each time: a process that died behind a send, or
//! did not hear the reply, does not know.

use serde_json::{Value, json};

use super::super::Clearing;
use super::decide;
use crate::amie::central::{Central, Incoming};
use crate::amie::{Kind, State};
use crate::failure::Failure;
use crate::store;
use crate::store::central::{Move, PacketRow};

/// Answers that a turn has in hand at once.
const PAGE: u32 = 100;
/// What is kept of a central site's words, bytes.
const ERROR_BYTES_MAX: usize = 400;

/// Why a call to a central site gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Waiting may cure it.
    #[error("the central site cannot be reached: {what}")]
    Unreached { what: String },
    /// It said no.
    #[error("the central site says {status}: {what}")]
    Refused { status: u16, what: String },
}

/// The calls that a central site takes. The shell has the sockets and the key.
pub trait Wire: Send + Sync {
    /// What waits for this site's answer.
    fn packets(&self) -> impl Future<Output = Result<Vec<Value>, WireError>> + Send;
    /// A transaction with all its packets.
    fn transaction(&self, id: u64) -> impl Future<Output = Result<Value, WireError>> + Send;
    /// Sends a packet.
    fn send(&self, packet: Value) -> impl Future<Output = Result<Value, WireError>> + Send;
    /// Sends a usage message; what it says of the records.
    fn usage(&self, message: Value) -> impl Future<Output = Result<Value, WireError>> + Send;
}

/// What a turn did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turned {
    /// Packets that were new.
    pub taken: u64,
    /// Answers that the central site has now.
    pub answered: u64,
    /// Answers that it does not take.
    pub refused: u64,
    /// Packets that cannot be read.
    pub unreadable: u64,
    /// What ended the turn before its end.
    pub failed: Option<WireError>,
}

impl Clearing {
    /// Takes a turn with a central site.
    ///
    /// # Errors
    /// [`Failure`] of the house's own books; what the central site does not do is told in [`Turned`].
    pub async fn central_turn(&self, central: &Central, wire: &impl Wire) -> Result<Turned, Failure> {
        let mut turned = Turned::default();
        // What was decided before is answered first: a central site that is asked again knows it then.
        if !self.central_answer(central, wire, &mut turned).await? {
            return Ok(turned);
        }
        let listed = match wire.packets().await {
            Ok(listed) => listed,
            Err(failed) => return Ok(Turned { failed: Some(failed), ..turned }),
        };
        let mut packets = Vec::with_capacity(listed.len());
        for packet in &listed {
            match Incoming::read(packet) {
                Ok(packet) => packets.extend(packet),
                Err(why) => {
                    tracing::warn!(central = central.name, why, "a packet of a central site cannot be read");
                    turned.unreadable += 1;
                }
            }
        }
        turned.taken = decide::take(self, central, packets).await?;
        self.fail("central.taken");
        self.central_answer(central, wire, &mut turned).await?;
        Ok(turned)
    }

    /// Sends what is to be answered; whether the central site could be reached for all of it.
    async fn central_answer(&self, central: &Central, wire: &impl Wire, turned: &mut Turned) -> Result<bool, Failure> {
        loop {
            let mut conn = self.read().await?;
            let rows = store::central::packets_to_answer(&mut conn.db(), &central.name, PAGE).await?;
            drop(conn);
            if rows.is_empty() {
                return Ok(true);
            }
            for row in rows {
                let (state, error) = match answer(self, wire, &row).await {
                    Ok(()) => (Move::Nobody, String::new()),
                    Err(WireError::Refused { status, what }) if !waits(status) => {
                        tracing::error!(
                            central = central.name,
                            packet = row.id,
                            status,
                            what,
                            "a central site does not take an answer"
                        );
                        (Move::Operator, cut(&format!("{status}: {what}")))
                    }
                    Err(failed) => {
                        let row = PacketRow { error: cut(&failed.to_string()), ..row };
                        self.central_note(row).await?;
                        turned.failed = Some(failed);
                        return Ok(false);
                    }
                };
                match state {
                    Move::Nobody => turned.answered += 1,
                    _ => turned.refused += 1,
                }
                self.central_note(PacketRow { state, error, ..row }).await?;
            }
        }
    }

    async fn central_note(&self, row: PacketRow) -> Result<(), Failure> {
        let now = self.now();
        self.write(move |conn| Box::pin(async move { store::central::packet_put_in_tx(conn, &row, now).await })).await
    }
}

/// Whether time may change what it says.
pub(super) const fn waits(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 425 | 429) || status >= 500
}

/// The central site has the answer behind this, sent now or before.
async fn answer(house: &Clearing, wire: &impl Wire, row: &PacketRow) -> Result<(), WireError> {
    let known = wire.transaction(row.transaction).await?;
    let of_this = |packet: &&Value| {
        let header = &packet["header"];
        let reply_to = match &header["in_reply_to"] {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        reply_to == Some(row.id) && header["outgoing_flag"].as_bool() != Some(false)
    };
    if known["DATA"].as_array().into_iter().flatten().find(of_this).is_some() {
        return Ok(());
    }
    if known["state"] == State::Failed.word() {
        let heard = row.answer_kind == Kind::InformTransactionComplete.word();
        if heard || !row.done {
            return Ok(());
        }
        let what = "the transaction failed there before it was answered, and was done here".into();
        return Err(WireError::Refused { status: 409, what });
    }
    let kind = Kind::from_word(&row.answer_kind);
    let packet = json!({
        "DATA_TYPE": "Packet",
        "type": row.answer_kind,
        "header": {
            "packet_rec_id": null,
            "trans_rec_id": row.transaction,
            "expected_reply_list": kind.map(Kind::expected_reply_list),
            "in_reply_to": row.id,
        },
        "body": row.answer,
    });
    wire.send(packet).await?;
    house.fail("central.sent");
    Ok(())
}

pub(super) fn cut(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > ERROR_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}
