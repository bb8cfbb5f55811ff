//! One call: a right to ask, a signed request, a reply, its receipt.

mod again;
pub(crate) mod receipt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use comity_token::request::{self, header};
use comity_wire::object::{Acknowledgement, Tariff};
use comity_wire::{Amount, Code, Digest, NodeId, SecretKey, Timestamp, TokenId, Verified};
use http::Method;

use self::again::Again;
use super::find::Target;
use super::open::{Asked, Served, Way};
use super::under_way::Busy;
use super::{Client, Error, OnDisk, Streaming};
use crate::chat::{Answer, Notes, Query};
use crate::door::{Door, DoorError, Response};
use crate::wallet::{Ask, Begun, Purse, WalletError};

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
