//! What callers see of where answers come from: a vendor's count, fields that a server does not take, instances that are
//! loading or down.

use std::sync::Arc;

use comity_supply::pool::{Pool, Settings};
use comity_supply::scripted::{Script, Scripted};
use comity_supply::{Health, Upstream, UpstreamError};
use comity_wire::Op;
use comity_wire::object::Basis;
use serde_json::{Value, json};

use super::world::*;
use crate::{Served, refusal};

/// The world's model, served by this instead.
fn serve(world: &World, upstream: Arc<dyn Upstream>, change: impl FnOnce(&mut Served)) {
    let mut served = Served {
        model: model(),
        upstream,
        upstream_model: "tiny-elsewhere".into(),
        echo: false,
        choices_max: 4,
        is_vendor: false,
        fields_refused: Vec::new(),
        slots: 1_000,
    };
    change(&mut served);
    world.gateway.serve(vec![served]);
}

#[tokio::test]
async fn a_receipt_says_whose_count_it_rests_on() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let answer = || Script::text(Op::Chat, 12, &["Hello"]);
    for (seq, is_vendor, script, basis) in [
        (1, true, answer(), Basis::VendorUsage),
        (2, true, answer().without_usage(), Basis::Relayed),
        (3, false, answer(), Basis::Upstream),
    ] {
        serve(&world, Arc::new(Scripted::new(script)), |served| served.is_vendor = is_vendor);
        let (status, headers, _) = read(world.send(&world.ask(&chain).seq(seq)).await).await;
        assert_eq!((status, receipt(&headers).basis), (200, basis));
    }
}

#[tokio::test]
async fn a_field_that_the_server_does_not_take_never_reaches_it() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let upstream = Scripted::new(Script::text(Op::Chat, 12, &["Hello"]));
    serve(&world, Arc::new(upstream.clone()), |served| {
        served.fields_refused = vec!["seed".into(), "stop".into(), "temperature".into()];
    });
    let asked = chat("hi", json!({"seed": 7, "temperature": 0, "top_p": 0.5}));
    let (status, headers, _) = read(world.send(&world.ask(&chain).seq(1).body(asked)).await).await;
    assert_eq!(status, 200);
    let ignored = headers["comity-ignored"].to_str().unwrap().to_owned();
    assert!(ignored.contains("seed") && ignored.contains("temperature") && !ignored.contains("top_p"), "{ignored}");
    let sent = upstream.calls()[0].body.clone();
    assert!(!sent.contains_key("seed") && !sent.contains_key("temperature") && sent.contains_key("top_p"), "{sent:?}");
    // Who counts on an end is not given an answer without one.
    let ask = world.ask(&chain).seq(2).body(chat("hi", json!({"stop": "x"})));
    let (status, _, body) = read(world.send(&ask).await).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &body["error"]["code"], &body["error"]["param"]),
        (403, &json!("op_not_offered"), &json!("stop"))
    );
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test]
async fn loading_is_starting_down_is_unavailable_and_both_say_when_to_come_back() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    let (starting, down) = (Health::starting("weights"), Health::down("gone"));
    for (seq, health, expected) in [(1, starting, "model_starting"), (2, down, "upstream_unavailable")] {
        let instance = Scripted::new(Script::Unreachable);
        instance.set_health(health);
        let settings = Settings { failures_max: 1, ..Settings::default() };
        let pool = Pool::new(vec![("one".into(), Arc::new(instance.clone()))], settings, Arc::new(|| 0));
        pool.look_now().await;
        serve(&world, Arc::new(pool), |_| {});
        let (status, headers, body) = read(world.send(&world.ask(&chain).seq(seq)).await).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, body["error"]["code"].as_str()), (503, Some(expected)));
        let after: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&after) && headers["x-should-retry"] == "true", "{after}");
        assert!(instance.calls().is_empty(), "nobody is asked");
    }
}

#[test]
fn a_vendors_filter_and_a_vendors_hurry_have_codes_of_their_own() {
    let refused = |status, code: Option<&str>| {
        let error = UpstreamError::Refused {
            status,
            code: code.map(str::to_owned),
            message: "m".into(),
            retry_after_s: Some(7),
        };
        let refusal = refusal::upstream(&error);
        (refusal.code.to_string(), refusal.retry_after_s)
    };
    assert_eq!(refused(400, Some("content_filter")), ("content_filter".into(), None));
    assert_eq!(refused(400, Some("other")), ("invalid_request".into(), None));
    assert_eq!(refused(529, Some("overloaded_error")), ("upstream_unavailable".into(), Some(7)));
    assert_eq!(refused(401, None), ("upstream_failed".into(), None));
}
