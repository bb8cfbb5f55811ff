//! Periods: closed with totals that stay, reopened only by an act.

use comity_ledger::Db;
use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::Clearing;
use super::acts::text;
use crate::acts::{PeriodClose, PeriodReopen};
use crate::failure::Failure;
use crate::reports::{TrialRow, code_word};
use crate::store;
use crate::store::periods::PeriodRow;

/// Periods that are kept closed at once: forty years of months.
const PERIODS_MAX: u32 = 480;
/// A period can be closed when this much time has passed since its end: what was begun before it is written by then.
const SETTLED_S: u64 = 3_600;

/// A closed period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPeriod {
    pub name: String,
    /// What was posted before this moment belongs to it, or to one before.
    pub until: Timestamp,
    pub closed_at: Timestamp,
    /// The act that closed it.
    pub act: Digest,
    /// Posted until then, from the beginning.
    pub transfers: u64,
    /// The trial balance at its end, as it was frozen.
    pub totals: Vec<TrialRow>,
    /// The log's newest checkpoint when it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_root: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopened_at: Option<Timestamp>,
    /// The act that reopened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopened_by: Option<Digest>,
}

impl Clearing {
    /// The newest first, reopened ones too.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn periods(&self) -> Result<Vec<ClosedPeriod>, Failure> {
        let rows = store::periods::all(&mut self.read().await?.db(), PERIODS_MAX).await?;
        Ok(rows.into_iter().map(told).collect())
    }
}

/// How many closed periods no longer say what the transfers say.
pub(crate) async fn differing(conn: &mut Db<'_>) -> Result<u64, Failure> {
    let mut closed = store::periods::all(conn, PERIODS_MAX).await?;
    closed.retain(|period| period.reopened.is_none());
    closed.reverse();
    let moments: Vec<Timestamp> = closed.iter().map(|period| period.until).collect();
    let found = store::periods::posted_until(conn, &moments).await?;
    let differs =
        closed.iter().zip(found).filter(|(period, (count, sums))| period.transfers != *count || period.totals != *sums);
    Ok(differs.count() as u64)
}

pub(super) async fn close_check(conn: &mut Db<'_>, ask: &PeriodClose, now: Timestamp) -> Result<(), Failure> {
    text("the name of a period", &ask.name)?;
    if ask.until.plus(SETTLED_S) > now {
        return Err(Failure::invalid(format!(
            "a period can be closed an hour after its end: at {}",
            ask.until.plus(SETTLED_S)
        )));
    }
    match store::periods::newest_closed(conn).await? {
        Some(newest) if newest.until >= ask.until => {
            Err(Failure::invalid(format!("{} is closed already, up to {}", newest.name, newest.until)))
        }
        _ => Ok(()),
    }
}

pub(super) async fn close_in_tx(
    conn: &mut Db<'_>,
    ask: &PeriodClose,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    close_check(conn, ask, now).await?;
    let (transfers, totals) = store::periods::posted_until(conn, &[ask.until]).await?.remove(0);
    let epoch = store::log::state(conn).await?.epoch;
    let log = store::log::checkpoint(conn, epoch).await?.map(|signed| (signed.size, signed.root));
    let period = PeriodRow {
        act,
        name: ask.name.clone(),
        until: ask.until,
        closed_at: now,
        transfers,
        totals,
        log,
        reopened: None,
    };
    store::periods::insert_in_tx(conn, &period).await
}

/// Only the newest: what comes after it rests on it.
pub(super) async fn reopen_check(conn: &mut Db<'_>, ask: &PeriodReopen) -> Result<Digest, Failure> {
    text("the reason", &ask.reason)?;
    match store::periods::newest_closed(conn).await? {
        Some(newest) if newest.until == ask.until => Ok(newest.act),
        Some(newest) => Err(Failure::invalid(format!(
            "the newest closed period is {}, up to {}: reopen that one first",
            newest.name, newest.until
        ))),
        None => Err(Failure::NotFound { what: "a closed period".into() }),
    }
}

pub(super) async fn reopen_in_tx(
    conn: &mut Db<'_>,
    ask: &PeriodReopen,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let period = reopen_check(conn, ask).await?;
    store::periods::reopen_in_tx(conn, period, act, now).await
}

fn told(row: PeriodRow) -> ClosedPeriod {
    let total = |(code, (debits, credits)): (comity_ledger::AccountCode, (i64, i64))| TrialRow {
        account: code_word(code).into(),
        debits_ucr: debits,
        credits_ucr: credits,
        balance_ucr: credits - debits,
    };
    ClosedPeriod {
        name: row.name,
        until: row.until,
        closed_at: row.closed_at,
        act: row.act,
        transfers: row.transfers,
        totals: row.totals.into_iter().map(total).collect(),
        log_size: row.log.map(|log| log.0),
        log_root: row.log.map(|log| log.1),
        reopened_at: row.reopened.map(|reopened| reopened.0),
        reopened_by: row.reopened.map(|reopened| reopened.1),
    }
}
