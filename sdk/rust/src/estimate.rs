//! What calls would cost, before anything is spent: a range, by the price list alone.

use comity_wire::object::{Tariff, Unpriced};
use comity_wire::{Amount, Exact, Meter, Meters, ModelId};
use serde::Serialize;

use crate::chat::Query;
use crate::client::{Client, Error};
use crate::compare::Grid;

/// What is assumed of texts where nobody has counted them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Assumed {
    /// Tokens of each prompt; where it is not said, a token is taken for four bytes.
    pub input_tokens: Option<u64>,
    /// Tokens of each answer; where it is not said, half of the most that is allowed.
    pub output_tokens: Option<u64>,
}

/// The cost of a number of calls to one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    pub model: ModelId,
    pub calls: u64,
    /// Answers of one token to prompts of few.
    pub low_ucr: Amount,
    pub likely_ucr: Amount,
    /// What the calls are signed for: they cannot cost more.
    pub high_ucr: Amount,
    /// Taken for the likely cost, of all calls together.
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// The most that one call can cost.
    pub call_max_ucr: Amount,
}

/// A sum of charges: exact, and rounded up once (spec/06-metering.md).
#[derive(Clone, Copy, Debug, Default)]
struct Sum(u128);

impl Sum {
    fn add(&mut self, charge: Exact) {
        self.0 = self.0.saturating_add(charge.0);
    }

    fn amount(self) -> Amount {
        Exact(self.0).ceil().unwrap_or(Amount::MAX)
    }
}

/// Adds up the calls of one model.
///
/// # Errors
/// [`Unpriced`].
pub fn estimate(
    model: &ModelId,
    queries: impl IntoIterator<Item = Query>,
    tariff: &Tariff,
    output_ceiling: u64,
    assumed: Assumed,
) -> Result<Estimate, Unpriced> {
    /// A word of English is a little more than one token, and some five bytes.
    const BYTES_PER_TOKEN: u64 = 4;
    let (mut low, mut likely, mut high) = (Sum::default(), Sum::default(), Sum::default());
    let (mut calls, mut input_tokens, mut output_tokens) = (0, 0, 0);
    let mut call_max = Amount::ZERO;
    for query in queries {
        let demand = query.demand(output_ceiling);
        let worst = tariff.worst_meters(&demand).ok_or(Unpriced::Overflow)?;
        let most = worst.get(Meter::OutputTokens);
        let text = texts(&query.body);
        let input =
            assumed.input_tokens.unwrap_or_else(|| text.div_ceil(BYTES_PER_TOKEN)).min(worst.get(Meter::InputTokens));
        let output = assumed.output_tokens.map_or(most / 2, |tokens| tokens.saturating_mul(demand.choices)).min(most);
        let meters = |input, output: u64| {
            let bytes = output.saturating_mul(BYTES_PER_TOKEN).min(worst.get(Meter::OutputBytes));
            Meters::default()
                .with(Meter::Requests, 1)
                .with(Meter::InputBytes, demand.input_bytes)
                .with(Meter::InputTokens, input)
                .with(Meter::OutputTokens, output)
                .with(Meter::OutputBytes, bytes)
        };
        low.add(tariff.exact(demand.op, &meters(input / 2, most.min(1)))?);
        likely.add(tariff.exact(demand.op, &meters(input, output))?);
        high.add(tariff.exact(demand.op, &worst)?);
        call_max = call_max.max(tariff.worst_case(&demand)?);
        (calls, input_tokens, output_tokens) = (calls + 1, input_tokens + input, output_tokens + output);
    }
    Ok(Estimate {
        model: model.clone(),
        calls,
        low_ucr: low.amount(),
        likely_ucr: likely.amount(),
        high_ucr: high.amount(),
        input_tokens,
        output_tokens,
        call_max_ucr: call_max,
    })
}

/// Bytes of what the messages of a body say.
fn texts(body: &[u8]) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = body.get("messages").and_then(serde_json::Value::as_array).into_iter().flatten();
    messages.filter_map(|message| message.get("content")?.as_str()).map(|text| text.len() as u64).sum()
}

