//! Findings in SQL.

use comity_ledger::db::{Db, Row, query};
use comity_probe::{Finding, State};
use comity_wire::{Digest, NodeId, Timestamp};

use super::{Cells, int, json, seconds};
use crate::failure::Failure;

/// A finding as it stands in the books.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FindingRow {
    pub(crate) shown_at: Timestamp,
    /// Whether it ever was.
    pub(crate) published: bool,
    pub(crate) finding: Finding,
}

/// Which are listed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Those of a node, which its owner was shown.
    Of(NodeId),
    /// Those that everybody may read.
    Published,
    All,
}

fn row(row: &Row) -> Result<FindingRow, Failure> {
    let cells = Cells { table: "finding", row };
    Ok(FindingRow {
        shown_at: cells.time("shown_at")?,
        published: cells.int("published")? == 1,
        finding: cells.json("body")?,
    })
}

pub(crate) async fn find(conn: &mut Db<'_>, id: Digest) -> Result<Option<FindingRow>, Failure> {
    let found = query("SELECT * FROM finding WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    found.as_ref().map(row).transpose()
}

pub(crate) async fn count(conn: &mut Db<'_>) -> Result<u64, Failure> {
    let row = query("SELECT COUNT(*) AS findings FROM finding").fetch_one(conn).await?;
    Cells { table: "finding", row: &row }.uint("findings")
}

/// Writes it; of one that is there already, how it stands now.
pub(crate) async fn put_in_tx(conn: &mut Db<'_>, put: &FindingRow) -> Result<(), Failure> {
    let published = put.published || matches!(put.finding.state, State::Published { .. });
    query(
        "INSERT INTO finding (id, node, shown_at, published, body) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (id) DO UPDATE SET published = ?4, body = ?5",
    )
    .bind(put.finding.id.0.to_vec())
    .bind(put.finding.evidence.node.0.to_vec())
    .bind(seconds(put.shown_at))
    .bind(i64::from(published))
    .bind(json(&put.finding))
    .execute(conn)
    .await?;
    Ok(())
}

/// A page, the oldest first.
pub(crate) async fn page(
    conn: &mut Db<'_>,
    which: Which,
    after: Option<(Timestamp, Digest)>,
    limit: u32,
) -> Result<Vec<FindingRow>, Failure> {
    let (at, id) = after.map_or((-1, Vec::new()), |(at, id)| (int(at.0), id.0.to_vec()));
    let rows = match which {
        Which::Of(node) => {
            query("SELECT * FROM finding WHERE node = ? AND (shown_at, id) > (?, ?) ORDER BY shown_at, id LIMIT ?")
                .bind(node.0.to_vec())
        }
        Which::Published => {
            query("SELECT * FROM finding WHERE published = 1 AND (shown_at, id) > (?, ?) ORDER BY shown_at, id LIMIT ?")
        }
        Which::All => query("SELECT * FROM finding WHERE (shown_at, id) > (?, ?) ORDER BY shown_at, id LIMIT ?"),
    };
    let rows = rows.bind(at).bind(id).bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter().map(row).collect()
}
