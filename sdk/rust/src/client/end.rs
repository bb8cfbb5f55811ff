//! What was asked is settled with its node: outcomes that are unknown, acknowledgements, finals.

use std::time::Duration;

use bytes::Bytes;
use comity_token::request::header;
use comity_wire::api::challenge::{Challenge, ChallengeRequest};
use comity_wire::api::clearing as house;
use comity_wire::api::node as api;
use comity_wire::object::{Final, Receipt};
use comity_wire::{Code, Digest, NodeId, SecretKey, TokenId, Verified};
use http::Method;

use super::send::sf;
use super::{Client, Error};
use crate::door::Door;
use crate::journal::Entry;
use crate::lane::Open;
use crate::wallet::Above;

/// What becomes of what was handed on of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handed {
    /// It stays whose it is until its end: the token is not ended before.
    Kept,
    TakenBack,
}

/// A token that was ended.
#[derive(Debug)]
pub struct Finished {
    pub final_: Verified<Final>,
    /// What the house said; `None` of a token without credits.
    pub reply: Option<house::FinalReply>,
    /// What the final says above the receipts of this wallet, which was challenged at the house.
    pub above: Vec<Above>,
}

impl Client {
    /// Ends every token where nothing was asked for so long, so that what was not spent goes home; gives what became of each. No
    /// call loses its token by it: the next one draws another.
    pub async fn finish_idle(&self, after: Duration) -> Vec<(TokenId, Result<Finished, Error>)> {
        let is_idle = || self.under_way.idle().is_some_and(|idle| idle >= after);
        let mut finished = Vec::new();
        if !is_idle() {
            return finished;
        }
        if let Err(error) = self.state.lock().await.take_over_delegated() {
            // Nothing is ended that may have been handed on.
            tracing::warn!(error = %crate::chain(&error), "what was delegated cannot be read: no idle token is ended");
            return finished;
        }
        for purse in self.purses().await.into_iter().filter(super::PurseStatus::is_due) {
            // Nobody chooses this token meanwhile; a call that came waits for one token to be ended, and not for all.
            let _turn = self.funding.lock().await;
            if !is_idle() {
                return finished;
            }
            finished.push((purse.token, self.finish(purse.token).await));
        }
        // One that cannot be ended now is tried after as long again.
        self.under_way.touch();
        finished
    }

    /// Asks the node about every request whose outcome is unknown, and takes in its receipt or frees its seq. Requests that
    /// are under way in this process are left alone.
    ///
    /// # Errors
    /// The last [`Error`] where the node cannot be reached or still works at an answer; what is in doubt stays so.
    pub async fn resolve(&self, token: TokenId) -> Result<(), Error> {
        let (node, doubtful) = {
            let state = self.state.lock().await;
            let purse = state.wallet.purse(token)?;
            let under_way = self.under_way.lanes();
            let doubtful: Vec<_> = purse.doubtful(&under_way).map(|(lane, open)| (lane, open.clone())).collect();
            (purse.node(), doubtful)
        };
        if doubtful.is_empty() {
            return Ok(());
        }
        let mut last = Ok(());
        for (lane, open) in doubtful {
            let mut outcome = self.outcome(&self.door(node).await?, token, lane, &open).await;
            if outcome.as_ref().is_err_and(Error::is_unsent) {
                // It is not where it was: looked for once.
                self.forget_door(node);
                outcome = self.outcome(&self.door(node).await?, token, lane, &open).await;
            }
            // Of one lane nothing follows for the others.
            if let Err(error) = outcome {
                last = Err(error);
            }
        }
        last
    }

