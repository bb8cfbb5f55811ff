//! Heads of owners' decisions in SQL: as they came, and where the log has them.

use comity_ledger::db::{Db, Row, query};
use comity_wire::api::decisions::HeadKnown;
use comity_wire::object::DecisionHead;
use comity_wire::{Digest, NodeId, Timestamp, Verified};

use super::{Cells, int, seconds};
use crate::failure::Failure;

/// The newest head of a node.
pub(crate) async fn newest(conn: &mut Db<'_>, node: NodeId) -> Result<Option<HeadKnown>, Failure> {
    let row = query(
        "SELECT h.n, h.log, h.size, h.root, h.content, h.taken_at, p.idx FROM decision_head h \
         LEFT JOIN decision_place p ON p.content = h.content WHERE h.node = ? ORDER BY h.n DESC LIMIT 1",
    )
    .bind(node.0.to_vec())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(known).transpose()
}

/// When the `nth` newest head of a node was taken.
pub(crate) async fn nth_newest(conn: &mut Db<'_>, node: NodeId, nth: u32) -> Result<Option<Timestamp>, Failure> {
    let row = query("SELECT taken_at FROM decision_head WHERE node = ? ORDER BY n DESC LIMIT 1 OFFSET ?")
        .bind(node.0.to_vec())
        .bind(i64::from(nth.saturating_sub(1)))
        .fetch_optional(conn)
        .await?;
    row.map(|row| Cells { table: "decision_head", row: &row }.time("taken_at")).transpose()
}

fn known(row: &Row) -> Result<HeadKnown, Failure> {
    let cells = Cells { table: "decision_head", row };
    Ok(HeadKnown {
        n: cells.uint("n")?,
        log: cells.uint("log")?,
        size: cells.uint("size")?,
        root: cells.digest("root")?,
        content: cells.digest("content")?,
        taken_at: cells.time("taken_at")?,
        index: cells.uint_maybe("idx")?,
    })
}

pub(crate) async fn insert_in_tx(
    conn: &mut Db<'_>,
    head: &Verified<DecisionHead>,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO decision_head (node, n, log, size, root, content, bytes, taken_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(head.node.0.to_vec())
        .bind(int(head.n))
        .bind(int(head.log))
        .bind(int(head.size))
        .bind(head.root.0.to_vec())
        .bind(head.id().0.to_vec())
        .bind(head.bytes().to_vec())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// Remembers the place of a head in the log.
pub(crate) async fn place_in_tx(conn: &mut Db<'_>, content: Digest, idx: u64) -> Result<(), Failure> {
    query("INSERT INTO decision_place (content, idx) VALUES (?, ?)")
        .bind(content.0.to_vec())
        .bind(int(idx))
        .execute(conn)
        .await?;
    Ok(())
}
