//! Callers that hang up: in the middle of their request, before the head, within the answer, at its end; with a FIN, with a
//! reset, and by resetting a stream of a QUIC connection that goes on.

use std::sync::Arc;
use std::time::Duration;

use comity_scratch::Database;
use comity_wire::Amount;
use futures::StreamExt as _;

use super::raw::{Bye, Line};
use super::scene::{Scene, Seen};
use super::{Facts, Size};
use crate::Chance;
use crate::Holder;
use crate::holder::Chat;
use crate::torture::Tally;

/// Words of an answer, and how long the model takes for each.
const WORDS: u64 = 24;
const PAUSE_MS: u64 = 3;
/// What a call may hold: more than any of these answers costs.
const HOLD: u32 = 1_000;
/// Of those who call at once, how many the token can hold for: the rest is refused.
const ROOM: u32 = 3;
/// A caller that waits for something in vain is a hang of the node.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Half of the request is sent.
    Torn,
    /// All of it is sent, and so long ago.
    Asked(Duration),
    Head,
    Words(u64),
    End,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    place: (u16, u64),
    moment: Moment,
    bye: Bye,
    over_quic: bool,
    stream: bool,
}

impl Plan {
    fn drawn(place: (u16, u64), chance: &mut Chance) -> Self {
        let moment = match chance.within(0..10) {
            0 => Moment::Torn,
            1 | 2 => Moment::Asked(Duration::from_micros(chance.within(0..40_000))),
            3 => Moment::Head,
            9 => Moment::End,
            _ => Moment::Words(chance.within(1..WORDS)),
        };
        let bye = if chance.within(0..2) == 0 { Bye::Fin } else { Bye::Reset };
        Self { place, moment, bye, over_quic: chance.within(0..3) == 0, stream: chance.within(0..4) > 0 }
    }
}

pub(super) async fn story(size: Size, database: Option<&Database>, chance: &mut Chance, tally: &Tally) -> Facts {
    let (callers, rounds) = size.of((60_u16, 2_u64), (300, 6));
    let scene = Scene::begin(tally, database, |offer| offer, |_| {}).await;
    let holder = scene.holder(HOLD * u32::from(callers) * ROOM / 4, callers).await;
    let (honest, watch) = (scene.honest(), scene.watch(&holder));
    let plans: Vec<Vec<_>> =
        (0..callers).map(|lane| (1..=rounds).map(|seq| Plan::drawn((lane, seq), chance)).collect()).collect();
    let callers: futures::stream::FuturesUnordered<_> = plans
        .into_iter()
        .map(|plans| {
            let (holder, model, address) = (Arc::clone(&holder), scene.model.clone(), scene.address());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for plan in plans {
                    let question = format!("words {WORDS} {PAUSE_MS} storm {} {}", plan.place.0, plan.place.1);
                    let chat = Chat { question: &question, max_tokens: 32, stream: plan.stream };
                    let request = holder.sign_chat(&model, plan.place, Amount::from_ucr(HOLD), &chat);
                    seen.push(if plan.over_quic {
                        over_quic(&holder, &request, &chat, plan).await
                    } else {
                        let line = Line::dial(address, &holder.transport_keys, None).await;
                        over_tcp(line, &request.http1(), &chat, plan).await
                    });
                }
                seen
            })
        })
        .collect();
    let seen = tokio::time::timeout(PATIENCE, callers.collect::<Vec<_>>()).await;
    let mut all = Vec::new();
    match seen {
        Ok(seen) => all.extend(seen.into_iter().flat_map(|seen| seen.expect("a caller comes to its end"))),
        Err(_) => tally.broken("callers of the storm hear nothing for two minutes"),
    }
    let (answers, looks) = (honest.end(&scene).await, watch.end().await);
    if answers == 0 {
        tally.phantom("nobody honest was answered in the storm");
    }
    let mut facts = scene.reckon(&holder, &all).await;
    facts.extend([("honest", answers), ("looks", looks)]);
    scene.end().await;
    facts
}

async fn over_tcp(line: std::io::Result<Line>, request: &[u8], chat: &Chat<'_>, plan: Plan) -> Seen {
    // Where the node closed the connection or let nobody in, nothing was asked.
    let nothing = Seen { lane: plan.place.0, seq: plan.place.1, question: chat.question.to_owned(), ..Seen::default() };
    let Ok(mut line) = line else { return nothing };
    let is_torn = matches!(plan.moment, Moment::Torn);
    let part = if is_torn { request.len() / 2 } else { request.len() };
    if line.send(&request[..part]).await.is_err() {
        return nothing;
    }
    match plan.moment {
        Moment::Torn => {}
        Moment::Asked(ago) => tokio::time::sleep(ago).await,
        Moment::Head => line.read_until(Line::has_head).await,
        Moment::Words(words) => line.read_until(|line| line.words() >= words || line.is_done()).await,
        Moment::End => line.read_until(Line::is_done).await,
    }
    let seen = Seen { is_torn, ..Seen::of(&line, chat, plan.place) };
    line.bye(plan.bye);
    seen
}

/// The connection goes on; of this stream the caller wants to hear no more.
async fn over_quic(holder: &Holder, request: &crate::holder::Signed, chat: &Chat<'_>, plan: Plan) -> Seen {
    let mut seen =
        Seen { lane: plan.place.0, seq: plan.place.1, question: chat.question.to_owned(), ..Seen::default() };
    let words = match plan.moment {
        Moment::Torn => return seen,
        Moment::Asked(ago) => {
            let _ = tokio::time::timeout(ago, holder.open(request)).await;
            return seen;
        }
        Moment::Head => 0,
        Moment::Words(words) => words,
        Moment::End => u64::MAX,
    };
    let Ok(mut answer) = holder.open(request).await else { return seen };
    seen.status = 200;
    let mut text = String::new();
    while chat.stream && seen.words < words {
        let Ok(Some(chunk)) = answer.chunk().await else { break };
        text.push_str(&String::from_utf8_lossy(&chunk));
        seen.words = text.matches(format!("\"content\":\"{}", super::server::WORD).as_str()).count() as u64;
    }
    seen.is_done = text.contains("data: [DONE]");
    seen
}
