//! The QUIC door and its dialler against each other, over UDP on loopback.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{get, post};
use bytes::Bytes;
use comity_wire::object::DoorKind;
use futures::StreamExt as _;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::tests::{Left, client, get_request, identity, slow};
use super::super::{Limits, Server};
use super::*;
use crate::body::Limit;
use crate::dial::{Client, ConnectError, DialError, PeerCertificate, Repeatable, Timeouts, collect};
use crate::quic::GIVEN_UP;
use crate::{Endpoint as Node, TrustedKeys};

struct Door {
    url: String,
    stop: CancellationToken,
    ended: JoinHandle<Drained>,
}

fn door(router: Router, limits: Limits) -> Door {
    let server = QuicServer::bind("127.0.0.1:0".parse().unwrap(), &identity(1), limits).unwrap();
    let (url, stop) = (server.url(), CancellationToken::new());
    let ended = tokio::spawn(server.run(router, stop.clone()));
    Door { url, stop, ended }
}

async fn https(seed: u8, router: Router) -> String {
    let tls = identity(seed).server_config(None).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, Limits::default()).await.unwrap();
    let url = server.url().unwrap();
    tokio::spawn(server.run(router, CancellationToken::new()));
    url
}

fn hello() -> Router {
    let handler = async |version: Version, Extension(peer): Extension<Peer>| format!("{version:?} {peer:?}");
    Router::new().route("/", get(handler))
}

fn by(response: &http::Response<hyper::body::Incoming>) -> DoorKind {
    *response.extensions().get::<DoorKind>().unwrap()
}

#[tokio::test]
async fn a_quic_door_with_the_right_key_answers_and_the_reply_says_which_door_it_was() {
    let door = door(hello(), Limits::default());
    let caller = client(&[&door.url], 1);
    for _ in 0..2 {
        let response = caller.request(get_request("/")).await.unwrap();
        assert_eq!(by(&response), DoorKind::Quic);
        let shown = response.extensions().get::<PeerCertificate>().unwrap();
        assert_eq!((shown.key, &shown.node_certificate), (*identity(1).key(), &None));
        let said = collect(response, 100).await.unwrap();
        let said = std::str::from_utf8(said.body()).unwrap();
        assert!(said.starts_with("HTTP/1.1 Quic(127.0.0.1:"), "{said}");
    }
}

#[tokio::test]
async fn a_quic_door_with_another_key_gets_nothing_and_https_is_taken_instead() {
    let wrong = door(Router::new().fallback(async || -> () { panic!("a stranger was asked") }), Limits::default());
    let stranger = client(&[&wrong.url], 2).request(get_request("/")).await.unwrap_err();
    assert!(matches!(stranger, DialError::Connect { source: ConnectError::WrongKey { .. }, .. }), "{stranger:?}");
    let right = https(2, hello()).await;
    let response = client(&[&wrong.url, &right], 2).request(get_request("/")).await.unwrap();
    assert_eq!(by(&response), DoorKind::Https);
}

#[tokio::test]
async fn where_no_udp_comes_through_https_is_taken_after_a_short_wait_and_then_without_one() {
    // Bound, and deaf.
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let quic = format!("quic://{}", deaf.local_addr().unwrap());
    let caller = client(&[&quic, &https(1, hello()).await], 1);
    let mut waited = Vec::new();
    for _ in 0..20 {
        let began = std::time::Instant::now();
        let response = caller.request(get_request("/")).await.unwrap();
        assert_eq!(by(&response), DoorKind::Https);
        collect(response, 100).await.unwrap();
        waited.push(began.elapsed());
    }
    // One head start for all calls together, far below the time that connecting may take.
    let all: Duration = waited.iter().sum();
    assert!(waited[0] >= Duration::from_millis(240), "{waited:?}");
    assert!(all < Duration::from_secs(9), "{waited:?}");
}

