//! The line of the house's own feed in SQL: its newest head, and what that names.

use comity_ledger::db::{Db, query};
use comity_wire::Digest;

use super::{Cells, int};
use crate::failure::Failure;
use crate::service::FeedHead;

/// The place of the newest head, and its id.
async fn place(conn: &mut Db<'_>) -> Result<Option<((u64, u64), Digest)>, Failure> {
    let row = query("SELECT epoch, seq, id FROM feed_head WHERE one = 1").fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let cells = Cells { table: "feed_head", row: &row };
    Ok(Some(((cells.uint("epoch")?, cells.uint("seq")?), cells.digest("id")?)))
}

/// Content id of the newest head.
pub(crate) async fn newest_id(conn: &mut Db<'_>) -> Result<Option<Digest>, Failure> {
    Ok(place(conn).await?.map(|(_, id)| id))
}

/// The newest head with everything that it names.
pub(crate) async fn newest(conn: &mut Db<'_>) -> Result<Option<FeedHead>, Failure> {
    let Some(row) = query("SELECT * FROM feed_head WHERE one = 1").fetch_optional(conn).await? else { return Ok(None) };
    let rows = query("SELECT digest, bytes FROM feed_frame ORDER BY digest").fetch_all(conn).await?;
    let frame = |row| {
        let cells = Cells { table: "feed_frame", row };
        Ok((cells.digest("digest")?, cells.blob("bytes")?))
    };
    let frames = rows.iter().map(frame).collect::<Result<_, Failure>>()?;
    let cells = Cells { table: "feed_head", row: &row };
    Ok(Some(FeedHead {
        epoch: u32::try_from(cells.uint("epoch")?).map_err(|_| cells.unreadable("epoch"))?,
        seq: cells.uint("seq")?,
        id: cells.digest("id")?,
        head: cells.blob("head")?,
        writer: cells.blob("writer")?,
        frames,
    }))
}

/// Puts a head behind `after`; not where another one stands last. The same again is there already.
pub(crate) async fn append_in_tx(conn: &mut Db<'_>, after: Option<Digest>, next: &FeedHead) -> Result<bool, Failure> {
    let last = place(conn).await?;
    if last.is_some_and(|(_, id)| id == next.id) {
        return Ok(true);
    }
    if last.map(|(_, id)| id) != after {
        return Ok(false);
    }
    if last.is_some_and(|(place, _)| place >= (u64::from(next.epoch), next.seq)) {
        return Err(Failure::Books {
            what: format!("number {} of the feed's epoch {} was taken", next.seq, next.epoch),
        });
    }
    query(
        "INSERT INTO feed_head (one, epoch, seq, id, head, writer) VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET \
         epoch = excluded.epoch, seq = excluded.seq, id = excluded.id, head = excluded.head, writer = excluded.writer",
    )
    .bind(i64::from(next.epoch))
    .bind(int(next.seq))
    .bind(next.id.0.to_vec())
    .bind(next.head.clone())
    .bind(next.writer.clone())
    .execute(conn)
    .await?;
    let rows = query("SELECT digest FROM feed_frame").fetch_all(conn).await?;
    for row in &rows {
        let digest = Cells { table: "feed_frame", row }.digest("digest")?;
        if !next.frames.iter().any(|(named, _)| *named == digest) {
            query("DELETE FROM feed_frame WHERE digest = ?").bind(digest.0.to_vec()).execute(conn).await?;
        }
    }
    for (digest, bytes) in &next.frames {
        query("INSERT INTO feed_frame (digest, bytes) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING")
            .bind(digest.0.to_vec())
            .bind(bytes.clone())
            .execute(conn)
            .await?;
    }
    Ok(true)
}
