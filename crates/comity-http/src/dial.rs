//! The dialler for doors: to whoever holds an expected key, over the best of its doors that answers.
//!
//! QUIC first, HTTPS where no UDP comes through, a hub's relay where the node can only dial out; what worked is
//! remembered. Connections are kept and shared by clones. Connecting and the response head are bounded in time, a body
//! is not: an answer may stream for long. A door is passed over only while nothing was sent; what is charged once however
//! often it comes is sent again, through the same door, where its connection died before the answer began.

mod call;
mod connector;
mod quic;
mod relayed;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use comity_wire::object::DoorKind;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::tls::TrustedKeys;
use connector::{Connector, Target};
use quic::{Failed, Links, Standing};

/// In the extensions of a response that came over TLS: the key the door showed, and its certificate where it has one.
pub use crate::tls::PeerCertificate;
pub use call::{CallError, collect};
pub use connector::ConnectError;
pub use relayed::{Pass, Relay};

/// Where a node listens, and whose keys are to be found there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `quic://host:port` and `https://host:port`, of each kind the preferred first; at most [`Endpoint::ADDRESSES_MAX`]
    /// are used.
    pub addresses: Vec<String>,
    pub trusted: TrustedKeys,
}

impl Endpoint {
    pub const ADDRESSES_MAX: usize = 8;
    /// Hubs that are asked to connect.
    pub const RELAYS_MAX: usize = 3;
}

#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP and TLS together, or QUIC, per address.
    pub connect_ms_max: u64,
    /// From sending to the response head. A door sends it only when its upstream has answered.
    pub head_ms_max: u64,
    /// How long a first QUIC connection is waited for where there is another way: connecting then goes on beside it
    /// (RFC 8305 waits as long for the better address).
    pub head_start_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms_max: 10_000, head_ms_max: 600_000, head_start_ms: 250 }
    }
}

/// In the extensions of a request that has the same effect once and twice, byte for byte: a charged call (spec/05-request.md
/// §5.6). It is sent once more, through the same door, where the connection died before the answer began: with a node
/// that was started again, or a network that was left.
#[derive(Clone, Copy, Debug)]
pub struct Repeatable;

/// In the extensions of a response to what was sent once more ([`Repeatable`]): what it says need not hold for the first time.
#[derive(Clone, Copy, Debug)]
pub struct Repeated;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    #[error("'{address}' is neither quic://host:port nor https://host:port")]
    Address { address: String },
    #[error("no address to dial")]
    NoAddress,
    /// Nothing was sent: the call may go elsewhere, or be made again.
    #[error("cannot connect to {address}")]
    Connect { address: String, source: ConnectError },
    /// Something may have been sent: only a call that can be repeated safely may be.
    #[error("no response from {address}")]
    Broken {
        address: String,
        /// The connection is gone, not this call alone.
        lost: bool,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{address} gave no response within {ms} ms")]
    Slow { address: String, ms: u64 },
    #[error("the request cannot be sent: {detail}")]
    Request { detail: String },
    #[error("the answer from {address} broke off")]
    Body { address: String, source: hyper::Error },
    #[error("the answer is longer than {limit} bytes")]
    TooLarge { limit: usize },
}

/// A client of one endpoint. Clones share connections.
#[derive(Clone)]
pub struct Client {
    ways: Arc<[Way]>,
    /// Which of the ways over TCP answered last, and since when it is the one.
    preferred: Arc<Mutex<Option<(usize, Instant)>>>,
    timeouts: Timeouts,
}

/// One address behind one kind of door.
struct Way {
    /// `None` is an admin socket.
    door: Option<DoorKind>,
    authority: Authority,
    over: Over,
}

enum Over {
    Quic(Links),
    Pool(Box<Pool>),
}

type Pool = legacy::Client<Connector, Full<Bytes>>;

const IDLE: Duration = Duration::from_secs(60);
const IDLE_PER_HOST_MAX: usize = 64;
/// Where a relay stands behind them, an address that does not answer is given up sooner.
const CONNECT_MS_MAX_BEFORE_RELAY: u64 = 3_000;
/// A node that is reached through a hub is looked for in person again after this.
const RELAYED_FOR: Duration = Duration::from_secs(600);

impl Client {
    /// # Errors
    /// [`DialError::Address`], [`DialError::NoAddress`].
    pub fn new(endpoint: Endpoint) -> Result<Self, DialError> {
        Self::with(endpoint, Vec::new(), Timeouts::default())
    }

