//! Claims, finals, refunds, and what time does: the settlement core at work on the books.

use comity_ledger::Db;
use comity_wire::api::clearing::{ClaimException, ClaimReply, FinalReply};
use comity_wire::object::{Claim, Final};
use comity_wire::{Amount, Digest, OrgId, PublicKey, Signed, Timestamp, TokenId};

use super::Clearing;
use super::nodes::Known;
use super::prices;
use crate::failure::Failure;
use crate::settlement::{self, Calendar, Claimed, Escrow, Finalled, Input, LaneKey, Output, Refused, evidence, handle};
use crate::store;
use crate::store::tokens::{Due, TokenRow};

/// Tokens that a sweep has in hand at once. It goes through all of them: else those that only wait, or that fail each
/// time, would keep the others from their turn.
const SWEEP_PAGE: u32 = 1_000;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    pub tokens: u64,
    /// Tokens that could not be swept, and challenges that could not be ended; the log says why.
    pub failed: u64,
    pub settled: Amount,
    pub refunded: Amount,
    /// What was left in lots whose time was over.
    pub expired: Amount,
    /// Challenges that were posted.
    pub challenged: u64,
    /// Challenges that nobody answered in their time.
    pub missed: u64,
    /// Quotes that nobody bought under, a day after they ended.
    pub quotes: u64,
}

/// Contradictions that the operator is shown at once.
const CONTRADICTIONS_SHOWN_MAX: u32 = 100;

/// A claim or final that was refused and kept: by itself, beside the books, it proves that its signer broke their word.
/// Its bytes lie in the table `contradiction`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Contradiction {
    /// Content id of the claim or final.
    pub id: Digest,
    pub token: TokenId,
    pub code: String,
    pub message: String,
    pub taken_at: Timestamp,
}

/// What an input did to one token.
struct Done {
    before: Escrow,
    output: Output,
}

impl Done {
    /// Whether anything is different now. What changed nothing is not kept: a node could say it for ever.
    fn changed(&self) -> bool {
        self.output.after != self.before || !self.output.exceptions.is_empty()
    }
}

impl Clearing {
    /// Settles what a node claims. The same claim again gets the same reply, where it did anything.
    ///
    /// # Errors
    /// [`Failure`]; then nothing moved. A claim that contradicts the books is kept as evidence.
    pub async fn claim(&self, caller: &PublicKey, bytes: &[u8]) -> Result<ClaimReply, Failure> {
        let signed = Signed::<Claim>::decode(bytes)?;
        let (node, token) = (signed.unverified().node, signed.unverified().token);
        let known = self.known(node).await?;
        let Some(owner) = known.owner.filter(|_| known.transport_keys.contains(caller)) else {
            return Err(Failure::NotYours {
                what: "a claim is sent by the node that makes it, with its transport key",
            });
        };
        let trust = self.trust(&known);
        let claimed = evidence::claim(bytes, &trust)?;
        let (now, calendar, bytes) = (self.now(), self.calendar(), bytes.to_vec());
        let house = self.clone();
        self.write(move |conn| {
            Box::pin(async move {
                if let Some(reply) = store::settlement::claim_reply(conn, claimed.id).await? {
                    return Ok(Ok(reply));
                }
                let row = token_row_in_tx(&house, conn, &claimed, owner).await?;
                let done = house.apply_in_tx(conn, &row, Step::Claim(&claimed), &calendar, now).await;
                let done = match done.map_or_else(contradiction, |done| Ok(Ok(done)))? {
                    Ok(done) => done,
                    Err(refused) => {
                        house.keep_in_tx(conn, claimed.id, token, &refused, &bytes, now).await?;
                        return Ok(Err(refused));
                    }
                };
                let reply = claim_reply(token, claimed.number, &done);
                if done.changed() {
                    let named = (token, claimed.number);
                    store::settlement::claim_insert_in_tx(conn, claimed.id, named, &bytes, &reply, now).await?;
                    house.oversee_in_tx(conn, &row, &claimed, now).await?;
                }
                // A house that lost its books learns from this claim whose the node is.
                if let Some(certificate) = known.certificate {
                    store::house::node_keys_put_in_tx(conn, &certificate, now).await?;
                }
                house.fail("claim.before_commit");
                Ok(Ok(reply))
            })
        })
        .await
        .inspect(|_| self.fail("claim.after_commit"))?
        .map_err(Failure::Settlement)
    }

