//! Two processes of a node on one PostgreSQL, of which one is cut off from it, or does not hear what it says: a COMMIT is
//! then done and its answer lost. The other goes on, and both agree when they hear of each other again.

use std::sync::Arc;
use std::time::Duration;

use comity_scratch::{Database, Wire};
use comity_token::directory::Directory as _;
use comity_wire::Amount;

use super::scene::{Scene, Seen};
use super::{Facts, Size};
use crate::federation::{chain, eventually, within};
use crate::holder::{Chat, Met};
use crate::torture::cycle::RECOVERY;
use crate::torture::{Tally, store};
use crate::{Chance, Holder};

const LANES: u16 = 12;
const HOLD: u32 = 1_000;
/// Of those who call at once, for how many the token can hold.
const ROOM: u32 = 3;
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing arrives on either side.
    Cut,
    /// The database hears and is not heard.
    Deaf,
    /// Cut and mended many times.
    Flutter,
}

pub(super) async fn story(size: Size, database: &Database, chance: &mut Chance, tally: &Tally) -> Facts {
    let wire = Wire::to(database.far()).await;
    let (by_wire, beside) = (database.url_by(wire.port()), database.url());
    let furnish = |home: &std::path::Path, url: &str, publish: bool| {
        store::furnish(home, url);
        let text = std::fs::read_to_string(home.join("node.toml")).expect("node.toml");
        std::fs::write(home.join("node.toml"), format!("[feed]\npublish = {publish}\n{text}")).expect("node.toml");
    };
    let mut scene = Scene::begin(tally, None, |offer| offer, |home| furnish(home, &by_wire, true)).await;
    scene.federation.replica("lab", "lab-b", |home| furnish(home, &beside, false)).await;
    let client = scene.federation.client("scout-of-both");
    let node = scene.federation.card("lab").node;
    eventually("a certificate that names both processes", async || {
        client.refresh().await.map_err(|error| chain(&error))?;
        let keys = client.directory().certificate(node).map_or(0, |certificate| certificate.transport_keys.len());
        if keys == 2 { Ok(()) } else { Err(format!("{keys} keys")) }
    })
    .await;
    let holder = scene.holder(HOLD * ROOM * 40, LANES).await;
    let first = Arc::new(holder.at(scene.federation.address("lab")));
    let second = Arc::new(holder.at(scene.federation.address("lab-b")));
    // Through the process that is never cut off: its word on the token holds for both.
    let (honest, watch) = (scene.honest(), scene.watch(&second));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..LANES)
        .map(|lane| {
            let (first, second, model) = (Arc::clone(&first), Arc::clone(&second), scene.model.clone());
            let stop = Arc::clone(&stop);
            tokio::spawn(async move { call(lane, [&first, &second], &model, &stop).await })
        })
        .collect();
    let mut faults = 0;
    for _ in 0..size.cycles() {
        for fault in [Fault::Cut, Fault::Deaf, Fault::Flutter] {
            let moment = Duration::from_millis(chance.within(50..600));
            match fault {
                Fault::Cut => wire.cut(),
                Fault::Deaf => wire.deafen(),
                Fault::Flutter => {
                    for _ in 0..6 {
                        wire.cut();
                        tokio::time::sleep(moment / 8).await;
                        wire.mend();
                        tokio::time::sleep(moment / 8).await;
                    }
                }
            }
            tokio::time::sleep(moment).await;
            wire.mend();
            faults += 1;
            let both = async || {
                for holder in [&first, &second] {
                    holder.try_lanes().await?;
                }
                Ok(())
            };
            if let Err(error) = within(RECOVERY, both).await {
                tally.phantom(&format!("{fault:?} for {moment:?}: no answer when it was over: {error}"));
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut seen = Vec::new();
    for caller in callers {
        seen.extend(caller.await.expect("a caller comes to its end"));
    }
    let (answers, looks) = (honest.end(&scene).await, watch.end().await);
    // Whoever got no answer asks again, at the other one: it is charged once, or free.
    let mut facts = scene.reckon(&second, &seen).await;
    match (first.try_lanes().await, second.try_lanes().await) {
        (Ok(one), Ok(other)) if one.charged == other.charged => {}
        (one, other) => tally.broken(&format!("the two processes do not agree: {one:?}, {other:?}")),
    }
    facts.extend([("honest", answers), ("looks", looks), ("faults", faults)]);
    scene.end().await;
    facts
}

/// Asks for one number after the other, each until it has an answer, at whichever process chance gives.
async fn call(
    lane: u16,
    at: [&Holder; 2],
    model: &comity_wire::ModelId,
    stop: &std::sync::atomic::AtomicBool,
) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let (mut seq, mut tries) = (1, 0_usize);
    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
        let question = format!("words 3 1 partition {lane} {seq}");
        let chat = Chat { question: &question, max_tokens: 8, stream: false };
        let request = at[0].sign_chat(model, (lane, seq), Amount::from_ucr(HOLD), &chat);
        tries += 1;
        let met = at[(usize::from(lane) + tries) % 2].try_send(&request).await;
        let mut now = Seen { lane, seq, question, ..Seen::default() };
        match met {
            Ok(Met::Answered { receipt, .. }) => (now.is_done, now.receipt) = (true, Some(receipt)),
            // Charged by a request whose answer was lost.
            Ok(Met::Refused { receipt: Some(receipt), .. }) => now.receipt = Some(receipt),
            Ok(Met::Refused { .. }) | Err(_) => {
                tokio::time::sleep(PAUSE).await;
                seen.retain(|before| before.seq != seq);
                seen.push(now);
                continue;
            }
        }
        seen.retain(|before| before.seq != seq);
        seen.push(now);
        seq += 1;
    }
    seen
}
