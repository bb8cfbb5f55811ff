//! Quotes as they were signed: those under which a token was drawn are kept for whoever asks later what it cost.

use comity_ledger::db::{Db, query};
use comity_wire::object::Quote;
use comity_wire::{QuoteId, Signed, Timestamp, Verified};

use super::{Cells, seconds};
use crate::failure::Failure;

pub(crate) async fn insert_in_tx(conn: &mut Db<'_>, quote: &Verified<Quote>) -> Result<(), Failure> {
    query("INSERT INTO quote (id, project, node, bytes, expires_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(quote.id.0.to_vec())
        .bind(quote.project.0.to_vec())
        .bind(quote.node.0.to_vec())
        .bind(quote.bytes().to_vec())
        .bind(seconds(quote.expires_at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Looks at the next quotes that ended before a moment: drops those in whose time nobody drew a token for their project and node. How many
/// it looked at, and how many it dropped.
pub(crate) async fn look_in_tx(conn: &mut Db<'_>, before: Timestamp, limit: u32) -> Result<(u64, u64), Failure> {
    let rows = query("SELECT id, project, node, bytes, expires_at FROM quote WHERE kept = 0 AND expires_at < ? ORDER BY expires_at LIMIT ?")
        .bind(seconds(before))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    let mut dropped = 0;
    for row in &rows {
        let cells = Cells { table: "quote", row };
        let id = QuoteId(cells.bytes("id")?);
        let is_kept = match Signed::<Quote>::decode(&cells.blob("bytes")?) {
            Ok(quote) => {
                let sql =
                    "SELECT 1 FROM token WHERE project = ? AND issued_at >= ? AND issued_at <= ? AND node = ? LIMIT 1";
                let sold = query(sql)
                    .bind(cells.blob("project")?)
                    .bind(seconds(quote.unverified().issued_at))
                    .bind(seconds(cells.time("expires_at")?))
                    .bind(cells.blob("node")?);
                sold.fetch_optional(conn).await?.is_some()
            }
            // What no program can read is nobody's to drop, and holds up no other.
            Err(error) => {
                tracing::error!(%error, quote = %id, "a stored quote cannot be read; it is kept");
                true
            }
        };
        let sql = if is_kept { "UPDATE quote SET kept = 1 WHERE id = ?" } else { "DELETE FROM quote WHERE id = ?" };
        query(sql).bind(id.0.to_vec()).execute(conn).await?;
        dropped += u64::from(!is_kept);
    }
    Ok((rows.len() as u64, dropped))
}
