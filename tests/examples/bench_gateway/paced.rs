//! An upstream that speaks at a pace: a token every 50 ms, each saying when it was due, by the clock that callers have too.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use comity_tests::upstream::MODEL;
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

/// 20 tokens a second.
pub(crate) const PACE: Duration = Duration::from_millis(50);

/// µs since 1970: of the callers and of this process, which are on one machine.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_micros()).expect("so many µs are centuries away")
}

/// The process itself. It ends when its parent is gone.
pub(crate) async fn serve() -> ExitCode {
    let app = Router::new().route("/v1/chat/completions", post(chat)).route("/v1/models", get(models));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    crate::rig::say_address(listener.local_addr().expect("a bound address"));
    let served = axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |socket| {
            let _ = socket.set_nodelay(true);
        }),
        app,
    );
    tokio::select! {
        ended = served.into_future() => ended.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        () = crate::rig::parent_gone() => ExitCode::SUCCESS,
    }
}

#[derive(Deserialize)]
struct Asked {
    max_tokens: u32,
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "test"}]}))
}

async fn chat(body: Bytes) -> Response {
    let Ok(Asked { max_tokens }) = serde_json::from_slice(&body) else {
        return (StatusCode::BAD_REQUEST, "no max_tokens").into_response();
    };
    let (start, start_us) = (Instant::now(), now_us());
    let frames = stream::unfold(0, move |at| async move {
        if at > max_tokens {
            return None;
        }
        let after = PACE * at;
        sleep_until(start + after).await;
        let due_us = start_us + u64::try_from(after.as_micros()).expect("a stream of minutes");
        let frame = if at == max_tokens { last(max_tokens) } else { token(due_us) };
        Some((Ok::<_, Infallible>(frame), at + 1))
    });
    // A proxy that collects answers before it passes them on is asked not to.
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    (head, Body::from_stream(frames)).into_response()
}

/// When a frame's token was due; `None` for frames without one.
pub(crate) fn due_us(frame: &str) -> Option<u64> {
    let (_, content) = frame.split_once("\"content\":\" ")?;
    content.split('"').next()?.parse().ok()
}

fn token(due_us: u64) -> Bytes {
    format!(
        "data: {{\"id\":\"s\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":\" {due_us}\"}},\"finish_reason\":null}}]}}\n\n"
    )
    .into()
}

fn last(tokens: u32) -> Bytes {
    let head = json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": MODEL});
    let with = |choices: Value, usage: Value| {
        let mut chunk = head.clone();
        chunk["choices"] = choices;
        chunk["usage"] = usage;
        format!("data: {chunk}\n\n")
    };
    let end = with(json!([{"index": 0, "delta": {}, "finish_reason": "length"}]), Value::Null);
    let usage = json!({"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens});
    (end + &with(json!([]), usage) + "data: [DONE]\n\n").into()
}
