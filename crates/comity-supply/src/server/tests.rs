//! Against a server that answers over real sockets, with the faults that real servers have.

use std::sync::Mutex;

use comity_wire::Op;
use serde_json::{Value, json};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::StreamExt as _;
use http::HeaderMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::*;
use crate::{Delta, Event, State as Standing, Usage};

const CHUNK: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

type Asked = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn upstream(config: Config) -> Server {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Server::new(config).unwrap()
}

fn call() -> Call {
    let Value::Object(body) = json!({"messages": [{"role": "user", "content": "hi"}]}) else { unreachable!() };
    Call::new(Op::Chat, "m", body)
}

fn answer(status: u16, media_type: &str, body: impl Into<Body>) -> Response {
    Response::builder().status(status).header("content-type", media_type).body(body.into()).unwrap()
}

/// A server that answers each call with this, and what it was asked.
async fn fixed(status: u16, media_type: &'static str, body: String) -> (Server, Asked) {
    let asked = Asked::default();
    let handler = async move |State(asked): State<Asked>, headers: HeaderMap, json: axum::Json<Value>| {
        asked.lock().unwrap().push((headers, json.0));
        answer(status, media_type, body)
    };
    let router = Router::new().route("/v1/{*path}", post(handler)).with_state(asked.clone());
    let mut config = Config::new(serve(router).await);
    config.api_key = Some(ApiKey::new("sk-secret"));
    (upstream(config), asked)
}

async fn all(upstream: &Server) -> Vec<Result<Event, &'static str>> {
    match upstream.complete(call()).await {
        Ok(reply) => reply.map(|e| e.map_err(|e| e.name())).collect().await,
        Err(error) => vec![Err(error.name())],
    }
}

fn text() -> Event {
    Event::Delta(Delta { text: "a".into(), finish_reason: Some("stop".into()), ..Delta::default() })
}

fn usage() -> Event {
    Event::Usage(Usage { input_tokens: 3, output_tokens: 1 })
}

#[tokio::test]
async fn a_stream_is_always_asked_for_with_usage_and_the_key_is_sent_but_never_printed() {
    let (upstream, asked) = fixed(200, "text/event-stream; charset=utf-8", [CHUNK, USAGE, DONE].concat()).await;
    assert_eq!(all(&upstream).await, [Ok(text()), Ok(usage()), Ok(Event::Done)]);
    let (headers, body) = asked.lock().unwrap()[0].clone();
    assert_eq!(headers["authorization"], "Bearer sk-secret");
    assert_eq!(body["stream"], true);
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    assert_eq!(body["model"], "m");
    assert!(!format!("{upstream:?} {:?}", upstream.config).contains("secret"));
}

#[tokio::test]
async fn an_answer_in_one_piece_becomes_the_same_events() {
    let body = r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let (upstream, _) = fixed(200, "application/json", body.into()).await;
    assert_eq!(all(&upstream).await, [Ok(text()), Ok(usage()), Ok(Event::Done)]);
}

#[tokio::test]
async fn each_fault_has_its_own_name_and_none_becomes_done() {
    let sse = "text/event-stream";
    let failed = "data: {\"error\":{\"message\":\"boom\"}}\n\n";
    for (media_type, body, ends) in [
        (sse, [CHUNK, DONE].concat(), vec![Ok(text()), Ok(Event::UsageMissing), Ok(Event::Done)]),
        (sse, CHUNK.into(), vec![Ok(text()), Err("cut")]),
        (sse, [CHUNK, USAGE, "data: [DONE]\n"].concat(), vec![Ok(text()), Ok(usage()), Err("cut")]),
        (sse, [CHUNK, "data: {\"choi"].concat(), vec![Ok(text()), Err("cut")]),
        (sse, [CHUNK, failed, DONE].concat(), vec![Ok(text()), Err("failed")]),
        (sse, [CHUNK, "data: nonsense\n\n", DONE].concat(), vec![Ok(text()), Err("malformed")]),
        (sse, String::new(), vec![Err("cut")]),
        ("application/json", "{\"choices\":[".into(), vec![Err("malformed")]),
        ("text/html", "<html>".into(), vec![Err("malformed")]),
    ] {
        let (upstream, _) = fixed(200, media_type, body.clone()).await;
        assert_eq!(all(&upstream).await, ends, "{body:?}");
    }
}

