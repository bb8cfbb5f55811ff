//! What operators ask of the database itself.

use comity_ledger::db::{Db, Kind, query};
use comity_wire::Timestamp;

use super::{Cells, seconds};
use crate::failure::Failure;
use crate::ops::{Facts, LogFacts, Restored, Server};

/// The newest time that these books came back from a backup.
pub(crate) async fn restored(conn: &mut Db<'_>) -> Result<Option<Restored>, Failure> {
    let row = query("SELECT * FROM restored ORDER BY number DESC LIMIT 1").fetch_optional(conn).await?;
    row.map(|row| {
        let cells = Cells { table: "restored", row: &row };
        Ok(Restored {
            number: cells.uint("number")?,
            backup_at: cells.time("backup_at")?,
            restored_at: cells.time("restored_at")?,
        })
    })
    .transpose()
}

pub(crate) async fn restored_insert_in_tx(
    conn: &mut Db<'_>,
    backup_at: Timestamp,
    now: Timestamp,
) -> Result<Restored, Failure> {
    let sql = "INSERT INTO restored (number, backup_at, restored_at) \
               SELECT COALESCE(MAX(number), 0) + 1, CAST(?1 AS BIGINT), CAST(?2 AS BIGINT) FROM restored RETURNING number";
    let restored_at = now.max(backup_at);
    let row = query(sql).bind(seconds(backup_at)).bind(seconds(restored_at)).fetch_one(conn).await?;
    let number = Cells { table: "restored", row: &row }.uint("number")?;
    Ok(Restored { number, backup_at, restored_at })
}

/// `with_restored`: whether the tables are new enough to know of it.
pub(crate) async fn facts(conn: &mut Db<'_>, schema: i64, with_restored: bool) -> Result<Facts, Failure> {
    let transfers = query("SELECT COALESCE(MAX(seq), 0) FROM transfer").fetch_one(conn).await?.first()?.unsigned_abs();
    let state = super::log::state(conn).await?;
    let signed = super::log::checkpoint(conn, state.epoch).await?;
    let signed_at = signed.as_ref().map(|signed| signed.signed_at);
    let log = signed.map(|signed| LogFacts { epoch: state.epoch, size: signed.size, root: signed.root });
    let waiting = super::log::waiting_count(conn).await?;
    let restored = if with_restored { restored(conn).await? } else { None };
    Ok(Facts { schema, transfers, sealed: state.size, waiting, log, signed_at, restored })
}

/// Credits less debits over the sums that are kept with the accounts: zero.
pub(crate) async fn sum(conn: &mut Db<'_>) -> Result<i64, Failure> {
    Ok(query("SELECT CAST(COALESCE(SUM(credits - debits), 0) AS BIGINT) FROM account")
        .fetch_one(conn)
        .await?
        .first()?)
}

/// What the engine says that it does with a COMMIT; empty where it is as it must be.
pub(crate) async fn server(conn: &mut Db<'_>) -> Result<Server, Failure> {
    let mut faults = Vec::new();
    let mut must = async |conn: &mut Db<'_>, sql: &'static str, what: &str, wanted: &[&str]| {
        let found = query(sql).fetch_one(conn).await?.text("said")?;
        if !wanted.contains(&found.as_str()) {
            faults.push(format!("{what} is {found}, and must be {}", wanted.join(" or ")));
        }
        Ok::<_, Failure>(())
    };
    let now = match conn.kind() {
        Kind::Sqlite => {
            must(conn, "SELECT journal_mode AS said FROM pragma_journal_mode", "journal_mode", &["wal"]).await?;
            let synchronous = "SELECT CAST(synchronous AS TEXT) AS said FROM pragma_synchronous";
            must(conn, synchronous, "synchronous", &["2", "3"]).await?;
            None
        }
        Kind::Postgres => {
            for (sql, name, wanted) in [
                ("SELECT current_setting('fsync') AS said", "fsync", &["on"][..]),
                ("SELECT current_setting('full_page_writes') AS said", "full_page_writes", &["on"]),
                ("SELECT current_setting('synchronous_commit') AS said", "synchronous_commit", &["on", "remote_apply"]),
                (
                    "SELECT CAST(pg_is_in_recovery() AS TEXT) AS said",
                    "pg_is_in_recovery() (true: a standby)",
                    &["false"],
                ),
            ] {
                must(conn, sql, name, wanted).await?;
            }
            let now = query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)").fetch_one(conn).await?;
            Some(Timestamp(now.first()?.unsigned_abs()))
        }
    };
    Ok(Server { faults, now })
}
