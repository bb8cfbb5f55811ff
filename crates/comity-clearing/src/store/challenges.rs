//! Challenges in SQL, and the claims that are still to be drawn from.

use std::collections::{BTreeMap, BTreeSet};

use comity_ledger::db::{Db, Row, query};
use comity_wire::api::challenge::{ChallengeCause, ChallengeState};
use comity_wire::{Amount, Digest, NodeId, Timestamp, TokenId};

use super::{Cells, int, json, seconds};
use crate::failure::Failure;
use crate::settlement::LaneKey;
use crate::settlement::shown::{Newest, Slot};

/// A challenge as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChallengeRow {
    pub(crate) id: Digest,
    pub(crate) token: TokenId,
    pub(crate) key: LaneKey,
    pub(crate) cause: ChallengeCause,
    /// The claim that brought the newest receipt.
    pub(crate) claim: Digest,
    pub(crate) newest: Newest,
    pub(crate) asked: BTreeSet<u64>,
    pub(crate) shown: BTreeSet<u64>,
    /// Of a long tail: µcr of its total whose receipts are asked for, and those that were shown.
    pub(crate) amounts: BTreeSet<u64>,
    pub(crate) covered: BTreeSet<u64>,
    /// What of the lane's total is proven once all of it is shown: what was drawn from, and nothing above that.
    pub(crate) upto: Amount,
    /// What was seen in what was shown, by receipt.
    pub(crate) slots: BTreeMap<u64, Slot>,
    pub(crate) seed: Digest,
    pub(crate) log_size: u64,
    /// What the draw hung on beside the checkpoint: the house's signature.
    pub(crate) blind: Option<[u8; 64]>,
    pub(crate) reason: String,
    pub(crate) posted_at: Timestamp,
    pub(crate) state: ChallengeState,
}

impl ChallengeRow {
    /// Takes what was shown; whether that is all by now.
    pub(crate) fn take(&mut self, numbers: &BTreeSet<u64>, charges: &[(Amount, Amount)]) -> bool {
        self.shown.extend(numbers.intersection(&self.asked));
        for (above, upto) in charges {
            let (above, upto) = (above.ucr().unsigned_abs(), upto.ucr().unsigned_abs());
            if above < upto {
                self.covered.extend(self.amounts.range(above + 1..=upto));
            }
        }
        self.shown == self.asked && self.covered == self.amounts
    }
}

/// A claim that nobody has drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToDraw {
    pub(crate) id: Digest,
    pub(crate) token: TokenId,
    pub(crate) bytes: Vec<u8>,
}

const fn cause_number(cause: ChallengeCause) -> i64 {
    match cause {
        ChallengeCause::Sample => 1,
        ChallengeCause::Holder => 2,
        ChallengeCause::Tail => 3,
    }
}

fn key(cells: Cells<'_>) -> Result<LaneKey, Failure> {
    let lane = u16::try_from(cells.uint("lane")?).map_err(|_| cells.unreadable("lane"))?;
    Ok(LaneKey { leaf: cells.digest("leaf")?, lane })
}

fn row(row: &Row) -> Result<ChallengeRow, Failure> {
    let cells = Cells { table: "challenge", row };
    Ok(ChallengeRow {
        id: cells.digest("id")?,
        token: TokenId(cells.bytes("token")?),
        key: key(cells)?,
        cause: match cells.int("cause")? {
            1 => ChallengeCause::Sample,
            2 => ChallengeCause::Holder,
            3 => ChallengeCause::Tail,
            _ => return Err(cells.unreadable("cause")),
        },
        claim: cells.digest("claim")?,
        newest: Newest {
            n: cells.uint("n")?,
            receipt: cells.digest("receipt")?,
            history: cells.digest("history")?,
            total: cells.amount("total")?,
        },
        asked: cells.json("asked")?,
        shown: cells.json("shown")?,
        amounts: cells.json("amounts")?,
        covered: cells.json("covered")?,
        upto: cells.amount_maybe("upto")?.map_or_else(|| cells.amount("total"), Ok)?,
        slots: cells.json("slots")?,
        seed: cells.digest("seed")?,
        log_size: cells.uint("log_size")?,
        blind: cells.bytes_maybe("blind")?,
        reason: cells.text("reason")?,
        posted_at: cells.time("posted_at")?,
        state: match cells.int("state")? {
            0 => ChallengeState::Open,
            1 => ChallengeState::Answered,
            2 => ChallengeState::Missed,
            _ => return Err(cells.unreadable("state")),
        },
    })
}