    /// A client that knows hubs to go through where the node cannot be reached.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with(endpoint: Endpoint, relays: Vec<Relay>, timeouts: Timeouts) -> Result<Self, DialError> {
        let full = Duration::from_millis(timeouts.connect_ms_max);
        let short = Duration::from_millis(timeouts.connect_ms_max.min(CONNECT_MS_MAX_BEFORE_RELAY));
        let tls = endpoint.trusted.client_config();
        let to_door = pool(Target::Tls(Arc::clone(&tls)), if relays.is_empty() { full } else { short });
        let mut ways = Vec::new();
        for address in endpoint.addresses.iter().take(Endpoint::ADDRESSES_MAX) {
            let (kind, authority) = parse(address)?;
            let over = match kind {
                DoorKind::Quic => Over::Quic(Links::new(&endpoint.trusted, authority.clone(), full)),
                _ => Over::Pool(Box::new(to_door.clone())),
            };
            ways.push(Way { door: Some(kind), authority, over });
        }
        for relay in relays.into_iter().take(Endpoint::RELAYS_MAX) {
            let authority = relay.authority();
            let over = Over::Pool(Box::new(pool(Target::Relayed(Arc::new(relay.through(Arc::clone(&tls))?)), full)));
            ways.push(Way { door: Some(DoorKind::Relayed), authority, over });
        }
        if ways.is_empty() {
            return Err(DialError::NoAddress);
        }
        Ok(Self { ways: ways.into(), preferred: Arc::default(), timeouts })
    }

    /// A client of an admin socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let timeouts = Timeouts::default();
        let over =
            Over::Pool(Box::new(pool(Target::Unix(path.into()), Duration::from_millis(timeouts.connect_ms_max))));
        let way = Way { door: None, authority: Authority::from_static("admin.comity.invalid"), over };
        Self { ways: Arc::from([way]), preferred: Arc::default(), timeouts }
    }

    /// Sends a request whose URI is a path and query, and waits for the response head; in its extensions stands the
    /// [`DoorKind`] that it came by. Dropping the future, or the body of the response, cancels the call at the door.
    ///
    /// # Errors
    /// [`DialError`]; an answer of any status is not one.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, DialError> {
        let (parts, body) = request.into_parts();
        let mut refused = DialError::NoAddress;
        for (index, patience) in self.order() {
            let request = Request::from_parts(parts.clone(), body.clone());
            match self.send_lasting(&self.ways[index], request, patience).await {
                Ok(mut response) => {
                    self.remember(index);
                    if let Some(door) = self.ways[index].door {
                        response.extensions_mut().insert(door);
                    }
                    return Ok(response);
                }
                Err(error @ DialError::Connect { .. }) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// The ways to try in turn, and how long a QUIC connection is waited for.
    fn order(&self) -> Vec<(usize, Duration)> {
        let full = Duration::from_millis(self.timeouts.connect_ms_max);
        let head_start = Duration::from_millis(self.timeouts.head_start_ms);
        let only_quic = self.ways.iter().all(|way| matches!(way.over, Over::Quic(_)));
        let preferred = self.preferred();
        let mut order: Vec<(u8, usize, Duration)> = Vec::with_capacity(self.ways.len());
        for (index, way) in self.ways.iter().enumerate() {
            let (rank, patience) = match &way.over {
                Over::Quic(links) => match links.standing() {
                    Standing::Connected => (0, full),
                    Standing::Untried { .. } if only_quic => (1, full),
                    Standing::Untried { again: false } => (1, head_start),
                    // Tried again beside the call, which goes another way.
                    Standing::Untried { again: true } => (1, Duration::ZERO),
                    Standing::Blocked => (5, full),
                },
                Over::Pool(_) if preferred == Some(index) => (2, full),
                Over::Pool(_) if way.door == Some(DoorKind::Relayed) => (4, full),
                Over::Pool(_) => (3, full),
            };
            order.push((rank, index, patience));
        }
        order.sort_unstable_by_key(|(rank, index, _)| (*rank, *index));
        order.into_iter().map(|(_, index, patience)| (index, patience)).collect()
    }

    fn preferred(&self) -> Option<usize> {
        let (index, since) = (*self.preferred.lock().expect("no panic holds this lock"))?;
        let stale = self.ways[index].door == Some(DoorKind::Relayed) && since.elapsed() >= RELAYED_FOR;
        (!stale).then_some(index)
    }

    fn remember(&self, index: usize) {
        if matches!(self.ways[index].over, Over::Pool(_)) && self.preferred() != Some(index) {
            *self.preferred.lock().expect("no panic holds this lock") = Some((index, Instant::now()));
        }
    }

    /// Sends, and once more where that may be done. An error of the second try is that of the first: something was sent.
    async fn send_lasting(
        &self,
        way: &Way,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, DialError> {
        let again = request.extensions().get::<Repeatable>().map(|_| request.clone());
        let (broken, again) = match (self.send(way, request, patience).await, again) {
            (Err(broken @ DialError::Broken { lost: true, .. }), Some(again)) => (broken, again),
            (sent, _) => return sent,
        };
        tracing::debug!(%way, "the connection died before the answer: the same bytes are sent again");
        let full = Duration::from_millis(self.timeouts.connect_ms_max);
        let mut response = self.send(way, again, full).await.map_err(|_| broken)?;
        response.extensions_mut().insert(Repeated);
        Ok(response)
    }

    async fn send(
        &self,
        way: &Way,
        mut request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, DialError> {
        let address = || way.to_string();
        let ms = self.timeouts.head_ms_max;
        let within = Duration::from_millis(ms);
        match &way.over {
            Over::Quic(links) => {
                let link = links.link(patience).await;
                let link = link.map_err(|source| DialError::Connect { address: address(), source })?;
                match tokio::time::timeout(within, links.send(link, request)).await {
                    Err(_) => Err(DialError::Slow { address: address(), ms }),
                    Ok(Err(Failed::Unsent(source))) => Err(DialError::Connect { address: address(), source }),
                    Ok(Err(Failed::Broken { lost, source })) => {
                        Err(DialError::Broken { address: address(), lost, source: source.into() })
                    }
                    Ok(Ok(response)) => Ok(response),
                }
            }
            Over::Pool(pool) => {
                *request.uri_mut() = way.uri(request.uri())?;
                match tokio::time::timeout(within, pool.request(request)).await {
                    Err(_) => Err(DialError::Slow { address: address(), ms }),
                    Ok(Err(source)) => Err(match ConnectError::within(&source) {
                        Some(source) => DialError::Connect { address: address(), source },
                        None => DialError::Broken {
                            address: address(),
                            lost: connector::was_lost(&source),
                            source: source.into(),
                        },
                    }),
                    Ok(Ok(response)) => Ok(response),
                }
            }
        }
    }
}

impl Way {
    fn uri(&self, target: &Uri) -> Result<Uri, DialError> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.door.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target.path_and_query().cloned().unwrap_or_else(|| "/".parse().expect("a path")));
        Uri::from_parts(parts).map_err(|e| DialError::Request { detail: e.to_string() })
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.door {
            Some(DoorKind::Quic) => write!(f, "quic://{}", self.authority),
            Some(DoorKind::Relayed) => write!(f, "{} through a hub", self.authority),
            _ => write!(f, "{}", self.authority),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ways: Vec<_> = self.ways.iter().map(Way::to_string).collect();
        f.debug_struct("Client").field("ways", &ways).finish_non_exhaustive()
    }
}

fn pool(target: Target, connect: Duration) -> Pool {
    // Through a hub by HTTP/2 alone: who knows that beforehand opens one tunnel for many that come at once, and a token has
    // few of them.
    let shared = matches!(target, Target::Relayed(_));
    legacy::Client::builder(TokioExecutor::new())
        .http2_only(shared)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .build(Connector { target, connect })
}

/// `quic://host:port` or `https://host:port`, and nothing else in it.
fn parse(address: &str) -> Result<(DoorKind, Authority), DialError> {
    let wrong = || DialError::Address { address: address.to_owned() };
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let kind = match uri.scheme_str() {
        Some("https") => DoorKind::Https,
        Some("quic") => DoorKind::Quic,
        _ => return Err(wrong()),
    };
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|a| plain && !a.as_str().contains('@')).ok_or_else(wrong)?;
    Ok((kind, authority.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_doors_without_path_user_or_query_are_dialled() {
        let client = |address: &str| {
            Client::new(Endpoint { addresses: vec![address.into()], trusted: TrustedKeys::Exactly(vec![]) }).is_ok()
        };
        assert!(client("https://127.0.0.1:8443"));
        assert!(client("https://[::1]:8443/"));
        assert!(client("https://door.example.org"));
        assert!(client("quic://door.example.org:4443"));
        for wrong in [
            "http://127.0.0.1:1",
            "quic://a/b",
            "127.0.0.1:1",
            "https://a/b",
            "https://u@a",
            "https://a/?q",
            "",
            "https://",
        ] {
            assert!(!client(wrong), "{wrong}");
        }
        let none = Client::new(Endpoint { addresses: vec![], trusted: TrustedKeys::Exactly(vec![]) });
        assert!(matches!(none, Err(DialError::NoAddress)));
    }
}
