//! Challenges: which receipts a node must show, what it shows, and what follows where it does not.

use std::collections::{BTreeMap, BTreeSet};

use comity_ledger::Db;
use comity_token::{Capability, verify_for_settlement};
use comity_wire::api::challenge::{
    ASKED_MAX, AnswerRequest, Challenge, ChallengeCause, ChallengeRequest, ChallengeState, ChallengesReply, SHOWN_MAX,
};
use comity_wire::cbor::Bytes;
use comity_wire::object::{Claim, Receipt};
use comity_wire::{Amount, Digest, NodeId, PublicKey, Signed, Timestamp, TokenId};

use super::Clearing;
use super::acts::text;
use super::claims::Timed;
use crate::failure::{Failure, chain};
use crate::http::pages::{Page, cut};
use crate::settlement::draw::OfTail;
use crate::settlement::shown::{self, Newest};
use crate::settlement::{CHALLENGE_S, Lane, LaneKey, draw};
use crate::store;
use crate::store::challenges::{ChallengeRow, ToDraw};
use crate::store::tokens::TokenRow;

const CHALLENGED: &str = "challenges are shown to the node, and answered by it, with its transport key";
/// Challenges that the operator is shown at once.
const SHOWN_AT_ONCE_MAX: u32 = 100;
/// Open challenges by holders under one token.
const BY_HOLDER_MAX: u64 = 64;
/// Claims that are drawn from at once: each may have 2 MiB.
const CLAIMS_AT_ONCE: u32 = 16;
/// Claims of a token that are looked through for the newest receipt of a lane, where its books are of before.
const CLAIMS_LOOKED_AT_MAX: u32 = 10_000;

/// A challenge's place among those that wait: when it was posted, and its id.
fn place(row: &ChallengeRow) -> Vec<u8> {
    [&row.posted_at.0.to_be_bytes()[..], row.id.as_bytes()].concat()
}

