//! One story, told through each door: HTTPS, QUIC, and the relay of a hub to a node that listens nowhere.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_sdk::client::Error;
use comity_sdk::door::{Door, DoorError};
use comity_sdk::token::Directory as _;
use comity_sdk::{Client, Query};
use comity_tests::doors::alone;
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner};
use comity_wire::object::DoorKind;
use comity_wire::{Amount, Code, ModelId, SecretKey};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);
const CALLERS: u32 = 24;

/// In a question: the model goes on for as long as somebody listens.
const ENDLESS: &str = "without end";

comity_tests::through_each_door!(a_model_is_asked_streamed_left_and_paid);

async fn a_model_is_asked_streamed_left_and_paid(door: DoorKind) {
    let (left, mut leaves) = mpsc::channel(4);
    let lab = Owner { name: "lab", upstream: upstream(left).await, rates: PER_REQUEST };
    let federation = Federation::start_at(std::slice::from_ref(&lab), alone(door)).await;
    let client = Arc::new(federation.client("researcher"));
    let mut calls = 0;

    client.refresh().await.expect("the hub answers");
    announced(&client, &lab.model(), door).await;

    let answer = client.ask(&query(&lab.model(), "Once?", false)).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    calls += 1;
    assert_eq!((answer.text().as_deref(), answer.notes.door), (Some("Yes."), Some(door)));

    let mut stream = client.stream(&query(&lab.model(), "In pieces?", true)).await.expect("a stream");
    assert_eq!(stream.notes().door, Some(door));
    let mut pieces = 0;
    while stream.next().await.expect("a piece").is_some() {
        pieces += 1;
    }
    assert!(pieces >= 2, "{pieces}");
    stream.receipt().await.expect("a stream ends with its receipt");
    calls += 1;

    // The first piece is here while the model goes on; then nobody listens, and the model is told.
    let mut stream = client.stream(&query(&lab.model(), ENDLESS, true)).await.expect("a stream");
    assert!(stream.next().await.expect("the first piece comes at once").is_some());
    stream.abandon().await;
    tokio::time::timeout(PATIENCE, leaves.recv()).await.expect("the model hears that nobody listens");
    calls += 1;
    settled(&client).await;
    assert_eq!(spent(&client).await, Amount::from_ucr(REQUEST_UCR * calls), "who leaves pays, and has the receipt");

    let large = client.ask(&query(&lab.model(), &"long ".repeat(150_000), false)).await;
    let code = large.as_ref().err().and_then(Error::code);
    assert!(matches!(code, Some(Code::LimitExceeded | Code::BodyTooLarge)), "refused in words: {large:?}");

    let many: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (client, model) = (Arc::clone(&client), lab.model());
            tokio::spawn(async move { client.ask(&query(&model, &format!("Number {number}?"), false)).await })
        })
        .collect();
    for call in many {
        let answer = call.await.expect("a call").unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(answer.notes.door, Some(door));
    }
    calls += CALLERS;
    assert_eq!(spent(&client).await, Amount::from_ucr(REQUEST_UCR * calls));

    for purse in client.purses().await {
        client.finish(purse.token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    let account = federation.books_add_up().await;
    assert_eq!(account.settled, Amount::from_ucr(REQUEST_UCR * calls));
    federation.end().await;
}

/// The node says that it has this door and no other, and whoever has another key than the node is refused there.
async fn announced(client: &Client, model: &ModelId, kind: DoorKind) {
    let directory = client.directory();
    let node = *directory.summary(model).expect("the model is known").nodes.first().expect("a node");
    let doors = directory.announcement(node).expect("the node says where it is").doors.to_vec();
    let kinds: Vec<_> = doors.iter().map(|door| door.kind).filter(|kind| *kind != DoorKind::Libp2p).collect();
    assert_eq!(kinds, [kind]);
    if kind == DoorKind::Relayed {
        // `comity_http::relay` shows it for a hub that connects to somebody else.
        assert!(doors.iter().all(|door| door.kind == DoorKind::Relayed), "it listens nowhere: {doors:?}");
        return;
    }
    let stranger = SecretKey::from_seed([3; 32]).public();
    let door = Door::new(vec![doors[0].address.to_string()], vec![stranger]).expect("an address");
    let error = door.get::<serde_json::Value>("/v1/models").await.expect_err("another key");
    let Error::Door(error @ DoorError::Dial { .. }) = &error else { panic!("{error:?}") };
    assert!(error.is_unsent() && chain(error).contains("not who it should be"), "{}", chain(error));
}

async fn settled(client: &Client) {
    comity_tests::federation::eventually("the outcome of the call that was left", async || {
        client.resolve_all().await;
        let spent = spent(client).await;
        if spent == Amount::from_ucr(REQUEST_UCR * 3) { Ok(()) } else { Err(format!("{spent} spent")) }
    })
    .await;
}

async fn spent(client: &Client) -> Amount {
    Amount::sum(client.purses().await.iter().map(|purse| purse.spent)).expect("a small sum")
}

fn query(model: &ModelId, question: &str, stream: bool) -> Query {
    let mut query = Query::chat(model.clone(), &[("user", question)], Some(8), stream);
    query.max_charge = Some(Amount::from_ucr(REQUEST_UCR));
    query
}

/// A model server that says when nobody listens to it any more.
async fn upstream(left: mpsc::Sender<()>) -> String {
    let chat = async move |body: Bytes| -> Response {
        let asked = String::from_utf8_lossy(&body).into_owned();
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
        let chunk = |content: &str| {
            json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": "scripted",
                   "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]})
        };
        if asked.contains(ENDLESS) {
            let first =
                futures::stream::once(async move { Ok::<_, Infallible>(format!("data: {}\n\n", chunk("And"))) });
            let noticed = Left(left);
            let rest = futures::stream::once(async move {
                let _noticed = noticed;
                std::future::pending::<Result<String, Infallible>>().await
            });
            let body = Body::from_stream(first.chain(rest));
            return ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
        }
        if asked.contains("\"stream\":true") {
            let last = json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": "scripted",
                              "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            let counted = json!({"id": "s", "object": "chat.completion.chunk", "created": 0, "model": "scripted",
                                 "choices": [], "usage": usage});
            let frames = [chunk("Ye"), chunk("s."), last, counted].map(|frame| format!("data: {frame}\n\n"));
            let body = format!("{}data: [DONE]\n\n", frames.concat());
            return ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
        }
        let message = json!({"role": "assistant", "content": "Yes."});
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        Json(json!({"id": "s", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice],
                    "usage": usage}))
        .into_response()
    };
    let models = async || Json(json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]}));
    let app = Router::new().route("/v1/chat/completions", post(chat)).route("/v1/models", get(models));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("a bound address"));
    tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves until the test ends") });
    url
}

struct Left(mpsc::Sender<()>);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}
