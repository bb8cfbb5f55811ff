//! A caller, a hub and a node that listens nowhere, over real sockets; only the hub's own streams are pipes in memory.

use std::collections::HashMap;

use axum::extract::Extension;
use axum::routing::{get, post};
use bytes::Bytes;
use comity_wire::object::{DoorKind, RevokedKind, Token};
use comity_wire::{SecretKey, cose};
use http_body_util::Full;
use tokio::sync::mpsc;

use super::*;
use crate::dial::{Client, ConnectError, DialError, Pass, Timeouts, collect};
use crate::serve::{Limits as DoorLimits, Peer};
use crate::{Endpoint, Identity, Server, TrustedKeys, dial};

// The vectors' federation: its tokens, lists and keys.
#[allow(dead_code)]
#[path = "../../../comity-token/examples/vectors/chains.rs"]
mod chains;
#[allow(dead_code)]
#[path = "../../../comity-token/examples/vectors/world.rs"]
mod world;
use world::{LAB_NODE, NOW, UNI_NODE, own_token, secret, state, token};

const HUB_NODE: NodeId = NodeId([0x19; 16]);

/// Nodes that have dialled the hub; what passes is kept.
#[derive(Default)]
struct Dialled {
    nodes: HashMap<NodeId, mpsc::Sender<(NodeId, BoxDuplex)>>,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Reach for Dialled {
    fn reach(&self, node: NodeId) -> BoxFuture<'_, Result<BoxDuplex, String>> {
        Box::pin(async move {
            let to = self.nodes.get(&node).ok_or("not connected")?;
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            to.send((HUB_NODE, Box::new(theirs))).await.map_err(|_| "gone")?;
            Ok(Box::new(Watched { stream: ours, seen: Arc::clone(&self.seen) }) as BoxDuplex)
        })
    }
}

/// What the hub can see.
struct Watched {
    stream: tokio::io::DuplexStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = std::pin::Pin::new(&mut self.stream).poll_read(cx, buf);
        self.seen.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.seen.lock().unwrap().extend_from_slice(buf);
        std::pin::Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

struct Hub {
    url: String,
    relay: Relay,
    seen: Arc<Mutex<Vec<u8>>>,
}

fn identity(seed: u8) -> Identity {
    Identity::new(&SecretKey::from_seed([seed; 32]), &NodeId::from_bytes([seed; 16]), b"", &[]).unwrap()
}

/// The lab's node (key 1) behind a hub (key 9).
async fn hub(router: Router, limits: Limits, revoked: Vec<(RevokedKind, String)>, now: Timestamp) -> Hub {
    let (send, streams) = mpsc::channel(8);
    let node = Server::of_passed(streams, identity(1).server_config(None).unwrap(), DoorLimits::default());
    tokio::spawn(node.run(router, CancellationToken::new()));
    let dialled = Dialled { nodes: HashMap::from([(LAB_NODE, send)]), ..Dialled::default() };
    let seen = Arc::clone(&dialled.seen);
    let directory = Arc::new(state(revoked, Some(3600)).directory());
    let relay = Relay::new(Parts { directory, clock: Arc::new(move || now), reach: Arc::new(dialled), limits });
    let tls = identity(9).server_config(None).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, DoorLimits::default()).await.unwrap();
    let url = server.url().unwrap();
    let own = Router::new().route("/", get(async || "the hub itself"));
    tokio::spawn(server.run(relay.before(own), CancellationToken::new()));
    Hub { url, relay, seen }
}

fn chain_of(token: &Token, issuer: &str) -> Vec<u8> {
    let token = cose::sign(token, &secret(issuer)).bytes().to_vec();
    Chain { token, blocks: Vec::new() }.to_bytes()
}

fn usual() -> Vec<u8> {
    chain_of(&token(), "house issuer")
}

fn client(hub: &Hub, node: NodeId, key: u8, pass: Option<Pass>) -> Client {
    let relay = dial::Relay {
        addresses: vec![hub.url.clone()],
        trusted: TrustedKeys::Exactly(vec![*identity(9).key()]),
        node,
        pass: Arc::new(move || pass.clone()),
    };
    let trusted = TrustedKeys::Exactly(vec![*identity(key).key()]);
    Client::with(Endpoint { addresses: vec![], trusted }, vec![relay], Timeouts::default()).unwrap()
}

fn pass(chain: Vec<u8>, key: &str) -> Option<Pass> {
    Some(Pass { chain, key: secret(key), now: NOW })
}

fn get_request(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).body(Full::default()).unwrap()
}

