//! Counts in SQL: what is asked of nodes, the pages that came, and what the books have of the same tokens.

use std::collections::BTreeMap;

use comity_ledger::db::{Db, Row, query};
use comity_wire::api::count::CountAsked;
use comity_wire::object::Count;
use comity_wire::{Digest, NodeId, Timestamp, TokenId, Verified};

use super::{Cells, seconds};
use crate::failure::Failure;
use crate::settlement::matching::Booked;

/// Of which node's tokens, by when they were issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) node: NodeId,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// A count that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedRow {
    pub(crate) scope: Scope,
    pub(crate) asked_at: Timestamp,
    pub(crate) counted_at: Option<Timestamp>,
}

fn asked(row: &Row) -> Result<AskedRow, Failure> {
    let cells = Cells { table: "count_asked", row };
    let scope = Scope { node: NodeId(cells.bytes("node")?), from: cells.time("from_at")?, to: cells.time("to_at")? };
    Ok(AskedRow { scope, asked_at: cells.time("asked_at")?, counted_at: cells.time_maybe("counted_at")? })
}

/// Asks for a count; one that came already is asked for anew.
pub(crate) async fn ask_in_tx(conn: &mut Db<'_>, scope: Scope, now: Timestamp) -> Result<(), Failure> {
    query(
        "INSERT INTO count_asked (node, from_at, to_at, asked_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (node, from_at, to_at) DO UPDATE SET asked_at = ?4, counted_at = NULL",
    )
    .bind(scope.node.0.to_vec())
    .bind(seconds(scope.from))
    .bind(seconds(scope.to))
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Asks for a count that was never asked for; whether it was not.
pub(crate) async fn ask_once_in_tx(conn: &mut Db<'_>, scope: Scope, now: Timestamp) -> Result<bool, Failure> {
    let asking = query(
        "INSERT INTO count_asked (node, from_at, to_at, asked_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (node, from_at, to_at) DO NOTHING",
    );
    let asking =
        asking.bind(scope.node.0.to_vec()).bind(seconds(scope.from)).bind(seconds(scope.to)).bind(seconds(now));
    Ok(asking.execute(conn).await? == 1)
}

/// Nodes whose tokens were issued in the period and that were never asked about it.
pub(crate) async fn nodes_to_ask(
    conn: &mut Db<'_>,
    from: Timestamp,
    to: Timestamp,
    limit: u32,
) -> Result<Vec<NodeId>, Failure> {
    let asking = query(
        "SELECT DISTINCT t.node FROM token t WHERE t.issued_at >= ?1 AND t.issued_at < ?2 AND NOT EXISTS \
         (SELECT 1 FROM count_asked a WHERE a.node = t.node AND a.from_at = ?1 AND a.to_at = ?2) ORDER BY t.node LIMIT ?3",
    );
    let rows = asking.bind(seconds(from)).bind(seconds(to)).bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(NodeId(Cells { table: "token", row }.bytes("node")?))).collect()
}

/// What is asked of a node and has not come, the oldest first.
pub(crate) async fn awaited(conn: &mut Db<'_>, node: NodeId, limit: u32) -> Result<Vec<CountAsked>, Failure> {
    let rows = query(
        "SELECT * FROM count_asked WHERE node = ? AND counted_at IS NULL ORDER BY asked_at, from_at, to_at LIMIT ?",
    )
    .bind(node.0.to_vec())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let told = |row| {
        let AskedRow { scope, asked_at, .. } = asked(row)?;
        Ok(CountAsked { from: scope.from, to: scope.to, asked_at })
    };
    rows.iter().map(told).collect()
}

pub(crate) async fn find(conn: &mut Db<'_>, scope: Scope) -> Result<Option<AskedRow>, Failure> {
    let row = query("SELECT * FROM count_asked WHERE node = ? AND from_at = ? AND to_at = ?")
        .bind(scope.node.0.to_vec())
        .bind(seconds(scope.from))
        .bind(seconds(scope.to))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(asked).transpose()
}

/// Everything that was asked about a period.
pub(crate) async fn of_period(
    conn: &mut Db<'_>,
    from: Timestamp,
    to: Timestamp,
    limit: u32,
) -> Result<Vec<AskedRow>, Failure> {
    let rows = query("SELECT * FROM count_asked WHERE from_at = ? AND to_at = ? ORDER BY node LIMIT ?")
        .bind(seconds(from))
        .bind(seconds(to))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(asked).collect()
}

