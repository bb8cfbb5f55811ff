//! Sealed decisions, in either database.

use std::collections::BTreeSet;

use comity_wire::log::{Growing, TileId, Tiles};
use comity_wire::{Digest, OrgId, Timestamp};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::StoreError;
use super::sql::{Postgres, Sqlite, int, sixteen, within};
use crate::case;
use crate::case::CaseId;
use crate::event::{Event, Linked};
use crate::id::ApplicationId;
use crate::register::Act;
use crate::seal::{HEADS_KEPT, Head, Leaf, LoggedHead, Of, Seals, Tree};

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

const WAITING: &str = "SELECT u.seq, u.kind, u.of_id, u.n, COALESCE(e.bytes, c.bytes, a.bytes) FROM access_unsealed u \
     LEFT JOIN access_event e ON u.kind = 1 AND e.application = u.of_id AND e.n = u.n \
     LEFT JOIN access_case_event c ON u.kind = 2 AND c.case_id = u.of_id AND c.n = u.n \
     LEFT JOIN access_act a ON u.kind = 3 AND a.n = u.n ORDER BY u.seq LIMIT $1";
const LEAVES: &str = "SELECT l.kind, l.of_id, l.n, l.log, l.place, l.link, COALESCE(e.bytes, c.bytes, a.bytes) FROM access_leaf l \
     LEFT JOIN access_event e ON l.kind = 1 AND e.application = l.of_id AND e.n = l.n \
     LEFT JOIN access_case_event c ON l.kind = 2 AND c.case_id = l.of_id AND c.n = l.n \
     LEFT JOIN access_act a ON l.kind = 3 AND a.n = l.n \
     WHERE l.log = $1 AND l.place >= $2 ORDER BY l.place LIMIT $3";
const FORGET: &str = "DELETE FROM access_head WHERE n < $1 AND NOT EXISTS \
     (SELECT 1 FROM access_head_logged g WHERE g.n = access_head.n)";
const FIRST: &str = "SELECT h.n, h.log, h.size, h.bytes FROM access_head h WHERE h.log = $1 AND h.size > $2 AND EXISTS \
     (SELECT 1 FROM access_head_logged g WHERE g.n = h.n AND ($3 = 0 OR g.house = $4)) ORDER BY h.size, h.n LIMIT 1";
/// What this house has comes before what any has, and that before what none has.
const SHOWN: [&str; 3] = [
    "SELECT h.n, h.log, h.size, h.bytes FROM access_head_logged g JOIN access_head h ON h.n = g.n \
     JOIN access_seal s ON s.log = h.log WHERE g.house = $1 ORDER BY g.n DESC LIMIT 1",
    "SELECT h.n, h.log, h.size, h.bytes FROM access_head_logged g JOIN access_head h ON h.n = g.n \
     JOIN access_seal s ON s.log = h.log WHERE g.house <> $1 ORDER BY g.n DESC LIMIT 1",
    "SELECT h.n, h.log, h.size, h.bytes FROM access_head h JOIN access_seal s ON s.log = h.log \
     WHERE length($1) >= 0 ORDER BY h.n DESC LIMIT 1",
];
const LEAVES_OF: &str = "SELECT l.kind, l.of_id, l.n, l.log, l.place, l.link, COALESCE(e.bytes, c.bytes, a.bytes) FROM access_leaf l \
     LEFT JOIN access_event e ON l.kind = 1 AND e.application = l.of_id AND e.n = l.n \
     LEFT JOIN access_case_event c ON l.kind = 2 AND c.case_id = l.of_id AND c.n = l.n \
     LEFT JOIN access_act a ON l.kind = 3 AND a.n = l.n \
     WHERE l.kind = $1 AND l.of_id = $2 AND l.n >= $3 AND l.n < $4 ORDER BY l.n, l.log";
