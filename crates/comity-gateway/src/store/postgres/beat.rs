//! Living and dead gateways: a sign of life, the burial of those that give none, and an orderly end.

use futures::FutureExt as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::super::{Answer, Beat, StoreError};
use super::Postgres;

/// Gateways that are buried at once.
const BURIALS_MAX: i64 = 16;

impl Postgres {
    pub(super) async fn beat_once(&self) -> Result<Beat, StoreError> {
        let (fence, lease_s) = (self.fence(), i64::from(self.waits.lease_s));
        let alive = self.ask(move |connection| {
            async move {
                let sql = concat!("UPDATE replica SET expires_at = ", now!(), " + $2 WHERE fence = $1");
                let told = sqlx::query(sql).bind(fence).bind(lease_s).execute(&mut *connection).await?;
                let sql = "SELECT news FROM spend_fence";
                let news: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
                Ok((told.rows_affected() == 1, news))
            }
            .boxed()
        });
        let (is_alive, news) = alive.await?;
        let buried = self.ask(move |connection| bury(connection, fence).boxed()).await?;
        if !is_alive {
            return Err(StoreError::Fenced);
        }
        Ok(Beat { buried, news: u64::try_from(news).map_err(|_| StoreError::Unreadable { what: "news" })? })
    }

    pub(super) fn leave_now(&self) -> Answer<'_, ()> {
        let fence = self.fence();
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                // Waits for a round that still runs; a later one finds the fence gone.
                let sql = "SELECT fence FROM replica WHERE fence = $1 FOR UPDATE";
                sqlx::query(sql).bind(fence).execute(&mut *tx).await?;
                remove(&mut tx, &[fence]).await?;
                tx.commit().await?;
                Ok(())
            }
            .boxed()
        })
    }
}

/// Takes the fences of gateways that were not heard of, with their holds and what those counted in rate windows: what was
/// not answered uses up no quota (rule 12). One in the middle of a round lives, whatever its lease says.
async fn bury(connection: &mut PgConnection, ours: i64) -> Result<usize, StoreError> {
    let mut tx = connection.begin().await?;
    let sql = concat!(
        "SELECT fence FROM replica WHERE expires_at < ",
        now!(),
        " AND fence <> $1 ORDER BY fence LIMIT $2 FOR UPDATE SKIP LOCKED"
    );
    let dead: Vec<i64> = sqlx::query_scalar(sql).bind(ours).bind(BURIALS_MAX).fetch_all(&mut *tx).await?;
    if dead.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    tracing::warn!(?dead, "gateways of this node were not heard of; their holds are released");
    remove(&mut tx, &dead).await?;
    tx.commit().await?;
    Ok(dead.len())
}

async fn remove(tx: &mut PgConnection, fences: &[i64]) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM hold WHERE fence = ANY($1)",
        "DELETE FROM claiming WHERE fence = ANY($1)",
        "DELETE FROM replica WHERE fence = ANY($1)",
    ] {
        sqlx::query(sql).bind(fences).execute(&mut *tx).await?;
    }
    Ok(())
}