fn lab() -> Router {
    let who = async |Extension(peer): Extension<Peer>| format!("{peer:?}");
    Router::new()
        .route("/", get(who))
        .route("/echo", post(async |body: Bytes| body))
        .layer(axum::extract::DefaultBodyLimit::disable())
}

async fn refusal(hub: &Hub, node: NodeId, pass: Option<Pass>) -> (u16, String, crate::RemoteError) {
    match client(hub, node, 1, pass).request(get_request("/")).await {
        Err(DialError::Connect { source: ConnectError::Refused(said), .. }) => {
            (said.status, said.code.clone(), said.as_ref().clone())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_that_listens_nowhere_answers_through_a_hub_that_cannot_read_along() {
    let hub = hub(lab(), Limits::default(), vec![], NOW).await;
    let caller = client(&hub, LAB_NODE, 1, pass(usual(), "pi"));
    let response = caller.request(get_request("/")).await.unwrap();
    assert_eq!(response.extensions().get::<DoorKind>(), Some(&DoorKind::Relayed));
    assert_eq!(collect(response, 100).await.unwrap().body(), &format!("Relayed({HUB_NODE})"));
    let words = b"in confidence ".repeat(100_000);
    let echo = Request::post("/echo").body(Full::from(words.clone())).unwrap();
    let echoed = collect(caller.request(echo).await.unwrap(), 2 << 20).await.unwrap();
    assert_eq!(echoed.body(), &words);
    let seen = hub.seen.lock().unwrap().clone();
    assert!(seen.len() > 2 * words.len(), "all of it went through the hub: {}", seen.len());
    assert!(!seen.windows(13).any(|window| window == b"in confidence"), "the hub read along");
    assert_eq!(hub.relay.tunnels(), 1, "one tunnel carries all calls of a client");
    // What is not CONNECT is answered by the hub as before.
    let trusted = TrustedKeys::Exactly(vec![*identity(9).key()]);
    let own = Client::new(Endpoint { addresses: vec![hub.url.clone()], trusted }).unwrap();
    assert_eq!(collect(own.request(get_request("/")).await.unwrap(), 99).await.unwrap().body(), "the hub itself");
}

#[tokio::test]
async fn a_hub_that_connects_to_somebody_else_gains_nothing() {
    let hub = hub(lab(), Limits::default(), vec![], NOW).await;
    let error = client(&hub, LAB_NODE, 2, pass(usual(), "pi")).request(get_request("/")).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { source: ConnectError::WrongKey { .. }, .. }), "{error:?}");
}

#[tokio::test]
async fn a_hub_connects_only_for_a_token_of_that_node_in_its_time_and_its_holders_hand() {
    let hub_ = hub(lab(), Limits::default(), vec![], NOW).await;
    let none = client(&hub_, LAB_NODE, 1, None).request(get_request("/")).await;
    assert!(matches!(none, Err(DialError::Connect { source: ConnectError::NoPass, .. })), "{none:?}");
    assert_eq!(refusal(&hub_, UNI_NODE, pass(usual(), "pi")).await.1, "wrong_audience");
    assert_eq!(refusal(&hub_, LAB_NODE, pass(usual(), "student")).await.1, "wrong_key");
    assert_eq!(refusal(&hub_, LAB_NODE, pass(chain_of(&token(), "lab issuer"), "pi")).await.1, "wrong_issuer");
    assert_eq!(refusal(&hub_, LAB_NODE, pass(vec![0xa0], "pi")).await.0, 400);
    let stale = Pass { chain: usual(), key: secret("pi"), now: NOW.minus(61) };
    assert_eq!(refusal(&hub_, LAB_NODE, Some(stale)).await.1, "stale");
    // A token of budget 0 counts.
    let own = chain_of(&own_token(), "lab issuer");
    assert!(client(&hub_, LAB_NODE, 1, pass(own, "pi")).request(get_request("/")).await.is_ok());
    // A token that was stopped does not.
    let revoked = hub(lab(), Limits::default(), vec![(RevokedKind::Token, token().id.to_string())], NOW).await;
    assert_eq!(refusal(&revoked, LAB_NODE, pass(usual(), "pi")).await.1, "revoked");
    // An expired one leads to its final, until what is left goes home by itself.
    let mut old = token();
    old.expires_at = NOW.minus(3600);
    (old.not_before, old.issued_at) = (NOW.minus(7200), NOW.minus(7200));
    assert!(
        client(&hub_, LAB_NODE, 1, pass(chain_of(&old, "house issuer"), "pi")).request(get_request("/")).await.is_ok()
    );
    old.expires_at = NOW.minus(4 * 86_400);
    (old.not_before, old.issued_at) = (old.expires_at.minus(3600), old.expires_at.minus(3600));
    old.terms.settle_by = NOW.minus(1);
    assert_eq!(refusal(&hub_, LAB_NODE, pass(chain_of(&old, "house issuer"), "pi")).await.1, "expired");
}

#[tokio::test]
async fn a_node_that_has_not_dialled_the_hub_cannot_be_reached_through_it() {
    let hub = hub(lab(), Limits::default(), vec![], NOW).await;
    let mut elsewhere = token();
    elsewhere.audience = comity_wire::object::IdText(UNI_NODE);
    let said = refusal(&hub, UNI_NODE, pass(chain_of(&elsewhere, "house issuer"), "pi")).await;
    assert_eq!((said.0, said.1.as_str()), (503, Code::NodeUnreachable.as_str()));
    assert!(said.2.retry);
    assert_eq!(hub.relay.tunnels(), 0, "a place that came to nothing is given back");
}

#[tokio::test]
async fn a_hub_says_which_bound_is_reached() {
    let share = Share { tunnels_max: 1, ..Limits::default().token };
    let limits = Limits { token: share, ..Limits::default() };
    let hub = hub(lab(), limits, vec![], NOW).await;
    let first = client(&hub, LAB_NODE, 1, pass(usual(), "pi"));
    first.request(get_request("/")).await.unwrap();
    let said = refusal(&hub, LAB_NODE, pass(usual(), "pi")).await;
    assert_eq!((said.0, said.1.as_str()), (429, "too_many_requests"));
    assert_eq!((&said.2.fields["limit"], &said.2.fields["limit_max"]), (&"token".into(), &1.into()));
    assert_eq!(said.2.retry_after_s, Some(1));
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_through_the_hub_and_its_place_is_free() {
    let (begun, mut begins) = mpsc::channel::<()>(1);
    let (left, mut leaves) = mpsc::channel::<()>(1);
    let handler = async move || -> () {
        let _left = Left(left);
        begun.send(()).await.unwrap();
        std::future::pending().await
    };
    let hub = hub(Router::new().route("/", get(handler)), Limits::default(), vec![], NOW).await;
    let caller = client(&hub, LAB_NODE, 1, pass(usual(), "pi"));
    let running = tokio::spawn(async move { caller.request(get_request("/")).await });
    begins.recv().await.unwrap();
    running.abort();
    leaves.recv().await.unwrap();
    while hub.relay.tunnels() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Says that it was dropped.
struct Left(mpsc::Sender<()>);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[tokio::test]
async fn a_quiet_tunnel_is_closed_and_a_hub_that_stops_ends_them_all() {
    let limits = Limits { idle_ms_max: 300, ..Limits::default() };
    let idle = hub(lab(), limits, vec![], NOW).await;
    let caller = client(&idle, LAB_NODE, 1, pass(usual(), "pi"));
    caller.request(get_request("/")).await.unwrap();
    while idle.relay.tunnels() > 0 {
        tokio::task::yield_now().await;
    }
    // The next call opens another.
    caller.request(get_request("/")).await.unwrap();
    idle.relay.close().await;
    assert_eq!(idle.relay.tunnels(), 0);
    let error = client(&idle, LAB_NODE, 1, pass(usual(), "pi")).request(get_request("/")).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_tunnel_carries_no_more_than_its_tokens_share_and_all_that_was_sent() {
    let share = Share { tunnels_max: 4, bytes_per_s: 2 << 20 };
    let hub = hub(lab(), Limits { token: share, ..Limits::default() }, vec![], NOW).await;
    let caller = client(&hub, LAB_NODE, 1, pass(usual(), "pi"));
    let words = vec![7; 5 << 19];
    let began = std::time::Instant::now();
    let echo = Request::post("/echo").body(Full::from(words.clone())).unwrap();
    let echoed = collect(caller.request(echo).await.unwrap(), 3 << 20).await.unwrap();
    assert_eq!(echoed.body(), &words);
    // Five MiB in all: four at once, the rest as the share comes in.
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn many_that_come_at_once_share_one_tunnel() {
    let share = Share { tunnels_max: 1, ..Limits::default().token };
    let hub = hub(lab(), Limits { token: share, ..Limits::default() }, vec![], NOW).await;
    let caller = client(&hub, LAB_NODE, 1, pass(usual(), "pi"));
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.request(get_request("/")).await.map(|response| response.status()) })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 200);
    }
    assert_eq!(hub.relay.tunnels(), 1);
}
