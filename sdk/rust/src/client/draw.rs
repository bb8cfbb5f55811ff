//! Tokens: quoted, reserved at the house, or drawn from an owner's own node; within the user's limits.

use comity_token::directory::Directory as _;
use comity_wire::api::clearing as house;
use comity_wire::api::node as api;
use comity_wire::object::{Chain, Quote, Tariff, Tier, Token};
use comity_wire::{Amount, Code, Digest, ModelId, NodeId, Op, PublicKey, SecretKey, Signed, TokenId};

use super::find::Target;
use super::house::{PAUSES, may_be_cured};
use super::{Client, Error};
use crate::chat::Query;
use crate::journal::Entry;
use crate::pending::Pending;
use crate::wallet::{Naming, WalletError, stored};

/// How long a token lives that the wallet draws.
const VALID_S: u32 = 12 * 3600;
/// Delegations that may follow on a token that the wallet draws for a call.
const DEPTH: u8 = 4;

/// What is drawn of a token's usual size where the wallet's limit leaves less. Where that is too little for the call it is what the call
/// needs, which the limit then refuses by its name.
fn within_total(budget: Amount, left: Amount, needed: Amount) -> Amount {
    match left {
        left if left.is_zero() => budget,
        left if left < needed => budget.min(needed),
        left => budget.min(left),
    }
}

/// What the house would still give, where it says that it has less than was asked for.
fn available(error: &Error) -> Option<Amount> {
    let refusal = error.refusal().filter(|_| error.code() == Some(Code::BalanceTooLow))?;
    serde_json::from_value(refusal.remote.fields.get("available_ucr")?.clone()).ok()
}