#[tokio::test]
async fn what_comes_in_one_piece_has_its_own_path_and_no_stream() {
    type Paths = Arc<Mutex<Vec<(String, Value)>>>;
    let asked = Paths::default();
    let handler = async |State(asked): State<Paths>, request: axum::extract::Request| {
        let path = format!("{} {}", request.method(), request.uri().path());
        let body = axum::body::to_bytes(request.into_body(), 1 << 16).await.unwrap();
        asked.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap_or_default()));
        answer(200, "application/json", r#"{"data":[],"usage":{"prompt_tokens":4,"total_tokens":4}}"#)
    };
    let router = Router::new().fallback(handler).with_state(asked.clone());
    let upstream = upstream(Config::new(serve(router).await));
    let ask = async |op, body: Value| {
        let Value::Object(body) = body else { unreachable!() };
        upstream.answer(Call::new(op, "m", body)).await
    };
    let embedded = ask(Op::Embeddings, json!({"input": "a"})).await.unwrap();
    assert_eq!(embedded.usage, Some(Usage { input_tokens: 4, output_tokens: 0 }));
    ask(Op::Tokenize, json!({"prompt": "a"})).await.unwrap();
    ask(Op::Tokenize, json!({"tokens": [1]})).await.unwrap();
    ask(Op::Tokenize, json!({})).await.unwrap();
    assert_eq!(ask(Op::Chat, json!({})).await.unwrap_err().name(), "unsupported");
    let expected = [
        ("POST /v1/embeddings", json!({"input": "a", "model": "m"})),
        ("POST /tokenize", json!({"prompt": "a", "model": "m"})),
        ("POST /detokenize", json!({"tokens": [1], "model": "m"})),
        ("GET /tokenizer_info", Value::Null),
    ];
    assert_eq!(*asked.lock().unwrap(), expected.map(|(path, body)| (path.to_owned(), body)));
}

#[tokio::test]
async fn one_piece_that_is_late_broken_or_not_there_has_its_own_name() {
    let tokenize = || Call::new(Op::Tokenize, "m", serde_json::Map::from_iter([("prompt".into(), json!("a"))]));
    for (status, body, name) in [
        (404, "{}", "unsupported"),
        (400, r#"{"error":{"message":"too long"}}"#, "refused"),
        (200, "{\"tokens\":[", "malformed"),
        (200, r#"{"error":{"message":"boom"}}"#, "failed"),
    ] {
        let handler = async move || answer(status, "application/json", body);
        let router = Router::new().route("/tokenize", post(handler));
        let upstream = upstream(Config::new(serve(router).await));
        assert_eq!(upstream.answer(tokenize()).await.unwrap_err().name(), name, "{status} {body}");
    }
    let router = Router::new().route("/tokenize", post(async || -> Response { std::future::pending().await }));
    let mut config = Config::new(serve(router).await);
    config.answer_ms_max = 1;
    assert_eq!(upstream(config.clone()).answer(tokenize()).await.unwrap_err().name(), "silent");
    config.answer_ms_max = 60_000;
    let call = tokenize();
    call.cancel.cancel();
    assert_eq!(upstream(config).answer(call).await.unwrap_err().name(), "cancelled");
}

#[tokio::test]
async fn an_error_status_is_a_refusal_with_its_reason_and_a_redirect_is_not_followed() {
    let (upstream, _) = fixed(503, "application/json", r#"{"error":{"message":"full","code":"busy"}}"#.into()).await;
    let error = upstream.complete(call()).await.unwrap_err();
    assert!(matches!(&error, UpstreamError::Refused { status: 503, code: Some(c), .. } if c == "busy"), "{error}");
    assert!(error.is_transient());
    let astray = async || -> Response { panic!("a redirect was followed") };
    let moved = async || {
        let mut response = answer(307, "text/plain", "elsewhere");
        response.headers_mut().insert("location", http::HeaderValue::from_static("/astray"));
        response
    };
    let router = Router::new().route("/v1/chat/completions", post(moved)).route("/astray", post(astray));
    let moved = self::upstream(Config::new(serve(router).await));
    assert!(matches!(moved.complete(call()).await, Err(UpstreamError::Refused { status: 307, .. })));
    let mut other = call();
    other.op = Op::Embeddings;
    assert!(matches!(upstream.complete(other).await, Err(UpstreamError::Unsupported { op: Op::Embeddings })));
}

/// A server that sends these pieces and then nothing, with the connection open.
async fn hanging(pieces: &'static [&'static str], idle_ms_max: u64) -> (Server, mpsc::Receiver<()>) {
    struct Gone(mpsc::Sender<()>);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }
    let (gone, goes) = mpsc::channel(8);
    let handler = async move |State(gone): State<mpsc::Sender<()>>| {
        let gone = Gone(gone);
        let pieces =
            futures::stream::iter(pieces.iter().map(|p| Ok::<_, std::io::Error>(Bytes::from_static(p.as_bytes()))));
        let never = futures::stream::once(async move {
            let _gone = gone;
            std::future::pending().await
        });
        answer(200, "text/event-stream", Body::from_stream(pieces.chain(never)))
    };
    let router = Router::new().route("/v1/chat/completions", post(handler)).with_state(gone);
    let mut config = Config::new(serve(router).await);
    config.idle_ms_max = idle_ms_max;
    (upstream(config), goes)
}

#[tokio::test]
async fn a_silent_upstream_is_silent_and_its_connection_is_closed() {
    let (upstream, mut goes) = hanging(&[CHUNK], 30).await;
    assert_eq!(all(&upstream).await, [Ok(text()), Err("silent")]);
    goes.recv().await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_only_comments_is_silent() {
    let handler = async || {
        let comments =
            futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b": still here\n\n")));
        answer(200, "text/event-stream", Body::from_stream(comments))
    };
    let mut config = Config::new(serve(Router::new().route("/v1/chat/completions", post(handler))).await);
    config.idle_ms_max = 30;
    assert_eq!(all(&upstream(config)).await, [Err("silent")]);
}

