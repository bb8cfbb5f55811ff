//! The accept loop of every door: TLS, limits, and a drain that lets running requests finish.
//!
//! Each connection is a tracked task that hears one cancellation token. A client that half-closes is a client that has
//! gone (`half_close(false)`): hyper then drops the service future, so what must outlive it runs in a task of its own.

mod connection;
mod listen;
mod peers;
mod preface;
mod quic;
mod unread;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::Connection;
pub use connection::{Peer, RequestId};
pub use listen::{BindError, Passed};
use listen::{Listener, SocketFile};
use peers::Peers;
pub use quic::{QuicError, QuicServer};

/// What strangers may take up. Each bound has a default that a small door can live with.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Above it new connections wait in the kernel's backlog.
    pub connections_max: usize,
    /// Connections of one address (of one /64 in IPv6); one more is closed at once. Behind a proxy all have its address.
    pub connections_per_peer_max: usize,
    pub handshake_ms_max: u64,
    /// From the first wait for a head to its last byte; an idle HTTP/1.1 connection is closed by it too.
    pub header_read_ms_max: u64,
    pub header_bytes_max: usize,
    pub headers_max: usize,
    /// HTTP/2 and QUIC: requests at once on a connection.
    pub streams_max: u32,
    /// After the stop signal: how long running requests may take before they are cut.
    pub drain_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            connections_per_peer_max: 1_024,
            handshake_ms_max: 10_000,
            header_read_ms_max: 75_000,
            header_bytes_max: 64 << 10,
            headers_max: 64,
            streams_max: 256,
            drain_ms_max: 30_000,
        }
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut at the deadline.
    pub abandoned: usize,
}

/// A bound listener, not yet accepting.
pub struct Server {
    listener: Listener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// How long to wait when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// A door: HTTPS, HTTP/1.1 and 2. Port 0 picks one.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(address: SocketAddr, tls: Arc<ServerConfig>, limits: Limits) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::tcp(address).await?, tls: Some(tls), limits })
    }

    /// Plain HTTP/1.1, on loopback only.
    ///
    /// # Errors
    /// [`BindError::NotLoopback`] for any other address.
    pub async fn bind_plain(address: SocketAddr, limits: Limits) -> Result<Self, BindError> {
        if !address.ip().is_loopback() {
            return Err(BindError::NotLoopback { address });
        }
        Ok(Self { listener: Listener::tcp(address).await?, tls: None, limits })
    }

    /// Plain HTTP/1.1 on a Unix socket of mode 0600: whoever may open it is the operator. A socket that nobody listens
    /// on any more is replaced; one that answers is not.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind_unix(path: &Path, limits: Limits) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::unix(path)?, tls: None, limits })
    }

    /// The same door for calls that hubs pass on: TLS with the node's own key runs on each stream, so a hub sees nothing.
    pub fn of_passed(streams: Passed, tls: Arc<ServerConfig>, limits: Limits) -> Self {
        Self { listener: Listener::Passed(streams), tls: Some(tls), limits }
    }

    /// The bound address; `None` on a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.address()
    }

    /// `https://host:port` or `http://host:port`, as a client writes it.
    pub fn url(&self) -> Option<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.address().map(|address| format!("{scheme}://{address}"))
    }

    /// Serves until `stop` is cancelled, then takes no more connections, lets running requests finish within
    /// `drain_ms_max`, and cuts what is left. Dropping the future cuts everything at once.
    pub async fn run(self, router: Router, stop: CancellationToken) -> Drained {
        let Self { mut listener, tls, limits } = self;
        let (tracker, cut) = (TaskTracker::new(), CancellationToken::new());
        let _cut_on_drop = cut.clone().drop_guard();
        let room = Arc::new(Semaphore::new(limits.connections_max));
        let abandoned = Arc::new(AtomicUsize::new(0));
        let peers = Peers::new(limits.connections_per_peer_max);
        let connection = Connection { tls, limits, router, stop: stop.clone(), cut: cut.clone() };
        while let Some(accepted) = or_stop(&stop, accept(&mut listener, &room)).await {
            let (permit, socket) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: those that run will give some back.
                    tracing::warn!(%error, "accept failed");
                    let _ = or_stop(&stop, tokio::time::sleep(ACCEPT_PAUSE)).await;
                    continue;
                }
            };
            let counted = match &socket {
                listen::Socket::Tcp(_, address) => {
                    let Some(counted) = peers.enter(address.ip()) else {
                        tracing::debug!(%address, "one address has as many connections as it may");
                        continue;
                    };
                    Some(counted)
                }
                // A hub bounds those that it passes on (spec/09-http.md §9.7).
                listen::Socket::Unix(_) | listen::Socket::Passed(..) => None,
            };
            let (connection, abandoned) = (connection.clone(), abandoned.clone());
            tracker.spawn(async move {
                if !connection.serve(socket).await {
                    abandoned.fetch_add(1, Ordering::Relaxed);
                }
                drop((permit, counted));
            });
        }
        let _socket: Option<SocketFile> = listener.close();
        tracker.close();
        let drained = tokio::time::timeout(Duration::from_millis(limits.drain_ms_max), tracker.wait()).await;
        if drained.is_err() {
            cut.cancel();
            tracker.wait().await;
        }
        Drained { abandoned: abandoned.load(Ordering::Relaxed) }
    }
}

type Accepted = (tokio::sync::OwnedSemaphorePermit, listen::Socket);

async fn accept(listener: &mut Listener, room: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
    Ok((permit, listener.accept().await?))
}

async fn or_stop<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

#[cfg(test)]
mod tests;
