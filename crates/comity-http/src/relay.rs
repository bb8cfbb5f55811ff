//! A hub's part of the relayed door: `CONNECT <node>` on its HTTPS, with a token for that node, onto a stream of the
//! connection which the node dialled out.
//!
//! The hub checks signature, audience and time of the token, and that its holder asks; it spends nothing, so a token of
//! budget 0 does. It copies bytes, bounded in number and rate, and cannot read them: TLS with the node's own key runs
//! inside. Who opens the stream is handed in ([`Reach`]); libp2p is not known here.

mod bounds;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_token::request::header;
use comity_token::{Denied, Directory, Trust, verify, verify_for_settlement};
use comity_wire::object::Chain;
use comity_wire::{Code, NodeId, PublicKey, Timestamp, TokenId};
use futures::future::BoxFuture;
use http::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::body::Limit;
use crate::problem::{Form, Refusal};
use crate::signed::{self, Guard};
use bounds::Bounds;
pub use bounds::{Full, Limits, Share};

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream to or from somebody, whatever carries it.
pub type BoxDuplex = Box<dyn Duplex>;

/// Opens a stream to a node that has dialled this hub.
pub trait Reach: Send + Sync {
    /// `Err` says why not, for the log.
    fn reach(&self, node: NodeId) -> BoxFuture<'_, Result<BoxDuplex, String>>;
}

/// What a hub's relay is given.
pub struct Parts {
    pub directory: Arc<dyn Directory>,
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub reach: Arc<dyn Reach>,
    pub limits: Limits,
}

/// The relayed door at a hub. Cheap to clone.
#[derive(Clone)]
pub struct Relay(Arc<Shared>);

struct Shared {
    parts: Parts,
    guard: Guard,
    bounds: Mutex<Bounds>,
    began: Instant,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// A place among the tunnels; given back when it is dropped.
struct Place {
    shared: Arc<Shared>,
    token: TokenId,
    node: NodeId,
}

/// Copied at a time, each way.
const PIECE_BYTES: usize = 16 << 10;
/// A tunnel that has been quiet for so long when the hub stops carries nothing that could be lost.
const QUIET_MS: u64 = 1_000;

impl Relay {
    pub fn new(parts: Parts) -> Self {
        let clock = Arc::clone(&parts.clock);
        let guard = Guard::new(Limit::bytes(0), move || clock());
        let bounds = Mutex::new(Bounds::new(parts.limits));
        let (began, tracker, stop) = (Instant::now(), TaskTracker::new(), CancellationToken::new());
        Self(Arc::new(Shared { parts, guard, bounds, began, tracker, stop }))
    }

    /// The hub's router with the relayed door in front: CONNECT is answered here, all else as before.
    pub fn before(&self, router: Router) -> Router {
        let relay = self.clone();
        Router::new().fallback(async move |request: Request<Body>| -> Response {
            if request.method() == Method::CONNECT {
                return relay.connect(request).await.unwrap_or_else(|refusal| refusal.response(Form::Problem));
            }
            router.oneshot(request).await.unwrap_or_else(|never| match never {})
        })
    }

    /// Tunnels that stand now.
    pub fn tunnels(&self) -> u32 {
        self.0.bounds().tunnels()
    }

    /// Takes no more, and ends tunnels once they are quiet, all of them at the drain's deadline.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    async fn connect(&self, mut request: Request<Body>) -> Result<Response, Refusal> {
        let shared = &self.0;
        if shared.stop.is_cancelled() {
            return Err(Refusal::new(Code::Busy, "this hub is closing").with("whose_move", "caller: use another hub"));
        }
        let node = target(request.uri())?;
        let chain = chain(&request)?;
        let upgrade = hyper::upgrade::on(&mut request);
        // CONNECT has no path; its signature is made over `/` (RFC 9421 §2.2.6).
        *request.uri_mut() = Uri::from_static("/");
        let signed = shared.guard.check(request).await?;
        let token = shared.admit(&chain, node, &signed.caller.key).inspect_err(|_| signed.forget())?;
        let place = Place::take(shared, token, node)?;
        let within = Duration::from_millis(shared.parts.limits.reach_ms_max);
        let reached = tokio::time::timeout(within, shared.parts.reach.reach(node)).await;
        let stream = reached.unwrap_or_else(|_| Err("it did not take the stream in time".to_owned()));
        let stream = stream.map_err(|why| {
            tracing::debug!(%node, why, "node cannot be reached");
            Refusal::new(Code::NodeUnreachable, format!("{node} has no connection to this hub on which it takes calls"))
                .hint("use another door of the node, or wait until it has dialled this hub")
                .with("whose_move", "owner")
        })?;
        shared.tracker.spawn(async move {
            match upgrade.await {
                Ok(caller) => place.carry(TokioIo::new(caller), stream).await,
                Err(error) => tracing::debug!(%error, "the caller left before its tunnel stood"),
            }
        });
        Ok(http::StatusCode::OK.into_response())
    }
}