fn place_read(place: [u8; 40]) -> (Timestamp, Digest) {
    let (at, id) = place.split_at(8);
    let at = u64::from_be_bytes(at.try_into().expect("8 of 40 bytes"));
    // A cursor that somebody made up lies somewhere, and not beyond all numbers.
    (Timestamp(at.min(i64::MAX.unsigned_abs())), Digest(id.try_into().expect("32 of 40 bytes")))
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turned {
    pub(super) posted: u64,
    pub(super) missed: u64,
    pub(super) failed: u64,
}

impl Clearing {
    /// What waits for a node, the oldest first.
    ///
    /// # Errors
    /// [`Failure::NotYours`] where it is not the node that asks.
    pub(crate) async fn challenges_of(
        &self,
        caller: &PublicKey,
        node: NodeId,
        page: &Page,
    ) -> Result<ChallengesReply, Failure> {
        self.node_asking(caller, node, CHALLENGED).await?;
        let after = page.place::<40>()?.map(place_read);
        let rows = store::challenges::open_of_node(&mut self.read().await?.db(), node, after, page.limit + 1).await?;
        let (rows, next) = cut(page, rows, place);
        Ok(ChallengesReply { challenges: rows.iter().map(|row| self.told(row)).collect(), next })
    }

    /// Those that are open, then the newest.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn challenges(&self) -> Result<Vec<Challenge>, Failure> {
        let rows = store::challenges::all(&mut self.read().await?.db(), SHOWN_AT_ONCE_MAX).await?;
        Ok(rows.iter().map(|row| self.told(row)).collect())
    }

    /// A member says that what nobody acknowledged of a lane is not owed: the node has to show it now, and not when its time has
    /// come. The same again changes nothing.
    ///
    /// # Errors
    /// [`Failure`] where there is nothing to challenge.
    pub async fn challenge(&self, caller: &PublicKey, request: &ChallengeRequest) -> Result<Challenge, Failure> {
        text("the reason", &request.reason)?;
        let (token, key) = (request.token, LaneKey { leaf: request.leaf, lane: request.lane });
        let not_found = || Failure::NotFound { what: format!("token {token}") };
        let mut conn = self.read().await?;
        let row = store::tokens::token_find(&mut conn.db(), token).await?.ok_or_else(not_found)?;
        Self::member_of(&mut conn.db(), caller, row.project.ok_or_else(not_found)?).await?;
        drop(conn);
        let (now, reason) = (self.now(), request.reason.clone());
        let posted = self
            .write(move |conn| Box::pin(async move { challenge_in_tx(conn, &row, key, reason, now).await }))
            .await?;
        tracing::warn!(%token, challenge = %posted.id, "a holder challenges what was not acknowledged");
        Ok(self.told(&posted))
    }

    /// Takes what a node shows. When all that was asked for is there the challenge is over; one of a tail then pays at once.
    ///
    /// # Errors
    /// [`Failure`] where something does not prove what it should; then nothing of this answer is kept.
    pub async fn answer(&self, caller: &PublicKey, id: Digest, request: &AnswerRequest) -> Result<Challenge, Failure> {
        if request.shown.len() > SHOWN_MAX {
            return Err(Failure::Limit { what: "receipts in one answer", max: SHOWN_MAX.to_string() });
        }
        let not_found = move || Failure::NotFound { what: format!("challenge {id}") };
        let mut conn = self.read().await?;
        let row = store::challenges::find(&mut conn.db(), id).await?.ok_or_else(not_found)?;
        let token = store::tokens::token_find(&mut conn.db(), row.token).await?.ok_or_else(not_found)?;
        let claim = store::challenges::claim_bytes(&mut conn.db(), row.claim).await?.ok_or_else(not_found)?;
        let lanes = store::settlement::lanes(&mut conn.db(), row.token).await?;
        drop(conn);
        let acknowledged = shown::Acknowledged::of(lanes.get(&row.key));
        let known = self.node_asking(caller, token.node, CHALLENGED).await?;
        let chain = self.chain_of(&claim, token.node, row.key)?;
        let invalid = |misfit: shown::Misfit| Failure::invalid(crate::failure::chain(&misfit));
        let (mut numbers, mut charges, mut slots) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
        for item in &request.shown {
            let proved = shown::shown(item, row.key, &row.newest, acknowledged, &chain, &known.receipt_keys);
            let proved = proved.map_err(invalid)?;
            shown::distinct(&mut slots, &proved.slots).map_err(invalid)?;
            numbers.insert(proved.n);
            charges.push(proved.charges);
        }
        let (now, calendar, house) = (self.now(), self.calendar(), self.clone());
        let row = self
            .write(move |conn| {
                Box::pin(async move {
                    let Some(mut row) = store::challenges::find(conn, id).await? else { return Err(not_found()) };
                    if row.state != ChallengeState::Open {
                        return Ok(row);
                    }
                    shown::distinct(&mut row.slots, &slots).map_err(invalid)?;
                    let is_all = row.take(&numbers, &charges);
                    store::challenges::shown_in_tx(conn, &row).await?;
                    if is_all {
                        store::challenges::end_in_tx(conn, id, true, now).await?;
                        row.state = ChallengeState::Answered;
                        match row.cause {
                            ChallengeCause::Holder | ChallengeCause::Tail => {
                                // An auditor knows the claim from the log, and no challenge.
                                let proven = Timed::Proven(row.key, row.upto, row.claim);
                                house.time_in_tx(conn, row.token, proven, &calendar, now).await?;
                            }
                            ChallengeCause::Sample => {}
                        }
                    }
                    Ok(row)
                })
            })
            .await?;
        Ok(self.told(&row))
    }

    /// Draws from claims that were sealed, and ends what nobody answered in its time.
    pub(super) async fn challenges_turn(&self) -> Result<Turned, Failure> {
        let mut turned = Turned::default();
        self.challenges_miss(&mut turned).await?;
        turned.posted = self.challenges_draw().await?;
        Ok(turned)
    }

    async fn challenges_draw(&self) -> Result<u64, Failure> {
        let mut posted = 0;
        while let Some(more) = self.challenges_draw_some().await? {
            posted += more;
        }
        Ok(posted)
    }

    /// How many challenges were posted; none where no claim waits for it.
    async fn challenges_draw_some(&self) -> Result<Option<u64>, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let state = store::log::state(&mut seen).await?;
        let signed = store::log::checkpoint(&mut seen, state.epoch).await?;
        let waiting = store::challenges::to_draw(&mut seen, CLAIMS_AT_ONCE).await?;
        snapshot.rollback().await?;
        drop(conn);
        // Drawn by a checkpoint in which these claims are seen: one that nobody knew when they were made.
        let Some(signed) = signed.filter(|signed| signed.size == state.size && !waiting.is_empty()) else {
            return Ok(None);
        };
        let now = self.now();
        let mut posted = 0;
        for claim in waiting {
            let rows = match self.drawn(&claim, &signed.root, signed.size, now) {
                Ok(rows) => rows,
                Err(failure) => {
                    // One that cannot be read must not keep the others from being drawn.
                    tracing::error!(claim = %claim.id, error = %chain(&failure), "a claim cannot be drawn from");
                    Vec::new()
                }
            };
            let work = self.write(move |conn| {
                Box::pin(async move {
                    // Where another replica was quicker, what it drew stands: another checkpoint would draw others.
                    if !store::challenges::drawn_in_tx(conn, claim.id).await? {
                        return Ok(0);
                    }
                    for row in &rows {
                        store::challenges::insert_in_tx(conn, row).await?;
                    }
                    Ok(rows.len() as u64)
                })
            });
            posted += work.await?;
        }
        Ok(Some(posted))
    }

    fn drawn(&self, claim: &ToDraw, root: &Digest, size: u64, now: Timestamp) -> Result<Vec<ChallengeRow>, Failure> {
        let seed = draw::seed(root, &claim.id);
        if !draw::is_drawn(&seed, self.inner.config.sample_one_in) {
            return Ok(Vec::new());
        }
        let (mut spans, mut newest) = (BTreeMap::new(), BTreeMap::new());
        for (key, settled_n, of_lane) in lanes(&claim.bytes)? {
            spans.insert(key, (settled_n, of_lane.n));
            newest.insert(key, of_lane);
        }
        let drawn = draw::receipts(&seed, &spans, u64::from(self.inner.config.sample_receipts));
        let row = |(key, asked): (LaneKey, BTreeSet<u64>)| ChallengeRow {
            id: challenge_id(b"sample", &[claim.id.as_bytes(), key.leaf.as_bytes(), &key.lane.to_be_bytes()]),
            token: claim.token,
            key,
            cause: ChallengeCause::Sample,
            claim: claim.id,
            newest: newest[&key],
            asked,
            shown: BTreeSet::new(),
            amounts: BTreeSet::new(),
            covered: BTreeSet::new(),
            upto: newest[&key].total,
            slots: BTreeMap::new(),
            seed,
            log_size: size,
            blind: None,
            reason: String::new(),
            posted_at: now,
            state: ChallengeState::Open,
        };
        Ok(drawn.into_iter().map(row).collect())
    }

    /// Asks the node to show tails that have stood their time, each as a whole with what was claimed since. How many challenges were posted:
    /// none for a lane that is asked about already, nor before its claim lies in the log's newest checkpoint.
    pub(super) async fn tails_ask(&self, token: TokenId, keys: Vec<LaneKey>) -> Result<u64, Failure> {
        // Without a log's key there is no checkpoint to draw by.
        let Some(key) = self.inner.keys.log.as_ref().map(|log| log.secret.clone()) else { return Ok(0) };
        let now = self.now();
        self.write(move |conn| {
            Box::pin(async move {
                let window = store::tokens::token_find(conn, token).await?.map_or(Amount::ZERO, |row| row.window);
                let state = store::log::state(conn).await?;
                let signed = store::log::checkpoint(conn, state.epoch).await?;
                // What was sealed since it was signed is not in it.
                let Some(signed) = signed.filter(|signed| signed.size == state.size) else { return Ok(0) };
                let asked = store::challenges::tails_asked(conn, token).await?;
                let lanes = store::settlement::lanes(conn, token).await?;
                let mut posted = 0;
                for at in keys.into_iter().filter(|at| !asked.contains(at)) {
                    let Some(lane) = lanes.get(&at) else { continue };
                    // Something may have been shown since it was looked for.
                    let (done, most) = lane.to_prove(window);
                    if most <= done {
                        continue;
                    }
                    let id = tail_id(b"tail", token, at, (lane, most));
                    let (claim, newest) = match newest_of(conn, token, at, lane).await {
                        Ok(brought) => brought,
                        // What cannot be asked about must not keep the others of the token from being asked about.
                        Err(source @ Failure::Invalid { .. }) => {
                            tracing::error!(%token, lane = at.lane, error = %chain(&source), "a tail cannot be asked for");
                            continue;
                        }
                        Err(source) => return Err(source),
                    };
                    let is_known = store::challenges::find(conn, id).await?.is_some();
                    if is_known || !store::challenges::is_sealed(conn, claim).await? {
                        continue;
                    }
                    let blind = key.sign(&blinding(&id, &signed.root));
                    let seed = draw::blind_seed(&signed.root, &claim, &blind);
                    let row = of_tail(ChallengeCause::Tail, (id, token, at), (lane, window), (claim, newest), seed, now);
                    let row = ChallengeRow { log_size: signed.size, blind: Some(blind), ..row };
                    store::challenges::insert_in_tx(conn, &row).await?;
                    posted += 1;
                }
                Ok(posted)
            })
        })
        .await
    }

    async fn challenges_miss(&self, turned: &mut Turned) -> Result<(), Failure> {
        let (now, calendar) = (self.now(), self.calendar());
        let mut after = None;
        loop {
            let mut conn = self.read().await?;
            let posted = now.minus(CHALLENGE_S);
            let rows = store::challenges::open_since(&mut conn.db(), posted, after, SHOWN_AT_ONCE_MAX).await?;
            drop(conn);
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some((last.posted_at, last.id));
            for row in rows.into_iter().filter(|row| calendar.open_s(row.posted_at, now) >= CHALLENGE_S) {
                let (house, calendar, id) = (self.clone(), calendar.clone(), row.id);
                let ended =
                    self.write(move |conn| Box::pin(async move { house.miss_in_tx(conn, &row, &calendar, now).await }));
                match ended.await {
                    Ok(is_missed) => turned.missed += u64::from(is_missed),
                    Err(source) => {
                        // One that cannot be ended must not keep the others open.
                        let error = &source as &dyn std::error::Error;
                        tracing::error!(challenge = %id, error, "cannot end a challenge");
                        turned.failed += 1;
                    }
                }
            }
        }
    }

    /// Ends a challenge against its node. Not where it was answered since it was read, or another replica has ended it.
    async fn miss_in_tx(
        &self,
        conn: &mut Db<'_>,
        row: &ChallengeRow,
        calendar: &crate::settlement::Calendar,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        if !store::challenges::end_in_tx(conn, row.id, false, now).await? {
            return Ok(false);
        }
        tracing::error!(token = %row.token, challenge = %row.id, "a node did not show what its receipts rest on");
        match row.cause {
            ChallengeCause::Holder | ChallengeCause::Tail => {
                let stop = Timed::Stop(Some(row.key), row.id);
                self.time_in_tx(conn, row.token, stop, calendar, now).await?;
            }
            ChallengeCause::Sample => self.dispute_in_tx(conn, row.token, "challenge_missed", row.id, now).await?,
        }
        Ok(true)
    }

    /// The chain that a claim brought for a lane.
    fn chain_of(&self, claim: &[u8], node: NodeId, key: LaneKey) -> Result<Capability, Failure> {
        let signed = Signed::<Claim>::decode(claim)?;
        let chains = signed.unverified().chains.iter();
        let mut chains = chains.filter_map(|bytes| verify_for_settlement(bytes, &*self.inner.directory, node).ok());
        chains
            .find(|chain| chain.leaf() == key.leaf)
            .ok_or(Failure::Unreadable { table: "claim", what: "the chain of a lane" })
    }

    pub(super) fn told(&self, row: &ChallengeRow) -> Challenge {
        let due = row.posted_at.plus(CHALLENGE_S);
        Challenge {
            id: row.id,
            token: row.token,
            leaf: row.key.leaf,
            lane: row.key.lane,
            cause: row.cause,
            state: row.state,
            claim: row.claim,
            log_size: (row.cause != ChallengeCause::Holder).then_some(row.log_size),
            newest: row.newest.n,
            total: row.newest.total,
            left: row.asked.difference(&row.shown).copied().collect(),
            left_at: row
                .amounts
                .difference(&row.covered)
                .map(|at| Amount::new(at.cast_signed()).unwrap_or(Amount::ZERO))
                .collect(),
            blind: row.blind.map(|blind| Bytes::new(blind.to_vec()).expect("64 bytes")),
            due_at: self.calendar().moved(row.posted_at, due, self.now()),
        }
    }
}