impl Client {
    /// The project's account at the house.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn project(&self) -> Result<house::ProjectReply, Error> {
        let project = self.profile.project.ok_or(Error::Profile("project"))?;
        let path = format!("/v1/projects/{project}");
        self.house_get(&path).await
    }

    /// A pinned price for ops of one model.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn quote(&self, model: &ModelId, ops: &[Op]) -> Result<Signed<Quote>, Error> {
        let target = self.target(model).await?;
        let project = self.profile.project.ok_or(Error::Profile("project"))?;
        let models = vec![house::QuoteModel { model: model.clone(), ops: ops.to_vec() }];
        let ask = house::QuoteRequest { project, node: target.node, models };
        let reply: house::QuoteReply = self.house_post("/v1/quotes", &ask).await?;
        Signed::decode(&reply.quote).map_err(Error::Unverified)
    }

    /// Draws a token of `budget` for one model under a fresh holder key. The request is journalled before it is sent: where
    /// the reply is lost, [`Client::complete`] asks for the same token again.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn buy(&self, model: &ModelId, budget: Amount, depth: u8) -> Result<TokenId, Error> {
        self.buy_lasting(model, budget, depth, VALID_S).await
    }

    /// [`Client::buy`], for a token that lives so many seconds.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn buy_lasting(
        &self,
        model: &ModelId,
        budget: Amount,
        depth: u8,
        valid_s: u32,
    ) -> Result<TokenId, Error> {
        self.draw((model, valid_s), budget, depth, None, Vec::new()).await
    }

    /// `total`: what all tokens of this wallet may hold together.
    async fn draw(
        &self,
        (model, valid_s): (&ModelId, u32),
        budget: Amount,
        depth: u8,
        total: Option<Amount>,
        grants: Vec<Digest>,
    ) -> Result<TokenId, Error> {
        let target = self.target(model).await?;
        let ops: Vec<_> = target.summary.ops.iter().map(|row| row.op).collect();
        let quote = self.quote(model, &ops).await?;
        let now = self.now();
        let id = TokenId::v7(now, self.world.nonce());
        let pending = Pending {
            node: target.node,
            model: model.clone(),
            seed: stored(&(self.world.entropy)()),
            quote: stored(quote.bytes()),
            budget,
            valid_s,
            depth,
            grants,
            mandate: self.profile.mandate,
            at: now,
        };
        {
            let mut state = self.state.lock().await;
            let asked = state.wallet.drawn(now).saturating_add(budget);
            if let Some(limit) = total
                && asked > limit
            {
                return Err(Error::Limit { limit, asked });
            }
            state.write(&Entry::Reserving { id, pending: pending.clone() })?;
        }
        self.world.at("buy.before");
        self.reserve(id, &pending, true).await
    }

    /// Asks the house again for a token whose reply was lost; it is the same request, so it is sold once.
    ///
    /// # Errors
    /// [`Error`]; the reservation is forgotten where the house's answer proves that nothing was set aside, and where nothing of it could be
    /// spent for a week ([`Error::GivenUp`]).
    pub async fn complete(&self, id: TokenId) -> Result<TokenId, Error> {
        let pending = {
            let state = self.state.lock().await;
            let found = state.wallet.pending().find(|(known, _)| *known == id);
            found.map(|(_, pending)| pending.clone()).ok_or(WalletError::Unknown(id))?
        };
        let done = self.reserve(id, &pending, false).await;
        match done {
            Err(last) if pending.is_given_up(self.now()) && self.is_pending(id).await => {
                self.state.lock().await.write(&Entry::NotReserved { id })?;
                Err(Error::GivenUp { token: id, budget: pending.budget, last: Box::new(last) })
            }
            done => done,
        }
    }

    /// Completes every reservation whose outcome is unknown; gives what is still unknown, with the reason, and what was given up.
    pub async fn reconcile(&self) -> Vec<(TokenId, Error)> {
        let pending: Vec<TokenId> = self.state.lock().await.wallet.pending().map(|(id, _)| id).collect();
        let mut unknown = Vec::new();
        for id in pending {
            match self.complete(id).await {
                Err(error @ Error::GivenUp { .. }) => unknown.push((id, error)),
                Err(error) if self.is_pending(id).await => unknown.push((id, error)),
                _ => {}
            }
        }
        unknown
    }

    async fn is_pending(&self, id: TokenId) -> bool {
        self.state.lock().await.wallet.pending().any(|(known, _)| known == id)
    }

    /// Asks, and again where that may cure it: what a later answer proves is another thing than what the first one would have.
    async fn reserve(&self, id: TokenId, pending: &Pending, mut is_first: bool) -> Result<TokenId, Error> {
        for pause in PAUSES {
            match self.reserve_once(id, pending, is_first).await {
                Err(error) if may_be_cured(&error) && self.is_pending(id).await => {
                    is_first = false;
                    self.before_another_try(&error, pause).await;
                }
                done => return done,
            }
        }
        self.reserve_once(id, pending, is_first).await
    }

    async fn reserve_once(&self, id: TokenId, pending: &Pending, is_first: bool) -> Result<TokenId, Error> {
        let (key, ask) = pending.key().zip(pending.request(id)).ok_or(WalletError::Journal)?;
        let door = self.house().await?;
        let reply: Result<house::ReservationReply, Error> =
            door.post_signed("/v1/reservations", &ask, self.member()?, &self.world).await;
        self.world.at("buy.after");
        match reply {
            Ok(reply) => {
                let token = self.verified(&reply.token, &key, pending.budget)?;
                if token.id != id || token.audience() != pending.node {
                    return Err(Error::Missing("the token that was asked for"));
                }
                self.take(&reply.token, &key, pending.budget).await
            }
            Err(error) => {
                let refused = error.code().is_some_and(|code| pending.is_refused(code, is_first, self.now()));
                if refused || (is_first && error.is_unsent()) {
                    self.state.lock().await.write(&Entry::NotReserved { id })?;
                }
                Err(error)
            }
        }
    }

    /// A budget-0 token that the owner's own node issues (rule 9).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_token(&self, model: &ModelId) -> Result<TokenId, Error> {
        let target = self.target(model).await?;
        let key = SecretKey::from_seed((self.world.entropy)());
        let ask = api::OwnTokenRequest { holder: key.public(), models: vec![model.clone()], valid_s: VALID_S };
        let door = self.door(target.node).await?;
        let reply: api::OwnTokenReply = door.post_signed("/comity/v1/tokens", &ask, &key, &self.world).await?;
        let token = self.verified(&reply.token, &key, Amount::ZERO)?;
        if token.audience() != target.node {
            return Err(Error::Missing("a token of the node that was asked"));
        }
        self.take(&reply.token, &key, Amount::ZERO).await
    }

    pub(super) fn verified(
        &self,
        bytes: &[u8],
        key: &SecretKey,
        budget: Amount,
    ) -> Result<comity_wire::Verified<Token>, Error> {
        let signed = Signed::<Token>::decode(bytes).map_err(Error::Unverified)?;
        let issuer = signed.unverified().issuer();
        let roster = self.seen.directory.roster();
        let org = roster.organisation(issuer).ok_or(Error::Missing("the token's issuer on the roster"))?;
        let keys: Vec<PublicKey> = org.issuers.iter().map(|issuer| issuer.key).collect();
        let token = signed.verify_any(&keys).map_err(Error::Unverified)?;
        if token.holder() != &key.public() || token.terms.budget != budget {
            return Err(Error::Missing("a token with the key and the budget that were asked for"));
        }
        Ok(token)
    }

    async fn take(&self, token: &[u8], key: &SecretKey, budget: Amount) -> Result<TokenId, Error> {
        let chain = Chain { token: token.to_vec(), blocks: Vec::new() };
        self.adopt(&chain.to_bytes(), key, budget).await
    }

    /// A token with room for the call, drawn within the user's limits where none is there. The caller holds `funding`.
    pub(super) async fn fund(&self, target: &Target, query: &Query) -> Result<TokenId, Error> {
        let demand = query.demand(self.output_ceiling(target));
        let needed_under = |tariff: &Tariff| match (query.max_charge, query.demanded.output_tokens) {
            (Some(max), _) => Ok(max),
            (None, Some(_)) => tariff.worst_case(&demand).map_err(Error::Unpriced),
            (None, None) => tariff.least_charge(query.op).map_err(Error::Unpriced),
        };
        let mut needed = needed_under(&target.tariff)?;
        // A token that pins a dearer one has to hold as much, or the next is drawn.
        for pinned in Box::pin(self.pinned(target, &query.model, query.op)).await? {
            needed = needed.max(needed_under(&pinned)?);
        }
        let named = self.approved(query).await?;
        let names = Naming { grant: named.first().copied(), release: query.release };
        if let Some(token) = self.funded(target, query, needed, &names).await? {
            return Ok(token);
        }
        if let Some(asked) = query.release.filter(|asked| target.summary.release != *asked) {
            return Err(Error::OtherRelease { pinned: target.summary.release, asked });
        }
        let open = |row: &comity_wire::object::OpTier| row.op == query.op && row.tier == Tier::Open;
        let worst = target.tariff.worst_case(&demand).map_err(Error::Unpriced)?;
        if worst.is_zero() && named.is_empty() && target.summary.ops.iter().any(open) {
            return match self.own_token(&query.model).await {
                // A hub connects nobody without a token for the node, not even to be given one there. The house's own of
                // budget 0 is as good, and costs nothing either.
                Err(error) if error.is_without_pass() && self.profile.project.is_some() => {
                    self.draw((&query.model, VALID_S), Amount::ZERO, DEPTH, None, Vec::new()).await
                }
                drawn => drawn,
            };
        }
        // What was asked for and never came is asked for again before anything else is drawn for the same model. Once nothing more is
        // sold for it, it stands in nobody's way: it counts for the limit, and so may be drawn beside.
        for id in self.pending_for(target.node, &query.model).await {
            match self.complete(id).await {
                Ok(_) => {}
                Err(_) if !self.is_pending(id).await => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(token) = self.funded(target, query, needed, &names).await? {
            return Ok(token);
        }
        let limits = self.profile.limits;
        if needed > limits.token {
            return Err(Error::TokenLimit { limit: limits.token, needed });
        }
        let budget = self.budget(&query.model, needed).await?;
        let drawn = self.state.lock().await.wallet.drawn(self.now());
        let budget = within_total(budget, limits.total.saturating_sub(drawn), needed);
        let draw = |budget| self.draw((&query.model, VALID_S), budget, DEPTH, Some(limits.total), named.clone());
        match draw(budget).await {
            // The last of an award is less than a token of the usual size.
            Err(error) => match available(&error).filter(|left| *left >= needed && !left.is_zero() && *left < budget) {
                Some(left) => draw(left).await,
                None => Err(error),
            },
            drawn => drawn,
        }
    }

    /// What is drawn at once: the limit of the profile, or what is left under its mandate where that is less. Where it is too little for
    /// the call the house says so.
    async fn budget(&self, model: &ModelId, needed: Amount) -> Result<Amount, Error> {
        let limit = self.profile.limits.token;
        let Some(mandate) = self.profile.mandate else { return Ok(limit) };
        let stands = self.mandate(mandate).await?;
        let today = stands.cap_per_day.saturating_sub(stands.drawn_today);
        let of_model = stands.by_model.iter().find(|row| row.model.as_ref() == Some(model));
        let of_model = of_model.and_then(|row| row.cap.map(|cap| cap.saturating_sub(row.drawn))).unwrap_or(Amount::MAX);
        let left = stands.cap.saturating_sub(stands.drawn).min(today).min(of_model);
        Ok(if left.is_zero() || left < needed { limit } else { limit.min(left) })
    }

    async fn funded(
        &self,
        target: &Target,
        query: &Query,
        needed: Amount,
        names: &Naming,
    ) -> Result<Option<TokenId>, Error> {
        let state = self.state.lock().await;
        let purse = state.wallet.purse_for(target.node, &query.model, query.op, needed, names, self.now())?;
        // Where nothing can be drawn, the call is refused for the budget that is there, not for the lack of a project.
        let serves = |purse: &&crate::wallet::Purse| {
            purse.free() >= needed || purse.budget().is_zero() || self.profile.project.is_none()
        };
        Ok(purse.filter(serves).map(crate::wallet::Purse::id))
    }

    async fn pending_for(&self, node: NodeId, model: &ModelId) -> Vec<TokenId> {
        let state = self.state.lock().await;
        let now = self.now();
        let is_of = |pending: &Pending| pending.node == node && pending.model == *model && now < pending.unsold_from();
        let pending = state.wallet.pending().filter(|(_, pending)| is_of(pending));
        pending.map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_drawn_than_the_wallets_limit_leaves_and_no_less_than_a_call_needs() {
        let drawn = |budget, left, needed| {
            within_total(Amount::from_ucr(budget), Amount::from_ucr(left), Amount::from_ucr(needed)).ucr()
        };
        assert_eq!(drawn(100, 500, 10), 100, "a token of the usual size");
        assert_eq!(drawn(100, 60, 10), 60, "what is left");
        assert_eq!(drawn(100, 60, 60), 60);
        // Both are more than what is left: the limit is told, and how far it is from enough.
        assert_eq!((drawn(100, 60, 61), drawn(100, 0, 0)), (61, 100));
    }
}
