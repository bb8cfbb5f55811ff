//! A model's server that lies: about what it counted, about what it is, about whether it has come to its end.
//!
//! Whatever it says, an answer without its end never looks like one, and no charge passes what the call may hold.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use comity_scratch::Database;
use comity_wire::Amount;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::Facts;
use super::raw::{Bye, Line};
use super::scene::{Scene, Seen};
use super::server::{WORD, chunk, chunk_of, counted, frame, usage, whole};
use crate::holder::Chat;
use crate::torture::Tally;

/// What it says before it lies, and what a caller asked for at most.
const WORDS: u64 = 3;
const MAX_TOKENS: u32 = 8;
const HOLD: u32 = 1_000;
/// What a question of these costs at most: its words as the node counts them at worst, and eight words out.
const INPUT_UCR_MAX: i64 = 200;
/// Longer than every server here is silent for, and than the node waits for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// What no frame and no answer may have.
const GIANT_BYTES: usize = 20 << 20;

/// What a caller is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// An answer with its end.
    Whole,
    /// An error, and never an end.
    Broken,
}

/// Each lie, and what comes of it as a stream and in one piece.
const LIES: &[(&str, Told, Told)] = &[
    ("usage_high", Told::Whole, Told::Whole),
    ("usage_low", Told::Whole, Told::Whole),
    ("usage_missing", Told::Whole, Told::Whole),
    ("usage_negative", Told::Whole, Told::Whole),
    ("usage_text", Told::Whole, Told::Whole),
    ("usage_changing", Told::Whole, Told::Whole),
    ("usage_absurd", Told::Whole, Told::Whole),
    ("verbose", Told::Whole, Told::Whole),
    ("silent", Told::Broken, Told::Broken),
    ("comments", Told::Broken, Told::Broken),
    ("cut", Told::Broken, Told::Broken),
    ("no_end", Told::Broken, Told::Broken),
    ("error", Told::Broken, Told::Broken),
    ("giant", Told::Broken, Told::Broken),
    ("page", Told::Broken, Told::Broken),
    ("garbage", Told::Broken, Told::Broken),
    ("nothing", Told::Broken, Told::Broken),
    ("moved", Told::Broken, Told::Broken),
    ("failed", Told::Broken, Told::Broken),
];

pub(super) async fn story(database: Option<&Database>, tally: &Tally) -> Facts {
    // Five seconds of silence are enough for a story.
    let offer = |offer: String| offer.replace("probe = false", "probe = false\nanswer_s_max = 5\nidle_s_max = 5");
    let scene = Scene::begin(tally, database, offer, |_| {}).await;
    let calls = u32::try_from(LIES.len()).expect("few lies") * 2;
    let lanes = u16::try_from(calls).expect("few lies");
    let holder = scene.holder(HOLD * calls, lanes).await;
    let watch = scene.watch(&holder);
    let cases = LIES.iter().flat_map(|(name, stream, whole)| [(*name, true, *stream), (*name, false, *whole)]);
    let asked = cases.zip(0_u16..).map(|((name, stream, told), lane)| {
        let (scene, holder) = (&scene, &holder);
        async move {
            let question = format!("lie {name} {lane}");
            let chat = Chat { question: &question, max_tokens: MAX_TOKENS, stream };
            let request = holder.sign_chat(&scene.model, (lane, 1), Amount::from_ucr(HOLD), &chat);
            let mut line = Line::dial(scene.address(), &holder.transport_keys, None).await.expect("the node lets in");
            line.send(&request.http1()).await.expect("the node reads");
            let ended = |line: &Line| line.is_done() || (stream && line.text().contains("\r\n0\r\n\r\n"));
            let told_it = tokio::time::timeout(PATIENCE, line.read_until(ended)).await;
            if told_it.is_err() {
                scene.tally.phantom(&format!("{question}: its caller is told nothing: {}", line.text()));
            }
            let mut seen = Seen::of(&line, &chat, (lane, 1));
            if name.starts_with("usage_") || name == "verbose" {
                // How many words there were is the owner's own word, also where it is low; what was not asked for is free.
                seen.words = 0;
            }
            judge(scene, &seen, told, &line);
            line.bye(Bye::Fin);
            seen
        }
    });
    let seen: Vec<_> = futures::stream::iter(asked).buffer_unordered(usize::from(lanes)).collect().await;
    for seen in &seen {
        if let Ok(Some(receipt)) = holder.receipt((seen.lane, seen.seq)).await {
            let most = INPUT_UCR_MAX + 2 * i64::from(MAX_TOKENS);
            let charge = receipt.unverified().charge.ucr();
            if charge > most || charge < 1 {
                scene.tally.overspent(charge, &format!("charged {charge} where at most {most} are due: {seen:?}"));
            }
        }
    }
    let looks = watch.end().await;
    let mut facts = scene.reckon(&holder, &seen).await;
    facts.insert("looks", looks);
    scene.end().await;
    facts
}

/// An answer without its end never looks like one; one with its end has a receipt.
fn judge(scene: &Scene, seen: &Seen, told: Told, line: &Line) {
    let text = line.text();
    let said = || text.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    match told {
        Told::Whole if !seen.is_done || seen.receipt.is_none() => {
            scene.tally.phantom(&format!("no whole answer: {seen:?}: {}", said()));
        }
        Told::Broken if seen.is_done => scene.tally.broken(&format!("broken, and looks whole: {seen:?}: {}", said())),
        Told::Broken if !text.contains("\"error\"") => {
            scene.tally.broken(&format!("broken, and its caller is not told so: {seen:?}: {}", said()));
        }
        Told::Whole | Told::Broken => {}
    }
}