fn challenge_id(what: &[u8], parts: &[&[u8]]) -> Digest {
    let mut all: Vec<&[u8]> = vec![b"comity/challenge/id/v1/", what];
    all.extend(parts);
    Digest::of_parts(&all)
}

/// The lanes of a claim in the books: from which receipt it goes on, and its newest one.
fn lanes(claim: &[u8]) -> Result<Vec<(LaneKey, u64, Newest)>, Failure> {
    let signed = Signed::<Claim>::decode(claim)?;
    let mut found = Vec::new();
    for lane in &signed.unverified().lanes {
        let signed = Signed::<Receipt>::decode(&lane.receipt)?;
        let receipt = signed.unverified();
        let newest = Newest { n: receipt.n, receipt: signed.id(), history: receipt.history, total: receipt.total };
        found.push((LaneKey { leaf: receipt.leaf, lane: receipt.lane }, lane.settled_n.unwrap_or(0), newest));
    }
    Ok(found)
}

/// What the log's key signs, so that nobody else knows beforehand what is drawn.
fn blinding(id: &Digest, root: &Digest) -> Vec<u8> {
    [&b"comity/challenge/blind/v1"[..], id.as_bytes(), root.as_bytes()].concat()
}

/// Of a challenge about a lane's tail, as it stands now, up to `most`: what lies above that is asked for by itself.
fn tail_id(what: &[u8], token: TokenId, key: LaneKey, (lane, most): (&Lane, Amount)) -> Digest {
    let (number, n, most) = (key.lane.to_be_bytes(), lane.n.to_be_bytes(), most.ucr().to_be_bytes());
    challenge_id(what, &[token.as_bytes(), key.leaf.as_bytes(), &number, &n, &most])
}

