//! Slow readers: streams of which a few bytes are read now and then, each with next to no room on its caller's side, so that
//! what the model says has to wait somewhere. It must not wait in the node's memory, and nobody else must wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comity_scratch::Database;
use comity_wire::Amount;
use futures::StreamExt as _;

use super::raw::{Bye, Line};
use super::scene::{Scene, Seen};
use super::{Facts, Size};
use crate::Chance;
use crate::holder::Chat;
use crate::torture::Tally;

/// An answer of some 700 KiB: more than the systems on the way keep for a reader that does not read.
const WORDS: u64 = 3_000;
const HOLD: u32 = 9_000;
const RECEIVE_BYTES: u32 = 4_096;
/// At once, every so long.
const SIP_BYTES: usize = 200;
const SIP_EVERY: Duration = Duration::from_millis(250);
/// Connections that are being made at once.
const DIALLING: usize = 32;
/// What a reader may cost the node: what was relayed to it so far (kept for a retry), sixteen frames, and the buffers of its
/// two connections. Measured with 1,000 of them: 315.
const READER_KIB_MAX: u64 = 384;
/// What the node takes for itself meanwhile: honest callers, caches, the allocator.
const NODE_KIB_MAX: u64 = 48 << 10;

pub(super) async fn story(size: Size, database: Option<&Database>, chance: &mut Chance, tally: &Tally) -> Facts {
    let (readers, sipping) = size.of((40_u16, Duration::from_secs(2)), (1_000, Duration::from_secs(30)));
    let offer = |offer: String| {
        let long = offer.replace("output_tokens_max = 64", "output_tokens_max = 4_096");
        let long = long.replace("context_length = 256", "context_length = 8_192").replace("= 256", "= 1_024");
        long.replace("lanes_max = 256", "lanes_max = 1_024").replace("concurrency = 256", "concurrency = 2_048")
    };
    let mut scene = Scene::begin(tally, database, offer, |_| {}).await;
    let process = scene.federation.service("lab").id();
    let holder = scene.holder(HOLD * u32::from(readers), readers).await;
    let (honest, watch) = (scene.honest(), scene.watch(&holder));
    let before = resident_kib(process);

    let stop = Arc::new(AtomicBool::new(false));
    let byes: Vec<_> = (0..readers).map(|_| if chance.within(0..2) == 0 { Bye::Fin } else { Bye::Reset }).collect();
    let dialled: Vec<_> = futures::stream::iter((0..readers).zip(byes))
        .map(|(lane, bye)| {
            let (scene, holder, stop) = (&scene, &holder, Arc::clone(&stop));
            async move {
                let question = format!("words {WORDS} 0 reader {lane}");
                let chat = Chat { question: &question, max_tokens: 4_000, stream: true };
                let request = holder.sign_chat(&scene.model, (lane, 1), Amount::from_ucr(HOLD), &chat).http1();
                let mut line = Line::dial(scene.address(), &holder.transport_keys, Some(RECEIVE_BYTES)).await.ok()?;
                line.send(&request).await.ok()?;
                line.read_until(|line| line.words() > 0 || (line.has_head() && line.status() != 200)).await;
                Some(tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) && line.read(SIP_BYTES).await {
                        tokio::time::sleep(SIP_EVERY).await;
                    }
                    let chat = Chat { question: &question, max_tokens: 4_000, stream: true };
                    let seen = Seen::of(&line, &chat, (lane, 1));
                    line.bye(bye);
                    seen
                }))
            }
        })
        .buffer_unordered(DIALLING)
        .collect()
        .await;
    let mut peak = resident_kib(process);
    let until = tokio::time::Instant::now() + sipping;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        peak = peak.max(resident_kib(process));
    }
    // What is held is held by calls that have not come to their end.
    let held = holder.try_lanes().await.map_or(0, |lanes| lanes.held.ucr());
    let waiting =
        u64::try_from(held / (2 * i64::try_from(WORDS).expect("a small number"))).unwrap_or(0).min(readers.into());
    let answers = honest.end(&scene).await;
    stop.store(true, Ordering::SeqCst);
    let mut seen = Vec::new();
    for reader in dialled.into_iter().flatten() {
        seen.push(reader.await.expect("a reader comes to its end"));
    }
    let looks = watch.end().await;

    let streams = seen.iter().filter(|seen| seen.status == 200 && seen.words > 0).count() as u64;
    if streams < u64::from(readers) {
        tally.phantom(&format!("{streams} of {readers} readers were given their stream"));
    }
    if waiting < u64::from(readers) * 9 / 10 {
        // Then nothing waited anywhere, and the story shows nothing.
        tally.broken(&format!("only {waiting} of {readers} streams had to wait for their readers"));
    }
    let grown = peak.saturating_sub(before);
    if grown > READER_KIB_MAX * u64::from(readers) + NODE_KIB_MAX {
        tally.broken(&format!("the node grew by {grown} KiB for {readers} slow readers"));
    }
    if answers == 0 {
        tally.phantom("nobody honest was answered beside the slow readers");
    }
    let mut facts = scene.reckon(&holder, &seen).await;
    let settled = resident_kib(process);
    facts.extend([
        ("readers", streams),
        ("waiting", waiting),
        ("honest", answers),
        ("looks", looks),
        ("rss_before_kib", before),
        ("rss_peak_kib", peak),
        ("rss_after_kib", settled),
        ("rss_per_reader_kib", grown / u64::from(readers)),
    ]);
    scene.end().await;
    facts
}

/// What a process has in memory; 0 where the system does not say.
fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}
