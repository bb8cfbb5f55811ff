//! Recharge owners (2 CFR 200.468): a published schedule of rates, and whether it recovered what a year cost. Pure.
//!
//! A schedule has one rate for each meter of an op of a model, whoever pays: no federal award can be charged more than
//! another payer. It recovers no more than it costs, and is looked at again within two years.

use std::collections::BTreeSet;

use comity_wire::object::{Scope, Tariff};
use comity_wire::{Amount, Meter, ModelId, Op, Timestamp};
use serde::{Deserialize, Serialize};

/// The most rates of one schedule.
pub const RATES_MAX: usize = 512;
/// From this age on a schedule is a finding: "adjusted at least biennially".
pub const AGE_MAX_S: u64 = 731 * comity_wire::time::DAY_S;

/// A published rate, and how many units a year are expected at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRate {
    pub model: ModelId,
    pub op: Op,
    pub meter: Meter,
    pub ucr_per_million: u64,
    pub expected_units: u64,
}

/// A version of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub name: String,
    pub from: Timestamp,
    pub approved_by: String,
    pub fiscal_year: String,
    pub costs: Amount,
    pub rates: Vec<ScheduleRate>,
}

/// What the rates bring in with the expected units, rounded up; `None` beyond any amount.
pub fn expected(rates: &[ScheduleRate]) -> Option<i64> {
    let exact = rates.iter().try_fold(0_u128, |sum, rate| {
        sum.checked_add(u128::from(rate.ucr_per_million).checked_mul(u128::from(rate.expected_units))?)
    })?;
    i64::try_from(exact.div_ceil(1_000_000)).ok()
}

/// Why a schedule cannot be one.
pub fn fault(rates: &[ScheduleRate], costs: Amount) -> Option<String> {
    if rates.is_empty() || rates.len() > RATES_MAX {
        return Some(format!("a schedule has 1 to {RATES_MAX} rates"));
    }
    let mut seen = BTreeSet::new();
    for rate in rates {
        if !seen.insert((&rate.model, rate.op, rate.meter)) {
            return Some(format!(
                "{} of {} of {} has two rates: one schedule has one, whoever pays (2 CFR 200.468(b))",
                rate.meter, rate.op, rate.model
            ));
        }
    }
    match expected(rates) {
        None => Some("the expected units bring in more than can be counted".into()),
        Some(expected) if expected > costs.ucr() => Some(format!(
            "with the units that it expects it brings in {expected} µcr, and its costs are {}: a schedule recovers cost and no more (2 CFR 200.468(b))",
            costs.ucr()
        )),
        Some(_) => None,
    }
}

/// The version in force at a moment: the one that began last, and of several of one moment the one recorded last.
pub fn in_force<'a>(versions: &'a [Schedule], name: &str, at: Timestamp) -> Option<&'a Schedule> {
    versions.iter().filter(|version| version.name == name && version.from <= at).max_by_key(|version| version.from)
}

/// Where a tariff asks more than the schedule has, for what a token would pin.
pub fn above(schedule: &Schedule, scope: &Scope, tariff: &Tariff) -> Option<String> {
    let published = |op: Op, meter: Meter| {
        let rate = schedule.rates.iter().find(|rate| rate.model == scope.model && rate.op == op && rate.meter == meter);
        rate.map_or(0, |rate| rate.ucr_per_million)
    };
    let told = |op: Op, meter: Meter, asks: u128| {
        let has = published(op, meter);
        (asks > u128::from(has)).then(|| {
            format!(
                "{} asks {asks} µcr for 10⁶ {meter} of {op}, and its owner's schedule '{}' has {has}",
                scope.model, schedule.name
            )
        })
    };
    for op in scope.ops.iter() {
        let Some(price) = tariff.price(*op) else { continue };
        // A least charge is what a request costs.
        let least = u128::from(price.minimum.ucr().unsigned_abs()) * 1_000_000;
        if let Some(above) = told(*op, Meter::Requests, least) {
            return Some(above);
        }
        for rate in price.rates.iter() {
            let dearest = rate.steps.iter().map(|step| step.ucr_per_million).max().unwrap_or(0);
            if let Some(above) = told(*op, rate.meter, dearest.into()) {
                return Some(above);
            }
        }
    }
    None
}

