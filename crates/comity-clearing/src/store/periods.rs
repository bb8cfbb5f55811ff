//! Closed periods in SQL, and the sums that they froze.

use std::collections::BTreeMap;

use comity_ledger::AccountCode;
use comity_ledger::db::{Db, Row, query};
use comity_wire::{Digest, Timestamp};

use super::{Cells, int, json, seconds};
use crate::failure::Failure;

/// Σ debits and Σ credits of all accounts of a code.
pub(crate) type Sums = BTreeMap<AccountCode, (i64, i64)>;

/// A period as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeriodRow {
    pub(crate) act: Digest,
    pub(crate) name: String,
    pub(crate) until: Timestamp,
    pub(crate) closed_at: Timestamp,
    pub(crate) transfers: u64,
    pub(crate) totals: Sums,
    /// Size and root of the log's newest checkpoint, if there was one.
    pub(crate) log: Option<(u64, Digest)>,
    pub(crate) reopened: Option<(Timestamp, Digest)>,
}

fn row(row: &Row) -> Result<PeriodRow, Failure> {
    let cells = Cells { table: "period", row };
    let totals: Vec<(u16, i64, i64)> = cells.json("totals")?;
    let sums = totals.into_iter().map(|(code, debits, credits)| {
        let code = AccountCode::from_number(code.into()).ok_or_else(|| cells.unreadable("totals"))?;
        Ok((code, (debits, credits)))
    });
    let size = cells.uint("log_size")?;
    let root = cells.blob("log_root")?;
    let log = match <[u8; 32]>::try_from(root.as_slice()) {
        Ok(root) => Some((size, Digest(root))),
        Err(_) if root.is_empty() => None,
        Err(_) => return Err(cells.unreadable("log_root")),
    };
    let reopened = cells.time_maybe("reopened_at")?.zip(cells.bytes_maybe("reopened_by")?.map(Digest));
    Ok(PeriodRow {
        act: cells.digest("act")?,
        name: cells.text("name")?,
        until: cells.time("until_at")?,
        closed_at: cells.time("closed_at")?,
        transfers: cells.uint("transfers")?,
        totals: sums.collect::<Result<_, Failure>>()?,
        log,
        reopened,
    })
}

/// Periods, the newest first, at most `limit`.
pub(crate) async fn all(conn: &mut Db<'_>, limit: u32) -> Result<Vec<PeriodRow>, Failure> {
    let sql = "SELECT * FROM period ORDER BY until_at DESC, closed_at DESC, act LIMIT ?";
    query(sql).bind(i64::from(limit)).fetch_all(conn).await?.iter().map(row).collect()
}

/// The newest that is closed.
pub(crate) async fn newest_closed(conn: &mut Db<'_>) -> Result<Option<PeriodRow>, Failure> {
    let sql = "SELECT * FROM period WHERE reopened_at IS NULL ORDER BY until_at DESC LIMIT 1";
    query(sql).fetch_optional(conn).await?.as_ref().map(row).transpose()
}

pub(crate) async fn insert_in_tx(conn: &mut Db<'_>, period: &PeriodRow) -> Result<(), Failure> {
    let totals: Vec<(u16, i64, i64)> =
        period.totals.iter().map(|(code, (debits, credits))| (code.number(), *debits, *credits)).collect();
    let (size, root) = period.log.map_or((0, Vec::new()), |(size, root)| (size, root.0.to_vec()));
    query(
        "INSERT INTO period (act, name, until_at, closed_at, transfers, totals, log_size, log_root) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(period.act.0.to_vec())
    .bind(&period.name)
    .bind(seconds(period.until))
    .bind(seconds(period.closed_at))
    .bind(int(period.transfers))
    .bind(json(&totals))
    .bind(int(size))
    .bind(root)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn reopen_in_tx(conn: &mut Db<'_>, period: Digest, by: Digest, now: Timestamp) -> Result<(), Failure> {
    query("UPDATE period SET reopened_at = ?, reopened_by = ? WHERE act = ?")
        .bind(seconds(now))
        .bind(by.0.to_vec())
        .bind(period.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// What was posted up to each of these moments, which ascend: how many transfers, and the sums by code. One walk through the
/// transfers for each side, whatever the number of moments.
pub(crate) async fn posted_until(conn: &mut Db<'_>, moments: &[Timestamp]) -> Result<Vec<(u64, Sums)>, Failure> {
    let Some(last) = moments.last() else { return Ok(Vec::new()) };
    let cases: Vec<String> = moments
        .iter()
        .enumerate()
        .map(|(at, moment)| format!("WHEN f.posted_at < {} THEN {at}", seconds(*moment)))
        .collect();
    let mut within: Vec<(u64, Sums)> = vec![(0, Sums::new()); moments.len()];
    for side in ["debit", "credit"] {
        let sql = format!(
            "SELECT CAST(CASE {} END AS BIGINT) AS place, a.code, CAST(SUM(f.amount) AS BIGINT) AS amount, \
             CAST(COUNT(*) AS BIGINT) AS transfers FROM transfer f JOIN account a ON a.id = f.{side}_id \
             WHERE f.posted_at < ? GROUP BY 1, a.code",
            cases.join(" ")
        );
        for row in query(sql).bind(seconds(*last)).fetch_all(conn).await? {
            let cells = Cells { table: "transfer", row: &row };
            let place = usize::try_from(cells.uint("place")?).map_err(|_| cells.unreadable("place"))?;
            let code = AccountCode::from_number(cells.int("code")?).ok_or_else(|| cells.unreadable("code"))?;
            let (count, sums) = &mut within[place];
            let sum = sums.entry(code).or_default();
            if side == "debit" {
                sum.0 = cells.int("amount")?;
                *count += cells.uint("transfers")?;
            } else {
                sum.1 = cells.int("amount")?;
            }
        }
    }
    // Each moment has all that was posted before it.
    for at in 1..within.len() {
        let (before, after) = within.split_at_mut(at);
        let ((count, sums), (next, more)) = (&before[at - 1], &mut after[0]);
        *next += count;
        for (code, (debits, credits)) in sums {
            let sum = more.entry(*code).or_default();
            *sum = (sum.0 + debits, sum.1 + credits);
        }
    }
    Ok(within)
}