const NEVER: &str = "SELECT v.kind, v.of_id, v.n FROM (SELECT CAST(1 AS BIGINT) AS kind, application AS of_id, n FROM access_event \
     UNION ALL SELECT CAST(2 AS BIGINT), case_id, n FROM access_case_event \
     UNION ALL SELECT CAST(3 AS BIGINT), register, n FROM access_act) v WHERE NOT EXISTS \
     (SELECT 1 FROM access_unsealed u WHERE u.kind = v.kind AND u.of_id = v.of_id AND u.n = v.n) AND NOT EXISTS \
     (SELECT 1 FROM access_leaf l JOIN access_seal s ON s.log = l.log WHERE l.kind = v.kind AND l.of_id = v.of_id AND l.n = v.n) \
     ORDER BY v.kind, v.of_id, v.n LIMIT $1";
const PUT_TILE: &str = "INSERT INTO access_tile (log, level, n, hashes) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (log, level, n) DO UPDATE SET hashes = excluded.hashes";

fn unreadable(what: impl Into<String>) -> StoreError {
    StoreError::Unreadable { what: what.into() }
}

fn uint(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| unreadable("a number below 0 among the sealed decisions"))
}

fn digest(bytes: Vec<u8>) -> Result<Digest, StoreError> {
    bytes.try_into().map(Digest).map_err(|_| unreadable("a digest of another length"))
}

fn of(kind: i64, id: Vec<u8>) -> Result<Of, StoreError> {
    let id = sixteen(id, "the id of what was sealed")?;
    match kind {
        1 => Ok(Of::Application(ApplicationId(id))),
        2 => Ok(Of::Case(CaseId(id))),
        3 => Ok(Of::Register),
        _ => Err(unreadable("a kind of sealed event")),
    }
}

/// The link that an event's bytes make.
fn link(of: Of, bytes: &[u8]) -> Digest {
    let context = match of {
        Of::Application(_) => Event::CONTEXT,
        Of::Case(_) => case::Event::CONTEXT,
        Of::Register => Act::CONTEXT,
    };
    Digest::of_parts(&[context, bytes])
}

type HeadColumns = (i64, i64, i64, Vec<u8>);

fn head_of((n, log, size, bytes): HeadColumns) -> Result<Head, StoreError> {
    Ok(Head { n: uint(n)?, log: uint(log)?, size: uint(size)?, bytes })
}

type LeafColumns = (i64, Vec<u8>, i64, i64, i64, Vec<u8>);

fn leaf_of((kind, id, n, log, place, link): LeafColumns) -> Result<Leaf, StoreError> {
    Ok(Leaf { of: of(kind, id)?, n: uint(n)?, log: uint(log)?, place: uint(place)?, link: digest(link)? })
}

type LeafNow = (i64, Vec<u8>, i64, i64, i64, Vec<u8>, Option<Vec<u8>>);

/// A leaf, and the link that its event has now.
fn leaf_now((kind, id, n, log, place, sealed, bytes): LeafNow) -> Result<(Leaf, Option<Digest>), StoreError> {
    let leaf = leaf_of((kind, id, n, log, place, sealed))?;
    Ok((leaf, bytes.map(|bytes| link(leaf.of, &bytes))))
}

/// Puts a stored tile among the others, as wide as it is in the tree of `size`; one that is not so wide is left out.
fn tile_take(tiles: &mut Tiles, tile: TileId, size: u64, mut hashes: Vec<u8>) -> Result<(), StoreError> {
    let width = tile.width_at(size);
    let length = usize::from(width) * 32;
    if width == 0 || hashes.len() < length {
        return Ok(());
    }
    hashes.truncate(length);
    tiles.insert(tile, width, &hashes).map_err(|error| unreadable(error.to_string()))
}

