//! Connections to a QUIC door: kept, shared, looked after in the background.
//!
//! Connecting goes on while the caller already tries another way, and what came of it is remembered: a network that
//! lets no UDP through costs one short wait, and then none.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use super::connector::ConnectError;
use crate::quic::{DONE, End, Exchange, not_taken};
use crate::tls::{PeerCertificate, TrustedKeys};

/// Connections to one address of one node. Clones share them.
#[derive(Clone)]
pub(super) struct Links {
    target: Arc<Target>,
    state: Arc<Mutex<State>>,
}

struct Target {
    config: ClientConfig,
    name: String,
    authority: Authority,
    connect: Duration,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    health: Health,
}

/// What came of trying.
#[derive(Default)]
struct Health {
    /// Since the last connection that stood.
    failures: u32,
    blocked_until: Option<Instant>,
}

struct Slot {
    connecting: Shared<BoxFuture<'static, Result<Arc<Link>, ConnectError>>>,
    since: Instant,
}

/// One connection.
pub(super) struct Link {
    connection: Connection,
    peer: PeerCertificate,
    requests: AtomicUsize,
    quiet_since: Mutex<Instant>,
}

/// What may be expected of a QUIC door now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Connected,
    /// Never tried, or due to be tried again.
    Untried {
        /// Whether it has failed before: then nobody waits for it.
        again: bool,
    },
    /// It did not answer a short while ago.
    Blocked,
}

/// Why there is no response.
pub(super) enum Failed {
    /// The door has not begun with it.
    Unsent(ConnectError),
    Broken {
        /// With the connection.
        lost: bool,
        source: hyper::Error,
    },
}

/// A second connection is opened beside one with so many requests; a door takes some more than that on each.
const REQUESTS_SOFT_MAX: usize = 128;
/// Connections to one address; where all are full, requests wait for one another.
const LINKS_MAX: usize = 8;
/// A connection without requests is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// After the first failure; doubled with each, up to the second.
const BLOCKED: Duration = Duration::from_secs(60);
const BLOCKED_MAX: Duration = Duration::from_secs(900);
/// Addresses that a host name is tried at.
const RESOLVED_MAX: usize = 2;