impl Client {
    /// What each model of a grid would take for its part, the cheapest first.
    ///
    /// # Errors
    /// [`Error`]: an unknown model, an op without a price.
    pub async fn estimate(&self, grid: &Grid, assumed: Assumed) -> Result<Vec<Estimate>, Error> {
        let mut estimates = Vec::new();
        for (at, model) in grid.models.iter().enumerate() {
            let target = self.target(model).await?;
            let queries = grid.items().filter(|item| item.model == at).filter_map(|item| grid.query(&item).ok());
            let ceiling = self.output_ceiling(&target);
            let found = estimate(model, queries, &target.tariff, ceiling, assumed).map_err(Error::Unpriced)?;
            estimates.push(found);
        }
        estimates.sort_by(|a, b| (a.likely_ucr, &a.model).cmp(&(b.likely_ucr, &b.model)));
        Ok(estimates)
    }

    /// [`Client::estimate`] of those models that take less for a batch: what `comity batch run` would ask them for.
    ///
    /// # Errors
    /// As that.
    pub async fn estimate_batch(&self, grid: &Grid, assumed: Assumed) -> Result<Vec<Estimate>, Error> {
        let mut estimates = Vec::new();
        for (at, model) in grid.models.iter().enumerate() {
            let queries = || grid.items().filter(|item| item.model == at).filter_map(|item| grid.query(&item).ok());
            let Some(first) = queries().next() else { continue };
            if self.at_batch_price(&first).await?.is_none() {
                continue;
            }
            let target = self.target(model).await?;
            let queries = queries().filter_map(|query| query.as_batch());
            let ceiling = self.output_ceiling(&target);
            estimates.push(estimate(model, queries, &target.tariff, ceiling, assumed).map_err(Error::Unpriced)?);
        }
        Ok(estimates)
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::cbor::{List, Text};
    use comity_wire::object::{Price, Rate, Step};
    use comity_wire::{Op, OrgId, Timestamp};

    use super::*;
    use crate::compare::{Prompt, Setting};

    /// The source's example: $0.06 per 1,000 tokens, a micro-credit being a micro-dollar.
    fn tariff() -> Tariff {
        let rate =
            |meter| Rate { meter, steps: List::new(vec![Step { from: 0, ucr_per_million: 60_000_000 }]).unwrap() };
        let rates = List::new(vec![rate(Meter::InputTokens), rate(Meter::OutputTokens)]).unwrap();
        Tariff {
            org: OrgId([1; 16]),
            name: Text::new("t").unwrap(),
            version: 1,
            prices: List::new(vec![Price { op: Op::Chat, rates, minimum: Amount::ZERO }]).unwrap(),
            overhead_tokens: 16,
            output_bytes_per_token: 8,
            issued_at: Timestamp(1),
        }
    }

    #[test]
    fn ten_thousand_prompts_of_twenty_tokens_cost_about_24_dollars() {
        let model: ModelId = "lab/m".parse().unwrap();
        let grid = Grid {
            models: vec![model.clone()],
            prompts: (0..10_000)
                .map(|n| Prompt::asked(n.to_string(), "Name a city in France that is not Paris; why so?"))
                .collect(),
            settings: vec![Setting::plain(20)],
            repeats: 1,
        };
        let queries = grid.items().map(|item| grid.query(&item).unwrap());
        let assumed = Assumed { input_tokens: Some(20), output_tokens: Some(20) };
        let found = estimate(&model, queries, &tariff(), 4096, assumed).unwrap();
        assert_eq!((found.calls, found.likely_ucr), (10_000, Amount::credits(24)));
        assert!(found.low_ucr < found.likely_ucr && found.likely_ucr <= found.high_ucr);
        let call = grid.query(&grid.items().next().unwrap()).unwrap();
        assert_eq!(found.call_max_ucr, tariff().worst_case(&call.demand(4096)).unwrap());
    }
}
