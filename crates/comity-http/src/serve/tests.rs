//! Doors and dialler against each other, over real sockets on loopback.

use std::os::unix::fs::PermissionsExt as _;

use axum::extract::{Extension, State};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use bytes::Bytes;
use comity_wire::{NodeId, SecretKey, Timestamp};
use http::{Method, Request, Version};
use http_body_util::Full;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::body::Limit;
use crate::dial::{
    CallError, Client, ConnectError, DialError, Endpoint, PeerCertificate, Repeatable, Repeated, collect,
};
use crate::problem::problem_form;
use crate::signed::{self, Guard, Signed};
use crate::tls::{Identity, SERVER_NAME, TrustedKeys};

const NOW: Timestamp = Timestamp(1_790_000_000);

struct Door {
    url: String,
    stop: CancellationToken,
    ended: JoinHandle<Drained>,
}

pub(super) fn identity(seed: u8) -> Identity {
    let key = SecretKey::from_seed([seed; 32]);
    Identity::new(&key, &NodeId::from_bytes([seed; 16]), b"node certificate", &[]).unwrap()
}

async fn door(router: Router, limits: Limits) -> Door {
    let tls = identity(1).server_config(None).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, limits).await.unwrap();
    start(server, router)
}

fn start(server: Server, router: Router) -> Door {
    let (url, stop) = (server.url().unwrap_or_default(), CancellationToken::new());
    let ended = tokio::spawn(server.run(router, stop.clone()));
    Door { url, stop, ended }
}

pub(super) fn client(addresses: &[&str], seed: u8) -> Client {
    let addresses = addresses.iter().map(|&a| a.to_owned()).collect();
    Client::new(Endpoint { addresses, trusted: TrustedKeys::Exactly(vec![*identity(seed).key()]) }).unwrap()
}

async fn raw_tls(door: &Door, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = TrustedKeys::Exactly(vec![*identity(1).key()]).client_config().as_ref().clone();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let tcp = TcpStream::connect(door.url.strip_prefix("https://").unwrap()).await.unwrap();
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

pub(super) fn get_request(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).body(Full::default()).unwrap()
}

fn echo_version() -> Router {
    let handler = async |version: Version, Extension(peer): Extension<Peer>| {
        assert!(matches!(peer, Peer::Tcp(_)));
        format!("{version:?}")
    };
    Router::new().route("/", get(handler)).fallback(crate::problem::no_such_route)
}

#[tokio::test]
async fn a_door_with_the_right_key_answers_by_http_2_and_shows_its_node_certificate() {
    let door = door(echo_version(), Limits::default()).await;
    let response = client(&[&door.url], 1).request(get_request("/")).await.unwrap();
    let peer = response.extensions().get::<PeerCertificate>().unwrap().clone();
    assert_eq!(peer.key, *identity(1).key());
    assert_eq!(peer.node_certificate.as_deref(), Some(&b"node certificate"[..]));
    assert!(response.headers()["x-request-id"].to_str().unwrap().starts_with("req-"));
    assert_eq!(collect(response, 100).await.unwrap().body(), "HTTP/2.0");
}

