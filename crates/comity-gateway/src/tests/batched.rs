//! Calls that are part of a batch: at the owner's batch price to the last unit, by that op's rows, and never as another op.

use comity_wire::{Amount, Meter, Op};
use serde_json::{Value, json};

use super::world::*;

/// Half of what a chat costs, and a third of its output.
fn batched() -> Setting {
    let rates = vec![rate(Meter::InputTokens, 500_000), rate(Meter::OutputTokens, 333_333)];
    Setting {
        rates: vec![rate(Meter::InputTokens, 1_000_000), rate(Meter::OutputTokens, 1_000_000)],
        batch: Some(rates),
        ..Setting::default()
    }
}

fn batch(more: Value) -> Value {
    let mut body = chat("hi", json!({"max_tokens": 20, "comity_batch": true}));
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name.as_str()] = value.clone());
    body
}

/// The error of the lane's next call, which takes no place in it.
async fn refused(world: &World, chain: &[u8], seq: u64, body: Value) -> Value {
    let (_, _, body) = read(world.send(&world.ask(chain).seq(seq).body(body)).await).await;
    serde_json::from_slice::<Value>(&body).unwrap()["error"].clone()
}

#[tokio::test]
async fn a_batch_is_charged_at_its_own_price_and_its_receipt_says_so() {
    let world = World::new(batched()).await;
    let chain = world.mint(|_| {});
    let mut total = 0_u128;
    for seq in 1..=3 {
        let (status, headers, _) = read(world.send(&world.ask(&chain).seq(seq).body(batch(json!({})))).await).await;
        assert_eq!(status, 200);
        let receipt = receipt(&headers);
        let (input, output) = (receipt.meters.get(Meter::InputTokens), receipt.meters.get(Meter::OutputTokens));
        assert!(input == 12 && output > 0, "{input} {output}");
        // Exact sums of a lane are rounded up once, however the charges fall.
        total += u128::from(input) * 500_000 + u128::from(output) * 333_333;
        assert_eq!((receipt.op, receipt.total), (Op::Batch, comity_wire::Exact(total).ceil().unwrap()), "{seq}");
    }
    assert!(!format!("{:?}", world.upstream.calls()).contains("comity_batch"), "the upstream does not hear of it");
    // `false` is an ordinary call.
    let plain = world.ask(&chain).seq(4).body(batch(json!({"comity_batch": false})));
    let (_, headers, _) = read(world.send(&plain).await).await;
    assert_eq!(receipt(&headers).op, Op::Chat);
}

#[tokio::test]
async fn the_hold_of_a_batch_is_its_own_worst_case() {
    let world = World::new(batched()).await;
    let chain = world.mint(|_| {});
    let body = batch(json!({}));
    let bytes = serde_json::to_vec(&body).unwrap().len() as u64;
    let worst = ((bytes + 16) * 500_000 + 20 * 333_333).div_ceil(1_000_000);
    let ask = |max: u64| {
        let mut ask = world.ask(&chain).body(body.clone());
        ask.max = Amount::from_ucr(u32::try_from(max).unwrap());
        ask
    };
    assert_eq!(world.code(&ask(worst - 1)).await, "max_too_low");
    assert_eq!(world.code(&ask(worst)).await, "ok");
}

#[tokio::test]
async fn without_the_op_a_batch_is_refused_and_not_charged_otherwise() {
    for (without, why) in [(Op::Batch, "it has no such price"), (Op::Chat, "it is no way around the op's own rules")] {
        let world = World::new(Setting { without: Some(without), ..batched() }).await;
        let chain = world.mint(|_| {});
        assert_eq!(refused(&world, &chain, 1, batch(json!({}))).await["code"], "op_not_offered", "{why}");
    }
    let world = World::new(batched()).await;
    let narrow = world.mint(|token| {
        let mut scope = token.terms.scope[0].clone();
        scope.ops = comity_wire::cbor::List::new(vec![Op::Chat]).unwrap();
        token.terms.scope = comity_wire::cbor::List::new(vec![scope]).unwrap();
    });
    assert_eq!(refused(&world, &narrow, 1, batch(json!({}))).await["code"], "op_not_in_scope");
    for wrong in [json!({"comity_batch": "yes"}), json!({"stream": true})] {
        assert_eq!(refused(&world, &narrow, 1, batch(wrong)).await["code"], "invalid_request");
    }
    assert!(world.upstream.calls().is_empty(), "nothing was asked");
}

#[tokio::test]
async fn a_batch_keeps_to_the_narrower_of_both_rows() {
    let narrow = |rule: &mut comity_wire::object::OpRule| {
        if rule.op == Op::Batch {
            (rule.output_tokens_max, rule.input_bytes_max, rule.logprobs_max) = (7, 200, 0);
        }
    };
    let world = World::new(Setting { rule: narrow, ..batched() }).await;
    let chain = world.mint(|_| {});
    let (status, _, _) = read(world.send(&world.ask(&chain).body(batch(json!({})))).await).await;
    assert_eq!(status, 200);
    assert!(
        format!("{:?}", world.upstream.calls()[0]).contains("\"max_tokens\": Number(7)"),
        "{:?}",
        world.upstream.calls()
    );
    let long = batch(json!({"messages": [{"role": "user", "content": "x".repeat(200)}]}));
    assert_eq!(refused(&world, &chain, 2, long).await["code"], "limit_exceeded");
    // Log-probabilities are their own row's.
    let logprobs = world.ask(&chain).seq(2).body(batch(json!({"logprobs": true, "top_logprobs": 3})));
    assert_eq!(world.code(&logprobs).await, "ok");
}
