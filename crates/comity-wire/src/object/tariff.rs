//! Tariffs: a model's price list (spec/06-metering.md §3). Prices are integer µcr per 10⁶ units.

use super::{KIB, ascending, require};
use crate::amount::{Amount, Exact};
use crate::cbor::{List, Malformed, Text, record};
use crate::cose::{Kind, Object};
use crate::id::OrgId;
use crate::meter::{Meter, Meters};
use crate::op::Op;
use crate::time::Timestamp;

record! {
    /// Signed by the feed writer. A token pins one by content id, and it holds until the token ends (rule 5).
    pub struct Tariff {
        1 => org: OrgId,
        2 => name: Text<96>,
        3 => version: u64,
        4 => prices: List<Price, 64>,
        /// `input_tokens` ≤ `input_bytes` + this (templates, specials).
        5 => overhead_tokens: u32,
        /// No output token is longer than this.
        6 => output_bytes_per_token: u16,
        7 => issued_at: Timestamp,
    }
}

record! {
    /// What one op costs.
    #[derive(serde::Deserialize)]
    pub struct Price {
        1 => op: Op,
        #[serde(default)]
        2 => rates: List<Rate, 8>,
        /// A request costs at least this.
        3 => minimum: Amount,
    }
}

record! {
    /// The price of a meter's units, in steps: units from `from` on cost `ucr_per_million` each, up to the next step.
    #[derive(serde::Deserialize)]
    pub struct Rate {
        1 => meter: Meter,
        2 => steps: List<Step, 8>,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Step {
        1 => from: u64,
        2 => ucr_per_million: u64,
    }
}

/// What the worst case rests on: the numbers both sides read from a request (spec/06-metering.md §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    pub op: Op,
    /// Length of the body as digested.
    pub input_bytes: u64,
    /// Prompts × choices: how many times `output_tokens` may be generated; for `predict`, items.
    pub choices: u64,
    /// The most output tokens of one choice.
    pub output_tokens: u64,
}

/// A charge that cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    #[error("the tariff has no price for {0}")]
    Op(Op),
    #[error("the charge is larger than any amount")]
    Overflow,
}

impl Rate {
    fn cost(&self, units: u64) -> Option<u128> {
        let mut sum = 0_u128;
        for (at, step) in self.steps.iter().enumerate() {
            let end = self.steps.get(at + 1).map_or(u64::MAX, |next| next.from);
            let in_step = units.min(end).saturating_sub(step.from);
            sum = sum.checked_add(u128::from(in_step).checked_mul(u128::from(step.ucr_per_million))?)?;
        }
        Some(sum)
    }
}

impl Tariff {
    pub fn price(&self, op: Op) -> Option<&Price> {
        self.prices.iter().find(|price| price.op == op)
    }

    /// x = max(Σ units · price, minimum · 10⁶), exact, in 10⁻⁶ µcr.
    ///
    /// # Errors
    /// [`Unpriced`]: no price known ⇒ refuse.
    pub fn exact(&self, op: Op, meters: &Meters) -> Result<Exact, Unpriced> {
        let price = self.price(op).ok_or(Unpriced::Op(op))?;
        let sum = price.rates.iter().try_fold(0_u128, |sum, rate| sum.checked_add(rate.cost(meters.get(rate.meter))?));
        let sum = sum.ok_or(Unpriced::Overflow)?;
        Ok(Exact(sum.max(Exact::from_amount(price.minimum).0)))
    }

    /// The most that a request can be charged: what its signed maximum must reach.
    ///
    /// # Errors
    /// [`Unpriced`].
    pub fn worst_case(&self, demand: &Demand) -> Result<Amount, Unpriced> {
        let meters = self.worst_meters(demand).ok_or(Unpriced::Overflow)?;
        self.exact(demand.op, &meters)?.ceil().ok_or(Unpriced::Overflow)
    }

    /// The least that an admitted request is charged: requests, start and minimum (details: 429 against 402).
    ///
    /// # Errors
    /// [`Unpriced`].
    pub fn least_charge(&self, op: Op) -> Result<Amount, Unpriced> {
        let meters = Meters::default().with(Meter::Requests, 1);
        self.exact(op, &meters)?.ceil().ok_or(Unpriced::Overflow)
    }

    /// The units of the worst case.
    pub fn worst_meters(&self, demand: &Demand) -> Option<Meters> {
        let output_tokens = demand.output_tokens.checked_mul(demand.choices)?;
        let bytes = output_tokens.checked_mul(u64::from(self.output_bytes_per_token))?;
        let input_tokens = demand.input_bytes.checked_add(u64::from(self.overhead_tokens))?;
        // A prediction is charged by the item.
        let requests = if demand.op == Op::Predict { demand.choices } else { 1 };
        let fits = |units: u64| units <= i64::MAX.unsigned_abs();
        ([requests, output_tokens, bytes, input_tokens].into_iter().all(fits)).then(|| {
            Meters::default()
                .with(Meter::Requests, requests)
                .with(Meter::InputBytes, demand.input_bytes)
                .with(Meter::InputTokens, input_tokens)
                .with(Meter::OutputTokens, output_tokens)
                .with(Meter::OutputBytes, bytes)
        })
    }

    /// The most output tokens per choice whose worst case stays within `max`; `None` where even 0 is too dear.
    pub fn affordable_output(&self, demand: &Demand, max: Amount) -> Option<u64> {
        let fits = |tokens| {
            let demand = Demand { output_tokens: tokens, ..*demand };
            self.worst_case(&demand).is_ok_and(|worst| worst <= max)
        };
        if !fits(0) {
            return None;
        }
        // worst_case does not fall when tokens rise, so halving finds the last that fits.
        let (mut low, mut high) = (0, demand.output_tokens);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        Some(low)
    }
}

