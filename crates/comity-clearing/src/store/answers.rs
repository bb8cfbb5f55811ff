//! Answers that are kept under an `Idempotency-Key`, in SQL.

use comity_ledger::db::{Db, query};
use comity_wire::{Digest, Timestamp};

use super::{Cells, int, seconds};
use crate::answers::{Answer, KEPT_MAX, KEPT_PER_SIGNER_MAX, KEPT_S, Once};
use crate::failure::Failure;

/// Old answers that are dropped with each new one: more than come, so that none stays for long.
const DROPPED_MAX: u64 = 16;

/// For which call, and what was answered, since a time.
pub(crate) async fn answer_find(
    conn: &mut Db<'_>,
    once: &Once,
    since: Timestamp,
) -> Result<Option<(Digest, Answer)>, Failure> {
    let row = query("SELECT call, status, body FROM answer WHERE signer = ? AND key = ? AND answered_at > ?")
        .bind(once.signer.as_bytes().to_vec())
        .bind(once.key.0.to_vec())
        .bind(seconds(since))
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let cells = Cells { table: "answer", row: &row };
    let status = u16::try_from(cells.uint("status")?).map_err(|_| cells.unreadable("status"))?;
    Ok(Some((cells.digest("call")?, Answer { status, body: cells.blob("body")? })))
}

/// Keeps an answer behind all others, and drops those that are too old or too many. Where one is kept already, because another
/// replica was asked under the same key at the same moment, that one stays, and is given back with its call.
pub(crate) async fn answer_put_in_tx(
    conn: &mut Db<'_>,
    once: &Once,
    answer: &Answer,
    now: Timestamp,
) -> Result<Option<(Digest, Answer)>, Failure> {
    let kept = answer_find(conn, once, now.minus(KEPT_S)).await?;
    if kept.is_some() {
        return Ok(kept);
    }
    let signer = once.signer.as_bytes().to_vec();
    // One of this key that is still here is too old to be found.
    query("DELETE FROM answer WHERE signer = ? AND key = ?")
        .bind(signer.clone())
        .bind(once.key.0.to_vec())
        .execute(conn)
        .await?;
    let newest: i64 = query("SELECT COALESCE(MAX(place), 0) FROM answer").fetch_one(conn).await?.first()?;
    let place = newest.saturating_add(1);
    query("INSERT INTO answer (place, signer, key, call, status, body, answered_at) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(place)
        .bind(signer.clone())
        .bind(once.key.0.to_vec())
        .bind(once.call.0.to_vec())
        .bind(i64::from(answer.status))
        .bind(answer.body.clone())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    query(
        "DELETE FROM answer WHERE signer = ?1 AND place <= \
         (SELECT place FROM answer WHERE signer = ?1 ORDER BY place DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(signer)
    .bind(int(KEPT_PER_SIGNER_MAX))
    .execute(conn)
    .await?;
    query("DELETE FROM answer WHERE place <= ?").bind(place.saturating_sub(int(KEPT_MAX))).execute(conn).await?;
    query(
        "DELETE FROM answer WHERE place IN \
         (SELECT place FROM answer WHERE answered_at <= ? ORDER BY answered_at, place LIMIT ?)",
    )
    .bind(seconds(now.minus(KEPT_S)))
    .bind(int(DROPPED_MAX))
    .execute(conn)
    .await?;
    Ok(None)
}