#[tokio::test]
async fn quic_is_taken_first_where_both_answer_and_https_once_it_is_gone() {
    let quic = door(hello(), Limits::default());
    let addresses = vec![https(1, hello()).await, quic.url.clone()];
    let node = || Node { addresses: addresses.clone(), trusted: TrustedKeys::Exactly(vec![*identity(1).key()]) };
    // However busy the machine is.
    let patient = Timeouts { head_start_ms: 10_000, ..Timeouts::default() };
    let caller = Client::with(node(), vec![], patient).unwrap();
    for _ in 0..2 {
        assert_eq!(by(&caller.request(get_request("/")).await.unwrap()), DoorKind::Quic);
    }
    quic.stop.cancel();
    quic.ended.await.unwrap();
    let caller = Client::new(node()).unwrap();
    assert_eq!(by(&caller.request(get_request("/")).await.unwrap()), DoorKind::Https);
}

#[tokio::test]
async fn a_drain_lets_a_running_request_finish_and_turns_a_new_one_away_unsent() {
    let (router, mut begins, go) = slow();
    let door = door(router, Limits::default());
    let caller = client(&[&door.url], 1);
    let running = tokio::spawn({
        let caller = caller.clone();
        async move { caller.request(get_request("/slow")).await }
    });
    begins.recv().await.unwrap();
    door.stop.cancel();
    // On the same connection: until the door has heard it, calls still get in, and wait with the first.
    let turned_away = loop {
        tokio::select! {
            answered = caller.request(get_request("/slow")) => break answered,
            _ = begins.recv() => {}
        }
    };
    assert!(matches!(turned_away, Err(DialError::Connect { source: ConnectError::Closing, .. })), "{turned_away:?}");
    go.add_permits(8);
    let response = running.await.unwrap().unwrap();
    assert_eq!(collect(response, 100).await.unwrap().body(), "finished");
    assert_eq!(door.ended.await.unwrap(), Drained { abandoned: 0 });
}

#[tokio::test]
async fn a_drain_cuts_at_its_deadline_and_counts_the_connections_it_cut() {
    let (router, mut begins, _go) = slow();
    let door = door(router, Limits { drain_ms_max: 20, ..Limits::default() });
    let caller = client(&[&door.url], 1);
    let running = tokio::spawn(async move { caller.request(get_request("/slow")).await });
    begins.recv().await.unwrap();
    door.stop.cancel();
    assert_eq!(door.ended.await.unwrap(), Drained { abandoned: 1 });
    assert!(matches!(running.await.unwrap(), Err(DialError::Broken { .. })));
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_before_the_head_and_within_the_body() {
    let (begun, mut begins) = mpsc::channel(1);
    let (left, mut leaves) = mpsc::channel(2);
    let streaming = left.clone();
    let waits = async move || -> () {
        let _left = Left(left);
        begun.send(()).await.unwrap();
        std::future::pending().await
    };
    let streams = async move || {
        let left = Left(streaming);
        let first = futures::stream::once(async { Ok::<_, Infallible>("data: 1\n\n") });
        let rest = futures::stream::once(async move {
            let _left = left;
            std::future::pending::<Result<&str, Infallible>>().await
        });
        Body::from_stream(first.chain(rest))
    };
    let door = door(Router::new().route("/", get(waits)).route("/stream", get(streams)), Limits::default());
    let caller = client(&[&door.url], 1);
    let running = tokio::spawn({
        let caller = caller.clone();
        async move { caller.request(get_request("/")).await }
    });
    begins.recv().await.unwrap();
    running.abort();
    leaves.recv().await.unwrap();
    // The first frame is here while the second is not made yet; then the caller goes.
    let mut body = caller.request(get_request("/stream")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    drop(body);
    leaves.recv().await.unwrap();
}

#[tokio::test]
async fn a_reply_that_was_given_up_is_never_taken_for_a_whole_one() {
    let breaks = async || {
        let parts = [Ok(Bytes::from_static(b"half of it")), Err(std::io::Error::other("broke"))];
        Body::from_stream(futures::stream::iter(parts))
    };
    let door = door(Router::new().route("/", get(breaks)), Limits::default());
    let response = client(&[&door.url], 1).request(get_request("/")).await;
    // Cut before its head was read, or after: in neither case an end.
    if let Ok(response) = response {
        assert!(matches!(collect(response, 100).await, Err(DialError::Body { .. })));
    }
    // Also for a reader that knows nothing of HTTP.
    let connection = Raw::new(&door, |_| ()).connect().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let cut = receive.read_to_end(10_000).await.unwrap_err();
    assert_eq!(cut, quinn::ReadToEndError::Read(quinn::ReadError::Reset(GIVEN_UP)));
}

#[tokio::test]
async fn a_large_body_arrives_and_one_above_its_bound_is_refused_in_words() {
    let bounded = axum::middleware::from_fn_with_state(Limit::bytes(3 << 20), crate::body::bounded);
    let router = Router::new().route("/", post(async |body: Bytes| body.len().to_string())).layer(bounded);
    let door = door(router.layer(axum::extract::DefaultBodyLimit::disable()), Limits::default());
    let caller = client(&[&door.url], 1);
    let post = |bytes: usize| Request::post("/").body(Full::from(vec![7; bytes])).unwrap();
    let response = caller.request(post(3 << 20)).await.unwrap();
    assert_eq!(collect(response, 100).await.unwrap().body(), &(3 << 20).to_string());
    let response = caller.request(post(16 << 20)).await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(collect(response, 1000).await.unwrap().body().starts_with(br#"{"error""#));
}

#[tokio::test]
async fn more_callers_than_one_connection_takes_are_all_answered() {
    const CALLERS: usize = 40;
    let (router, mut begins, go) = slow();
    let door = door(router, Limits { streams_max: 8, ..Limits::default() });
    let caller = client(&[&door.url], 1);
    let calls: Vec<_> = (0..CALLERS)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { collect(caller.request(get_request("/slow")).await.unwrap(), 100).await })
        })
        .collect();
    for _ in 0..8 {
        begins.recv().await.unwrap();
    }
    assert!(begins.try_recv().is_err(), "a ninth stream got in");
    go.add_permits(CALLERS);
    let drained = tokio::spawn(async move { while begins.recv().await.is_some() {} });
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().body(), "finished");
    }
    drained.abort();
}

