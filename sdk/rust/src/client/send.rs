//! One call: a right to ask, a signed request, a reply, its receipt.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use comity_token::request::{self, header};
use comity_wire::object::{Acknowledgement, Receipt, Tariff};
use comity_wire::{Amount, Code, Digest, NodeId, SecretKey, Timestamp, TokenId, Verified};
use http::Method;

use super::find::Target;
use super::open::{Asked, Served, Way};
use super::under_way::Busy;
use super::{Client, Error, OnDisk, Streaming};
use crate::chat::{Answer, Notes, Query};
use crate::door::{Door, DoorError, Response};
use crate::journal::Entry;
use crate::lane::{self, ReceiptFault};
use crate::receipts::{self, NotAReceipt};
use crate::wallet::{Ask, Begun, Place, Purse, WalletError, stored};

/// A request that was signed and whose receipt is due. Under way until it is dropped.
pub(super) struct Sent {
    pub(super) token: TokenId,
    pub(super) lane: u16,
    pub(super) node: NodeId,
    pub(super) nonce: [u8; 16],
    pub(super) tariff: Verified<Tariff>,
    begun: Begun,
    key: SecretKey,
    chain: Vec<u8>,
    acknowledgement: Option<Verified<Acknowledgement>>,
    /// Its node may have had it before, and charged it.
    was_sent: bool,
    /// It was charged before: this receipt has to come again, and nothing is journalled.
    pub(super) again: Option<(Digest, Amount)>,
    /// `None` where it is asked again: its lane may be another call's by now.
    _busy: Option<Busy>,
}

/// Whether a call may be signed that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Anew,
    /// What was signed is asked for; what turns out to have cost nothing is not asked anew.
    Never,
}

/// What came of asking once more.
enum Again {
    Answered(Box<Sent>, Response),
    /// It was not charged and will not be: it may be signed anew. With what its node said, where it was asked for the first time.
    New(Option<Error>),
}