pub(crate) async fn find(conn: &mut Db<'_>, id: Digest) -> Result<Option<ChallengeRow>, Failure> {
    let found = query("SELECT * FROM challenge WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    found.as_ref().map(row).transpose()
}

/// Open ones of a node's tokens, the oldest first, after `after`.
pub(crate) async fn open_of_node(
    conn: &mut Db<'_>,
    node: NodeId,
    after: Option<(Timestamp, Digest)>,
    limit: u32,
) -> Result<Vec<ChallengeRow>, Failure> {
    let (at, id) = after.map_or((-1, Vec::new()), |(at, id)| (seconds(at), id.0.to_vec()));
    let rows = query(
        "SELECT c.* FROM challenge c JOIN token t ON t.id = c.token WHERE c.state = 0 AND t.node = ? \
         AND (c.posted_at, c.id) > (?, ?) ORDER BY c.posted_at, c.id LIMIT ?",
    )
    .bind(node.0.to_vec())
    .bind(at)
    .bind(id)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(row).collect()
}

/// Open ones that were posted until `posted`, the oldest first, after `after`.
pub(crate) async fn open_since(
    conn: &mut Db<'_>,
    posted: Timestamp,
    after: Option<(Timestamp, Digest)>,
    limit: u32,
) -> Result<Vec<ChallengeRow>, Failure> {
    let (at, id) = after.map_or((-1, Vec::new()), |(at, id)| (seconds(at), id.0.to_vec()));
    let rows = query(
        "SELECT * FROM challenge WHERE state = 0 AND posted_at <= ? AND (posted_at, id) > (?, ?) ORDER BY posted_at, id LIMIT ?",
    )
    .bind(seconds(posted))
    .bind(at)
    .bind(id)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(row).collect()
}

/// All that the operator is shown: open ones first, then the newest.
pub(crate) async fn all(conn: &mut Db<'_>, limit: u32) -> Result<Vec<ChallengeRow>, Failure> {
    let rows =
        query("SELECT * FROM challenge ORDER BY CASE WHEN state = 0 THEN 0 ELSE 1 END, posted_at DESC, id LIMIT ?")
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
    rows.iter().map(row).collect()
}

/// All of a token, oldest first.
pub(crate) async fn of_token(conn: &mut Db<'_>, token: TokenId, limit: u32) -> Result<Vec<ChallengeRow>, Failure> {
    let rows = query("SELECT * FROM challenge WHERE token = ? ORDER BY posted_at, id LIMIT ?")
        .bind(token.0.to_vec())
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(row).collect()
}

/// How many of a holder's are open under a token.
pub(crate) async fn open_by_holder(conn: &mut Db<'_>, token: TokenId) -> Result<u64, Failure> {
    let count: i64 = query("SELECT COUNT(*) FROM challenge WHERE token = ? AND cause = 2 AND state = 0")
        .bind(token.0.to_vec())
        .fetch_one(conn)
        .await?
        .first()?;
    Ok(count.unsigned_abs())
}

/// The house's own challenge about a lane's tail that is open.
pub(crate) async fn tail_open(
    conn: &mut Db<'_>,
    token: TokenId,
    key: LaneKey,
) -> Result<Option<ChallengeRow>, Failure> {
    let found =
        query("SELECT * FROM challenge WHERE token = ? AND leaf = ? AND lane = ? AND cause = 3 AND state = 0 LIMIT 1")
            .bind(token.0.to_vec())
            .bind(key.leaf.0.to_vec())
            .bind(i64::from(key.lane))
            .fetch_optional(conn)
            .await?;
    found.as_ref().map(row).transpose()
}

/// Lanes of a token about whose tail a challenge is open.
pub(crate) async fn tails_asked(conn: &mut Db<'_>, token: TokenId) -> Result<BTreeSet<LaneKey>, Failure> {
    let rows = query("SELECT leaf, lane FROM challenge WHERE token = ? AND cause IN (2, 3) AND state = 0")
        .bind(token.0.to_vec())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| key(Cells { table: "challenge", row })).collect()
}

