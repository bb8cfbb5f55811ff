//! One call: a right to ask, a signed request, a reply, its receipt.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use comity_token::request::{self, header};
use comity_wire::object::{Acknowledgement, Receipt, Tariff};
use comity_wire::{Amount, Code, NodeId, SecretKey, TokenId, Verified};
use http::Method;

use super::find::Target;
use super::under_way::Busy;
use super::{Client, Error, Streaming};
use crate::chat::{Answer, Notes, Query};
use crate::door::{Door, DoorError, Response};
use crate::journal::Entry;
use crate::lane;
use crate::receipts;
use crate::wallet::{Ask, Begun, Purse, WalletError, stored};

/// A request that was signed and whose receipt is due. Under way until it is dropped.
pub(super) struct Sent {
    pub(super) token: TokenId,
    pub(super) lane: u16,
    node: NodeId,
    pub(super) nonce: [u8; 16],
    pub(super) tariff: Verified<Tariff>,
    begun: Begun,
    key: SecretKey,
    chain: Vec<u8>,
    acknowledgement: Option<Verified<Acknowledgement>>,
    _busy: Busy,
}

/// On an answer that was given before (spec/09-http.md).
const REPLAYED: &str = "comity-replayed";

/// How often a call is signed anew where its token ended, or its place turned out to be taken.
const TRIES_MAX: u32 = 3;

impl Client {
    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// [`Error`]. Dropping the future may leave a lane in doubt; [`Client::resolve`] settles it.
    pub async fn ask(&self, query: &Query) -> Result<Answer, Error> {
        let (sent, response) = self.send(query).await?;
        let notes = Notes::of(response.headers());
        let receipt = response.headers().get(header::RECEIPT).and_then(|value| from_sf(value.to_str().ok()?));
        let body = match (response.bytes().await, &receipt) {
            (Ok(body), _) => body,
            // What was charged is known all the same.
            (Err(error), Some(receipt)) => {
                self.take_receipt(&sent, receipt, None).await?;
                return Err(error.into());
            }
            (Err(error), None) => return Err(error.into()),
        };
        let Some(receipt) = receipt else { return Err(self.unreceipted(&sent).await) };
        let receipt = self.take_receipt(&sent, &receipt, Some(&body)).await?;
        Ok(Answer { body, receipt, notes })
    }

