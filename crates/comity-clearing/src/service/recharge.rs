//! Recharge owners at work: schedules and costs set by acts, tariffs held against the schedule at the quote, and what each
//! year recovered.

use comity_ledger::Db;
use comity_wire::object::{Scope, Tariff};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, OrgId, Timestamp, Verified};
use serde::{Deserialize, Serialize};

use super::Clearing;
use super::acts::text;
use crate::acts::{OwnerCosts, OwnerSchedule};
use crate::failure::Failure;
use crate::owners::{Basis, in_order};
use crate::recharge::{
    AGE_MAX_S, Schedule, ScheduleRate, Year, above, adjustment_ppm, carry, expected, fault, in_force,
};
use crate::reports::{Period, Report};
use crate::store;
use crate::store::schedules::Costs;

/// The most versions of schedules, and years of costs, of one owner.
const KEPT_MAX: usize = 1_000;

/// A schedule as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleShow {
    pub owner: OrgId,
    pub name: String,
    pub from: Timestamp,
    pub approved_by: String,
    pub fiscal_year: String,
    pub costs: Amount,
    pub expected_ucr: i64,
    pub rates: Vec<ScheduleRate>,
    /// Who recorded it stands in this act.
    pub act: Digest,
}

/// A recharge owner's year: difference = recovered − costs; carried out = carried in + difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryRow {
    pub owner: String,
    pub fiscal_year: String,
    pub from: String,
    pub to: String,
    pub costs_ucr: i64,
    /// What was settled to the owner in the year under its terms of recharge, less what disputes took.
    pub recovered_ucr: i64,
    pub difference_ucr: i64,
    pub carried_in_ucr: i64,
    pub carried_out_ucr: i64,
    pub schedule: String,
    pub schedule_from: String,
    pub schedule_age_days: u64,
    /// What the newest schedule brings in with the units that it expects.
    pub expected_ucr: i64,
    /// By how many millionths each rate must change so that the next year takes up what is carried out; empty: nothing is
    /// expected.
    pub adjust_ppm: Option<i64>,
    pub evidence: String,
    /// What an auditor will find.
    pub findings: String,
}

impl Clearing {
    /// Every schedule that was recorded.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn owner_schedules(&self) -> Result<Vec<ScheduleShow>, Failure> {
        let all = store::schedules::all(&mut self.read().await?.db()).await?;
        let show = |(owner, act, schedule): (OrgId, Digest, Schedule)| ScheduleShow {
            owner,
            expected_ucr: expected(&schedule.rates).unwrap_or(i64::MAX),
            name: schedule.name,
            from: schedule.from,
            approved_by: schedule.approved_by,
            fiscal_year: schedule.fiscal_year,
            costs: schedule.costs,
            rates: schedule.rates,
            act,
        };
        Ok(all.into_iter().map(show).collect())
    }

    /// What each recharge owner recovered in a fiscal year, and what it carries on.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn recovery(&self, year: &str) -> Result<Report<RecoveryRow>, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let mut rows = Vec::new();
        for owner in store::schedules::owners(&mut seen).await? {
            rows.push(recovered(&mut seen, owner, year, now).await?);
        }
        snapshot.rollback().await?;
        Ok(self.report("recovery", Period::default(), rows, None))
    }

    /// Refuses a tariff above its owner's published schedule: what a recharge centre charges beyond it is no allowable cost of
    /// a federal award, and nobody could know at the sale which lots a token will end up on.
    pub(super) async fn within_schedule(
        &self,
        owner: OrgId,
        scopes: &[Scope],
        tariffs: &[Verified<Tariff>],
    ) -> Result<(), Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let terms = store::owners::of(&mut conn.db(), owner).await?;
        let Some(Basis::Recharge { schedule: name, .. }) =
            in_order(&terms, now.plus(1)).last().map(|terms| &terms.basis)
        else {
            return Ok(());
        };
        let versions = store::schedules::of(&mut conn.db(), owner).await?;
        drop(conn);
        let version = in_force(&versions, name, now).ok_or_else(|| Failure::OwnerTerms {
            what: format!("{owner} charges by its schedule '{name}', of which no version is in force yet"),
            whose_move: "two officers of the house: comity clearing owner schedule record",
        })?;
        for scope in scopes {
            let Some(tariff) = tariffs.iter().find(|tariff| tariff.id() == scope.tariff) else { continue };
            if let Some(what) = above(version, scope, tariff) {
                return Err(Failure::OwnerTerms {
                    what,
                    whose_move: "the owner: a tariff within its published schedule, or a schedule that two officers of the house record",
                });
            }
        }
        Ok(())
    }
}