/// Whether a claim is in the log.
pub(crate) async fn is_sealed(conn: &mut Db<'_>, claim: Digest) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM unsealed WHERE kind = 4 AND content = ?";
    Ok(query(sql).bind(claim.0.to_vec()).fetch_optional(conn).await?.is_none())
}

pub(crate) async fn insert_in_tx(conn: &mut Db<'_>, new: &ChallengeRow) -> Result<(), Failure> {
    query(
        "INSERT INTO challenge (id, token, leaf, lane, cause, claim, n, total, receipt, history, asked, shown, seed, log_size, \
         reason, posted_at, state, amounts, blind, upto) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(new.id.0.to_vec())
    .bind(new.token.0.to_vec())
    .bind(new.key.leaf.0.to_vec())
    .bind(i64::from(new.key.lane))
    .bind(cause_number(new.cause))
    .bind(new.claim.0.to_vec())
    .bind(int(new.newest.n))
    .bind(new.newest.total.ucr())
    .bind(new.newest.receipt.0.to_vec())
    .bind(new.newest.history.0.to_vec())
    .bind(json(&new.asked))
    .bind(json(&new.shown))
    .bind(new.seed.0.to_vec())
    .bind(int(new.log_size))
    .bind(&new.reason)
    .bind(seconds(new.posted_at))
    .bind(json(&new.amounts))
    .bind(new.blind.map(|blind| blind.to_vec()))
    .bind(new.upto.ucr())
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes down what was shown of a challenge so far; answers come in parts.
pub(crate) async fn shown_in_tx(conn: &mut Db<'_>, row: &ChallengeRow) -> Result<(), Failure> {
    query("UPDATE challenge SET shown = ?, covered = ?, slots = ? WHERE id = ?")
        .bind(json(&row.shown))
        .bind(json(&row.covered))
        .bind(json(&row.slots))
        .bind(row.id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends a challenge; whether it was open.
pub(crate) async fn end_in_tx(conn: &mut Db<'_>, id: Digest, answered: bool, now: Timestamp) -> Result<bool, Failure> {
    let ended = query("UPDATE challenge SET state = ?, ended_at = ? WHERE id = ? AND state = 0")
        .bind(if answered { 1 } else { 2 })
        .bind(seconds(now))
        .bind(id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(ended == 1)
}

/// Claims that were sealed into the log and not drawn from, the oldest first.
pub(crate) async fn to_draw(conn: &mut Db<'_>, limit: u32) -> Result<Vec<ToDraw>, Failure> {
    let rows = query(
        "SELECT id, token, bytes FROM claim WHERE drawn = 0 AND \
         NOT EXISTS (SELECT 1 FROM unsealed u WHERE u.kind = 4 AND u.content = claim.id) ORDER BY taken_at, id LIMIT ?",
    )
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "claim", row };
        Ok(ToDraw { id: cells.digest("id")?, token: TokenId(cells.bytes("token")?), bytes: cells.blob("bytes")? })
    };
    rows.iter().map(one).collect()
}

/// Notes that a claim was drawn from; whether it was not before.
pub(crate) async fn drawn_in_tx(conn: &mut Db<'_>, claim: Digest) -> Result<bool, Failure> {
    let sql = "UPDATE claim SET drawn = 1 WHERE id = ? AND drawn = 0";
    Ok(query(sql).bind(claim.0.to_vec()).execute(conn).await? == 1)
}

/// A claim's bytes.
pub(crate) async fn claim_bytes(conn: &mut Db<'_>, claim: Digest) -> Result<Option<Vec<u8>>, Failure> {
    let row = query("SELECT bytes FROM claim WHERE id = ?").bind(claim.0.to_vec()).fetch_optional(conn).await?;
    row.map(|row| Cells { table: "claim", row: &row }.blob("bytes")).transpose()
}

/// The claims of a token by their content ids, the newest first.
pub(crate) async fn claims_of(conn: &mut Db<'_>, token: TokenId, limit: u32) -> Result<Vec<Digest>, Failure> {
    let rows = query("SELECT id FROM claim WHERE token = ? ORDER BY number DESC, taken_at DESC, id LIMIT ?")
        .bind(token.0.to_vec())
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Cells { table: "claim", row }.digest("id")).collect()
}