#[tokio::test]
async fn http_1_1_is_served_over_tls_too_and_keeps_the_connection() {
    let door = door(echo_version(), Limits::default()).await;
    let mut tls = raw_tls(&door, "http/1.1").await;
    for (connection, last) in [("keep-alive", false), ("close", true)] {
        let request = format!("GET / HTTP/1.1\r\nhost: door\r\nconnection: {connection}\r\n\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"HTTP/1.1") || answer.len() < 20 {
            let read = tls.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        }
        if last {
            assert_eq!(tls.read_buf(&mut answer).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn a_door_with_another_key_gets_nothing_and_the_next_address_is_tried() {
    let right = door(echo_version(), Limits::default()).await;
    let tls = identity(2).server_config(None).unwrap();
    let wrong = Server::bind("127.0.0.1:0".parse().unwrap(), tls, Limits::default()).await.unwrap();
    let wrong = start(wrong, Router::new().fallback(async || -> () { panic!("a stranger was asked") }));
    let error = client(&[&wrong.url], 1).request(get_request("/")).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { source: ConnectError::WrongKey { .. }, .. }), "{error:?}");
    let response = client(&[&wrong.url, &right.url], 1).request(get_request("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    let nobody = client(&["https://127.0.0.1:1"], 1).request(get_request("/")).await.unwrap_err();
    assert!(matches!(nobody, DialError::Connect { source: ConnectError::Io(_), .. }), "{nobody:?}");
}

/// A router whose `/slow` says that it has begun and then waits to be let go.
pub(super) fn slow() -> (Router, mpsc::Receiver<()>, Arc<Semaphore>) {
    let (begun, begins) = mpsc::channel(4);
    let go = Arc::new(Semaphore::new(0));
    let state = (begun, go.clone());
    let handler = async |State((begun, go)): State<(mpsc::Sender<()>, Arc<Semaphore>)>| {
        begun.send(()).await.unwrap();
        go.acquire().await.unwrap().forget();
        "finished"
    };
    (Router::new().route("/slow", get(handler)).with_state(state), begins, go)
}

#[tokio::test]
async fn a_drain_lets_a_running_request_finish_and_takes_no_new_one() {
    let (router, mut begins, go) = slow();
    let door = door(router, Limits::default()).await;
    let caller = client(&[&door.url], 1);
    let running = tokio::spawn(async move { caller.request(get_request("/slow")).await });
    begins.recv().await.unwrap();
    door.stop.cancel();
    // Until the door has heard it and closed its listener.
    let address = door.url.strip_prefix("https://").unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.add_permits(1);
    let response = running.await.unwrap().unwrap();
    assert_eq!(collect(response, 100).await.unwrap().body(), "finished");
    assert_eq!(door.ended.await.unwrap(), Drained { abandoned: 0 });
    assert!(client(&[&door.url], 1).request(get_request("/slow")).await.is_err());
}

#[tokio::test]
async fn a_drain_cuts_at_its_deadline_and_counts_what_it_cut() {
    let (router, mut begins, _go) = slow();
    let door = door(router, Limits { drain_ms_max: 20, ..Limits::default() }).await;
    let caller = client(&[&door.url], 1);
    let running = tokio::spawn(async move { caller.request(get_request("/slow")).await });
    begins.recv().await.unwrap();
    door.stop.cancel();
    assert_eq!(door.ended.await.unwrap(), Drained { abandoned: 1 });
    assert!(matches!(running.await.unwrap(), Err(DialError::Broken { .. })));
}

/// Says that it was dropped.
pub(super) struct Left(pub(super) mpsc::Sender<()>);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_and_its_handler_dropped() {
    let (begun, mut begins) = mpsc::channel(1);
    let (left, mut leaves) = mpsc::channel(1);
    let handler = async move || -> () {
        let _left = Left(left);
        begun.send(()).await.unwrap();
        std::future::pending().await
    };
    let door = door(Router::new().route("/", get(handler)), Limits::default()).await;
    let caller = client(&[&door.url], 1);
    let running = tokio::spawn(async move { caller.request(get_request("/")).await });
    begins.recv().await.unwrap();
    running.abort();
    leaves.recv().await.unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_come_is_cut() {
    let limits = Limits { header_read_ms_max: 30, handshake_ms_max: 30, ..Limits::default() };
    let plain = Server::bind_plain("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
    let (plain, over_tls) = (start(plain, echo_version()), door(echo_version(), limits).await);
    for (door, sent) in [(&plain, "GET / HT"), (&plain, ""), (&over_tls, "")] {
        let address = door.url.split("://").nth(1).unwrap();
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    // Within TLS, too: in HTTP/1.1, and before the preface of HTTP/2.
    for (alpn, sent) in [("http/1.1", ""), ("h2", ""), ("h2", "PRI * HTTP/2.0")] {
        let mut tls = raw_tls(&over_tls, alpn).await;
        tls.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tls.read_to_end(&mut answer).await;
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_cut_and_one_that_flows_is_not() {
    let limit = Limit { bytes_per_s_min: 1_000, grace_ms: 30, ..Limit::bytes(1 << 24) };
    let bounded = axum::middleware::from_fn_with_state(limit, crate::body::bounded);
    let router = Router::new().route("/", post(async |body: Bytes| body.len().to_string())).layer(bounded);
    let door = door(router, Limits::default()).await;
    // One byte, and then the sender holds its breath.
    let mut tls = raw_tls(&door, "http/1.1").await;
    tls.write_all(b"POST / HTTP/1.1\r\nhost: door\r\ncontent-length: 9\r\n\r\nx").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(tls.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"), "{answer}");
    let whole = Request::post("/").body(Full::from(vec![0; 1 << 20])).unwrap();
    let response = client(&[&door.url], 1).request(whole).await.unwrap();
    assert_eq!(collect(response, 100).await.unwrap().body(), "1048576");
}

#[tokio::test]
async fn an_address_with_too_many_connections_gets_no_more_until_one_ends() {
    let limits = Limits { connections_per_peer_max: 2, ..Limits::default() };
    let door = door(echo_version(), limits).await;
    let first = raw_tls(&door, "http/1.1").await;
    let _second = raw_tls(&door, "http/1.1").await;
    let mut third = TcpStream::connect(door.url.strip_prefix("https://").unwrap()).await.unwrap();
    assert_eq!(third.read(&mut [0; 9]).await.unwrap_or(0), 0, "closed without a word");
    drop(first);
    let mut config = TrustedKeys::Exactly(vec![*identity(1).key()]).client_config().as_ref().clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    // The door hears of the end a moment later.
    loop {
        let tcp = TcpStream::connect(door.url.strip_prefix("https://").unwrap()).await.unwrap();
        if connector.connect(ServerName::try_from(SERVER_NAME).unwrap(), tcp).await.is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn more_headers_or_longer_ones_than_the_bounds_are_refused() {
    let limits = Limits { headers_max: 8, header_bytes_max: 8 << 10, ..Limits::default() };
    let door = door(echo_version(), limits).await;
    for (many, long) in [(9, 1), (1, 9 << 10)] {
        let mut tls = raw_tls(&door, "http/1.1").await;
        let value = "v".repeat(long);
        let headers: String = (0..many).map(|n| format!("x-{n}: {value}\r\n")).collect();
        let _ = tls.write_all(format!("GET / HTTP/1.1\r\nhost: door\r\n{headers}\r\n").as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tls.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_body_above_its_bound_is_413_with_a_json_error_declared_or_not() {
    let bounded = axum::middleware::from_fn_with_state(Limit::bytes(4), crate::body::bounded);
    let door = door(Router::new().route("/", post(async |body: Bytes| body)).layer(bounded), Limits::default()).await;
    let caller = client(&[&door.url], 1);
    let post = |body: &'static str| Request::post("/").body(Full::from(body)).unwrap();
    assert_eq!(collect(caller.request(post("four")).await.unwrap(), 9).await.unwrap().body(), "four");
    let response = collect(caller.request(post("five!")).await.unwrap(), 1000).await.unwrap();
    assert_eq!(response.status(), 413);
    let error: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["bytes_max"]), (&json!("body_too_large"), &json!(4)));
    let undeclared = http_body_util::StreamBody::new(futures::stream::iter(
        ["thr", "ee"].map(|part| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(part)))),
    ));
    let refused = crate::body::read(&http::HeaderMap::new(), undeclared, Limit::bytes(4)).await.unwrap_err();
    assert_eq!(refused.code, "body_too_large");
}

/// Many clients write a body after its head, and read no answer before it is written.
#[tokio::test]
async fn who_is_answered_before_the_body_has_come_may_write_it_and_ask_again() {
    let refuse = async || crate::Refusal::new(comity_wire::Code::GrantRequired, "ask first").into_response();
    let bounded = axum::middleware::from_fn_with_state(Limit::bytes(4), crate::body::bounded);
    let door = door(
        Router::new().route("/", post(refuse)).route("/bounded", post(async |body: Bytes| body).layer(bounded)),
        Limits::default(),
    )
    .await;
    for (path, coding, body) in [
        ("/", "content-length: 9", "unread..."),
        ("/bounded", "content-length: 9", "unread..."),
        ("/", "transfer-encoding: chunked", "9\r\nunread...\r\n0\r\n\r\n"),
    ] {
        let mut tls = raw_tls(&door, "http/1.1").await;
        for _ in 0..2 {
            tls.write_all(format!("POST {path} HTTP/1.1\r\nhost: door\r\n{coding}\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                assert!(tls.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
            }
            assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
            tls.write_all(body.as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_admin_socket_has_mode_0600_is_replaced_when_dead_and_guarded_when_alive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = Server::bind_unix(&path, Limits::default()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let router = Router::new().route("/", get(async |Extension(peer): Extension<Peer>| format!("{peer:?}")));
    let door = start(server, router);
    let response = Client::unix(&path).request(get_request("/")).await.unwrap();
    assert_eq!(collect(response, 100).await.unwrap().body(), "Unix");
    assert!(matches!(Server::bind_unix(&path, Limits::default()), Err(BindError::InUse { .. })));
    door.stop.cancel();
    door.ended.await.unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "a file of the operator's").unwrap();
    assert!(matches!(Server::bind_unix(&path, Limits::default()), Err(BindError::Unix { .. })));
    assert!(path.exists());
}

#[tokio::test]
async fn plain_http_is_not_served_beyond_loopback() {
    let error = Server::bind_plain("0.0.0.0:0".parse().unwrap(), Limits::default()).await.unwrap_err();
    assert!(matches!(error, BindError::NotLoopback { .. }));
}

fn key() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn signed_routes() -> Router {
    let handler = async |signed: Signed| -> Result<axum::Json<Value>, crate::Refusal> {
        let said: Value = signed.json()?;
        Ok(axum::Json(json!({ "caller": signed.caller.key.to_string(), "said": said })))
    };
    Router::new()
        .route("/v1/{thing}", post(handler).get(handler))
        .layer(axum::middleware::from_fn(problem_form))
        .with_state(Guard::new(Limit::bytes(100), || NOW))
}

#[tokio::test]
async fn a_signed_call_reaches_its_handler_with_the_callers_key() {
    let door = door(signed_routes(), Limits::default()).await;
    let caller = client(&[&door.url], 1);
    let body = json!({"a": 1});
    let answer: Value = caller.call_signed(Method::POST, "/v1/x?y=%20z", Some(&body), &key(), NOW).await.unwrap();
    assert_eq!(answer, json!({"caller": key().public().to_string(), "said": body}));
    let answer: Value = caller.call_signed(Method::GET, "/v1/x", None::<&()>, &key(), NOW).await.unwrap();
    assert_eq!(answer["said"], Value::Null);
}

#[tokio::test]
async fn an_unsigned_altered_stale_or_repeated_call_is_refused_by_its_own_code() {
    let router = signed_routes();
    let signed = |body: &'static str, at: Timestamp| {
        let mut request = Request::post("/v1/x").body(axum::body::Body::from(body)).unwrap();
        signed::sign(&mut request, body.as_bytes(), &key(), at);
        request
    };
    let code = async |request: Request<axum::body::Body>| {
        let response = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body["code"].as_str().unwrap_or("").to_owned())
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    let unsigned = Request::post("/v1/x").body(axum::body::Body::from("{}")).unwrap();
    assert_eq!(code(unsigned).await, refused(401, "unsigned"));
    let mut altered = signed("{}", NOW);
    *altered.body_mut() = axum::body::Body::from("[]");
    assert_eq!(code(altered).await, refused(401, "body_altered"));
    let mut elsewhere = signed("{}", NOW);
    *elsewhere.uri_mut() = "/v1/y".parse().unwrap();
    assert_eq!(code(elsewhere).await, refused(401, "bad_signature"));
    assert_eq!(code(signed("{}", NOW.minus(61))).await, refused(401, "stale"));
    assert_eq!(code(signed("{", NOW)).await, refused(400, "invalid_request"));
    let first = signed("{}", NOW);
    let mut again = Request::post("/v1/x").body(axum::body::Body::from("{}")).unwrap();
    *again.headers_mut() = first.headers().clone();
    assert_eq!(code(first).await.0, 200);
    assert_eq!(code(again).await, refused(409, "replayed"));
}

#[tokio::test]
async fn what_a_door_refuses_its_caller_reads() {
    let refuse =
        async || crate::Refusal::new(comity_wire::Code::GrantRequired, "ask first").hint("apply").into_response();
    let door = door(Router::new().route("/", get(refuse)), Limits::default()).await;
    let error = client(&[&door.url], 1).call::<Value>(Method::GET, "/", None::<&()>).await.unwrap_err();
    let Some(remote) = CallError::remote(&error) else { panic!("{error:?}") };
    assert!(remote.is(comity_wire::Code::GrantRequired));
    assert_eq!((remote.status, remote.retry, remote.hint.as_deref()), (403, false, Some("apply")));
    assert!(remote.request_id.is_some());
}

#[tokio::test]
async fn what_may_be_repeated_is_sent_once_more_where_its_connection_died_before_the_answer() {
    for (repeats, sent) in [(true, 2), (false, 1)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (heard, mut hears) = mpsc::unbounded_channel();
        let mut tls = identity(1).server_config(None).unwrap().as_ref().clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            for number in 1.. {
                let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") {
                    read.push(stream.read_u8().await.unwrap());
                }
                heard.send(read).unwrap();
                if number == sent {
                    let said: &[u8] = if repeats { b"HTTP/1.1 204 No Content\r\n\r\n" } else { b"" };
                    stream.write_all(said).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        });
        let mut request = get_request("/?signed");
        if repeats {
            request.extensions_mut().insert(Repeatable);
        }
        match client(&[&url], 1).request(request).await {
            Ok(response) => {
                assert!(repeats && response.status() == 204);
                assert!(
                    response.extensions().get::<Repeated>().is_some(),
                    "who reads it knows that it was sent before"
                );
            }
            Err(error) => assert!(!repeats && matches!(error, DialError::Broken { lost: true, .. }), "{error:?}"),
        }
        let first = hears.recv().await.unwrap();
        if repeats {
            assert_eq!(first, hears.recv().await.unwrap(), "byte for byte");
        }
        assert!(hears.try_recv().is_err());
    }
}
