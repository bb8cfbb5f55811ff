//! The receipt of a call: verified, held against what was signed and answered, journalled.

use comity_wire::object::{Acknowledgement, Receipt, Tariff};
use comity_wire::{Digest, TokenId, Verified};

use super::Sent;
use crate::client::{Client, Error, State};
use crate::journal::Entry;
use crate::lane::{self, ReceiptFault};
use crate::receipts::{self, NotAReceipt};
use crate::wallet::{Purse, stored};

/// An answer, and the call that it is for.
#[derive(Clone, Copy)]
pub(crate) struct Exchanged<'a> {
    pub(crate) authority: Digest,
    pub(crate) nonce: &'a [u8; 16],
    pub(crate) body: &'a [u8],
}

impl Client {
    /// Verifies a receipt, checks it against what was signed and exchanged, and journals it. A wrong one is journalled too, as
    /// evidence, and stops its token.
    pub(in crate::client) async fn take_receipt(
        &self,
        sent: &Sent,
        bytes: &[u8],
        response: Option<&[u8]>,
    ) -> Result<Verified<Receipt>, Error> {
        if let Some((known, _)) = sent.again {
            return self.known_receipt(sent, known, bytes, response).await;
        }
        let authority = sent.begun.authority.id();
        let exchanged = response.map(|body| Exchanged { authority, nonce: &sent.nonce, body });
        let receipt = self.take_in(sent.token, sent.lane, &sent.tariff, bytes, exchanged).await?;
        if response.is_some() {
            // The node keeps what came with a request together with its charge: only now has it been given. One that
            // came with a request whose answer was another's is sent again, which changes nothing.
            self.note_acknowledged(sent.acknowledgement.as_ref()).await?;
        }
        Ok(receipt)
    }

    /// The receipt of a call that was charged before: it has to be the one that stands in the journal.
    async fn known_receipt(
        &self,
        sent: &Sent,
        known: Digest,
        bytes: &[u8],
        response: Option<&[u8]>,
    ) -> Result<Verified<Receipt>, Error> {
        let receipt = self.verified_receipt(bytes).await.map_err(Error::Receipt)?;
        if receipt.id() != known {
            return Err(Error::Missing("the receipt that it gave for this call before"));
        }
        if let Some(body) = response {
            lane::check_response(&receipt, &sent.nonce, body).map_err(Error::Fault)?;
        }
        Ok(receipt)
    }

    async fn verified_receipt(&self, bytes: &[u8]) -> Result<Verified<Receipt>, NotAReceipt> {
        let verified = receipts::verify(bytes, &self.seen.directory);
        if let Err(NotAReceipt::Node(node) | NotAReceipt::Key { node, .. }) = &verified
            && Box::pin(self.refresh_node(*node)).await.is_ok()
        {
            // Signed by a key that is newer than what this client knew of the node.
            return receipts::verify(bytes, &self.seen.directory);
        }
        verified
    }

    pub(in crate::client) async fn take_in(
        &self,
        token: TokenId,
        lane: u16,
        tariff: &Verified<Tariff>,
        bytes: &[u8],
        exchanged: Option<Exchanged<'_>>,
    ) -> Result<Verified<Receipt>, Error> {
        let verified = self.verified_receipt(bytes).await;
        let mut state = self.state.lock().await;
        let receipt = match verified {
            Ok(receipt) => receipt,
            Err(fault) => {
                state.stop(token, lane, None, &crate::chain(&fault))?;
                return Err(Error::Receipt(fault));
            }
        };
        let purse = state.wallet.purse(token)?;
        let checked = judged(purse, lane, &receipt, tariff, exchanged);
        if checked == Ok(Stands::Already) {
            return Ok(receipt);
        }
        let certificate = self.certificate(receipt.node)?;
        for evidence in [certificate.bytes(), tariff.bytes()] {
            if !state.wallet.has_evidence(evidence) {
                state.note(&Entry::Evidence { object: stored(evidence) })?;
            }
        }
        if let Err(fault) = checked {
            state.stop(token, lane, Some(bytes), &fault.to_string())?;
            return Err(Error::Fault(fault));
        }
        self.world.at("receipt.before");
        // No flush is waited for: the next signed call's makes it durable, and until then its node has it.
        state.note(&Entry::Receipt { token, lane, receipt: stored(bytes) })?;
        self.world.at("receipt.after");
        Ok(receipt)
    }

    /// An answer that came without its receipt: the node is asked for it once, then nothing more is asked of it (rule 6).
    pub(in crate::client) async fn unreceipted(&self, sent: &Sent) -> Error {
        if sent.again.is_some() {
            return Error::NoReceipt;
        }
        match self.settle(sent.token, sent.lane).await {
            // The answer cannot be told from another one, so it is not handed on; what it cost is known.
            Ok(_) => Error::NoReceipt,
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), token = %sent.token, "no receipt, and none on asking");
                let stopped = self.state.lock().await.stop(sent.token, sent.lane, None, "no receipt came");
                stopped.err().unwrap_or(Error::NoReceipt)
            }
        }
    }

    pub(in crate::client) async fn note_acknowledged(
        &self,
        acknowledgement: Option<&Verified<Acknowledgement>>,
    ) -> Result<(), Error> {
        let Some(acknowledgement) = acknowledgement else { return Ok(()) };
        let mut state = self.state.lock().await;
        // Lost, it is sent again, which changes nothing: no flush for it.
        for entry in state.wallet.purse(acknowledgement.token)?.acknowledged(acknowledgement) {
            state.note(&entry)?;
        }
        Ok(())
    }
}

impl State {
    /// Journals why nothing more is asked under a token; once, however often the node is asked again.
    fn stop(&mut self, token: TokenId, lane: u16, receipt: Option<&[u8]>, what: &str) -> Result<(), Error> {
        let known = self.wallet.purse(token)?.lane(lane);
        if known.is_some_and(|lane| lane.is_faulted() || (receipt.is_none() && lane.stopped().is_some())) {
            return Ok(());
        }
        let seq = known.and_then(|lane| lane.open.as_ref()).map_or(0, |open| open.seq);
        self.write(&Entry::Fault { token, lane, seq, receipt: receipt.map(stored), what: what.to_owned() })
    }
}

/// Whether a receipt that stands is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    Already,
    Anew,
}

/// With an answer there has to come the receipt of the call that it answers: not one of before, though that is a good one.
pub(crate) fn judged(
    purse: &Purse,
    lane: u16,
    receipt: &Verified<Receipt>,
    tariff: &Tariff,
    exchanged: Option<Exchanged<'_>>,
) -> Result<Stands, ReceiptFault> {
    // Its node may have been asked for it before its answer was there.
    let is_known = purse.lane(lane).is_some_and(|known| known.has(&receipt.id()));
    if is_known && exchanged.is_some_and(|of| of.authority != receipt.authority) {
        return Err(ReceiptFault::OtherRequest);
    }
    if !is_known {
        purse.check(lane, receipt, tariff)?;
    }
    exchanged.map_or(Ok(()), |of| lane::check_response(receipt, of.nonce, of.body))?;
    Ok(if is_known { Stands::Already } else { Stands::Anew })
}