    /// [`Client::resolve`] for every token, once more where an answer is still being ended. What stays unknown is asked about
    /// again before its lane is used.
    pub async fn resolve_all(&self) {
        let tokens: Vec<_> = self.state.lock().await.wallet.purses().map(crate::wallet::Purse::id).collect();
        for token in tokens {
            let mut resolved = self.resolve(token).await;
            for wait in WAITS_MS {
                if !is_in_flight(&resolved) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(wait)).await;
                resolved = self.resolve(token).await;
            }
            if let Err(error) = resolved {
                tracing::info!(%error, %token, "outcome unknown until the node is asked again");
            }
        }
    }

    /// [`Client::settle`] for a call that was just let go: its node may still be ending it.
    pub(super) async fn settle_soon(&self, token: TokenId, lane: u16) -> Result<(), Error> {
        for wait in WAITS_MS {
            match self.settle(token, lane).await.map(drop) {
                outcome if is_in_flight(&outcome) => tokio::time::sleep(Duration::from_millis(wait)).await,
                outcome => return outcome,
            }
        }
        self.settle(token, lane).await.map(drop)
    }

    /// The outcome of the open request of one lane: its receipt, where it was charged.
    pub(super) async fn settle(&self, token: TokenId, lane: u16) -> Result<Option<Verified<Receipt>>, Error> {
        let (node, open) = {
            let state = self.state.lock().await;
            let purse = state.wallet.purse(token)?;
            (purse.node(), purse.lane(lane).filter(|lane| !lane.is_faulted()).and_then(|lane| lane.open.clone()))
        };
        let Some(open) = open else { return Ok(None) };
        let door = self.door(node).await?;
        self.outcome(&door, token, lane, &open).await
    }

    async fn outcome(
        &self,
        door: &Door,
        token: TokenId,
        lane: u16,
        open: &Open,
    ) -> Result<Option<Verified<Receipt>>, Error> {
        let node = self.state.lock().await.wallet.purse(token)?.node();
        match self.ask_outcome(door, token, lane, open.seq).await {
            Ok(reply) => {
                let tariff = self.tariff(&open.tariff, node).await?;
                self.take_in(token, lane, &tariff, &reply.receipt, None).await.map(Some)
            }
            // Its word that nothing is charged, and that it takes nothing any more that was signed by now.
            Err(error) if error.code() == Some(Code::NotFound) => {
                self.state.lock().await.note(&Entry::Free { token, lane, seq: open.seq })?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A node that never charged under a chain may not know it, and gives no word to whom it cannot tell a holder: then the chain goes
    /// along.
    async fn ask_outcome(&self, door: &Door, token: TokenId, lane: u16, seq: u64) -> Result<api::ReceiptReply, Error> {
        const PATH: &str = "/comity/v1/receipts";
        let (leaf, key, chain) = {
            let state = self.state.lock().await;
            let purse = state.wallet.purse(token)?;
            (purse.leaf(), purse.key().clone(), purse.chain().to_vec())
        };
        let query = format!("token={token}&leaf={leaf}&lane={lane}&seq={seq}");
        let target = format!("{PATH}?{query}");
        let created = || self.stamps.asking((token, lane), self.now());
        match door.get_signed_at(&target, &key, created()).await {
            Err(error) if error.code() == Some(Code::TokenUnknown) => {}
            told => return told,
        }
        let mut headers = comity_token::sign_api("GET", PATH, &query, &[], created(), self.world.nonce(), &key);
        headers.push((header::TOKEN, sf(&chain)));
        let bytes = door.send(Method::GET, &target, headers, Bytes::new()).await?.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Missing("a receipt"))
    }

    /// Sends the node a signed acknowledgement of every receipt it has not seen one for.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn acknowledge(&self, token: TokenId) -> Result<(), Error> {
        loop {
            let (node, acknowledgement) = {
                let state = self.state.lock().await;
                let purse = state.wallet.purse(token)?;
                (purse.node(), purse.acknowledge(self.now()))
            };
            let Some(acknowledgement) = acknowledgement else { return Ok(()) };
            let bytes = house::SignedBytes::new(acknowledgement.bytes()).expect("an acknowledgement is small");
            let ask = api::AcknowledgeRequest { acknowledgement: bytes };
            let _: api::AcknowledgeReply = self.door(node).await?.post("/comity/v1/acknowledgements", &ask).await?;
            self.note_acknowledged(Some(&acknowledgement)).await?;
        }
    }

    /// Tells the house that what was claimed of a lane and not acknowledged is not owed: the node must show what was signed
    /// for it. `leaf`: of somebody whom a part of the token was handed on to; left out, this wallet's own.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn challenge(
        &self,
        token: TokenId,
        leaf: Option<Digest>,
        lane: u16,
        reason: String,
    ) -> Result<Challenge, Error> {
        let own = self.state.lock().await.wallet.purse(token)?.leaf();
        let ask = ChallengeRequest { token, leaf: leaf.unwrap_or(own), lane, reason };
        self.house_post("/v1/challenges", &ask).await
    }

    /// Ends a token at its node: acknowledges, asks for the final, verifies it, and lodges it at the house. One that was asked
    /// for and never came is fetched first, since only its holder can end it. What the final says above the receipts of this
    /// wallet is challenged at the house: the node is paid for it where it shows what was signed.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Above`] where there is nothing to challenge yet, since the node has claimed none of it: the token is ended
    /// again at the next chance.
    pub async fn finish(&self, token: TokenId) -> Result<Finished, Error> {
        self.end(token, Handed::Kept).await
    }

    /// [`Client::finish`], also of a token of which a part was handed on: whoever has that is refused from now on.
    ///
    /// # Errors
    /// As that, but for [`Error::HandedOn`].
    pub async fn take_back(&self, token: TokenId) -> Result<Finished, Error> {
        self.end(token, Handed::TakenBack).await
    }

    async fn end(&self, token: TokenId, handed: Handed) -> Result<Finished, Error> {
        let is_pending = self.state.lock().await.wallet.pending().any(|(id, _)| id == token);
        if is_pending {
            self.complete(token).await?;
        }
        {
            let mut state = self.state.lock().await;
            state.take_over_delegated()?;
            let until = state.wallet.purse(token)?.delegated_until(self.now());
            if let (Some(until), Handed::Kept) = (until, handed) {
                return Err(Error::HandedOn { token, until });
            }
        }
        self.resolve(token).await?;
        self.acknowledge(token).await?;
        let (node, key, chain, budget) = {
            let state = self.state.lock().await;
            let purse = state.wallet.purse(token)?;
            (purse.node(), purse.key().clone(), purse.chain().to_vec(), purse.token().terms.budget)
        };
        let answer = self.ask_final(node, token, &key, &chain).await?;
        let certificate = self.certificate(node)?;
        let final_ = comity_token::verify_final(&answer.final_, &certificate)
            .map_err(|_| Error::Missing("a final under its receipt key"))?;
        if final_.token != token {
            return Err(Error::Missing("the final of the token that was named"));
        }
        let mut above = {
            let mut state = self.state.lock().await;
            if let Some(entry) = state.wallet.purse(token)?.spent_by_others(&final_) {
                state.note(&entry)?;
            }
            state.write(&Entry::Ended { token })?;
            state.wallet.purse(token)?.above(&final_)
        };
        let mut reply = None;
        if !budget.is_zero() {
            self.world.at("final.before");
            let lodge = house::FinalRequest { final_: answer.final_ };
            let said: house::FinalReply = self.house_post("/v1/finals", &lodge).await?;
            // Where nothing is left that could be paid, there is nothing to say against it.
            above.retain(|_| !said.in_escrow.is_zero());
            let mut last = Ok(());
            for above in &above {
                // A lane that its node has not claimed yet keeps no other from being challenged.
                if let Err(error) = self.challenge_above(token, above).await {
                    last = Err(error);
                }
            }
            last?;
            reply = Some(said);
        }
        self.world.at("final.after");
        // Last: until the house has it, the token is ended again at the next chance.
        self.state.lock().await.write(&Entry::Closed { token })?;
        Ok(Finished { final_, reply, above })
    }

    async fn challenge_above(&self, token: TokenId, above: &Above) -> Result<(), Error> {
        match self.challenge(token, None, above.lane, above.to_string()).await {
            Ok(challenge) => {
                tracing::warn!(%token, %above, challenge = %challenge.id, "challenged at the house");
                Ok(())
            }
            // None of it is in the node's claims yet. Who closed the token now would let it be paid once it is.
            Err(error) if matches!(error.code(), Some(Code::NotFound | Code::InvalidRequest)) => {
                Err(Error::Above(*above))
            }
            Err(error) => Err(error),
        }
    }

    /// The chain goes along: the node may never have seen a token that nothing was asked with.
    pub(super) async fn ask_final(
        &self,
        node: NodeId,
        token: TokenId,
        key: &SecretKey,
        chain: &[u8],
    ) -> Result<api::FinalAnswer, Error> {
        const PATH: &str = "/comity/v1/finals";
        let body = serde_json::to_vec(&api::FinalAsk { token }).expect("an ask has a JSON form");
        let mut headers = comity_token::sign_api("POST", PATH, "", &body, self.now(), self.world.nonce(), key);
        headers.push((header::TOKEN, sf(chain)));
        headers.push(("content-type", "application/json".to_owned()));
        let response = self.door(node).await?.send(Method::POST, PATH, headers, Bytes::from(body)).await?;
        let bytes = response.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Missing("a final"))
    }
}

/// How long a node is given to end an answer that nobody waits for any more, between one question and the next.
const WAITS_MS: [u64; 6] = [50, 100, 200, 400, 800, 1_600];

fn is_in_flight(outcome: &Result<(), Error>) -> bool {
    outcome.as_ref().is_err_and(|error| error.code() == Some(Code::InFlight))
}
