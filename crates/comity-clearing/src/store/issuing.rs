//! The keys that the house may sell with.

use comity_ledger::db::{Db, query};
use comity_wire::{Digest, PublicKey, Timestamp};

use super::{Cells, seconds};
use crate::failure::Failure;

/// More keys than a house has in its life.
const KNOWN_MAX: i64 = 1_000;

pub(crate) struct IssuerRow {
    pub(crate) key: PublicKey,
    pub(crate) since: Timestamp,
    /// The act by which two officers approved it; none: it was there while fewer than two were.
    pub(crate) act: Option<Digest>,
}

/// The newest first.
pub(crate) async fn known(conn: &mut Db<'_>) -> Result<Vec<IssuerRow>, Failure> {
    let rows = query("SELECT key, since, act FROM issuer ORDER BY since DESC, key LIMIT ?");
    let rows = rows.bind(KNOWN_MAX).fetch_all(conn).await?;
    let row = |row| {
        let cells = Cells { table: "issuer", row };
        Ok(IssuerRow {
            key: cells.key("key")?,
            since: cells.time("since")?,
            act: cells.bytes_maybe("act")?.map(Digest),
        })
    };
    rows.iter().map(row).collect()
}

pub(crate) async fn approve_in_tx(
    conn: &mut Db<'_>,
    key: &PublicKey,
    act: Option<Digest>,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO issuer (key, since, act) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING")
        .bind(key.as_bytes().to_vec())
        .bind(seconds(now))
        .bind(act.map(|act| act.0.to_vec()))
        .execute(conn)
        .await?;
    Ok(())
}