impl Shared {
    /// Whose token it is, and that its leaf's holder asks. An expired token still opens the way to its own final, until
    /// what is left of it goes home anyway.
    fn admit(&self, chain: &[u8], node: NodeId, caller: &PublicKey) -> Result<TokenId, Refusal> {
        let now = (self.parts.clock)();
        let directory = &*self.parts.directory;
        let denied = |denied: Denied| signed::refusal(&denied).with("whose_move", "caller");
        let capability = match verify(chain, &Trust { directory, node, now }) {
            Err(Denied::Expired { at }) => {
                let late = verify_for_settlement(chain, directory, node).map_err(denied)?;
                if now >= late.token().terms.settle_by {
                    return Err(denied(Denied::Expired { at }));
                }
                late
            }
            verified => verified.map_err(denied)?,
        };
        if capability.holder() != caller {
            return Err(denied(Denied::WrongKey));
        }
        Ok(capability.token().id)
    }

    fn bounds(&self) -> std::sync::MutexGuard<'_, Bounds> {
        self.bounds.lock().expect("no panic holds this lock")
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Place {
    fn take(shared: &Arc<Shared>, token: TokenId, node: NodeId) -> Result<Self, Refusal> {
        let now_ms = shared.now_ms();
        match shared.bounds().open(now_ms, token, node) {
            Ok(()) => Ok(Self { shared: Arc::clone(shared), token, node }),
            Err(full) => Err(refused(full, &shared.parts.limits)),
        }
    }

    /// Copies both ways until either side ends, nothing comes for too long, or the hub stops.
    async fn carry(self, caller: impl Duplex, node: impl Duplex) {
        let (limits, active) = (self.shared.parts.limits, AtomicU64::new(self.shared.now_ms()));
        let (from_caller, to_caller) = tokio::io::split(caller);
        let (from_node, to_node) = tokio::io::split(node);
        let both = async {
            // Which side ended is told to the other; what is on its way back still arrives.
            tokio::join!(self.copy(from_caller, to_node, &active), self.copy(from_node, to_caller, &active))
        };
        let why = tokio::select! {
            _ = both => "ended",
            () = self.quiet(&active, limits.idle_ms_max) => "idle",
            () = self.stopped(&active, limits.drain_ms_max) => "hub stops",
        };
        tracing::debug!(node = %self.node, token = %self.token, why, "tunnel closed");
    }

    async fn copy(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, active: &AtomicU64) {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let now_ms = self.shared.now_ms();
            active.store(now_ms, Ordering::Relaxed);
            let bytes = u32::try_from(read).expect("a piece is small");
            let wait_ms = self.shared.bounds().passed(now_ms, self.token, self.node, bytes);
            if wait_ms > 0 {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            if to.write_all(&piece[..read]).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }

    /// Until nothing has passed for `ms`.
    async fn quiet(&self, active: &AtomicU64, ms: u64) {
        loop {
            let since_ms = self.shared.now_ms().saturating_sub(active.load(Ordering::Relaxed));
            match ms.checked_sub(since_ms) {
                None | Some(0) => return,
                Some(left_ms) => tokio::time::sleep(Duration::from_millis(left_ms)).await,
            }
        }
    }

    async fn stopped(&self, active: &AtomicU64, drain_ms: u64) {
        self.shared.stop.cancelled().await;
        let _ = tokio::time::timeout(Duration::from_millis(drain_ms), self.quiet(active, QUIET_MS)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now_ms = self.shared.now_ms();
        self.shared.bounds().close(now_ms, self.token, self.node);
    }
}

/// `node-…`, with or without a port: it names no host.
fn target(uri: &Uri) -> Result<NodeId, Refusal> {
    let named = uri.authority().map(http::uri::Authority::host).unwrap_or_default();
    named.parse().map_err(|error| {
        Refusal::new(Code::InvalidRequest, format!("CONNECT names a node, and nothing else: {error}"))
            .with("whose_move", "caller")
    })
}

fn chain(request: &Request<Body>) -> Result<Vec<u8>, Refusal> {
    let refuse = |code, said: &str| Refusal::new(code, said).with("whose_move", "caller");
    let mut lines = request.headers().get_all(header::TOKEN).iter();
    let line =
        lines.next().ok_or_else(|| refuse(Code::Unsigned, "show a token for the node in header comity-token"))?;
    let inner = line.to_str().ok().and_then(|text| text.strip_prefix(':')?.strip_suffix(':'));
    let chain = inner.and_then(|text| STANDARD.decode(text).ok()).filter(|_| lines.next().is_none());
    let chain = chain.ok_or_else(|| refuse(Code::Malformed, "header comity-token is not one ':base64:'"))?;
    if chain.len() > Chain::BYTES_MAX {
        return Err(refuse(Code::TooLarge, "the token with its blocks is larger than any may be"));
    }
    Ok(chain)
}

fn refused(full: Full, limits: &Limits) -> Refusal {
    let (code, limit, most, said) = match full {
        Full::Token => (Code::TooManyRequests, "token", limits.token.tunnels_max, "tunnels stand under this token"),
        Full::Rate => (Code::TooManyRequests, "rate", limits.token.bytes_per_s, "bytes a second are the token's share"),
        Full::Node => (Code::TooManyRequests, "node", limits.node.tunnels_max, "tunnels stand to this node"),
        Full::Total => (Code::Busy, "total", limits.total.tunnels_max, "tunnels stand at this hub"),
    };
    Refusal::new(code, format!("{most} {said}, and more it does not take"))
        .hint("use the connections you have, or wait until one is closed")
        .with("limit", limit)
        .with("limit_max", most)
        .with("whose_move", "caller")
        .retry_after_s(1)
}

#[cfg(test)]
mod tests;