pub(crate) async fn page_is_there(conn: &mut Db<'_>, id: Digest) -> Result<bool, Failure> {
    let row = query("SELECT page FROM count_page WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    Ok(row.is_some())
}

/// Pages of all counts of a scope.
pub(crate) async fn pages_kept(conn: &mut Db<'_>, scope: Scope) -> Result<u64, Failure> {
    let row = query("SELECT COUNT(*) AS pages FROM count_page WHERE node = ? AND from_at = ? AND to_at = ?")
        .bind(scope.node.0.to_vec())
        .bind(seconds(scope.from))
        .bind(seconds(scope.to))
        .fetch_one(conn)
        .await?;
    Cells { table: "count_page", row: &row }.uint("pages")
}

pub(crate) async fn page_insert_in_tx(
    conn: &mut Db<'_>,
    count: &Verified<Count>,
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO count_page (id, node, from_at, to_at, counted_at, page, pages, bytes, taken_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(count.id().0.to_vec())
    .bind(count.node.0.to_vec())
    .bind(seconds(count.from))
    .bind(seconds(count.to))
    .bind(seconds(count.at))
    .bind(i64::from(count.page))
    .bind(i64::from(count.pages))
    .bind(count.bytes().to_vec())
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// The pages of the count that was read at `at`, in their order.
pub(crate) async fn pages(conn: &mut Db<'_>, scope: Scope, at: Timestamp) -> Result<Vec<Vec<u8>>, Failure> {
    let rows = query(
        "SELECT bytes FROM count_page WHERE node = ? AND from_at = ? AND to_at = ? AND counted_at = ? ORDER BY page",
    )
    .bind(scope.node.0.to_vec())
    .bind(seconds(scope.from))
    .bind(seconds(scope.to))
    .bind(seconds(at))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Cells { table: "count_page", row }.blob("bytes")).collect()
}

/// A count has come whole.
pub(crate) async fn counted_in_tx(conn: &mut Db<'_>, scope: Scope, at: Timestamp) -> Result<(), Failure> {
    query("UPDATE count_asked SET counted_at = ? WHERE node = ? AND from_at = ? AND to_at = ?")
        .bind(seconds(at))
        .bind(scope.node.0.to_vec())
        .bind(seconds(scope.from))
        .bind(seconds(scope.to))
        .execute(conn)
        .await?;
    Ok(())
}

/// What the books have of a node's tokens: the receipts of the lanes, and what the ledger itself moved.
pub(crate) async fn booked(conn: &mut Db<'_>, scope: Scope) -> Result<BTreeMap<TokenId, Booked>, Failure> {
    const OF_SCOPE: &str = "t.node = ? AND t.issued_at >= ? AND t.issued_at < ?";
    let asking = |sql: String| query(sql).bind(scope.node.0.to_vec()).bind(seconds(scope.from)).bind(seconds(scope.to));
    let mut booked = BTreeMap::new();
    let tokens = format!(
        "SELECT t.id, t.phase, t.frozen, t.clamped, t.late, t.waiting FROM token t WHERE {OF_SCOPE} ORDER BY t.id"
    );
    for row in asking(tokens).fetch_all(conn).await? {
        let cells = Cells { table: "token", row: &row };
        let book = Booked {
            clamped: cells.amount("clamped")?,
            late: cells.amount("late")?,
            waiting: cells.amount("waiting")?,
            disputed: cells.int("frozen")? == 2,
            open: cells.int("phase")? < 2,
            ..Booked::default()
        };
        booked.insert(TokenId(cells.bytes("id")?), book);
    }
    let lanes = format!(
        "SELECT l.token, CAST(COUNT(*) AS BIGINT) AS lanes, CAST(SUM(l.n) AS BIGINT) AS charges, \
         CAST(SUM(l.total) AS BIGINT) AS receipted, CAST(SUM(CASE WHEN l.stopped IS NULL OR l.stopped > l.total THEN 0 \
         WHEN l.paid > l.stopped THEN l.total - l.paid ELSE l.total - l.stopped END) AS BIGINT) AS stopped \
         FROM lane l JOIN token t ON t.id = l.token WHERE {OF_SCOPE} GROUP BY l.token"
    );
    for row in asking(lanes).fetch_all(conn).await? {
        let cells = Cells { table: "lane", row: &row };
        let book = booked.entry(TokenId(cells.bytes("token")?)).or_default();
        book.lanes = cells.uint("lanes")?;
        book.charges = cells.uint("charges")?;
        book.receipted = cells.amount("receipted")?;
        book.stopped = cells.amount("stopped")?;
    }
    // Settled from escrow or suspense; what a dispute or a credit note moved back went to another account than the owner's.
    let moved = format!(
        "SELECT t.id, CAST(SUM(CASE WHEN f.kind IN (4, 6) THEN f.amount WHEN c.code <> 5 THEN -f.amount ELSE 0 END) AS BIGINT) \
         AS settled, CAST(SUM(CASE WHEN f.kind = 9 AND c.code <> 5 THEN f.amount ELSE 0 END) AS BIGINT) AS reversed, \
         CAST(SUM(CASE WHEN f.kind = 15 THEN f.amount ELSE 0 END) AS BIGINT) AS credited \
         FROM token t JOIN transfer f ON f.reference = t.id JOIN account c ON c.id = f.credit_id \
         WHERE {OF_SCOPE} AND f.kind IN (4, 6, 9, 15) GROUP BY t.id"
    );
    for row in asking(moved).fetch_all(conn).await? {
        let cells = Cells { table: "transfer", row: &row };
        let book = booked.entry(TokenId(cells.bytes("id")?)).or_default();
        book.settled = cells.amount("settled")?;
        book.reversed = cells.amount("reversed")?;
        book.credited = cells.amount("credited")?;
    }
    Ok(booked)
}