impl Object for Tariff {
    const KIND: Kind = Kind { name: "tariff", bytes_max: 8 * KIB, items_max: 2048 };

    fn validate(&self) -> Result<(), Malformed> {
        require(ascending(&self.prices, |price| price.op), "order of prices")?;
        for price in &self.prices {
            require(ascending(&price.rates, |rate| rate.meter), "order of rates")?;
            for rate in &price.rates {
                require(rate.steps.first().is_some_and(|step| step.from == 0), "rate: its first step starts at 0")?;
                require(ascending(&rate.steps, |step| step.from), "order of steps")?;
                // Compute time and starts have no bound that a client can work out beforehand yet.
                let bounded = !matches!(rate.meter, Meter::ComputeMs | Meter::TrainingTokens | Meter::Start);
                require(bounded, "rate: this meter has no worst case for this op yet")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn tariff(rates: Vec<(Meter, Vec<(u64, u64)>)>, minimum: u32) -> Tariff {
        let steps = |steps: Vec<(u64, u64)>| {
            List::new(steps.into_iter().map(|(from, ucr_per_million)| Step { from, ucr_per_million }).collect())
                .unwrap()
        };
        let rates = rates.into_iter().map(|(meter, s)| Rate { meter, steps: steps(s) }).collect::<Vec<_>>();
        let price = Price { op: Op::Chat, rates: List::new(rates).unwrap(), minimum: Amount::from_ucr(minimum) };
        Tariff {
            org: OrgId([1; 16]),
            name: Text::new("t").unwrap(),
            version: 1,
            prices: List::new(vec![price]).unwrap(),
            overhead_tokens: 16,
            output_bytes_per_token: 8,
            issued_at: Timestamp(0),
        }
    }

    #[test]
    fn steps_price_only_what_lies_in_them() {
        let t = tariff(vec![(Meter::InputTokens, vec![(0, 3), (10, 1)])], 0);
        let exact = |units| t.exact(Op::Chat, &Meters::default().with(Meter::InputTokens, units)).unwrap().0;
        assert_eq!([exact(0), exact(10), exact(11), exact(30)], [0, 30, 31, 50]);
    }

    #[test]
    fn a_minimum_is_a_floor_for_each_request() {
        let t = tariff(vec![(Meter::OutputTokens, vec![(0, 1_000_000)])], 5);
        let charge = |units| t.exact(Op::Chat, &Meters::default().with(Meter::OutputTokens, units)).unwrap().ceil();
        assert_eq!(charge(0), Some(Amount::from_ucr(5)));
        assert_eq!(charge(9), Some(Amount::from_ucr(9)));
        assert_eq!(t.exact(Op::Embeddings, &Meters::default()), Err(Unpriced::Op(Op::Embeddings)));
    }

    #[test]
    fn a_prediction_is_held_for_by_the_item() {
        let t = tariff(vec![(Meter::Requests, vec![(0, 3_000_000)])], 0);
        let demand = |op| Demand { op, input_bytes: 100, choices: 4, output_tokens: 0 };
        let requests = |op| t.worst_meters(&demand(op)).unwrap().get(Meter::Requests);
        assert_eq!([requests(Op::Predict), requests(Op::Chat)], [4, 1]);
    }

    #[test]
    fn what_is_affordable_is_the_last_that_fits() {
        let t = tariff(vec![(Meter::OutputTokens, vec![(0, 1_000_000)])], 0);
        let demand = Demand { op: Op::Chat, input_bytes: 100, choices: 2, output_tokens: 1000 };
        assert_eq!(t.affordable_output(&demand, Amount::from_ucr(21)), Some(10));
        assert_eq!(t.affordable_output(&demand, Amount::from_ucr(1)), Some(0));
        let dear = tariff(vec![(Meter::Requests, vec![(0, 9_000_000)])], 0);
        assert_eq!(dear.affordable_output(&demand, Amount::from_ucr(8)), None);
    }

    /// Also where a step is dearer than the one before, or cheaper: what is held is never less than what is charged.
    #[test]
    fn no_usage_within_a_demand_costs_more_than_its_worst_case() {
        let mut seed = 7_u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..2_000 {
            let mut steps = |dear: u64| {
                let (second, third) = (1 + below(40), 41 + below(200));
                vec![(0, below(dear)), (second, below(dear)), (third, below(dear))]
            };
            let rates = vec![
                (Meter::Requests, vec![(0, steps(9_000_000)[0].1)]),
                (Meter::InputBytes, steps(3_000_000)),
                (Meter::OutputBytes, steps(3_000_000)),
                (Meter::InputTokens, steps(9_000_000)),
                (Meter::OutputTokens, steps(9_000_000)),
            ];
            let t = tariff(rates, u32::try_from(below(50)).unwrap());
            let demand =
                Demand { op: Op::Chat, input_bytes: below(300), choices: 1 + below(3), output_tokens: below(60) };
            let worst = t.worst_case(&demand).unwrap();
            let most = t.worst_meters(&demand).unwrap();
            let mut used = Meters::default();
            for meter in
                [Meter::Requests, Meter::InputBytes, Meter::OutputBytes, Meter::InputTokens, Meter::OutputTokens]
            {
                used.set(meter, below(most.get(meter) + 1));
            }
            for meters in [&used, &most] {
                let charge = t.exact(Op::Chat, meters).unwrap().ceil().unwrap();
                assert!(charge <= worst, "{charge:?} of {meters:?} is more than {worst:?} for {demand:?} under {t:?}");
            }
        }
    }
}
