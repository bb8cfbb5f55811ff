//! Texts are handed to whoever keeps them where the tier says so, once, as they were handed over; and never else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use comity_supply::scripted::{Script, Step};
use comity_supply::{Delta, Event};
use comity_wire::Amount;
use comity_wire::object::{Ended, Logging};
use serde_json::{Value, json};

use super::world::*;
use crate::{Transcript, Transcripts};

#[derive(Default)]
struct Shelf {
    kept: Mutex<Vec<Transcript>>,
    is_full: AtomicBool,
}

impl Transcripts for Shelf {
    fn is_ready(&self) -> bool {
        !self.is_full.load(Ordering::SeqCst)
    }

    fn keep(&self, transcript: Transcript) {
        self.kept.lock().unwrap().push(transcript);
    }
}

async fn world(logging: Logging) -> (World, Arc<Shelf>) {
    let shelf = Arc::new(Shelf::default());
    let mut setting = Setting { transcripts: Some(shelf.clone()), ..Setting::default() };
    setting.tier.logging = logging;
    (World::new(setting).await, shelf)
}

#[tokio::test]
async fn a_charged_call_is_kept_once_as_it_was_handed_over() {
    for stream in [false, true] {
        let (world, shelf) = world(Logging::Bodies).await;
        let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 20, "stream": stream})));
        let (_, _, body) = read(world.send(&ask).await).await;
        // Asked again it comes from the store: nothing new was said.
        read(world.send(&ask).await).await;
        world.gateway.drained().await;
        let kept = shelf.kept.lock().unwrap();
        assert_eq!(kept.len(), 1);
        let kept = &kept[0];
        assert_eq!((kept.subject.as_str(), kept.retention_days, kept.ended), ("sub-of-the-project", 7, Ended::Stop));
        assert_eq!(kept.charge, Amount::from_ucr(18));
        let asked: Value = serde_json::from_slice(&kept.request).unwrap();
        assert_eq!(asked["messages"][0]["content"], "hi");
        if stream {
            let said = String::from_utf8(body.clone()).unwrap();
            let frames: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            let payloads: Vec<_> = kept.response.iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            assert_eq!(payloads, frames[..frames.len() - 1], "all but [DONE]");
        } else {
            assert_eq!(kept.response.concat(), body);
        }
    }
}

#[tokio::test]
async fn of_a_stream_that_breaks_what_was_handed_over_is_kept() {
    let (world, shelf) = world(Logging::Bodies).await;
    let said = Step::Say(Event::Delta(Delta { text: "one".into(), ..Delta::default() }));
    world.upstream.push(Script::Answer(vec![said, Step::Cut]));
    let ask = world.ask(&world.mint(|_| {})).body(chat("hi", json!({"max_tokens": 20, "stream": true})));
    read(world.send(&ask).await).await;
    world.gateway.drained().await;
    let kept = shelf.kept.lock().unwrap();
    assert_eq!((kept.len(), kept[0].ended), (1, Ended::UpstreamError));
    let said: Bytes = kept[0].response.concat().into();
    assert!(String::from_utf8_lossy(&said).contains("one"));
}

#[tokio::test]
async fn where_the_tier_does_not_say_so_nothing_is_kept() {
    for logging in [Logging::None, Logging::Metadata] {
        let (world, shelf) = world(logging).await;
        // Nor is it refused while nothing could be kept.
        shelf.is_full.store(true, Ordering::SeqCst);
        assert_eq!(read(world.send(&world.ask(&world.mint(|_| {}))).await).await.0, 200);
        world.gateway.drained().await;
        assert!(shelf.kept.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_could_not_be_kept_is_not_asked() {
    let (world, shelf) = world(Logging::Bodies).await;
    shelf.is_full.store(true, Ordering::SeqCst);
    let ask = world.ask(&world.mint(|_| {}));
    let (status, headers, body) = read(world.send(&ask).await).await;
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &said["error"]["code"], &said["error"]["whose_move"]),
        (503, &json!("busy"), &json!("owner")),
        "{said}"
    );
    assert!(headers.contains_key("retry-after"));
    assert_eq!(world.upstream.calls().len(), 0);
    // The same request again, once there is room.
    shelf.is_full.store(false, Ordering::SeqCst);
    assert_eq!(read(world.send(&ask).await).await.0, 200);
}