#[tokio::test]
async fn cancelling_or_dropping_a_reply_stops_the_upstream() {
    let (upstream, mut goes) = hanging(&[CHUNK], 60_000).await;
    let cancelled = call();
    let cancel = cancelled.cancel.clone();
    let mut reply = upstream.complete(cancelled).await.unwrap();
    assert_eq!(reply.next().await.unwrap().unwrap(), text());
    cancel.cancel();
    assert!(matches!(reply.next().await, Some(Err(UpstreamError::Cancelled))));
    drop(reply);
    goes.recv().await.unwrap();
    let mut reply = upstream.complete(call()).await.unwrap();
    assert_eq!(reply.next().await.unwrap().unwrap(), text());
    drop(reply);
    goes.recv().await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_takes_a_call_and_says_nothing_or_breaks_off_has_not_accepted_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(format!("http://{}/v1", listener.local_addr().unwrap()));
    config.answer_ms_max = 30;
    let upstream = upstream(config);
    let error = upstream.complete(call()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Silent { whilst: Silence::BeforeAnswer, .. }), "{error}");
    drop(listener);
    let error = upstream.complete(call()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_body_cut_below_its_chunked_framing_is_cut_even_after_a_whole_frame() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(Config::new(format!("http://{}/v1", listener.local_addr().unwrap())));
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 4096]).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(format!("{head}{:x}\r\n{CHUNK}\r\n", CHUNK.len()).as_bytes()).await.unwrap();
    });
    assert_eq!(all(&upstream).await, [Ok(text()), Err("cut")]);
}

#[tokio::test]
async fn health_tells_ready_from_starting_from_down() {
    let list = async || axum::Json(json!({"object": "list", "data": [{"id": "m"}]}));
    let ready = serve(Router::new().route("/v1/models", get(list))).await;
    let loading = async || answer(503, "application/json", r#"{"error":{"message":"Loading model"}}"#);
    let loading = serve(Router::new().route("/v1/models", get(loading))).await;
    let probe = async |url: &str, canary: &str| {
        let mut config = Config::new(url);
        config.canary_model = Some(canary.into());
        upstream(config).health().await
    };
    assert_eq!(probe(&ready, "m").await, Health::ready(vec!["m".into()]));
    let other = probe(&ready, "n").await;
    assert_eq!((other.state, other.reason.contains("'n'")), (Standing::Down, true));
    let starting = probe(&loading, "m").await;
    assert_eq!((starting.state, starting.reason.contains("Loading model")), (Standing::Starting, true));
    assert_eq!(probe("http://127.0.0.1:1/v1", "m").await.state, Standing::Down);
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for base_url in ["", "127.0.0.1:80", "ftp://a/", "http://user:pw@a/v1", "http://a/v1?key=1"] {
        assert!(matches!(Server::new(Config::new(base_url)), Err(UpstreamError::Settings { .. })), "{base_url}");
    }
    assert!(serde_json::from_value::<Config>(json!({"base_url": "http://a/v1", "colour": 1})).is_err());
}

/// A connection that was kept for the next call and that the server has let go of meanwhile costs nobody an answer.
#[tokio::test]
async fn a_connection_that_the_server_let_go_of_is_made_anew() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (closed, mut is_closed) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // It says that it keeps the connection, answers one call, and closes.
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") {
                socket.read_buf(&mut asked).await.unwrap();
            }
            let body = format!("{CHUNK}{USAGE}{DONE}");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: keep-alive\r\n";
            let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            socket.write_all(whole.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
            drop(socket);
            closed.send(()).await.unwrap();
        }
    });
    let server = upstream(Config::new(url));
    for _ in 0..5 {
        let mut reply = server.complete(call()).await.unwrap();
        let mut events = Vec::new();
        while let Some(event) = reply.next().await {
            events.push(event.unwrap());
        }
        assert!(matches!(events.last(), Some(Event::Done)), "{events:?}");
        is_closed.recv().await.unwrap();
    }
}
