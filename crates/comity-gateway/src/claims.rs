//! Claims and finals on their way to the house.
//!
//! A claim is stored before it is sent and sent again unchanged until it is answered, so that node and house agree on
//! what was settled last whatever was lost between them.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_wire::api::advisory::AdvisoriesReply;
use comity_wire::api::challenge::{AnswerRequest, Challenge, ChallengesReply};
use comity_wire::api::clearing::{
    ClaimReply, ClaimRequest, FinalReply, FinalRequest, HouseReply, Restored, SettledLane, SignedBytes,
};
use comity_wire::api::count::{CountReply, CountRequest, CountsReply};
use comity_wire::api::credit::{CreditNoteReply, CreditNoteRequest};
use comity_wire::cbor::{Bytes, List};
use comity_wire::object::{Acknowledgement, Claim, ClaimLane, IssuerUse, Organisation, Receipt};
use comity_wire::time::SKEW_S;
use comity_wire::{Code, Digest, NodeId, OrgId, Signed, TokenId, cose};
use futures::future::BoxFuture;
use tracing::{debug, error, info, warn};

use crate::control::token_of;
use crate::gateway::{Gateway, Inner};
use crate::spend::{Account, Change, ClaimPart, LaneKey, due, proof};
use crate::store::StoreError;
use crate::store::planned::RUNS_KEPT_S;
use crate::writer::WriteError;