/// A year's costs, and what came in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Year {
    pub fiscal_year: String,
    pub costs: i64,
    pub recovered: i64,
}

/// What a year leaves, and takes with it from the years before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Recovered − costs: above zero is too much.
    pub difference: i64,
    pub carried_in: i64,
    pub carried_out: i64,
}

/// Carries over- and under-recovery forward through years in their order.
pub fn carry(years: &[Year]) -> Vec<Carried> {
    let mut before = 0;
    let one = |year: &Year| {
        let difference = year.recovered - year.costs;
        let carried = Carried { difference, carried_in: before, carried_out: before + difference };
        before = carried.carried_out;
        carried
    };
    years.iter().map(one).collect()
}

/// By how many millionths each rate must rise (or fall, below zero) so that the next year's expected income takes up what is
/// carried out: rounded down, so that nobody is charged too much. `None` where nothing is expected.
pub fn adjustment_ppm(carried_out: i64, expected: i64) -> Option<i64> {
    let exact = -i128::from(carried_out) * 1_000_000;
    (expected > 0).then(|| exact.div_euclid(i128::from(expected))).and_then(|ppm| i64::try_from(ppm).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(model: &str, meter: Meter, ucr_per_million: u64, expected_units: u64) -> ScheduleRate {
        ScheduleRate { model: model.parse().unwrap(), op: Op::Chat, meter, ucr_per_million, expected_units }
    }

    #[test]
    fn a_schedule_recovers_cost_at_one_rate_for_all() {
        let rates = [rate("a/b", Meter::Requests, 3, 1_000_000), rate("a/b", Meter::OutputTokens, 7, 1)];
        assert_eq!(expected(&rates), Some(4), "3.000007 rounded up");
        assert_eq!(fault(&rates, Amount::from_ucr(4)), None);
        assert!(fault(&rates, Amount::from_ucr(3)).unwrap().contains("recovers cost and no more"));
        let twice = [rates[0].clone(), ScheduleRate { ucr_per_million: 2, ..rates[0].clone() }];
        assert!(fault(&twice, Amount::MAX).unwrap().contains("two rates"));
        assert!(fault(&[], Amount::MAX).is_some());
        let endless = [rate("a/b", Meter::Requests, u64::MAX, u64::MAX)];
        assert!(fault(&endless, Amount::MAX).unwrap().contains("more than can be counted"));
    }

    #[test]
    fn the_version_that_began_last_is_in_force() {
        let version = |name: &str, from, costs| Schedule {
            name: name.into(),
            from: Timestamp(from),
            approved_by: "provost".into(),
            fiscal_year: "2027".into(),
            costs: Amount::from_ucr(costs),
            rates: vec![],
        };
        let all = [version("core", 10, 1), version("core", 20, 2), version("other", 30, 3), version("core", 20, 4)];
        let at = |at| in_force(&all, "core", Timestamp(at)).map(|version| version.costs.ucr());
        assert_eq!([at(9), at(10), at(19), at(20), at(99)], [None, Some(1), Some(1), Some(4), Some(4)]);
    }

    #[test]
    fn what_is_left_is_carried_forward_and_a_rate_takes_it_up() {
        let year = |costs, recovered| Year { fiscal_year: "y".into(), costs, recovered };
        let carried = carry(&[year(100, 130), year(100, 60), year(100, 100)]);
        let parts = |carried: &Carried| (carried.carried_in, carried.difference, carried.carried_out);
        assert_eq!(carried.iter().map(parts).collect::<Vec<_>>(), [(0, 30, 30), (30, -40, -10), (-10, 0, -10)]);
        assert_eq!(adjustment_ppm(30, 100), Some(-300_000));
        assert_eq!(adjustment_ppm(-10, 100), Some(100_000));
        assert_eq!(adjustment_ppm(1, 3), Some(-333_334), "down: nobody is charged too much");
        assert_eq!(adjustment_ppm(-1, 3), Some(333_333));
        assert_eq!(adjustment_ppm(5, 0), None);
    }
}