    /// Takes a node's final, whoever brings it: what is left goes home at once.
    ///
    /// # Errors
    /// [`Failure`]; then nothing moved. A final that contradicts the books is kept as evidence; of one for a token that is
    /// not in them, nothing.
    pub async fn final_(&self, bytes: &[u8]) -> Result<FinalReply, Failure> {
        let signed = Signed::<Final>::decode(bytes)?;
        let (node, token) = (signed.unverified().node, signed.unverified().token);
        // First of all: a final of anybody's for anything must not cost more than this.
        let not_found = move || Failure::NotFound { what: format!("token {token}") };
        let mut conn = self.read().await?;
        let row = store::tokens::token_find(&mut conn.db(), token).await?.ok_or_else(not_found)?;
        drop(conn);
        if row.node != node {
            return Err(Refused::WrongNode.into());
        }
        let known = self.known(node).await?;
        let finalled = evidence::final_(bytes, node, &self.trust(&known))?;
        let (now, calendar, bytes) = (self.now(), self.calendar(), bytes.to_vec());
        let house = self.clone();
        self.write(move |conn| {
            Box::pin(async move {
                let row = store::tokens::token_find(conn, token).await?.ok_or_else(not_found)?;
                let done = house.apply_in_tx(conn, &row, Step::Final(&finalled), &calendar, now).await;
                match done.map_or_else(contradiction, |done| Ok(Ok(done)))? {
                    Ok(done) => {
                        if done.changed() {
                            store::settlement::final_insert_in_tx(conn, finalled.id, token, &bytes, now).await?;
                        }
                        house.fail("final.before_commit");
                        Ok(Ok(final_reply(&done.output.after)))
                    }
                    Err(refused) => {
                        house.keep_in_tx(conn, finalled.id, token, &refused, &bytes, now).await?;
                        Ok(Err(refused))
                    }
                }
            })
        })
        .await
        .inspect(|_| self.fail("final.after_commit"))?
        .map_err(Failure::Settlement)
    }

    /// Sends home what a token did not use, if it is time.
    ///
    /// # Errors
    /// [`settlement::Refused::TooEarly`] before the node's final or `settle_by`.
    pub async fn refund(&self, caller: &PublicKey, token: TokenId) -> Result<FinalReply, Failure> {
        let not_found = || Failure::NotFound { what: format!("token {token}") };
        let mut conn = self.read().await?;
        let row = store::tokens::token_find(&mut conn.db(), token).await?.ok_or_else(not_found)?;
        Self::member_of(&mut conn.db(), caller, row.project.ok_or_else(not_found)?).await?;
        drop(conn);
        let done = self.step(token, Timed::Refund).await?;
        Ok(final_reply(&done.output.after))
    }

    /// Asks for tails that have stood their time, and closes what is past `settle_by`.
    ///
    /// # Errors
    /// [`Failure`] where what is due cannot be read. A token that cannot be swept is counted and left.
    pub async fn sweep(&self) -> Result<Swept, Failure> {
        self.sweep_by(SWEEP_PAGE).await
    }

    pub(crate) async fn sweep_by(&self, page: u32) -> Result<Swept, Failure> {
        let mut swept = Swept::default();
        self.calendar_look().await?;
        // First, so that what nobody answered for is not paid for having waited long enough.
        // Where that cannot be done, what was acknowledged goes its way all the same; no tail is paid before it is shown.
        match self.challenges_turn().await {
            Ok(turned) => {
                (swept.challenged, swept.missed) = (turned.posted, turned.missed);
                swept.failed += turned.failed;
            }
            Err(source) => {
                tracing::error!(error = &source as &dyn std::error::Error, "challenges stand still");
                swept.failed += 1;
            }
        }
        let (now, mut after) = (self.now(), None);
        loop {
            let mut conn = self.read().await?;
            let due = store::tokens::tokens_due(&mut conn.db(), now, after, page).await?;
            drop(conn);
            after = due.last().copied();
            if after.is_none() {
                // Last: what came home to a lot whose time is over expires with it.
                swept.expired = self.lots_expire().await?;
                swept.quotes = self.quotes_drop().await?;
                return Ok(swept);
            }
            self.sweep_page(&due, &mut swept).await;
        }
    }

