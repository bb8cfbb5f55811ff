//! Notices that wait, in either database.

use comity_wire::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::sql::{Postgres, Sqlite, int, within};
use super::{StoreError, sql::sixteen};
use crate::notice::{Delivery, DeliveryId, Notice, Outbox, Queued, Unkept};

/// Bytes of a reason that is kept beside a row.
const WHY_BYTES_MAX: usize = 400;

/// As a row is written; one that is there stays as it is.
pub(super) const PUT: &str = "INSERT INTO access_notice (id, target, address, notice, since, next_at, attempts, state, ended_at, why) \
     VALUES ($1, $2, $3, $4, $5, $5, 0, 0, 0, '') ON CONFLICT DO NOTHING";

/// The columns of a row, as both drivers give them.
type Columns = (Vec<u8>, Option<String>, Vec<u8>, i64, i64, i64);

fn queued(target: &str, (id, address, notice, since, attempts, _): &Columns) -> Result<Queued, StoreError> {
    let notice = Notice::read(notice).map_err(|_| StoreError::Unreadable { what: "a notice that waits".into() })?;
    Ok(Queued {
        delivery: Delivery {
            id: DeliveryId(sixteen(id.clone(), "a delivery's id")?),
            target: target.to_owned(),
            address: address.clone(),
            notice,
        },
        attempts: u32::try_from(*attempts).unwrap_or(u32::MAX),
        since: Timestamp(u64::try_from(*since).unwrap_or(0)),
    })
}

fn unkept(error: StoreError) -> Unkept {
    Unkept(Box::new(error))
}

fn clipped(why: &str) -> &str {
    let end = (0..=why.len().min(WHY_BYTES_MAX)).rev().find(|end| why.is_char_boundary(*end));
    &why[..end.unwrap_or(0)]
}

macro_rules! outbox {
    ($name:ident, $begin:literal, $skip:literal) => {
        impl Outbox for $name {
            fn due<'a>(
                &'a self,
                target: &'a str,
                now: Timestamp,
                until: Timestamp,
                limit: usize,
            ) -> BoxFuture<'a, Result<Vec<Queued>, Unkept>> {
                within(async move {
                    let mut tx = self.0.begin_with($begin).await?;
                    let rows: Vec<Columns> = sqlx::query_as(concat!(
                        "SELECT id, address, notice, since, attempts, next_at FROM access_notice \
                         WHERE state = 0 AND target = $1 AND next_at <= $2 ORDER BY next_at, id LIMIT $3",
                        $skip
                    ))
                    .bind(target)
                    .bind(int(now.0))
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                    .fetch_all(&mut *tx)
                    .await?;
                    let mut taken = Vec::with_capacity(rows.len());
                    for row in &rows {
                        // Somebody else may have taken it since it was read: whoever moves its time has it.
                        let moved = sqlx::query(
                            "UPDATE access_notice SET next_at = $3 WHERE id = $1 AND state = 0 AND next_at = $2",
                        )
                        .bind(&row.0)
                        .bind(row.5)
                        .bind(int(until.0))
                        .execute(&mut *tx)
                        .await?;
                        if moved.rows_affected() != 1 {
                            continue;
                        }
                        match queued(target, row) {
                            Ok(row) => taken.push(row),
                            // Nobody could ever deliver it, and it must not hold up the others.
                            Err(error) => {
                                let sql = "UPDATE access_notice SET state = 2, ended_at = $2, why = $3 WHERE id = $1";
                                let why = error.to_string();
                                let query = sqlx::query(sql).bind(&row.0).bind(int(now.0)).bind(clipped(&why));
                                query.execute(&mut *tx).await?;
                            }
                        }
                    }
                    tx.commit().await?;
                    Ok(taken)
                })
                .map(|done| done.map_err(unkept))
                .boxed()
            }

            fn done(&self, id: DeliveryId, at: Timestamp) -> BoxFuture<'_, Result<(), Unkept>> {
                within(async move {
                    sqlx::query("UPDATE access_notice SET state = 1, ended_at = $2 WHERE id = $1")
                        .bind(id.0.to_vec())
                        .bind(int(at.0))
                        .execute(&self.0)
                        .await?;
                    Ok(())
                })
                .map(|done| done.map_err(unkept))
                .boxed()
            }

            fn again<'a>(
                &'a self,
                id: DeliveryId,
                next: Timestamp,
                why: &'a str,
            ) -> BoxFuture<'a, Result<(), Unkept>> {
                within(async move {
                    let sql = "UPDATE access_notice SET next_at = $2, attempts = attempts + 1, why = $3 WHERE id = $1 AND state = 0";
                    sqlx::query(sql)
                        .bind(id.0.to_vec())
                        .bind(int(next.0))
                        .bind(clipped(why))
                        .execute(&self.0)
                        .await?;
                    Ok(())
                })
                .map(|done| done.map_err(unkept))
                .boxed()
            }

            fn gave_up<'a>(
                &'a self,
                id: DeliveryId,
                at: Timestamp,
                why: &'a str,
            ) -> BoxFuture<'a, Result<(), Unkept>> {
                within(async move {
                    sqlx::query("UPDATE access_notice SET state = 2, ended_at = $2, why = $3 WHERE id = $1 AND state = 0")
                        .bind(id.0.to_vec())
                        .bind(int(at.0))
                        .bind(clipped(why))
                        .execute(&self.0)
                        .await?;
                    Ok(())
                })
                .map(|done| done.map_err(unkept))
                .boxed()
            }

            fn gave_up_others<'a>(
                &'a self,
                targets: &'a [String],
                at: Timestamp,
                why: &'a str,
            ) -> BoxFuture<'a, Result<u64, Unkept>> {
                within(async move {
                    let waiting: Vec<(String,)> =
                        sqlx::query_as("SELECT DISTINCT target FROM access_notice WHERE state = 0")
                            .fetch_all(&self.0)
                            .await?;
                    let mut rows = 0;
                    for (gone,) in waiting.into_iter().filter(|(target,)| !targets.contains(target)) {
                        let sql = "UPDATE access_notice SET state = 2, ended_at = $2, why = $3 WHERE target = $1 AND state = 0";
                        let done =
                            sqlx::query(sql).bind(gone).bind(int(at.0)).bind(clipped(why)).execute(&self.0).await?;
                        rows += done.rows_affected();
                    }
                    Ok(rows)
                })
                .map(|done| done.map_err(unkept))
                .boxed()
            }
        }
    };
}

// Of two who take at once, SQLite lets one begin first; PostgreSQL would give both the same rows, of which the second could
// take none when the first is through. It steps over what somebody is taking instead.
outbox!(Sqlite, "BEGIN IMMEDIATE", "");
outbox!(Postgres, "BEGIN", " FOR UPDATE SKIP LOCKED");
