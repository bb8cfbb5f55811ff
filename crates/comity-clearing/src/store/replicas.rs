//! Who answers for the house, in SQL.

use comity_ledger::db::{Db, query};
use comity_wire::{PublicKey, Timestamp};

use super::{Cells, json, seconds};
use crate::failure::Failure;
use crate::service::Replica;

/// Notes that a replica is there; those that were not seen since `gone` are forgotten. How many are there beside it.
pub(crate) async fn seen_in_tx(conn: &mut Db<'_>, replica: &Replica, gone: Timestamp) -> Result<u64, Failure> {
    query("DELETE FROM replica WHERE seen_at < ?").bind(seconds(gone)).execute(conn).await?;
    query(
        "INSERT INTO replica (key, doors, started_at, seen_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET \
         doors = excluded.doors, started_at = excluded.started_at, seen_at = excluded.seen_at",
    )
    .bind(replica.key.as_bytes().to_vec())
    .bind(json(&replica.doors))
    .bind(seconds(replica.started_at))
    .bind(seconds(replica.seen_at))
    .execute(conn)
    .await?;
    let others: i64 = query("SELECT COUNT(*) FROM replica WHERE key <> ?")
        .bind(replica.key.as_bytes().to_vec())
        .fetch_one(conn)
        .await?
        .first()?;
    Ok(others.unsigned_abs())
}

pub(crate) async fn left_in_tx(conn: &mut Db<'_>, key: &PublicKey) -> Result<(), Failure> {
    query("DELETE FROM replica WHERE key = ?").bind(key.as_bytes().to_vec()).execute(conn).await?;
    Ok(())
}

/// Those that were seen since, in the order of their keys.
pub(crate) async fn there(conn: &mut Db<'_>, since: Timestamp) -> Result<Vec<Replica>, Failure> {
    let rows =
        query("SELECT * FROM replica WHERE seen_at >= ? ORDER BY key").bind(seconds(since)).fetch_all(conn).await?;
    let one = |row| {
        let cells = Cells { table: "replica", row };
        Ok(Replica {
            key: cells.key("key")?,
            doors: cells.json("doors")?,
            started_at: cells.time("started_at")?,
            seen_at: cells.time("seen_at")?,
        })
    };
    rows.iter().map(one).collect()
}