    /// Asks for a stream.
    ///
    /// # Errors
    /// [`Error`] before the first byte.
    pub async fn stream(&self, query: &Query) -> Result<Streaming<'_>, Error> {
        let (sent, response) = self.send(query).await?;
        Ok(Streaming::new(self, sent, response))
    }

    /// Signs, journals, sends. A refusal frees the seq; a receipt that comes with one is taken in.
    async fn send(&self, query: &Query) -> Result<(Sent, Response), Error> {
        let mut tries = 1;
        loop {
            let target = self.target(&query.model).await?;
            let door = self.door(target.node).await?;
            let mut sent = self.begin(&target, query).await?;
            self.world.at("send.before");
            let error = match self.exchange(&door, query, &sent).await {
                Ok(response) => {
                    if response.headers().contains_key(REPLAYED) {
                        // Answered from what was stored: what came along this time was not kept.
                        sent.acknowledgement = None;
                    }
                    self.world.at("send.after");
                    return Ok((sent, response));
                }
                Err(error) => error,
            };
            if self.refused(&sent, &error).await? && tries < TRIES_MAX {
                tries += 1;
                continue;
            }
            return Err(error.into());
        }
    }

    async fn exchange(&self, door: &Door, query: &Query, sent: &Sent) -> Result<Response, DoorError> {
        let leaf = sent.begun.authority.leaf;
        let mut with_chain = !self.presented.lock().expect("no panic holds this lock").contains(&leaf);
        loop {
            let mut headers = request::sign_request(&sent.begun.authority, self.now(), &sent.key);
            if with_chain {
                headers.push((header::TOKEN, sf(&sent.chain)));
            }
            if let Some(acknowledgement) = &sent.acknowledgement {
                headers.push((header::ACKNOWLEDGEMENT, sf(acknowledgement.bytes())));
            }
            headers.push(("content-type", "application/json".to_owned()));
            match door.send(Method::POST, query.path, headers, Bytes::from(query.body.clone())).await {
                Ok(response) => {
                    self.presented.lock().expect("no panic holds this lock").insert(leaf);
                    return Ok(response);
                }
                Err(error) if error.code() == Some(Code::TokenUnknown) && !with_chain => with_chain = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// A request that is in doubt is taken up again; else a new one is signed under a token with room, as soon as a lane
    /// is idle.
    async fn begin(&self, target: &Target, query: &Query) -> Result<Sent, Error> {
        loop {
            let ended = self.under_way.ended();
            // Held while the house is asked, on purpose: the next caller finds the token that this one draws.
            let turn = self.funding.lock().await;
            if let Some(sent) = self.begin_again(target, query).await? {
                return Ok(sent);
            }
            let token = match self.fund(target, query).await {
                // The receipt that was missing may be there by now.
                Err(Error::Wallet(WalletError::Stopped { token, .. })) => {
                    let resolved = self.resolve(token).await;
                    self.fund(target, query).await.or_else(|error| resolved.and(Err(error)))?
                }
                funded => funded?,
            };
            let busy = |begun: &Result<Sent, Error>| matches!(begun, Err(Error::Wallet(WalletError::LanesBusy(_))));
            let begun = self.begin_new(token, target, query).await;
            if !busy(&begun) {
                return begun;
            }
            // Lanes in doubt are asked about; then a call that is under way will end.
            let resolved = self.resolve(token).await;
            let begun = self.begin_new(token, target, query).await;
            if !busy(&begun) || !self.under_way.any(token) {
                return resolved.and(begun);
            }
            drop(turn);
            ended.await;
        }
    }

    async fn begin_again(&self, target: &Target, query: &Query) -> Result<Option<Sent>, Error> {
        let now = self.now();
        let again = {
            let state = self.state.lock().await;
            let under_way = self.under_way.lanes();
            let ask = ask(query, target.tariff.id(), Amount::ZERO);
            let most = query.max_charge.unwrap_or(Amount::MAX);
            let again = state.wallet.again(target.node, &ask, most, &under_way, now);
            again.map(|begun| {
                let busy = self.under_way.start(begun.token, begun.lane);
                (begun, busy)
            })
        };
        let Some((begun, busy)) = again else { return Ok(None) };
        let tariff = self.tariff(&begun.authority.tariff, target.node).await?;
        let state = self.state.lock().await;
        Ok(Some(sent(state.wallet.purse(begun.token)?, begun, tariff, busy, now)))
    }

    async fn begin_new(&self, token: TokenId, target: &Target, query: &Query) -> Result<Sent, Error> {
        let now = self.now();
        // The token pins the tariff, whatever the feed says by now (rule 5).
        let pinned = {
            let state = self.state.lock().await;
            let scope = state.wallet.purse(token)?.token().scope_of(&query.model).map(|scope| scope.tariff);
            scope.unwrap_or_else(|| target.tariff.id())
        };
        let tariff = self.tariff(&pinned, target.node).await?;
        let worst = tariff.worst_case(&query.demand(self.output_ceiling(target))).map_err(Error::Unpriced)?;
        let mut state = self.state.lock().await;
        let purse = state.wallet.purse(token)?;
        let max_charge = match (query.max_charge, query.demanded.output_tokens) {
            (Some(max), _) => max,
            (None, Some(_)) => worst,
            (None, None) => {
                let least = tariff.worst_case(&query.demand(1)).map_err(Error::Unpriced)?;
                purse.small_maximum(worst, self.charge_ceiling(target), least)
            }
        };
        let begun = state.wallet.begin(token, &ask(query, pinned, max_charge), now)?;
        if let Some(entry) = &begun.entry {
            state.write(entry)?;
        }
        let busy = self.under_way.start(token, begun.lane);
        Ok(sent(state.wallet.purse(token)?, begun, tariff, busy, now))
    }

    /// What a refusal means for the lane: a stored receipt is taken in, a clear no frees the seq, all else stays in doubt.
    /// Gives whether the call may be signed anew, since this one was not charged and will not be.
    async fn refused(&self, sent: &Sent, error: &DoorError) -> Result<bool, Error> {
        let code = error.code();
        if let Some(receipt) = error.receipt() {
            self.take_receipt(sent, &receipt, None).await?;
            // The receipt is of another request of this seq that was believed free: this one has no place yet.
            return Ok(code == Some(Code::SequenceConflict));
        }
        // A retry may have been sent before, when the node could be reached.
        let is_unsent = error.is_unsent() && sent.begun.entry.is_some();
        if error.is_unsent() {
            self.forget_door(sent.node);
        }
        if !error.is_refusal() && !is_unsent {
            return Ok(false);
        }
        let mut state = self.state.lock().await;
        state.write(&Entry::Free { token: sent.token, lane: sent.lane, seq: sent.begun.authority.seq })?;
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

    /// Verifies a receipt, checks it against what was signed and exchanged, and journals it. A wrong one is journalled too, as
    /// evidence, and stops its token.
    pub(super) async fn take_receipt(
        &self,
        sent: &Sent,
        bytes: &[u8],
        response: Option<&[u8]>,
    ) -> Result<Verified<Receipt>, Error> {
        let exchanged = response.map(|body| (&sent.nonce, body));
        let receipt = self.take_in(sent.token, sent.lane, &sent.tariff, bytes, exchanged).await?;
        if response.is_some() {
            // The node keeps what came with a request together with its charge: only now has it been given. One that
            // came with a request whose answer was another's is sent again, which changes nothing.
            self.note_acknowledged(sent.acknowledgement.as_ref()).await?;
        }
        Ok(receipt)
    }

    pub(super) async fn take_in(
        &self,
        token: TokenId,
        lane: u16,
        tariff: &Verified<Tariff>,
        bytes: &[u8],
        exchanged: Option<(&[u8; 16], &[u8])>,
    ) -> Result<Verified<Receipt>, Error> {
        let mut verified = receipts::verify(bytes, &self.seen.directory);
        if verified.is_err() && self.refresh().await.is_ok() {
            // Signed by a key that is newer than what this client knew of the node.
            verified = receipts::verify(bytes, &self.seen.directory);
        }
        let mut state = self.state.lock().await;
        let receipt = match verified {
            Ok(receipt) => receipt,
            Err(fault) => {
                state.stop(token, lane, None, &crate::chain(&fault))?;
                return Err(Error::Receipt(fault));
            }
        };
        let purse = state.wallet.purse(token)?;
        if purse.lane(lane).is_some_and(|known| known.has(&receipt)) {
            return Ok(receipt);
        }
        let answered = |(nonce, body): (&[u8; 16], &[u8])| lane::check_response(&receipt, nonce, body);
        let checked = purse.check(lane, &receipt, tariff).and_then(|()| exchanged.map_or(Ok(()), answered));
        let certificate = self.certificate(receipt.node)?;
        for evidence in [certificate.bytes(), tariff.bytes()] {
            if !state.wallet.has_evidence(evidence) {
                state.write(&Entry::Evidence { object: stored(evidence) })?;
            }
        }
        if let Err(fault) = checked {
            state.stop(token, lane, Some(bytes), &fault.to_string())?;
            return Err(Error::Fault(fault));
        }
        self.world.at("receipt.before");
        state.write(&Entry::Receipt { token, lane, receipt: stored(bytes) })?;
        self.world.at("receipt.after");
        Ok(receipt)
    }

    /// An answer that came without its receipt: the node is asked for it once, then nothing more is asked of it (rule 6).
    pub(super) async fn unreceipted(&self, sent: &Sent) -> Error {
        match self.settle(sent.token, sent.lane).await {
            // The answer cannot be told from another one, so it is not handed on; what it cost is known.
            Ok(()) => Error::NoReceipt,
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), token = %sent.token, "no receipt, and none on asking");
                let stopped = self.state.lock().await.stop(sent.token, sent.lane, None, "no receipt came");
                stopped.err().unwrap_or(Error::NoReceipt)
            }
        }
    }

    pub(super) async fn note_acknowledged(
        &self,
        acknowledgement: Option<&Verified<Acknowledgement>>,
    ) -> Result<(), Error> {
        let Some(acknowledgement) = acknowledgement else { return Ok(()) };
        let mut state = self.state.lock().await;
        for entry in state.wallet.purse(acknowledgement.token)?.acknowledged(acknowledgement) {
            state.write(&entry)?;
        }
        Ok(())
    }
}

impl super::State {
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

fn ask(query: &Query, tariff: comity_wire::Digest, max_charge: Amount) -> Ask<'_> {
    Ask {
        method: "POST",
        path: query.path,
        query: "",
        body: &query.body,
        model: &query.model,
        op: query.op,
        tariff,
        max_charge,
    }
}

fn sent(purse: &Purse, begun: Begun, tariff: Verified<Tariff>, busy: Busy, now: comity_wire::Timestamp) -> Sent {
    Sent {
        token: begun.token,
        lane: begun.lane,
        node: purse.node(),
        nonce: begun.authority.nonce,
        tariff,
        begun,
        key: purse.key().clone(),
        chain: purse.chain().to_vec(),
        acknowledgement: purse.acknowledge(now),
        _busy: busy,
    }
}

/// A structured-field byte sequence.
pub(super) fn sf(bytes: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(bytes))
}

fn from_sf(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix(':')?.strip_suffix(':')?).ok()
}
