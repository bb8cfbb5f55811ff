//! What an answer cannot do: run on for ever, say more than was held for it, or say what the owner withholds.

use comity_supply::scripted::{Script, Step};
use comity_supply::{Delta, Event};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Ended, Filter, FilterAction};
use comity_wire::{Meter, Op};
use serde_json::json;

use super::world::*;

const WITHHELD: &str = "his IBAN is DE89370400440532013000, card 4111 1111 1111 1111, mail a@b.org";

fn withholding() -> Setting {
    let mut setting = Setting::default();
    let filter = Filter { category: Text::new("personal_data").unwrap(), action: FilterAction::Block };
    setting.tier.filters = List::new(vec![filter]).unwrap();
    setting
}

#[tokio::test]
async fn a_short_answer_that_the_owner_blocks_is_not_handed_over() {
    let world = World::new(withholding()).await;
    world.upstream.push(Script::text(Op::Chat, 12, &["Well, ", WITHHELD]));
    let (status, headers, body) = read(world.send(&world.ask(&world.mint(|_| {}))).await).await;
    let said = String::from_utf8(body).unwrap();
    assert_eq!(status, 200);
    assert!(!said.contains("DE893704") && !said.contains("Well"), "{said}");
    assert!(said.contains("content_filter"), "{said}");
    let receipt = receipt(&headers);
    assert_eq!((receipt.ended, receipt.meters.get(Meter::OutputTokens)), (Ended::Filtered, 0));
    assert!(!receipt.flags.0.is_empty());
}

#[tokio::test]
async fn a_stream_ends_before_the_words_that_the_owner_blocks() {
    let world = World::new(withholding()).await;
    // Cut within the words: the piece that completes them stays here.
    let (first, second) = WITHHELD.split_at(WITHHELD.len() / 2);
    world.upstream.push(Script::text(Op::Chat, 12, &["Well, ", first, second, " And more."]));
    let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    let said = String::from_utf8(read(world.send(&ask).await).await.2).unwrap();
    assert!(said.contains("Well") && said.contains("content_filter"), "{said}");
    assert!(!said.contains("a@b.org") && !said.contains("And more"), "{said}");
}

#[tokio::test]
async fn an_upstream_that_does_not_stop_is_cut_off() {
    for stream in [false, true] {
        let world = World::new(Setting::default()).await;
        let word = Step::Say(Event::Delta(Delta { text: "again ".into(), ..Delta::default() }));
        let mut steps = vec![word; 1_000];
        steps.push(Step::Hang);
        world.upstream.push(Script::Answer(steps));
        let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 20, "stream": stream})));
        let said = String::from_utf8(read(world.send(&ask).await).await.2).unwrap();
        assert!(said.contains("\"finish_reason\":\"length\""), "{said}");
        assert!(said.matches("again").count() <= 20 + 64, "{said}");
        let query = format!("token={TOKEN}&leaf={}&lane=0&seq=1", ask.leaf);
        let told = world.call("GET", "/comity/v1/receipts", &query, &json!(null), &secret("holder")).await;
        let told: comity_wire::api::node::ReceiptReply = serde_json::from_slice(&read(told).await.2).unwrap();
        let receipt = verify(&told.receipt);
        assert_eq!(receipt.meters.get(Meter::OutputTokens), 20, "what was held is the most that is charged");
    }
}

#[tokio::test]
async fn work_ends_when_its_token_says() {
    for (stream, accepted) in [(false, false), (false, true), (true, true)] {
        let world = World::new(Setting::default()).await;
        let said = if accepted { vec![Step::Hang] } else { Vec::new() };
        let script = Script::Answer(said);
        let script =
            if accepted { script } else { Script::After(comity_supply::scripted::Gate::shut(), Box::new(script)) };
        world.upstream.push(script);
        let chain = world.mint(|token| token.terms.longest_op_s = 0);
        let ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 20, "stream": stream})));
        assert_eq!(world.code(&ask).await, "upstream_failed");
    }
}

/// One who takes a piece now and then keeps no place at the model past what its token allows, however much the server has
/// said already.
#[tokio::test]
async fn a_slow_reader_is_cut_when_its_token_says() {
    let world = World::new(Setting::default()).await;
    let pieces: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    world.upstream.push(Script::text(Op::Chat, 12, &pieces));
    let chain = world.mint(|token| token.terms.longest_op_s = 1);
    let mut ask = world.ask(&chain).body(chat("hi", json!({"max_tokens": 200, "stream": true})));
    ask.max = comity_wire::Amount::credits(1);
    let mut body = world.send(&ask).await.into_body();
    let (mut said, mut slowly) = (Vec::new(), tokio::time::interval(std::time::Duration::from_millis(40)));
    while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
        said.extend(frame.unwrap().into_data().unwrap());
        slowly.tick().await;
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("000") && !said.contains("099") && !said.contains("[DONE]"), "{said}");
    assert!(said.contains("comity-receipt"), "what it took it pays, and has the receipt: {said}");
    world.gateway.drained().await;
    let account = world.gateway.0.ledger.with(|book| book.account(TOKEN).cloned()).unwrap();
    let (key, _) = account.lanes.iter().next().unwrap();
    let receipt = verify(&world.store.charge_by_n(TOKEN, *key, 1).await.unwrap().unwrap().receipt);
    assert!(receipt.ended != Ended::Stop && receipt.meters.get(Meter::OutputTokens) < 100, "{receipt:?}");
}

#[tokio::test]
async fn who_holds_no_token_here_takes_no_place() {
    let mut setting = Setting::default();
    setting.config.in_flight_max = 1;
    let world = World::new(setting).await;
    let _all = world.gateway.0.in_flight.clone().try_acquire_owned().unwrap();
    let mut ask = world.ask(&world.mint(|_| {}));
    assert_eq!(world.code(&ask).await, "busy");
    ask.send_chain = false;
    ask.leaf = comity_wire::Digest([0; 32]);
    assert_eq!(world.code(&ask).await, "token_unknown", "though no place is free");
}