#[tokio::test]
async fn a_stream_whose_head_does_not_come_is_cut() {
    let door = door(hello(), Limits { header_read_ms_max: 30, ..Limits::default() });
    let connection = Raw::new(&door, |_| ()).connect().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(b"GET / HT").await.unwrap();
    let _ = receive.read_to_end(1000).await;
}

/// A door that dies as a process does: nothing more is sent, and the port is free.
struct Process {
    runtime: Option<tokio::runtime::Runtime>,
    address: SocketAddr,
}

impl Process {
    /// Waits until a process that was killed has let the port go.
    async fn start(address: SocketAddr, router: Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bound = {
            let _within = runtime.enter();
            loop {
                match QuicServer::bind(address, &identity(1), Limits::default()) {
                    Ok(server) => break server,
                    Err(error) => assert!(error.to_string().contains("cannot listen"), "{error}"),
                }
                std::thread::yield_now();
            }
        };
        let address = bound.address();
        runtime.spawn(bound.run(router, CancellationToken::new()));
        Self { runtime: Some(runtime), address }
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn says(word: &'static str) -> Router {
    Router::new().route("/", get(async move || word))
}

fn repeatable(path: &str) -> Request<Full<Bytes>> {
    let mut request = get_request(path);
    request.extensions_mut().insert(Repeatable);
    request
}

/// Far below the half minute after which a connection is given up without a word.
const AT_ONCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_door_that_was_killed_and_started_again_says_so_on_an_old_connection() {
    let mut door = Process::start("127.0.0.1:0".parse().unwrap(), says("first")).await;
    let caller = client(&[&format!("quic://{}", door.address)], 1);
    for (word, next) in [("first", "second"), ("second", "third"), ("third", "fourth")] {
        let answer = collect(caller.request(get_request("/")).await.unwrap(), 100).await.unwrap();
        assert_eq!(answer.body(), word);
        door.kill();
        door = Process::start(door.address, says(next)).await;
        let began = std::time::Instant::now();
        if next == "third" {
            // It may have been heard: whether it can be asked again is for the caller to know.
            let broken = caller.request(get_request("/")).await.unwrap_err();
            assert!(matches!(broken, DialError::Broken { lost: true, .. }), "{broken:?}");
        } else {
            let answer = collect(caller.request(repeatable("/")).await.unwrap(), 100).await.unwrap();
            assert_eq!(answer.body(), next);
        }
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
}

/// A door that reads a request, and then closes its connection without a word, so often; and then answers.
async fn dies(times: usize) -> (String, mpsc::UnboundedReceiver<Vec<u8>>) {
    let crypto = QuicServerConfig::try_from(identity(1).raw_key_config().unwrap()).unwrap();
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("quic://{}", endpoint.local_addr().unwrap());
    let (heard, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let (mut send, mut receive) = connection.accept_bi().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                let chunk = receive.read_chunk(4_096, true).await.unwrap().unwrap();
                read.extend_from_slice(&chunk.bytes);
            }
            heard.send(read).unwrap();
            if number < times {
                connection.close(DONE, b"");
                continue;
            }
            send.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            send.finish().unwrap();
            let _ = send.stopped().await;
        }
    });
    (url, hears)
}