/// The most words that a call of this lie may be charged for: what was said, or what was asked for where that is in dispute.
pub(super) fn words_max(name: &str) -> u64 {
    if name.starts_with("usage_") || name == "verbose" { u64::from(MAX_TOKENS) } else { WORDS }
}

/// What the server says to a caller of the lie of that name. `running` is dropped when the answer ends.
pub(super) fn told(name: &str, stream: bool, running: Box<dyn Send>) -> Response {
    match (name, stream) {
        ("page", _) => ([(header::CONTENT_TYPE, "text/html")], "<html><body>It works!</body></html>").into_response(),
        ("nothing", _) => StatusCode::OK.into_response(),
        ("moved", _) => (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.1:9/v1")]).into_response(),
        ("failed", _) => (StatusCode::INTERNAL_SERVER_ERROR, "out of memory").into_response(),
        ("silent", _) => as_sent(stream, Vec::new(), Rest::Silence, running),
        (_, true) => streamed(name, running),
        (_, false) => in_one_piece(name, running),
    }
}

/// What comes after the pieces.
enum Rest {
    End,
    Silence,
    Comments,
    Cut,
}

fn streamed(name: &str, running: Box<dyn Send>) -> Response {
    let mut pieces: Vec<String> = (0..WORDS).map(|at| frame(&chunk(&format!("{WORD}{at} ")))).collect();
    let stop = frame(&chunk_of(&json!({}), Some("stop")));
    let done = "data: [DONE]\n\n".to_owned();
    let rest = match name {
        "comments" => Rest::Comments,
        "cut" => {
            pieces.push("data: {\"id\": \"s\", \"object\": \"chat.comp".to_owned());
            Rest::Cut
        }
        "no_end" => Rest::End,
        "error" => {
            pieces.push(frame(&json!({"error": {"message": "CUDA error", "type": "server_error", "code": 500}})));
            Rest::End
        }
        "giant" => {
            pieces.push(format!("data: {}", "x".repeat(GIANT_BYTES)));
            Rest::End
        }
        "garbage" => {
            pieces.extend(["data: {]\n\n".to_owned(), stop, done]);
            Rest::End
        }
        "verbose" => {
            pieces.extend((WORDS..5_000).map(|at| frame(&chunk(&format!("{WORD}{at} ")))));
            pieces.extend([stop, frame(&counted(&usage(5_000))), done]);
            Rest::End
        }
        "usage_changing" => {
            pieces.extend([frame(&counted(&usage(1))), stop, frame(&counted(&usage(1_000_000))), done]);
            Rest::End
        }
        usage => {
            pieces.push(stop);
            pieces.extend(false_usage(usage).map(|usage| frame(&counted(&usage))));
            pieces.push(done);
            Rest::End
        }
    };
    as_sent(true, pieces, rest, running)
}

fn in_one_piece(name: &str, running: Box<dyn Send>) -> Response {
    let words: String = (0..WORDS).map(|at| format!("{WORD}{at} ")).collect();
    let (text, rest) = match name {
        "comments" | "no_end" => (String::new(), Rest::Silence),
        "cut" => (whole(&words, &usage(WORDS)).to_string().split_at(60).0.to_owned(), Rest::Cut),
        "error" => {
            (json!({"error": {"message": "CUDA error", "type": "server_error", "code": 500}}).to_string(), Rest::End)
        }
        "giant" => (whole(&"x".repeat(GIANT_BYTES), &usage(WORDS)).to_string(), Rest::End),
        "garbage" => ("{]".to_owned(), Rest::End),
        "verbose" => (whole(&format!("{WORD} ").repeat(5_000), &usage(5_000)).to_string(), Rest::End),
        "usage_changing" => (whole(&words, &usage(1_000_000)).to_string(), Rest::End),
        name => (whole(&words, &false_usage(name).unwrap_or(Value::Null)).to_string(), Rest::End),
    };
    as_sent(false, vec![text], rest, running)
}

fn false_usage(name: &str) -> Option<Value> {
    match name {
        "usage_high" => Some(usage(1_000_000)),
        "usage_low" => Some(json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})),
        "usage_negative" => Some(json!({"prompt_tokens": -9, "completion_tokens": -3, "total_tokens": -12})),
        "usage_text" => Some(json!({"prompt_tokens": "nine", "completion_tokens": [3], "total_tokens": null})),
        "usage_absurd" => {
            Some(json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": 1e300}))
        }
        _ => None,
    }
}

fn as_sent(stream: bool, pieces: Vec<String>, rest: Rest, running: Box<dyn Send>) -> Response {
    let kind = if stream { "text/event-stream" } else { "application/json" };
    let said = futures::stream::iter(pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))));
    let rest = match rest {
        Rest::End => futures::stream::empty().boxed(),
        Rest::Silence => futures::stream::pending().boxed(),
        Rest::Cut => futures::stream::once(async { Err(std::io::Error::other("cut")) }).boxed(),
        Rest::Comments => futures::stream::repeat_with(|| Ok(Bytes::from_static(b": thinking\n\n")))
            .then(async |piece| {
                tokio::time::sleep(Duration::from_millis(200)).await;
                piece
            })
            .boxed(),
    };
    let kept = futures::stream::once(async move {
        drop(running);
        Ok::<_, Infallible>(())
    })
    .filter_map(async |_| None::<std::io::Result<Bytes>>);
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(said.chain(rest).chain(kept))).into_response()
}