    async fn sweep_page(&self, due: &[Due], swept: &mut Swept) {
        for &Due { token, .. } in due {
            let Done { before, output: Output { after, .. } } = match self.step(token, Timed::Sweep).await {
                Ok(done) => done,
                Err(source) => {
                    // One broken token must not keep the others from being paid.
                    tracing::error!(%token, error = &source as &dyn std::error::Error, "cannot sweep a token");
                    swept.failed += 1;
                    continue;
                }
            };
            swept.tokens += 1;
            swept.settled = swept.settled.saturating_add(after.paid.saturating_sub(before.paid));
            swept.refunded = swept.refunded.saturating_add(after.refunded.saturating_sub(before.refunded));
            let tails = after.to_show(self.now(), &self.calendar());
            if tails.is_empty() {
                continue;
            }
            match self.tails_ask(token, tails).await {
                Ok(posted) => swept.challenged += posted,
                Err(source) => {
                    tracing::error!(%token, error = &source as &dyn std::error::Error, "cannot ask for a tail");
                    swept.failed += 1;
                }
            }
        }
    }

    async fn step(&self, token: TokenId, timed: Timed) -> Result<Done, Failure> {
        let (now, calendar, house) = (self.now(), self.calendar(), self.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let row = store::tokens::token_find(conn, token).await?;
                let row = row.ok_or_else(|| Failure::NotFound { what: format!("token {token}") })?;
                let done = house.apply_in_tx(conn, &row, Step::Timed(timed), &calendar, now).await?;
                house.fail("refund.before_commit");
                Ok(done)
            })
        })
        .await
        .inspect(|_| self.fail("refund.after_commit"))
    }

    /// The newest claims and finals that were refused because they contradict the books.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn contradictions(&self) -> Result<Vec<Contradiction>, Failure> {
        store::settlement::contradictions(&mut self.read().await?.db(), CONTRADICTIONS_SHOWN_MAX).await
    }

    /// Keeps what was refused, in the transaction that refused it.
    async fn keep_in_tx(
        &self,
        conn: &mut Db<'_>,
        id: Digest,
        token: TokenId,
        refused: &Refused,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        tracing::error!(%token, evidence = %id, error = %refused, "a node contradicts itself: kept for a dispute");
        store::settlement::contradiction_insert_in_tx(conn, id, token, refused, bytes, now).await?;
        if refused.is_the_nodes() {
            self.dispute_in_tx(conn, token, refused.code().as_str(), id, now).await?;
        }
        Ok(())
    }

    /// What happens without a claim or a final, inside an open transaction.
    pub(super) async fn time_in_tx(
        &self,
        conn: &mut Db<'_>,
        token: TokenId,
        timed: Timed,
        calendar: &Calendar,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let row = store::tokens::token_find(conn, token).await?;
        let row = row.ok_or_else(|| Failure::NotFound { what: format!("token {token}") })?;
        self.apply_in_tx(conn, &row, Step::Timed(timed), calendar, now).await.map(drop)
    }

    fn trust<'a>(&'a self, known: &'a Known) -> evidence::Trust<'a> {
        let receipt_keys = &known.receipt_keys;
        evidence::Trust { house: self.inner.config.org, directory: &*self.inner.directory, receipt_keys }
    }

    async fn apply_in_tx(
        &self,
        conn: &mut Db<'_>,
        row: &TokenRow,
        step: Step<'_>,
        calendar: &Calendar,
        now: Timestamp,
    ) -> Result<Done, Failure> {
        let content = match row.content {
            Some(content) => content,
            // A house of before stopped between commit and signature: signing again tells, and the log hears of it before the claim.
            None => {
                let content = self.sign(row)?.id();
                store::tokens::token_name_in_tx(conn, row.id, content).await?;
                content
            }
        };
        let before = store::settlement::escrow_in_tx(conn, row, content).await?;
        let (input, evidence) = step.input();
        let output = handle(now, calendar, &before, input)?;
        store::settlement::output_apply_in_tx(conn, row, &before, &output, evidence, now).await?;
        for exception in &output.exceptions {
            tracing::warn!(token = %row.id, code = %exception.code, amount = exception.amount.ucr(), "kept on record, not paid");
        }
        Ok(Done { before, output })
    }
}