/// Nobody who could have answered is asked instead.
fn untouched() -> Router {
    Router::new().fallback(async || -> () { panic!("the call went through another door") })
}

#[tokio::test]
async fn what_may_be_repeated_goes_once_more_through_the_same_door_byte_for_byte() {
    let (url, mut hears) = dies(1).await;
    let caller = client(&[&url, &https(1, untouched()).await], 1);
    let response = caller.request(repeatable("/?signed")).await.unwrap();
    assert_eq!((by(&response), response.status().as_u16()), (DoorKind::Quic, 200));
    assert_eq!(collect(response, 100).await.unwrap().body(), "ok");
    let (first, second) = (hears.recv().await.unwrap(), hears.recv().await.unwrap());
    assert!(first.starts_with(b"GET /?signed HTTP/1.1\r\n"));
    assert_eq!(first, second);
}

#[tokio::test]
async fn what_may_not_be_repeated_is_sent_once_and_what_may_not_a_third_time() {
    for (request, sent) in [(get_request("/"), 1), (repeatable("/"), 2)] {
        let (url, mut hears) = dies(usize::MAX).await;
        let caller = client(&[&url, &https(1, untouched()).await], 1);
        let broken = caller.request(request).await.unwrap_err();
        assert!(matches!(broken, DialError::Broken { lost: true, .. }), "{broken:?}");
        for _ in 0..sent {
            hears.recv().await.unwrap();
        }
        assert!(hears.try_recv().is_err(), "sent more than {sent} times");
    }
}

#[tokio::test]
async fn a_call_that_was_sent_is_never_said_to_be_unsent_because_the_door_is_gone_by_then() {
    let (router, mut begins, _go) = slow();
    let door = door(router, Limits { drain_ms_max: 20, ..Limits::default() });
    let node = Node { addresses: vec![door.url.clone()], trusted: TrustedKeys::Exactly(vec![*identity(1).key()]) };
    let brief = Timeouts { connect_ms_max: 200, ..Timeouts::default() };
    let caller = Arc::new(Client::with(node, vec![], brief).unwrap());
    // On a busy machine the first connection may take longer than is waited for the second, which nobody answers.
    let running = loop {
        let caller = caller.clone();
        let mut running = tokio::spawn(async move { caller.request(repeatable("/slow")).await });
        tokio::select! {
            begun = begins.recv() => break begun.map(|()| running).unwrap(),
            ended = &mut running => {
                let error = ended.unwrap().unwrap_err();
                assert!(matches!(error, DialError::Connect { .. }), "{error:?}");
            }
        }
    };
    door.stop.cancel();
    door.ended.await.unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, DialError::Broken { lost: true, .. }), "{error:?}");
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let door = door(hello(), Limits { connections_per_peer_max: 1, ..Limits::default() });
    let (first, second) = (client(&[&door.url], 1), client(&[&door.url], 1));
    assert_eq!(first.request(get_request("/")).await.unwrap().status(), 200);
    let refused = second.request(get_request("/")).await.unwrap_err();
    assert!(matches!(refused, DialError::Connect { .. }), "{refused:?}");
}

