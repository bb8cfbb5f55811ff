//! The register of operators' acts, in either database.

use comity_wire::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::StoreError;
use super::sql::{Postgres, Sqlite, int, within};
use crate::id::Salt;
use crate::register::{ACT_BYTES_MAX, ENTER_MAX, Line, Place, Register, place};

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// There is one register of a node.
pub(super) const REGISTER: [u8; 16] = [0; 16];

fn unreadable(what: impl Into<String>) -> StoreError {
    StoreError::Unreadable { what: what.into() }
}

fn uint(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| unreadable("a number below 0 in the register"))
}

macro_rules! register {
    ($name:ident, $begin:literal) => {
        impl Register for $name {
            fn acts_enter<'a>(&'a self, lines: &'a [(Line, Salt)], now: Timestamp) -> Answer<'a, u64> {
                within(async move {
                    let mut tx = self.0.begin_with($begin).await?;
                    let sql = "SELECT n, bytes FROM access_act ORDER BY n DESC LIMIT 1";
                    let last: Option<(i64, Vec<u8>)> = sqlx::query_as(sql).fetch_optional(&mut *tx).await?;
                    let mut newest = match last {
                        None => None,
                        Some((n, bytes)) => {
                            Some(place(&bytes).ok_or_else(|| unreadable(format!("act {n} of the register was changed")))?)
                        }
                    };
                    let mut count = 0;
                    for (line, salt) in lines {
                        if count >= ENTER_MAX as u64 {
                            break;
                        }
                        let sql = "SELECT n FROM access_act WHERE source = $1 AND line = $2";
                        let query = sqlx::query_as(sql).bind(&line.source).bind(int(line.line));
                        let known: Option<(i64,)> = query.fetch_optional(&mut *tx).await?;
                        if known.is_some() {
                            continue;
                        }
                        let act = line.act(newest.as_ref(), now, *salt);
                        if act.bytes().len() > ACT_BYTES_MAX {
                            return Err(unreadable(format!("line {} of {} is too long", line.line, line.source)));
                        }
                        // Whoever comes second waits for the first one's row, and writes nothing.
                        let sql = "INSERT INTO access_act (n, register, source, line, bytes) VALUES ($1, $2, $3, $4, $5) \
                                   ON CONFLICT DO NOTHING";
                        let query = sqlx::query(sql).bind(int(act.event().n)).bind(REGISTER.to_vec());
                        let query = query.bind(&line.source).bind(int(line.line)).bind(act.bytes());
                        if query.execute(&mut *tx).await?.rows_affected() != 1 {
                            return Ok(0);
                        }
                        newest = Some(Place::from(&act));
                        count += 1;
                    }
                    tx.commit().await?;
                    Ok(count)
                })
                .boxed()
            }

            fn acts_after(&self, n: u64, most: u32) -> Answer<'_, Vec<(u64, Vec<u8>)>> {
                within(async move {
                    let sql = "SELECT n, bytes FROM access_act WHERE n > $1 ORDER BY n LIMIT $2";
                    let query = sqlx::query_as(sql).bind(int(n)).bind(i64::from(most));
                    let rows: Vec<(i64, Vec<u8>)> = query.fetch_all(&self.0).await?;
                    rows.into_iter().map(|(n, bytes)| Ok((uint(n)?, bytes))).collect()
                })
                .boxed()
            }

            fn acts_last<'a>(&'a self, source: &'a str) -> Answer<'a, u64> {
                within(async move {
                    let sql = "SELECT CAST(COALESCE(MAX(line), 0) AS BIGINT) FROM access_act WHERE source = $1";
                    let (last,): (i64,) = sqlx::query_as(sql).bind(source).fetch_one(&self.0).await?;
                    uint(last)
                })
                .boxed()
            }
        }
    };
}

register!(Sqlite, "BEGIN IMMEDIATE");
register!(Postgres, "BEGIN");