impl Links {
    pub(super) fn new(trusted: &TrustedKeys, authority: Authority, connect: Duration) -> Self {
        let crypto = QuicClientConfig::try_from(trusted.raw_key_config()).expect("TLS 1.3 has QUIC's first cipher");
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(End::Caller.transport()));
        let target = Target { config, name: trusted.server_name(), authority, connect };
        Self { target: Arc::new(target), state: Arc::default() }
    }

    pub(super) fn standing(&self) -> Standing {
        let mut state = self.lock();
        state.prune();
        if state.live().next().is_some() { Standing::Connected } else { state.health.standing(Instant::now()) }
    }

    /// A connection that stands; waits for one no longer than `patience` after connecting began. Connecting goes on when
    /// this is dropped or gives up.
    pub(super) async fn link(&self, patience: Duration) -> Result<Arc<Link>, ConnectError> {
        let (connecting, since) = {
            let mut state = self.lock();
            state.prune();
            let least = state.live().min_by_key(|link| link.requests()).cloned();
            let is_full = least.as_ref().is_none_or(|link| link.requests() >= REQUESTS_SOFT_MAX);
            let is_connecting = state.slots.iter().any(|slot| slot.connecting.peek().is_none());
            if is_full && !is_connecting && state.slots.len() < LINKS_MAX {
                state.slots.push(self.connect());
            }
            if let Some(link) = least {
                return Ok(link);
            }
            let slot = state.slots.last().expect("one was pushed where none stands");
            (slot.connecting.clone(), slot.since)
        };
        let ms = patience.as_millis() as u64;
        tokio::time::timeout_at(since + patience, connecting).await.unwrap_or(Err(ConnectError::Slow { ms }))
    }

    fn connect(&self) -> Slot {
        let (target, state) = (Arc::clone(&self.target), Arc::downgrade(&self.state));
        let task = tokio::spawn(async move {
            let opened = target.open().await;
            if let Some(state) = state.upgrade() {
                let mut state = state.lock().expect("no panic holds this lock");
                state.health.tried(opened.is_ok(), Instant::now());
            }
            opened
        });
        let ended = |error: tokio::task::JoinError| ConnectError::Io(Arc::new(io::Error::other(error)));
        let connecting = task.map(move |joined| joined.unwrap_or_else(|error| Err(ended(error)))).boxed().shared();
        Slot { connecting, since: Instant::now() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// Sends one request on a stream of its own. Dropping the future, or the response's body, resets the stream.
    pub(super) async fn send(
        &self,
        link: Arc<Link>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failed> {
        let opened = link.connection.open_bi().await;
        let (send, receive) = opened.map_err(|error| Failed::Unsent(ConnectError::of_quic(&error)))?;
        let exchange = TokioIo::new(Exchange::new(send, receive));
        let (mut sender, exchange) =
            hyper::client::conn::http1::handshake(exchange).await.map_err(|source| link.broken(source))?;
        let counted = Counted::new(Arc::clone(&link));
        tokio::spawn(async move {
            // What goes wrong is told to whoever reads the response.
            let _ = exchange.await;
            drop(counted);
        });
        let host = HeaderValue::from_str(self.target.authority.as_str());
        request.headers_mut().insert(header::HOST, host.expect("an authority fits a header"));
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = target.map_or_else(|| Uri::from_static("/"), Uri::from);
        let mut response = sender.send_request(request).await.map_err(|error| {
            if not_taken(&error) { Failed::Unsent(ConnectError::Closing) } else { link.broken(error) }
        })?;
        response.extensions_mut().insert(link.peer.clone());
        Ok(response)
    }
}

impl State {
    /// Forgets connections that are gone, and attempts that failed. One that died in silence counts as a failure: UDP may
    /// be let through no longer.
    fn prune(&mut self) {
        let mut died = false;
        self.slots.retain(|slot| match slot.connecting.peek() {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(link)) => match link.connection.close_reason() {
                None => true,
                Some(reason) => {
                    died |= reason == ConnectionError::TimedOut;
                    false
                }
            },
        });
        if died {
            self.health.tried(false, Instant::now());
        }
    }

    fn live(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.slots.iter().filter_map(|slot| slot.connecting.peek()?.as_ref().ok())
    }
}

impl Health {
    fn tried(&mut self, stands: bool, now: Instant) {
        if stands {
            *self = Self::default();
            return;
        }
        let pause = BLOCKED.saturating_mul(1 << self.failures.min(8)).min(BLOCKED_MAX);
        self.failures = self.failures.saturating_add(1);
        self.blocked_until = Some(now + pause);
    }

    fn standing(&self, now: Instant) -> Standing {
        match self.blocked_until {
            Some(until) if until > now => Standing::Blocked,
            _ => Standing::Untried { again: self.failures > 0 },
        }
    }
}

impl Target {
    async fn open(&self) -> Result<Arc<Link>, ConnectError> {
        let io = |error| ConnectError::Io(Arc::new(error));
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(443);
        let found = tokio::time::timeout(self.connect, tokio::net::lookup_host((host, port))).await;
        let ms = self.connect.as_millis() as u64;
        let found: Vec<_> = found.map_err(|_| ConnectError::Slow { ms })?.map_err(io)?.take(RESOLVED_MAX).collect();
        let mut refused = io(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
        let each = self.connect / u32::try_from(found.len().max(1)).expect("a few");
        for address in found {
            let opened = tokio::time::timeout(each, self.open_at(address)).await;
            match opened.unwrap_or(Err(ConnectError::Slow { ms: each.as_millis() as u64 })) {
                Ok(connection) => return Ok(Link::new(connection)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn open_at(&self, address: SocketAddr) -> Result<Connection, ConnectError> {
        let from: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // A socket for each connection: the endpoint ends with it, and no runtime outlives another's socket.
        let endpoint = Endpoint::client(from).map_err(|error| ConnectError::Io(Arc::new(error)))?;
        let connecting = endpoint.connect_with(self.config.clone(), address, &self.name);
        let connecting = connecting.map_err(|error| ConnectError::Io(Arc::new(io::Error::other(error))))?;
        connecting.await.map_err(|error| ConnectError::of_quic(&error))
    }
}

impl Link {
    fn new(connection: Connection) -> Arc<Self> {
        let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let peer = shown.and_then(|shown| PeerCertificate::read_raw(shown.first()?).ok());
        let peer = peer.expect("the handshake judged this very key");
        let (requests, quiet_since) = (AtomicUsize::new(0), Mutex::new(Instant::now()));
        let link = Arc::new(Self { connection, peer, requests, quiet_since });
        let watched = Arc::downgrade(&link);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE / 2).await;
                let Some(link) = watched.upgrade() else { return };
                let quiet_since = *link.quiet_since.lock().expect("no panic holds this lock");
                if link.requests() == 0 && quiet_since.elapsed() >= IDLE {
                    return link.connection.close(DONE, b"");
                }
            }
        });
        link
    }

    fn broken(&self, source: hyper::Error) -> Failed {
        Failed::Broken { lost: self.connection.close_reason().is_some(), source }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A request under way on a connection.
struct Counted(Arc<Link>);

impl Counted {
    fn new(link: Arc<Link>) -> Self {
        link.requests.fetch_add(1, Ordering::Relaxed);
        Self(link)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.quiet_since.lock().expect("no panic holds this lock") = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectError {
    /// quinn hands on what rustls said as text.
    fn of_quic(error: &ConnectionError) -> Self {
        const WRONG_KEY: &str = "invalid peer certificate: ";
        match error {
            ConnectionError::TransportError(fault) => match fault.reason.strip_prefix(WRONG_KEY) {
                Some(detail) => Self::WrongKey { detail: detail.to_owned() },
                None => Self::Tls { detail: fault.to_string() },
            },
            ConnectionError::ApplicationClosed(_) => Self::Closing,
            other => Self::Io(Arc::new(io::Error::other(other.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_does_not_answer_is_left_alone_for_longer_each_time() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        assert_eq!(health.standing(now), Standing::Untried { again: false });
        for pause_s in [60, 120, 240, 480, 900, 900] {
            health.tried(false, now);
            now += Duration::from_secs(pause_s - 1);
            assert_eq!(health.standing(now), Standing::Blocked, "before {pause_s} s");
            now += Duration::from_secs(1);
            assert_eq!(health.standing(now), Standing::Untried { again: true });
        }
        health.tried(true, now);
        assert_eq!(health.standing(now), Standing::Untried { again: false });
    }
}