/// A connection that is made by hand, with what it knows of earlier ones.
struct Raw {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    name: String,
}

impl Raw {
    fn new(door: &Door, changed: impl FnOnce(&mut rustls::ClientConfig)) -> Self {
        let trusted = TrustedKeys::Exactly(vec![*identity(1).key()]);
        let mut config = trusted.raw_key_config();
        changed(&mut config);
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        Self {
            endpoint: Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap(),
            config: quinn::ClientConfig::new(Arc::new(crypto)),
            address: door.url.strip_prefix("quic://").unwrap().parse().unwrap(),
            name: trusted.server_name(),
        }
    }

    fn connect(&self) -> quinn::Connecting {
        self.endpoint.connect_with(self.config.clone(), self.address, &self.name).unwrap()
    }
}

#[tokio::test]
async fn a_caller_that_comes_back_cannot_send_before_the_handshake_is_done() {
    let door = door(hello(), Limits::default());
    let raw = Raw::new(&door, |config| config.enable_early_data = true);
    let connection = raw.connect().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // With the reply the ticket is here too.
    assert!(receive.read_to_end(10_000).await.unwrap().starts_with(b"HTTP/1.1 200 OK\r\n"));
    let early = raw.connect().into_0rtt();
    assert!(early.is_err(), "the door lets callers send early");
    // Nor does ours ask for it.
    assert!(!TrustedKeys::Exactly(vec![]).raw_key_config().enable_early_data);
}

#[tokio::test]
async fn who_does_not_speak_our_protocol_is_not_listened_to() {
    let door = door(hello(), Limits::default());
    for spoken in [vec![], vec![b"h3".to_vec()]] {
        let refused = Raw::new(&door, |config| config.alpn_protocols = spoken).connect().await.unwrap_err();
        let quinn::ConnectionError::ConnectionClosed(close) = &refused else { panic!("{refused:?}") };
        assert_eq!(u64::from(close.error_code), 0x178, "no_application_protocol: {refused}");
    }
    let both = vec![b"h3".to_vec(), b"comity/1".to_vec()];
    assert!(Raw::new(&door, |config| config.alpn_protocols = both).connect().await.is_ok());
}

#[tokio::test]
async fn a_door_that_goes_does_not_wait_for_a_caller_that_has_gone_without_a_word() {
    let (router, mut begins, go) = slow();
    let door = door(router, Limits { drain_ms_max: 600_000, ..Limits::default() });
    let server: SocketAddr = door.url.strip_prefix("quic://").unwrap().parse().unwrap();
    // Between the two, until it is taken away.
    let (near, far) = (udp().await, udp().await);
    let between = near.local_addr().unwrap();
    let wire = tokio::spawn(async move {
        let (mut there, mut back, mut caller) = ([0; 2_048], [0; 2_048], None);
        loop {
            tokio::select! {
                got = near.recv_from(&mut there) => {
                    let (length, from) = got.unwrap();
                    caller = Some(from);
                    far.send_to(&there[..length], server).await.unwrap();
                }
                got = far.recv_from(&mut back) => {
                    let (length, _) = got.unwrap();
                    near.send_to(&back[..length], caller.unwrap()).await.unwrap();
                }
            }
        }
    });
    let raw = Raw { address: between, ..Raw::new(&door, |_| {}) };
    let connection = raw.connect().await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    begins.recv().await.unwrap();
    wire.abort();
    let _ = wire.await;
    go.add_permits(1);
    door.stop.cancel();
    // Without the look for silence it takes the 30 seconds after which a connection is idle for good.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(24), door.ended).await;
    assert_eq!(ended.expect("it is not waited for").unwrap().abandoned, 0);
}

async fn udp() -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap()
}