/// The clearing house as the gateway sees it. The node implements it over HTTPS.
pub trait House: Send + Sync {
    /// `POST /v1/claims` at the house that issued the token.
    fn claim(&self, house: OrgId, ask: ClaimRequest) -> BoxFuture<'_, Result<ClaimReply, HouseError>>;
    /// `POST /v1/finals`.
    fn final_(&self, house: OrgId, ask: FinalRequest) -> BoxFuture<'_, Result<FinalReply, HouseError>>;
    /// `GET /v1/house`.
    fn about(&self, house: OrgId) -> BoxFuture<'_, Result<HouseReply, HouseError>>;
    /// `GET /v1/challenges`.
    fn challenges(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<ChallengesReply, HouseError>>;
    /// `POST /v1/challenges/{id}/answers`.
    fn answer(
        &self,
        house: OrgId,
        challenge: Digest,
        ask: AnswerRequest,
    ) -> BoxFuture<'_, Result<Challenge, HouseError>>;
    /// `GET /v1/advisories`, every page.
    fn advisories(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<AdvisoriesReply, HouseError>>;
    /// `GET /v1/counts`.
    fn counts(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<CountsReply, HouseError>>;
    /// `POST /v1/counts`.
    fn count(&self, house: OrgId, ask: CountRequest) -> BoxFuture<'_, Result<CountReply, HouseError>>;
    /// `POST /v1/credit-notes` at the house that issued the token.
    fn credit_note(&self, house: OrgId, ask: CreditNoteRequest) -> BoxFuture<'_, Result<CreditNoteReply, HouseError>>;
}

/// Why the house gave no answer, or said no.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct HouseError {
    /// `None` where it was not reached.
    pub code: Option<Code>,
    pub message: String,
    /// With `settled_differs`: where the house stands.
    pub settled: Vec<SettledLane>,
    /// When the house wants to be asked again.
    pub retry_after_s: Option<u64>,
}

/// Lanes, and chains, of one claim.
const LANES_PER_CLAIM: usize = 64;
/// How often, and how many times, a gateway looks whether another has ended its claim. After that it is left to that one,
/// which sees a final that was asked for meanwhile.
const CLAIM_LOOK: Duration = Duration::from_millis(250);
const CLAIM_LOOKS: usize = 40;
/// An account that nobody uses stays in memory for as long, and about twice as long at most: a sweep waits while claims are sent.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// One call to the house.
const HOUSE_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the house: {0}")]
    House(#[from] HouseError),
    #[error("what is stored for a claim does not fit together: {0}")]
    Stored(&'static str),
}

impl Gateway {
    /// Sends claims at least hourly, answers the house's challenges, counts for it, and sends finals as soon as they are asked for, until [`Gateway::stop`].
    pub async fn claims(&self) {
        let inner = &*self.0;
        let every = Duration::from_secs(inner.config.claim_every_s.clamp(1, 3_600));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ticked = tokio::select! {
                biased;
                () = inner.stop.cancelled() => return,
                _ = sweeps.tick() => {
                    inner.ledger.sweep();
                    continue;
                }
                () = inner.claim_now.notified() => false,
                _ = ticks.tick() => true,
            };
            if ticked {
                self.houses_look().await;
            }
            if let Err(error) = forget(inner).await {
                warn!(%error, "windows and executions that have ended were not dropped");
            }
            let hour = u32::try_from(inner.now().seconds() / 3_600).unwrap_or(u32::MAX);
            let before = hour.saturating_sub(comity_guard::volume::HISTORY_HOURS);
            if let Err(error) = inner.ledger.store().volume_forget(before).await {
                warn!(%error, "counts of flags that are too old were not dropped");
            }
            self.claim_all().await;
            if ticked {
                self.answer_challenges().await;
                self.send_counts().await;
                self.bring_credits().await;
                self.take_advice().await;
            }
        }
    }

    /// Asks each house whether its books came back from a backup. What it may have forgotten since is claimed again: it falls
    /// due, and the next claims find it. A house that does not answer is asked the next time.
    pub async fn houses_look(&self) {
        let inner = &*self.0;
        let Some(house) = &inner.house else { return };
        for org in houses(inner) {
            let restored = match bounded(house.about(org)).await {
                Ok(about) => about.restored,
                Err(error) => {
                    debug!(%org, %error, "the house does not say how it is");
                    continue;
                }
            };
            if let Some(restored) = restored
                && let Err(error) = claim_again(inner, org, restored).await
            {
                warn!(%org, %error, "what the house may have forgotten is not due again yet; it is tried again");
            }
        }
    }

    /// Claims everything that is due, once. Returns how many tokens are settled as far as they can be.
    pub async fn claim_all(&self) -> usize {
        let inner = &*self.0;
        let tokens = match inner.ledger.store().tokens_due().await {
            Ok(tokens) => tokens,
            Err(error) => {
                error!(%error, "cannot read what is due");
                return 0;
            }
        };
        let mut settled = 0;
        for token in tokens {
            if inner.stop.is_cancelled() {
                break;
            }
            settled += usize::from(settle(inner, token).await);
        }
        settled
    }
}

/// The houses of the federation.
pub(crate) fn houses(inner: &Inner) -> Vec<OrgId> {
    let roster = inner.directory.roster();
    let sells = |org: &&Organisation| org.issuers.iter().any(|issuer| issuer.use_ == IssuerUse::Budget);
    roster.organisations.iter().filter(sells).map(|org| org.id).collect()
}

/// Makes everything due again that a house may have forgotten: all under its tokens whose time was not over when its backup
/// was made. Once for each time that it came back.
async fn claim_again(inner: &Inner, house: OrgId, restored: Restored) -> Result<(), ClaimError> {
    let store = inner.ledger.store();
    if store.house_restored(house).await? == Some(restored.restored_at) {
        return Ok(());
    }
    let _one_at_a_time = inner.claiming.lock().await;
    let mut again = 0_u64;
    for token in store.tokens().await? {
        let chains = store.chains(token).await?;
        let Some(terms) = chains.iter().find_map(|(_, chain)| token_of(chain)) else { continue };
        let is_over = terms.terms.settle_by < restored.backup_at;
        if terms.issuer() != house || terms.terms.budget.is_zero() || is_over {
            continue;
        }
        let root = store.account(token).await?.ok_or(ClaimError::Stored("no account"))?.root;
        let account = inner.ledger.account(token, root).await?;
        // From the beginning of each lane: a house that remembers more says where it stands.
        let lanes = account.lanes.keys().map(|key| (*key, 0)).collect();
        inner.ledger.change(token, root, Change::Settled { token, lanes }).await?;
        if store.is_final_delivered(token).await? {
            store.final_forgotten(token).await?;
        }
        again += 1;
    }
    let credits = store.credits_again(house, restored.backup_at).await?;
    store.house_restored_put(house, restored.restored_at).await?;
    warn!(%house, number = restored.number, tokens = again, credits, "the house came back from a backup: it is claimed again");
    Ok(())
}

/// Claims what is due of a token at this moment and delivers its final, if it has one. Whether the house has all of that.
pub(crate) async fn settle(inner: &Inner, token: TokenId) -> bool {
    match try_settle(inner, token).await {
        Ok(done) => done,
        Err(error) => {
            warn!(%token, %error, "not settled yet; it is tried again");
            false
        }
    }
}

/// One at a time, among all gateways that share the store.
async fn try_settle(inner: &Inner, token: TokenId) -> Result<bool, ClaimError> {
    let _one_at_a_time = inner.claiming.lock().await;
    let Some(rounds) = inner.ledger.store().rounds() else { return settle_alone(inner, token).await };
    for _ in 0..CLAIM_LOOKS {
        if rounds.claim_begin(token).await? {
            let settled = settle_alone(inner, token).await;
            rounds.claim_end(token).await?;
            return settled;
        }
        tokio::time::sleep(CLAIM_LOOK).await;
    }
    info!(%token, "another gateway of this node is settling it");
    Ok(false)
}

async fn settle_alone(inner: &Inner, token: TokenId) -> Result<bool, ClaimError> {
    let store = inner.ledger.store();
    let chains: BTreeMap<Digest, Vec<u8>> = store.chains(token).await?.into_iter().collect();
    let terms = chains.values().find_map(|chain| token_of(chain)).ok_or(ClaimError::Stored("no chain"))?;
    let root = store.account(token).await?.ok_or(ClaimError::Stored("no account"))?.root;
    if terms.terms.budget.is_zero() {
        // Nothing to settle (rule 9): what is due is done.
        let account = inner.ledger.account(token, root).await?;
        let lanes = due(&account).into_iter().map(|part| (part.key, part.n, part.acknowledged_n)).collect::<Vec<_>>();
        if !lanes.is_empty() {
            inner.ledger.change(token, root, Change::Claimed { token, lanes }).await?;
        }
        if account.final_.is_some() {
            store.final_delivered(token).await?;
        }
        return Ok(false);
    }
    let Some(house) = &inner.house else { return Ok(false) };
    let issuer = terms.issuer();
    let (mut corrected, mut claims, mut claims_max) = (false, 0, None);
    loop {
        let account = inner.ledger.account(token, root).await?;
        // Under a token that is still worked with something is due for ever, and others wait for their turn.
        if account.final_.is_none() && claims >= *claims_max.get_or_insert_with(|| claims_due(&account)) {
            break;
        }
        let bytes = match &account.pending {
            Some(bytes) => bytes.clone(),
            None => match build(inner, &account, &chains).await? {
                Some((number, bytes)) => {
                    let change = Change::ClaimPending { token, number, bytes: Some(bytes.clone()) };
                    inner.ledger.change(token, root, change).await?;
                    bytes
                }
                None => break,
            },
        };
        inner.fail("claim.before_send");
        let ask = ClaimRequest { claim: SignedBytes::new(bytes.clone()).map_err(|_| ClaimError::Stored("claim"))? };
        let reply = match bounded(house.claim(issuer, ask)).await {
            Ok(reply) => reply,
            Err(refused) if refused.code == Some(Code::SettledDiffers) && !corrected => {
                // Node or house was set back to a backup: prove from where the house stands. Once, whatever it says then.
                warn!(%token, lanes = refused.settled.len(), "the house settled other receipts last than this node knows of");
                corrected = true;
                let lane = |lane: &SettledLane| (LaneKey { leaf: lane.leaf, lane: lane.lane }, lane.n);
                let lanes = refused.settled.iter().map(lane).collect();
                inner.ledger.change(token, root, Change::Settled { token, lanes }).await?;
                continue;
            }
            Err(refused) => return refused_by_house(inner, token, root, refused).await,
        };
        (corrected, claims) = (false, claims + 1);
        info!(%token, number = reply.number, settled = %reply.settled, exceptions = reply.exceptions.len(), "claim was answered");
        let lanes = claimed_by(&bytes)?;
        inner.ledger.change(token, root, Change::Claimed { token, lanes }).await?;
    }
    let account = inner.ledger.account(token, root).await?;
    let Some(signed_final) = account.final_ else { return Ok(!account.closed) };
    if store.is_final_delivered(token).await? {
        return Ok(true);
    }
    inner.fail("final.before_send");
    let ask = FinalRequest { final_: SignedBytes::new(signed_final).map_err(|_| ClaimError::Stored("final"))? };
    match bounded(house.final_(issuer, ask)).await {
        Ok(reply) => info!(%token, refunded = %reply.refunded, "final was delivered"),
        // What was set aside has gone home at `settle_by`, as rule 8 has it: this final moves nothing any more.
        Err(refused)
            if refused.code.is_some_and(|code| !code.should_retry())
                && account.lanes.is_empty()
                && terms.terms.settle_by < inner.now() =>
        {
            info!(%token, why = %refused, "the house does not take the final of a token without charges, whose time is over");
        }
        Err(refused) => return Err(refused.into()),
    }
    store.final_delivered(token).await?;
    Ok(true)
}

pub(crate) async fn bounded<T>(call: BoxFuture<'_, Result<T, HouseError>>) -> Result<T, HouseError> {
    let silent = |_| {
        let message = format!("no answer within {} s", HOUSE_WAIT.as_secs());
        HouseError { code: None, message, settled: Vec::new(), retry_after_s: None }
    };
    tokio::time::timeout(HOUSE_WAIT, call).await.map_err(silent)?
}

/// A house that was not reached is asked again with the same claim. One that knows newer receipts than this node tells it
/// that its store was set back (rule 9). Any other no: the next claim is made afresh.
async fn refused_by_house(
    inner: &Inner,
    token: TokenId,
    root: Digest,
    refused: HouseError,
) -> Result<bool, ClaimError> {
    let Some(code) = refused.code.filter(|code| !code.should_retry()) else { return Err(refused.into()) };
    error!(%token, %code, message = refused.message, "the house refused a claim");
    if code == Code::ClaimOlder {
        inner.ledger.change(token, root, Change::Supersede { token, at: root }).await?;
    }
    inner.ledger.change(token, root, Change::ClaimPending { token, number: 0, bytes: None }).await?;
    Err(refused.into())
}

/// How many claims have all of what is due at this moment: the one that has no answer yet, and one for each 64 lanes.
fn claims_due(account: &Account) -> usize {
    usize::from(account.pending.is_some()) + due(account).len().div_ceil(LANES_PER_CLAIM)
}

/// The next claim, signed; `None` where nothing is due.
async fn build(
    inner: &Inner,
    account: &Account,
    chains: &BTreeMap<Digest, Vec<u8>>,
) -> Result<Option<(u64, Vec<u8>)>, ClaimError> {
    let parts: Vec<ClaimPart> = due(account).into_iter().take(LANES_PER_CLAIM).collect();
    if parts.is_empty() || account.superseded.contains(&account.root) {
        return Ok(None);
    }
    let store = inner.ledger.store();
    let (mut lanes, mut leaves, mut acknowledgements) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for part in &parts {
        let newest = store.charge_by_n(account.token, part.key, part.n).await?.ok_or(ClaimError::Stored("receipt"))?;
        let history = store.history(account.token, part.key, part.n - 1).await?;
        let inclusion = List::new(proof(&history, part.settled_n)).map_err(|_| ClaimError::Stored("history"))?;
        let receipt = Bytes::new(newest.receipt).map_err(|_| ClaimError::Stored("receipt"))?;
        lanes.push(ClaimLane { receipt, settled_n: part.settled_n, inclusion });
        let chain = chains.get(&part.key.leaf).ok_or(ClaimError::Stored("chain of a leaf"))?;
        leaves.insert(part.key.leaf, Bytes::new(chain.clone()).map_err(|_| ClaimError::Stored("chain"))?);
        if let Some(id) = part.acknowledgement
            && let Some(bytes) = store.acknowledgement(account.token, id).await?
        {
            acknowledgements.insert(id, Bytes::new(bytes).map_err(|_| ClaimError::Stored("acknowledgement"))?);
        }
    }
    let number = account.claims + 1;
    let claim = Claim {
        token: account.token,
        node: inner.node,
        number,
        chains: List::new(leaves.into_values().collect()).expect("one chain for each of 64 lanes"),
        lanes: List::new(lanes).expect("64 lanes"),
        acknowledgements: List::new(acknowledgements.into_values().collect()).expect("one for each of 64 lanes"),
        at: inner.now(),
    };
    Ok(Some((number, cose::sign(&claim, &inner.receipt_key).bytes().to_vec())))
}

/// What a claim of our own said, read back from its bytes: (lane, n, acknowledged n).
fn claimed_by(bytes: &[u8]) -> Result<Vec<(LaneKey, u64, u64)>, ClaimError> {
    let stored = |_| ClaimError::Stored("own claim");
    let signed = Signed::<Claim>::decode(bytes).map_err(stored)?;
    let claim = signed.unverified();
    let acks: Vec<Acknowledgement> = claim
        .acknowledgements
        .iter()
        .filter_map(|bytes| Signed::<Acknowledgement>::decode(bytes).ok())
        .map(|ack| ack.unverified().clone())
        .collect();
    let mut lanes = Vec::new();
    for lane in &claim.lanes {
        let receipt = Signed::<Receipt>::decode(&lane.receipt).map_err(stored)?;
        let receipt = receipt.unverified();
        let of_lane = acks
            .iter()
            .flat_map(|ack| ack.lanes.iter())
            .filter(|ack| (ack.leaf, ack.lane) == (receipt.leaf, receipt.lane));
        let acknowledged_n = of_lane.map(|ack| ack.n).max().unwrap_or(0);
        lanes.push((LaneKey { leaf: receipt.leaf, lane: receipt.lane }, receipt.n, acknowledged_n));
    }
    Ok(lanes)
}

/// Drops windows that have ended, slots that were asked about of which everything is stale by now, and executions that nobody looks up any more.
async fn forget(inner: &Inner) -> Result<(), StoreError> {
    let (store, now) = (inner.ledger.store(), inner.now());
    store.paces_forget(now).await?;
    store.asked_forget(now.minus(SKEW_S)).await?;
    store.runs_forget(now.minus(RUNS_KEPT_S)).await
}