async fn recovered(conn: &mut Db<'_>, owner: OrgId, fiscal_year: &str, now: Timestamp) -> Result<RecoveryRow, Failure> {
    let terms = store::owners::of(conn, owner).await?;
    let schedules = store::schedules::of(conn, owner).await?;
    let reported = store::schedules::years(conn, owner).await?;
    let mut findings = Vec::new();
    let mut years = Vec::with_capacity(reported.len());
    for costs in &reported {
        let mut recovered = 0;
        let in_order = in_order(&terms, costs.until);
        for earned in store::owners::earned(conn, owner, (costs.from, costs.until)).await? {
            let own = in_order.iter().rev().find(|terms| terms.from <= earned.sold_at);
            if own.is_some_and(|terms| matches!(terms.basis, Basis::Recharge { .. })) {
                recovered += earned.net;
            }
        }
        years.push(Year { fiscal_year: costs.fiscal_year.clone(), costs: costs.costs.ucr(), recovered });
    }
    for pair in reported.windows(2).filter(|pair| pair[0].until < pair[1].from) {
        findings.push(format!("no costs reported between {} and {}", pair[0].fiscal_year, pair[1].fiscal_year));
    }
    let newest = schedules.iter().filter(|schedule| schedule.from <= now).max_by_key(|schedule| schedule.from);
    let mut row =
        RecoveryRow { owner: owner.to_string(), fiscal_year: fiscal_year.to_owned(), ..RecoveryRow::default() };
    match newest {
        None => findings.push("no schedule".to_owned()),
        Some(schedule) => {
            let age_s = now.since(schedule.from);
            row.schedule.clone_from(&schedule.name);
            row.schedule_from = day(schedule.from);
            row.schedule_age_days = age_s / DAY_S;
            row.expected_ucr = expected(&schedule.rates).unwrap_or(i64::MAX);
            if age_s > AGE_MAX_S {
                findings.push("schedule older than two years".to_owned());
            }
        }
    }
    match reported.iter().position(|costs| costs.fiscal_year == fiscal_year) {
        None => findings.push("no costs reported for this year".to_owned()),
        Some(at) => {
            let (costs, year, carried) = (&reported[at], &years[at], carry(&years)[at]);
            (row.from, row.to) = (day(costs.from), day(Timestamp(costs.until.0.saturating_sub(1))));
            (row.costs_ucr, row.recovered_ucr) = (year.costs, year.recovered);
            row.difference_ucr = carried.difference;
            (row.carried_in_ucr, row.carried_out_ucr) = (carried.carried_in, carried.carried_out);
            row.adjust_ppm = adjustment_ppm(carried.carried_out, row.expected_ucr);
            row.evidence.clone_from(&costs.evidence);
        }
    }
    row.findings = findings.join("; ");
    Ok(row)
}

fn day(at: Timestamp) -> String {
    at.to_string()[..10].to_owned()
}

pub(super) async fn schedule_check(conn: &mut Db<'_>, ask: &OwnerSchedule, now: Timestamp) -> Result<(), Failure> {
    text("the schedule's name", &ask.schedule)?;
    text("who approved it", &ask.approved_by)?;
    text("the fiscal year", &ask.fiscal_year)?;
    if let Some(fault) = fault(&ask.rates, ask.costs) {
        return Err(Failure::invalid(fault));
    }
    if ask.from.plus(DAY_S) < now {
        return Err(Failure::invalid("a schedule is published before it holds: it begins today or later"));
    }
    if store::schedules::of(conn, ask.owner).await?.len() >= KEPT_MAX {
        return Err(Failure::Limit { what: "schedules of one owner", max: KEPT_MAX.to_string() });
    }
    Ok(())
}

pub(super) async fn schedule_in_tx(
    conn: &mut Db<'_>,
    ask: &OwnerSchedule,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let schedule = Schedule {
        name: ask.schedule.clone(),
        from: ask.from,
        approved_by: ask.approved_by.clone(),
        fiscal_year: ask.fiscal_year.clone(),
        costs: ask.costs,
        rates: ask.rates.clone(),
    };
    store::schedules::insert_in_tx(conn, ask.owner, &schedule, act, now).await
}

pub(super) async fn costs_check(conn: &mut Db<'_>, ask: &OwnerCosts, now: Timestamp) -> Result<(), Failure> {
    text("the fiscal year", &ask.fiscal_year)?;
    text("the evidence", &ask.evidence)?;
    if ask.until <= ask.from || ask.until > now {
        return Err(Failure::invalid("a year's costs are reported when it is over, and it ends after it begins"));
    }
    let years = store::schedules::years(conn, ask.owner).await?;
    if years.len() >= KEPT_MAX {
        return Err(Failure::Limit { what: "years of one owner", max: KEPT_MAX.to_string() });
    }
    // What came in is counted for one year only.
    let mut others = years.iter().filter(|year| year.fiscal_year != ask.fiscal_year);
    match others.find(|year| year.from < ask.until && ask.from < year.until) {
        Some(other) => Err(Failure::invalid(format!("these days are in fiscal year {} already", other.fiscal_year))),
        None => Ok(()),
    }
}

pub(super) async fn costs_in_tx(
    conn: &mut Db<'_>,
    ask: &OwnerCosts,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let costs = Costs {
        fiscal_year: ask.fiscal_year.clone(),
        from: ask.from,
        until: ask.until,
        costs: ask.costs,
        evidence: ask.evidence.clone(),
    };
    store::schedules::costs_insert_in_tx(conn, ask.owner, &costs, act, now).await
}