/// A challenge about the receipts of a lane after the last acknowledged one: all, or as many as are asked for at once.
fn of_tail(
    cause: ChallengeCause,
    (id, token, key): (Digest, TokenId, LaneKey),
    (lane, window): (&Lane, Amount),
    (claim, newest): (Digest, Newest),
    seed: Digest,
    now: Timestamp,
) -> ChallengeRow {
    let receipts = (lane.acknowledged_n.min(newest.n - 1), newest.n);
    let to_prove = lane.to_prove(window);
    let OfTail { numbers: asked, amounts } = draw::tail(&seed, receipts, to_prove, ASKED_MAX as u64);
    // All of its receipts show all of it; some of them what they were drawn from.
    let upto = if amounts.is_empty() { newest.total } else { to_prove.1 };
    ChallengeRow {
        id,
        token,
        key,
        cause,
        claim,
        newest,
        asked,
        shown: BTreeSet::new(),
        amounts,
        covered: BTreeSet::new(),
        upto,
        slots: BTreeMap::new(),
        seed,
        log_size: 0,
        blind: None,
        reason: String::new(),
        posted_at: now,
        state: ChallengeState::Open,
    }
}

async fn challenge_in_tx(
    conn: &mut Db<'_>,
    token: &TokenRow,
    key: LaneKey,
    reason: String,
    now: Timestamp,
) -> Result<ChallengeRow, Failure> {
    let id = token.id;
    let lanes_of = store::settlement::lanes(conn, id).await?;
    let lane = lanes_of.get(&key).ok_or_else(|| Failure::NotFound { what: format!("lane {} of {id}", key.lane) })?;
    let (done, most) = lane.to_prove(token.window);
    let challenge = tail_id(b"holder", id, key, (lane, most));
    if let Some(known) = store::challenges::find(conn, challenge).await? {
        return Ok(known);
    }
    // The house asks already: its answer says whether this is paid, and it draws as nobody could foresee.
    if let Some(open) = store::challenges::tail_open(conn, id, key).await? {
        return Ok(open);
    }
    if most <= done || lane.stopped.is_some() {
        return Err(Failure::invalid(
            "nothing of this lane waits: it is acknowledged, paid, shown already, or stopped by an earlier challenge",
        ));
    }
    if store::challenges::open_by_holder(conn, id).await? >= BY_HOLDER_MAX {
        return Err(Failure::Limit { what: "open challenges of a token", max: BY_HOLDER_MAX.to_string() });
    }
    let brought = newest_of(conn, id, key, lane).await?;
    // Not known to the node when it claimed: the holder's own words are in it.
    let seed = Digest::of_parts(&[b"comity/challenge/v1", challenge.as_bytes(), reason.as_bytes()]);
    let row = of_tail(ChallengeCause::Holder, (challenge, id, key), (lane, token.window), brought, seed, now);
    let row = ChallengeRow { reason, ..row };
    store::challenges::insert_in_tx(conn, &row).await?;
    Ok(row)
}

/// The claim that brought a lane's newest receipt. Books of before did not note it: there it is looked for.
async fn newest_of(conn: &mut Db<'_>, token: TokenId, key: LaneKey, lane: &Lane) -> Result<(Digest, Newest), Failure> {
    let noted = (lane.claim != Digest::ZERO).then_some(lane.claim);
    // A program of before that worked on these books beside this one went on without noting it.
    let others = store::challenges::claims_of(conn, token, CLAIMS_LOOKED_AT_MAX).await?;
    for claim in noted.into_iter().chain(others) {
        let Some(bytes) = store::challenges::claim_bytes(conn, claim).await? else { continue };
        let found = lanes(&bytes)?.into_iter().find(|(at, _, newest)| *at == key && newest.receipt == lane.receipt);
        if let Some((.., newest)) = found {
            return Ok((claim, newest));
        }
    }
    Err(Failure::invalid("the claim that brought this lane's newest receipt is not among the token's last 10,000"))
}