macro_rules! seals {
    ($name:ident, $begin:literal) => {
        impl $name {
            async fn where_logged(&self, head: Option<HeadColumns>) -> Result<Option<LoggedHead>, StoreError> {
                let Some(head) = head.map(head_of).transpose()? else { return Ok(None) };
                let sql = "SELECT house, idx FROM access_head_logged WHERE n = $1 ORDER BY house";
                let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(sql).bind(int(head.n)).fetch_all(&self.0).await?;
                let logged = |(house, index)| Ok((OrgId(sixteen(house, "a house")?), uint(index)?));
                let logged = rows.into_iter().map(logged).collect::<Result<_, StoreError>>()?;
                Ok(Some(LoggedHead { head, logged }))
            }
        }

        impl Seals for $name {
            fn tree(&self) -> Answer<'_, Tree> {
                within(async move {
                    let sql = "SELECT log, size, heads FROM access_seal WHERE one = 1";
                    let (log, size, heads): (i64, i64, i64) = sqlx::query_as(sql).fetch_one(&self.0).await?;
                    Ok(Tree { log: uint(log)?, size: uint(size)?, heads: uint(heads)? })
                })
                .boxed()
            }

            fn unsealed(&self) -> Answer<'_, u64> {
                within(async move {
                    let sql = "SELECT count(*) FROM access_unsealed";
                    let (count,): (i64,) = sqlx::query_as(sql).fetch_one(&self.0).await?;
                    uint(count)
                })
                .boxed()
            }

            fn seal(&self, limit: u32) -> Answer<'_, u64> {
                within(async move {
                    let mut tx = self.0.begin_with($begin).await?;
                    let sql = "SELECT log, size FROM access_seal WHERE one = 1";
                    let (log, before): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *tx).await?;
                    let waiting: Vec<(i64, i64, Vec<u8>, i64, Option<Vec<u8>>)> =
                        sqlx::query_as(WAITING).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
                    if waiting.is_empty() {
                        return Ok(0);
                    }
                    // Whoever comes second waits for this row, and finds it changed.
                    let after = before + int(waiting.len() as u64);
                    let sql = "UPDATE access_seal SET size = $3 WHERE one = 1 AND log = $1 AND size = $2";
                    let moved = sqlx::query(sql).bind(log).bind(before).bind(after).execute(&mut *tx).await?;
                    if moved.rows_affected() != 1 {
                        return Ok(0);
                    }
                    let size = uint(before)?;
                    let mut edge = Tiles::default();
                    for (tile, _) in Growing::edge(size) {
                        let sql = "SELECT hashes FROM access_tile WHERE log = $1 AND level = $2 AND n = $3";
                        let query = sqlx::query_as(sql).bind(log).bind(i64::from(tile.level)).bind(int(tile.index));
                        let found: Option<(Vec<u8>,)> = query.fetch_optional(&mut *tx).await?;
                        if let Some((hashes,)) = found {
                            tile_take(&mut edge, tile, size, hashes)?;
                        }
                    }
                    let grown = Growing::from(size, edge);
                    let mut grown = grown.map_err(|error| unreadable(format!("the tree of decisions: {error}")))?;
                    for (place, (seq, kind, id, n, bytes)) in (before..).zip(&waiting) {
                        let of = of(*kind, id.clone())?;
                        let bytes = bytes.as_ref().ok_or_else(|| unreadable(format!("{of}: event {n} is gone")))?;
                        let link = link(of, bytes);
                        grown.push(&link.0);
                        let sql = "INSERT INTO access_leaf (log, place, kind, of_id, n, link) VALUES ($1, $2, $3, $4, $5, $6)";
                        let query = sqlx::query(sql).bind(log).bind(place).bind(*kind).bind(id);
                        query.bind(*n).bind(link.0.to_vec()).execute(&mut *tx).await?;
                        let sql = "DELETE FROM access_unsealed WHERE seq = $1";
                        sqlx::query(sql).bind(*seq).execute(&mut *tx).await?;
                    }
                    for (tile, hashes) in grown.changed() {
                        let query = sqlx::query(PUT_TILE).bind(log).bind(i64::from(tile.level)).bind(int(tile.index));
                        query.bind(hashes).execute(&mut *tx).await?;
                    }
                    tx.commit().await?;
                    Ok(waiting.len() as u64)
                })
                .boxed()
            }

            fn tiles<'a>(&'a self, log: u64, ids: &'a BTreeSet<TileId>, size: u64) -> Answer<'a, Tiles> {
                within(async move {
                    let mut tiles = Tiles::default();
                    for tile in ids {
                        let sql = "SELECT hashes FROM access_tile WHERE log = $1 AND level = $2 AND n = $3";
                        let query = sqlx::query_as(sql).bind(int(log)).bind(i64::from(tile.level));
                        let found: Option<(Vec<u8>,)> =
                            query.bind(int(tile.index)).fetch_optional(&self.0).await?;
                        if let Some((hashes,)) = found {
                            tile_take(&mut tiles, *tile, size, hashes)?;
                        }
                    }
                    Ok(tiles)
                })
                .boxed()
            }

            fn head_put<'a>(&'a self, head: &'a Head) -> Answer<'a, bool> {
                within(async move {
                    let mut tx = self.0.begin_with($begin).await?;
                    let sql = "UPDATE access_seal SET heads = $1 WHERE one = 1 AND heads < $1 AND log = $2 AND size = $3";
                    let query = sqlx::query(sql).bind(int(head.n)).bind(int(head.log)).bind(int(head.size));
                    if query.execute(&mut *tx).await?.rows_affected() != 1 {
                        return Ok(false);
                    }
                    let sql = "INSERT INTO access_head (n, log, size, bytes) VALUES ($1, $2, $3, $4)";
                    let query = sqlx::query(sql).bind(int(head.n)).bind(int(head.log)).bind(int(head.size));
                    query.bind(&head.bytes).execute(&mut *tx).await?;
                    let over = int(head.n.saturating_sub(HEADS_KEPT));
                    sqlx::query(FORGET).bind(over).execute(&mut *tx).await?;
                    tx.commit().await?;
                    Ok(true)
                })
                .boxed()
            }

            fn head_newest(&self) -> Answer<'_, Option<Head>> {
                within(async move {
                    let sql = "SELECT n, log, size, bytes FROM access_head ORDER BY n DESC LIMIT 1";
                    let found: Option<HeadColumns> = sqlx::query_as(sql).fetch_optional(&self.0).await?;
                    found.map(head_of).transpose()
                })
                .boxed()
            }

            fn head_shown(&self, house: Option<OrgId>) -> Answer<'_, Option<LoggedHead>> {
                within(async move {
                    let house = house.map(|house| house.0.to_vec()).unwrap_or_default();
                    for sql in SHOWN {
                        let query = sqlx::query_as(sql).bind(house.clone());
                        let found: Option<HeadColumns> = query.fetch_optional(&self.0).await?;
                        if found.is_some() {
                            return self.where_logged(found).await;
                        }
                    }
                    Ok(None)
                })
                .boxed()
            }

            fn head_first(&self, log: u64, place: u64, house: Option<OrgId>) -> Answer<'_, Option<LoggedHead>> {
                within(async move {
                    let query = sqlx::query_as(FIRST).bind(int(log)).bind(int(place)).bind(i64::from(house.is_some()));
                    let house = house.map(|house| house.0.to_vec()).unwrap_or_default();
                    let found: Option<HeadColumns> = query.bind(house).fetch_optional(&self.0).await?;
                    self.where_logged(found).await
                })
                .boxed()
            }

            fn head(&self, n: u64) -> Answer<'_, Option<Head>> {
                within(async move {
                    let sql = "SELECT n, log, size, bytes FROM access_head WHERE n = $1";
                    let found: Option<HeadColumns> = sqlx::query_as(sql).bind(int(n)).fetch_optional(&self.0).await?;
                    found.map(head_of).transpose()
                })
                .boxed()
            }

            fn houses_logged(&self) -> Answer<'_, BTreeSet<OrgId>> {
                within(async move {
                    let sql = "SELECT DISTINCT house FROM access_head_logged";
                    let rows: Vec<(Vec<u8>,)> = sqlx::query_as(sql).fetch_all(&self.0).await?;
                    rows.into_iter().map(|(house,)| Ok(OrgId(sixteen(house, "a house")?))).collect()
                })
                .boxed()
            }

            fn head_logged(&self, house: OrgId, n: u64, index: u64) -> Answer<'_, bool> {
                within(async move {
                    let sql = "SELECT 1 FROM access_head WHERE n = $1";
                    let known: Option<(i32,)> = sqlx::query_as(sql).bind(int(n)).fetch_optional(&self.0).await?;
                    if known.is_none() {
                        return Ok(false);
                    }
                    let sql = "INSERT INTO access_head_logged (house, n, idx) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                    let query = sqlx::query(sql).bind(house.0.to_vec()).bind(int(n)).bind(int(index));
                    query.execute(&self.0).await?;
                    Ok(true)
                })
                .boxed()
            }

            fn leaf_of(&self, of: Of, log: u64, size: u64) -> Answer<'_, Option<Leaf>> {
                within(async move {
                    let sql = "SELECT kind, of_id, n, log, place, link FROM access_leaf \
                               WHERE log = $1 AND kind = $2 AND of_id = $3 AND place < $4 ORDER BY n DESC LIMIT 1";
                    let query = sqlx::query_as(sql).bind(int(log)).bind(of.kind()).bind(of.id().to_vec());
                    let found: Option<LeafColumns> = query.bind(int(size)).fetch_optional(&self.0).await?;
                    found.map(leaf_of).transpose()
                })
                .boxed()
            }

            fn leaves_of(&self, of: Of, from: u64, to: u64) -> Answer<'_, Vec<Leaf>> {
                within(async move {
                    let query = sqlx::query_as(LEAVES_OF).bind(of.kind()).bind(of.id().to_vec());
                    let rows: Vec<LeafNow> = query.bind(int(from)).bind(int(to)).fetch_all(&self.0).await?;
                    let leaves = rows.into_iter().map(leaf_now).collect::<Result<Vec<_>, _>>()?;
                    let are_so = leaves.into_iter().filter(|(leaf, now)| *now == Some(leaf.link));
                    Ok(are_so.map(|(leaf, _)| leaf).collect())
                })
                .boxed()
            }

            fn leaves(&self, log: u64, from: u64, limit: u32) -> Answer<'_, Vec<(Leaf, Option<Digest>)>> {
                within(async move {
                    let query = sqlx::query_as(LEAVES).bind(int(log)).bind(int(from)).bind(i64::from(limit));
                    let rows: Vec<LeafNow> = query.fetch_all(&self.0).await?;
                    rows.into_iter().map(leaf_now).collect()
                })
                .boxed()
            }

            fn never_sealed(&self, limit: u32) -> Answer<'_, Vec<(Of, u64)>> {
                within(async move {
                    let query = sqlx::query_as(NEVER).bind(i64::from(limit));
                    let rows: Vec<(i64, Vec<u8>, i64)> = query.fetch_all(&self.0).await?;
                    rows.into_iter().map(|(kind, id, n)| Ok((of(kind, id)?, uint(n)?))).collect()
                })
                .boxed()
            }

            fn log_begin<'a>(&'a self, reason: &'a str, at: Timestamp) -> Answer<'a, u64> {
                within(async move {
                    let mut tx = self.0.begin_with($begin).await?;
                    // Waits for whoever is writing an event, and lets nobody begin: the triggers share this row's lock.
                    sqlx::query("UPDATE access_seal SET log = log + 1, size = 0 WHERE one = 1").execute(&mut *tx).await?;
                    let sql = "SELECT log FROM access_seal WHERE one = 1";
                    let (log,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *tx).await?;
                    let sql = "INSERT INTO access_log_begun (log, reason, at) VALUES ($1, $2, $3)";
                    sqlx::query(sql).bind(log).bind(reason).bind(int(at.0)).execute(&mut *tx).await?;
                    sqlx::query("DELETE FROM access_unsealed").execute(&mut *tx).await?;
                    for sql in [
                        "INSERT INTO access_unsealed (kind, of_id, n) SELECT 1, application, n FROM access_event ORDER BY application, n",
                        "INSERT INTO access_unsealed (kind, of_id, n) SELECT 2, case_id, n FROM access_case_event ORDER BY case_id, n",
                        "INSERT INTO access_unsealed (kind, of_id, n) SELECT 3, register, n FROM access_act ORDER BY n",
                    ] {
                        sqlx::query(sql).execute(&mut *tx).await?;
                    }
                    tx.commit().await?;
                    uint(log)
                })
                .boxed()
            }
        }
    };
}

seals!(Sqlite, "BEGIN IMMEDIATE");
seals!(Postgres, "BEGIN");