/// Parts what proves something from what only failed. The core refuses before anything is written, so that the job may
/// go on and keep the evidence.
fn contradiction(failure: Failure) -> Result<Result<Done, Refused>, Failure> {
    match failure {
        Failure::Settlement(refused) if refused.is_contradiction() => Ok(Err(refused)),
        other => Err(other),
    }
}

/// What happens to an escrow without a word of its node.
#[derive(Clone, Copy)]
pub(super) enum Timed {
    Refund,
    Sweep,
    /// In a challenge the node has shown what a lane's total rests on, which this claim had brought.
    Proven(LaneKey, Amount, Digest),
    /// A challenge has ended against the node, by its id, or a dispute, by that of the act.
    Stop(Option<LaneKey>, Digest),
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Claim(&'a Claimed),
    Final(&'a Finalled),
    Timed(Timed),
}

impl<'a> Step<'a> {
    fn input(self) -> (Input<'a>, Digest) {
        match self {
            Self::Claim(claim) => (Input::Claim(claim), claim.id),
            Self::Final(final_) => (Input::Final(final_), final_.id),
            Self::Timed(Timed::Refund) => (Input::Refund, Digest::ZERO),
            Self::Timed(Timed::Sweep) => (Input::Sweep, Digest::ZERO),
            Self::Timed(Timed::Proven(lane, upto, evidence)) => (Input::Proven { lane, upto, evidence }, evidence),
            Self::Timed(Timed::Stop(lane, evidence)) => (Input::Stop { lane, evidence }, evidence),
        }
    }
}

/// The row of a claimed token. A house that does not know it has signed it all the same, and is bound (rule 9).
async fn token_row_in_tx(
    house: &Clearing,
    conn: &mut Db<'_>,
    claimed: &Claimed,
    owner: OrgId,
) -> Result<TokenRow, Failure> {
    let token = &claimed.token;
    if let Some(row) = store::tokens::token_find(conn, token.id).await? {
        return Ok(row);
    }
    if claimed.compromised {
        // Whoever stole the key could have signed it, with any date.
        let why = "its key is compromised, and this token is not in the books";
        return Err(comity_token::Denied::WrongIssuer { issuer: token.issuer(), why }.into());
    }
    tracing::error!(token = %token.id, "a claim for a token that is not in the books: paid from suspense");
    let mut row = TokenRow::of(token, None, owner, Digest::ZERO);
    (row.content, row.bytes, row.issuer) = (Some(token.id()), Some(token.bytes().to_vec()), Some(*token.signer()));
    store::tokens::tokens_insert_in_tx(conn, std::slice::from_ref(&row)).await?;
    prices::learnt_in_tx(house, conn, owner, token).await?;
    Ok(row)
}

fn claim_reply(token: TokenId, number: u64, Done { before, output }: &Done) -> ClaimReply {
    let exception = |exception: &settlement::Exception| ClaimException {
        code: exception.code,
        amount: exception.amount,
        message: exception.message.clone(),
    };
    ClaimReply {
        token,
        number,
        settled: output.after.paid.saturating_sub(before.paid),
        settled_total: output.after.paid,
        unacknowledged: output.unacknowledged,
        exceptions: output.exceptions.iter().map(exception).collect(),
    }
}

fn final_reply(after: &Escrow) -> FinalReply {
    FinalReply { token: after.token, refunded: after.refunded, in_escrow: after.held }
}