/// An answer, and the call that it is for.
#[derive(Clone, Copy)]
pub(crate) struct Exchanged<'a> {
    pub(crate) authority: Digest,
    pub(crate) nonce: &'a [u8; 16],
    pub(crate) body: &'a [u8],
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
    pub async fn ask<M: Asked>(&self, query: &Query<M>) -> Result<Answer, Error> {
        self.ask_as(query, Sign::Anew).await
    }

    /// [`Client::ask`], or [`Error::Unsigned`] where nothing may be signed that was not.
    pub(super) async fn ask_as<M: Asked>(&self, query: &Query<M>, sign: Sign) -> Result<Answer, Error> {
        let (sent, response, served) = self.send_asked(query, sign).await?;
        let notes = Notes { served, ..Notes::of(&response, sent.node) };
        let receipt = response.headers().get(header::RECEIPT).and_then(|value| from_sf(value.to_str().ok()?));
        let body = match (response.bytes().await, &receipt) {
            (Ok(body), _) => body,
            // What was charged is known all the same.
            (Err(error), Some(receipt)) => {
                Box::pin(self.take_receipt(&sent, receipt, None)).await?;
                return Err(error.into());
            }
            (Err(error), None) => return Err(error.into()),
        };
        let Some(receipt) = receipt else { return Err(Box::pin(self.unreceipted(&sent)).await) };
        let receipt = Box::pin(self.take_receipt(&sent, &receipt, Some(&body))).await?;
        Ok(Answer { body, nonce: sent.nonce, receipt, notes })
    }

    /// Asks for a stream.
    ///
    /// # Errors
    /// [`Error`] before the first byte.
    pub async fn stream<M: Asked>(&self, query: &Query<M>) -> Result<Streaming<'_>, Error> {
        let (sent, response, served) = self.send_asked(query, Sign::Anew).await?;
        Ok(Streaming::new(self, sent, response, served))
    }

    async fn send_asked<M: Asked>(
        &self,
        query: &Query<M>,
        sign: Sign,
    ) -> Result<(Sent, Response, Option<Box<Served>>), Error> {
        match M::way(query) {
            Way::Model(query) => Box::pin(self.send(query, sign)).await.map(|(sent, response)| (sent, response, None)),
            Way::Named(query) => Box::pin(self.send(&query, sign)).await.map(|(sent, response)| (sent, response, None)),
            Way::Open(want, query) => {
                let (sent, response, served) = Box::pin(self.send_open(want, query, sign)).await?;
                Ok((sent, response, Some(Box::new(served))))
            }
        }
    }

    /// What may have been charged of this very call, or was, is asked as it was signed. Else the nodes that serve the model are tried
    /// in turn, until one takes it: another is tried only where the one before did nothing.
    pub(super) async fn send(&self, query: &Query, sign: Sign) -> Result<(Sent, Response), Error> {
        let mut last = None;
        if let Some(sent) = Box::pin(self.take_up(query)).await? {
            match Box::pin(self.send_again(query, sent)).await? {
                Again::Answered(sent, response) => return Ok((*sent, response)),
                Again::New(error) => last = error,
            }
        }
        if sign == Sign::Never {
            return Err(last.unwrap_or(Error::Unsigned));
        }
        for target in self.targets(&query.model).await? {
            match Box::pin(self.send_to(&target, query)).await {
                Err(error) if error.lets_another_try() => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Error::ModelUnknown(query.model.clone())))
    }

    /// Signs, journals, sends. A refusal frees the seq; a receipt that comes with one is taken in.
    async fn send_to(&self, target: &Target, query: &Query) -> Result<(Sent, Response), Error> {
        let mut tries = 1;
        loop {
            let door = self.door(target.node).await?;
            let mut sent = Box::pin(self.begin(target, query)).await?;
            let on_disk = self.flushed().await?;
            self.world.at("send.before");
            let error = match self.exchange(&door, query, &mut sent, on_disk).await {
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
            if self.refused(&sent, &error, query.key.is_some()).await? && tries < TRIES_MAX {
                tries += 1;
                continue;
            }
            return Err(self.told(&sent, error.into()).await);
        }
    }

    /// While it is not known what became of a call, no other node is asked in its place: its error says so.
    async fn told(&self, sent: &Sent, error: Error) -> Error {
        if error.lets_another_try() && self.is_open(sent).await {
            return self.doubted(sent.token, sent.lane, error).await;
        }
        error
    }

    /// `error`, as that of a lane of which it keeps it from being known what became of its call.
    async fn doubted(&self, token: TokenId, lane: u16, error: Error) -> Error {
        let state = self.state.lock().await;
        let Ok(purse) = state.wallet.purse(token) else { return error };
        match purse.lane(lane).and_then(|lane| lane.open.as_ref()) {
            Some(open) => Error::InDoubt { node: purse.node(), most: open.max_charge, source: Box::new(error) },
            None => error,
        }
    }

    /// What was charged or may have been is asked once more, and nothing else in its place.
    async fn send_again(&self, query: &Query, mut sent: Sent) -> Result<Again, Error> {
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
    async fn take_up(&self, query: &Query) -> Result<Option<Sent>, Error> {
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
    async fn settle_first(&self, token: TokenId, lane: u16, is_named: bool) -> Result<(), Error> {
        let error = match Box::pin(self.settle(token, lane)).await {
            Ok(Some(receipt)) if !is_named && !receipt.charge.is_zero() => {
                Error::Replayed { receipt: receipt.id(), charge: receipt.charge }
            }
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        Err(self.doubted(token, lane, error).await)
    }

    async fn exchange(
        &self,
        door: &Door,
        query: &Query,
        sent: &mut Sent,
        OnDisk(()): OnDisk,
    ) -> Result<Response, DoorError> {
        self.passes.put(sent.node, &sent.chain, &sent.key);
        let leaf = sent.begun.authority.leaf;
        let mut with_chain = !self.presented.lock().expect("no panic holds this lock").contains(&leaf);
        loop {
            let created = self.stamps.call((sent.token, sent.lane), self.now());
            let mut headers = request::sign_request(&sent.begun.authority, created, &sent.key);
            if with_chain {
                headers.push((header::TOKEN, sf(&sent.chain)));
            }
            if let Some(acknowledgement) = &sent.acknowledgement {
                headers.push((header::ACKNOWLEDGEMENT, sf(acknowledgement.bytes())));
            }
            headers.push(("content-type", "application/json".to_owned()));
            let method = Method::from_bytes(query.method.as_bytes()).expect("a route has a method");
            let target = match query.query.as_str() {
                "" => query.path.to_owned(),
                asked => format!("{}?{asked}", query.path),
            };
            match door.send(method, &target, headers, Bytes::from(query.body.clone())).await {
                Ok(response) => {
                    self.presented.lock().expect("no panic holds this lock").insert(leaf);
                    return Ok(response);
                }
                Err(error) if error.code() == Some(Code::TokenUnknown) && !with_chain => {
                    sent.was_sent |= error.is_of_a_repeat();
                    with_chain = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Signs a new request under a token with room, as soon as a lane is idle.
    async fn begin(&self, target: &Target, query: &Query) -> Result<Sent, Error> {
        // Between a refusal and the look at what is under way, the call that was in the way may have ended.
        let mut once_more = true;
        loop {
            let ended = self.under_way.ended();
            // Held while the house is asked, on purpose: the next caller finds the token that this one draws.
            let turn = self.funding.lock().await;
            let funded = Box::pin(self.fund(target, query)).await;
            if matches!(funded, Err(Error::Limit { .. })) {
                if self.will_have_room(target, query).await {
                    drop(turn);
                    ended.await;
                    continue;
                }
                if std::mem::take(&mut once_more) {
                    continue;
                }
            }
            let token = match funded {
                // The receipt that was missing may be there by now.
                Err(Error::Wallet(WalletError::Stopped { token, .. })) => {
                    let resolved = self.resolve(token).await;
                    Box::pin(self.fund(target, query)).await.or_else(|error| resolved.and(Err(error)))?
                }
                funded => funded?,
            };
            let busy = |begun: &Result<Sent, Error>| matches!(begun, Err(Error::Wallet(WalletError::LanesBusy(_))));
            let begun = self.begin_new(token, target, query).await;
            if matches!(begun, Err(Error::DayLimit { .. })) {
                if self.waits_for_the_day(&begun).await {
                    drop(turn);
                    ended.await;
                    continue;
                }
                if std::mem::take(&mut once_more) {
                    continue;
                }
            }
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

    /// Calls under way hold their maxima, and most cost less: whether what they leave of the day's limit may be enough.
    async fn waits_for_the_day(&self, begun: &Result<Sent, Error>) -> bool {
        let Err(Error::DayLimit { limit, asked, .. }) = begun else { return false };
        let charged = self.state.lock().await.wallet.charged_today(self.now());
        charged.saturating_add(*asked) <= *limit && !self.under_way.lanes().is_empty()
    }

    /// Whether a token that is too full for the call now may have room for it once calls under way have ended.
    async fn will_have_room(&self, target: &Target, query: &Query) -> bool {
        let demand = query.demand(self.output_ceiling(target));
        let Ok(worst) = target.tariff.worst_case(&demand) else { return false };
        let (needed, now) = (query.max_charge.unwrap_or(worst), self.now());
        let state = self.state.lock().await;
        let mut purses = state
            .wallet
            .purses()
            .filter(|purse| purse.node() == target.node && purse.is_open(now) && purse.allows(&query.model, query.op));
        purses.any(|purse| purse.budget().saturating_sub(purse.spent()) >= needed && self.under_way.any(purse.id()))
    }

    async fn begin_new(&self, token: TokenId, target: &Target, query: &Query) -> Result<Sent, Error> {
        let now = self.now();
        // The token pins the tariff, whatever the feed says by now (rule 5).
        let pinned = {
            let state = self.state.lock().await;
            let scope = state.wallet.purse(token)?.token().scope_of(&query.model);
            // And the release, which a receipt of its has to name: what another would say is not asked for.
            if let (Some(scope), Some(asked)) = (scope, query.release)
                && scope.release != asked
            {
                return Err(Error::OtherRelease { pinned: scope.release, asked });
            }
            scope.map_or_else(|| target.tariff.id(), |scope| scope.tariff)
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
                let small = purse.small_maximum(worst, self.charge_ceiling(target), least);
                let today = self.profile.limits.day.map(|limit| limit.saturating_sub(state.wallet.today(now)));
                today.map_or(small, |left| small.min(left.max(least)))
            }
        };
        if let Some(limit) = self.profile.limits.day {
            let today = state.wallet.today(now);
            if today.saturating_add(max_charge) > limit {
                return Err(Error::DayLimit { limit, today, asked: max_charge });
            }
        }
        let begun = state.wallet.begin(token, &ask(query, pinned, max_charge), now)?;
        if let Some(entry) = &begun.entry {
            state.note(entry)?;
        }
        let busy = self.under_way.start(token, begun.lane);
        Ok(sent(state.wallet.purse(token)?, begun, tariff, Some(busy), now))
    }

    /// What a refusal means for the lane: a stored receipt is taken in, a clear no frees the seq, all else stays in doubt.
    /// Gives whether the call may be signed anew, since this one was not charged and will not be.
    async fn refused(&self, sent: &Sent, error: &DoorError, is_named: bool) -> Result<bool, Error> {
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
    async fn is_open(&self, sent: &Sent) -> bool {
        let state = self.state.lock().await;
        let lane = state.wallet.purse(sent.token).ok().and_then(|purse| purse.lane(sent.lane));
        let open = lane.and_then(|lane| lane.open.as_ref());
        open.is_some_and(|open| open.authority == sent.begun.authority.id())
    }

    /// Verifies a receipt, checks it against what was signed and exchanged, and journals it. A wrong one is journalled too, as
    /// evidence, and stops its token.
    pub(super) async fn take_receipt(
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

    pub(super) async fn take_in(
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
    pub(super) async fn unreceipted(&self, sent: &Sent) -> Error {
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

    pub(super) async fn note_acknowledged(
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

fn ask(query: &Query, tariff: Digest, max_charge: Amount) -> Ask<'_> {
    Ask {
        method: query.method,
        path: query.path,
        query: &query.query,
        body: &query.body,
        model: &query.model,
        op: query.op,
        tariff,
        max_charge,
        key: query.key,
    }
}

fn sent(purse: &Purse, begun: Begun, tariff: Verified<Tariff>, busy: Option<Busy>, now: Timestamp) -> Sent {
    Sent {
        token: begun.token,
        lane: begun.lane,
        node: purse.node(),
        nonce: begun.authority.nonce,
        tariff,
        was_sent: begun.entry.is_none(),
        begun,
        key: purse.key().clone(),
        chain: purse.chain().to_vec(),
        acknowledgement: purse.acknowledge(now),
        again: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<F>(_: impl FnOnce(&'static Client, &'static Query) -> F) -> usize {
        size_of::<F>()
    }

    /// Each phase moves it, in an unoptimised build on the stack of a thread that has two megabytes.
    #[test]
    fn a_call_is_small_to_move() {
        let bytes = bytes_of(|client, query| client.ask(query));
        assert!(bytes <= 4_096, "{bytes} bytes");
    }
}
