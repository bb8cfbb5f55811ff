//! What was quoted, in SQL: of each op of a model the tariffs, each with its first and its last quote.

use comity_ledger::db::{Db, Row, query};
use comity_wire::object::{Quote, Scope, Tariff};
use comity_wire::{Digest, ModelId, Op, OrgId, Signed, Timestamp};

use super::{Cells, seconds};
use crate::failure::Failure;

/// The most (model, op, tariff) that one owner is ever quoted under: a new price each day for fifty ops, for a year.
pub(crate) const PRICES_PER_OWNER_MAX: i64 = 20_000;
/// How exactly the last quote of a tariff is known.
const LAST_S: u64 = 3_600;

/// A tariff as it was quoted for an op of a model.
#[derive(Clone, Debug)]
pub(crate) struct Price {
    pub(crate) owner: OrgId,
    pub(crate) model: ModelId,
    pub(crate) op: Op,
    pub(crate) tariff: Signed<Tariff>,
    pub(crate) id: Digest,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
}

/// Writes down that these were quoted. The tariffs stand in `tariff` before.
pub(crate) async fn quoted_in_tx(
    conn: &mut Db<'_>,
    owner: OrgId,
    scopes: &[Scope],
    at: Timestamp,
) -> Result<(), Failure> {
    for scope in scopes {
        for op in scope.ops.iter() {
            if !again_in_tx(conn, scope, *op, at).await? {
                first_in_tx(conn, owner, (scope, *op), at).await?;
            }
        }
    }
    Ok(())
}

/// Whether it was quoted before. A quote of an older day, or of a moment ago, writes nothing.
async fn again_in_tx(conn: &mut Db<'_>, scope: &Scope, op: Op, at: Timestamp) -> Result<bool, Failure> {
    let found = query("SELECT first_at, last_at FROM price WHERE model = ? AND op = ? AND tariff = ?")
        .bind(scope.model.as_str())
        .bind(op.as_str())
        .bind(scope.tariff.0.to_vec())
        .fetch_optional(conn)
        .await?;
    let Some(row) = found else { return Ok(false) };
    let cells = Cells { table: "price", row: &row };
    let (first, last) = (cells.time("first_at")?, cells.time("last_at")?);
    let (sooner, later) = (first.min(at), if at.since(last) >= LAST_S { at } else { last });
    if (sooner, later) != (first, last) {
        query("UPDATE price SET first_at = ?, last_at = ? WHERE model = ? AND op = ? AND tariff = ?")
            .bind(seconds(sooner))
            .bind(seconds(later))
            .bind(scope.model.as_str())
            .bind(op.as_str())
            .bind(scope.tariff.0.to_vec())
            .execute(conn)
            .await?;
    }
    Ok(true)
}

async fn first_in_tx(conn: &mut Db<'_>, owner: OrgId, (scope, op): (&Scope, Op), at: Timestamp) -> Result<(), Failure> {
    let known = query("SELECT COUNT(*) FROM price WHERE owner = ?").bind(owner.0.to_vec()).fetch_one(conn).await?;
    if known.first()? >= PRICES_PER_OWNER_MAX {
        let max = format!("{PRICES_PER_OWNER_MAX}: the owner keeps its tariffs for longer, or asks the house");
        return Err(Failure::Limit { what: "prices of one owner that are kept for good", max });
    }
    query("INSERT INTO price (model, op, tariff, owner, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(scope.model.as_str())
        .bind(op.as_str())
        .bind(scope.tariff.0.to_vec())
        .bind(owner.0.to_vec())
        .bind(seconds(at))
        .bind(seconds(at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether the house keeps these bytes of a tariff.
pub(crate) async fn tariff_kept(conn: &mut Db<'_>, id: Digest) -> Result<Option<OrgId>, Failure> {
    let row = query("SELECT bytes FROM tariff WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let tariff = Signed::<Tariff>::decode(&Cells { table: "tariff", row: &row }.blob("bytes")?)?;
    Ok(Some(tariff.unverified().org))
}

/// Everything that was quoted, or of one owner; by model and op, the first quoted first.
pub(crate) async fn all(conn: &mut Db<'_>, owner: Option<OrgId>) -> Result<Vec<Price>, Failure> {
    let rows = query(
        "SELECT p.*, f.bytes FROM price p JOIN tariff f ON f.id = p.tariff WHERE p.owner = ?1 OR ?2 = 1 \
         ORDER BY p.model, p.op, p.first_at, p.last_at, p.tariff",
    )
    .bind(owner.map_or_else(Vec::new, |owner| owner.0.to_vec()))
    .bind(i64::from(owner.is_none()))
    .fetch_all(conn)
    .await?;
    let price = |row: &Row| {
        let cells = Cells { table: "price", row };
        Ok(Price {
            owner: OrgId(cells.bytes("owner")?),
            model: cells.text("model")?.parse().map_err(|_| cells.unreadable("model"))?,
            op: cells.text("op")?.parse().map_err(|_| cells.unreadable("op"))?,
            tariff: Signed::decode(&cells.blob("bytes")?)?,
            id: cells.digest("tariff")?,
            first_at: cells.time("first_at")?,
            last_at: cells.time("last_at")?,
        })
    };
    rows.iter().map(price).collect()
}

/// Looks through the next quotes from before prices were kept; whether there may be more.
pub(crate) async fn begin_in_tx(conn: &mut Db<'_>, page: u32) -> Result<bool, Failure> {
    let row = query("SELECT looked, done FROM price_begun").fetch_one(conn).await?;
    let cells = Cells { table: "price_begun", row: &row };
    if cells.int("done")? == 1 {
        return Ok(false);
    }
    let rows = query("SELECT id, bytes FROM quote WHERE id > ? ORDER BY id LIMIT ?")
        .bind(cells.blob("looked")?)
        .bind(i64::from(page))
        .fetch_all(conn)
        .await?;
    for row in &rows {
        let quote = Signed::<Quote>::decode(&Cells { table: "quote", row }.blob("bytes")?)?;
        let quote = quote.unverified();
        for scope in quote.scope.iter() {
            // What cannot be explained any more is not made up.
            let Some(owner) = tariff_kept(conn, scope.tariff).await? else { continue };
            quoted_in_tx(conn, owner, std::slice::from_ref(scope), quote.issued_at).await?;
        }
    }
    let more = rows.len() == page as usize;
    let last = match rows.last() {
        Some(row) => Cells { table: "quote", row }.blob("id")?,
        None => cells.blob("looked")?,
    };
    query("UPDATE price_begun SET looked = ?, done = ?").bind(last).bind(i64::from(!more)).execute(conn).await?;
    Ok(more)
}
