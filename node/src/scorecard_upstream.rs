//! A scorecard of the built-in engine as an upstream: op `predict`, and nothing else.

use comity_engine::Scorecard;
use comity_supply::{Answer, BoxFuture, Call, Health, Reply, Upstream, UpstreamError};
use comity_wire::Op;
use serde_json::{Value, json};

#[derive(Debug)]
pub(crate) struct ScorecardUpstream {
    card: Scorecard,
    name: String,
}

impl ScorecardUpstream {
    pub(crate) fn new(name: impl Into<String>, card: Scorecard) -> Self {
        Self { card, name: name.into() }
    }

    /// `{"outputs": [{"risk", "band"}]}`, in the order of the inputs.
    fn predict(&self, call: &Call) -> Result<Answer, UpstreamError> {
        let refused = |message: String| UpstreamError::Refused {
            status: 400,
            code: Some("invalid_request".to_owned()),
            message,
            retry_after_s: None,
        };
        let inputs = call.body.get("inputs").and_then(Value::as_array);
        let inputs = inputs.ok_or_else(|| refused("inputs: a list is expected".to_owned()))?;
        let mut outputs = Vec::with_capacity(inputs.len());
        for (at, input) in inputs.iter().enumerate() {
            let scored = self.card.score(|name| input.get(name).and_then(Value::as_f64));
            let score = scored.map_err(|error| refused(format!("inputs[{at}].{error}")))?;
            outputs.push(json!({"risk": score.risk, "band": score.band}));
        }
        Ok(Answer { body: json!({"outputs": outputs}), usage: None })
    }
}

impl Upstream for ScorecardUpstream {
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Reply, UpstreamError>> {
        Box::pin(async move { Err(UpstreamError::Unsupported { op: call.op }) })
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        let answered = match call.op {
            Op::Predict => self.predict(&call),
            op => Err(UpstreamError::Unsupported { op }),
        };
        Box::pin(async move { answered })
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let models = vec![self.name.clone()];
        Box::pin(async move { Health::ready(models) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{self, Loaded};

    #[tokio::test]
    async fn the_shipped_scorecard_rates_a_house_by_the_river_above_one_on_the_hill() {
        let Ok(Loaded::Scorecard { card, digest }) = models::load("comity-flood") else { panic!("it ships") };
        assert_eq!(models::release("comity-flood").unwrap().weights, digest);
        let upstream = ScorecardUpstream::new("comity-flood", card);
        let ask = async |op, body: Value| upstream.answer(Call::new(op, "m", body.as_object().unwrap().clone())).await;
        let house = |elevation: f64, river: f64| json!({"elevation_m": elevation, "river_km": river, "rain_mm_day": 90, "sealed_percent": 40, "floods_before": 1});
        let body = json!({"inputs": [house(2.0, 0.2), house(55.0, 20.0)]});
        let answer = ask(Op::Predict, body).await.unwrap();
        let risk = |at: usize| answer.body["outputs"][at]["risk"].as_f64().unwrap();
        assert!(risk(0) > 0.5 && risk(1) < 0.05 && answer.usage.is_none(), "{}", answer.body);
        assert_eq!(
            (&answer.body["outputs"][0]["band"], &answer.body["outputs"][1]["band"]),
            (&json!("high"), &json!("low"))
        );
        let mut wrong = house(1.0, 1.0);
        wrong["rain_mm_day"] = json!("much");
        let Err(UpstreamError::Refused { message, .. }) =
            ask(Op::Predict, json!({"inputs": [house(1.0, 1.0), wrong]})).await
        else {
            panic!("it was rated")
        };
        assert_eq!(message, "inputs[1].rain_mm_day: a number is expected");
        assert_eq!(ask(Op::Tokenize, json!({})).await.unwrap_err().name(), "unsupported");
    }
}
