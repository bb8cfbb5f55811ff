//! The QUIC door: the same router as behind HTTPS, one HTTP/1.1 exchange on each bidirectional stream.
//!
//! The node shows its bare transport key. No early data, so nothing can be replayed; a caller's request signature is its
//! only authority. Limits and drain are those of the HTTPS door.

mod restart;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Peer};
use super::peers::Peers;
use super::{BindError, Drained, Limits, or_stop};
use crate::quic::{DONE, End, Exchange, NOT_TAKEN};
use crate::tls::{Identity, IdentityError};

/// A bound QUIC door, not yet accepting.
#[derive(Debug)]
pub struct QuicServer {
    endpoint: Endpoint,
    address: SocketAddr,
    limits: Limits,
}

/// Why there is no QUIC door.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A caller says every four seconds that it is there (`KEEP_ALIVE`).
const SILENCE: Duration = Duration::from_secs(6);
/// How long the last acknowledgements may take once everything was sent.
const FAREWELL: Duration = Duration::from_secs(1);

impl QuicServer {
    /// Port 0 picks one. Within a tokio runtime.
    ///
    /// # Errors
    /// [`QuicError`].
    pub fn bind(address: SocketAddr, identity: &Identity, limits: Limits) -> Result<Self, QuicError> {
        let crypto = QuicServerConfig::try_from(identity.raw_key_config()?).expect("TLS 1.3 has QUIC's first cipher");
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(End::Door { streams_max: limits.streams_max }.transport()))
            .max_incoming(limits.connections_max);
        let bound = std::net::UdpSocket::bind(address).and_then(|socket| {
            let at = socket.local_addr()?;
            let stable = restart::endpoint_config(identity, at.port());
            Ok((Endpoint::new(stable, Some(config), socket, Arc::new(TokioRuntime))?, at))
        });
        let (endpoint, address) = bound.map_err(|source| BindError::Udp { address, source })?;
        Ok(Self { endpoint, address, limits })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `quic://host:port`, as a client writes it.
    pub fn url(&self) -> String {
        format!("quic://{}", self.address)
    }

    /// Serves until `stop` is cancelled, then begins with nothing new, lets running requests finish within
    /// `drain_ms_max`, and cuts what is left. Dropping the future cuts everything at once.
    pub async fn run(self, router: Router, stop: CancellationToken) -> Drained {
        let Self { endpoint, limits, .. } = self;
        let (tracker, cut) = (TaskTracker::new(), CancellationToken::new());
        let _cut_on_drop = cut.clone().drop_guard();
        let room = Arc::new(Semaphore::new(limits.connections_max));
        let abandoned = Arc::new(AtomicUsize::new(0));
        let peers = Peers::new(limits.connections_per_peer_max);
        let connection = Connection { tls: None, limits, router, stop: stop.clone(), cut: cut.clone() };
        while let Some(Some(incoming)) = or_stop(&stop, endpoint.accept()).await {
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                // A datagram has no backlog to wait in: the caller hears of it at once, and goes by HTTPS.
                incoming.refuse();
                continue;
            };
            // Half full: who asks shows first that it is where it says, for a packet instead of a handshake.
            let is_busy = room.available_permits() < limits.connections_max / 2;
            if is_busy && !incoming.remote_address_validated() && incoming.may_retry() {
                let _ = incoming.retry();
                continue;
            }
            let Some(counted) = peers.enter(incoming.remote_address().ip()) else {
                incoming.refuse();
                continue;
            };
            let (connection, abandoned) = (connection.clone(), Arc::clone(&abandoned));
            tracker.spawn(async move {
                if !serve(connection, incoming).await {
                    abandoned.fetch_add(1, Ordering::Relaxed);
                }
                drop((permit, counted));
            });
        }
        endpoint.set_server_config(None);
        tracker.close();
        let drained = tokio::time::timeout(Duration::from_millis(limits.drain_ms_max), tracker.wait()).await;
        if drained.is_err() {
            cut.cancel();
            tracker.wait().await;
        }
        endpoint.close(DONE, b"");
        let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
        Drained { abandoned: abandoned.load(Ordering::Relaxed) }
    }
}

/// One connection to its end. `false` where a request of it was cut at the drain's deadline.
async fn serve(shared: Connection, incoming: Incoming) -> bool {
    let peer = Peer::Quic(incoming.remote_address());
    let within = Duration::from_millis(shared.limits.handshake_ms_max);
    let shaken = async { tokio::time::timeout(within, incoming.accept().ok()?).await.ok()?.ok() };
    let Some(Some(connection)) = or_stop(&shared.stop, shaken).await else {
        tracing::debug!(?peer, "no QUIC handshake");
        return true;
    };
    let (requests, cut_off) = (TaskTracker::new(), Arc::new(AtomicUsize::new(0)));
    while let Some(Ok(stream)) = or_stop(&shared.stop, connection.accept_bi()).await {
        let (shared, cut_off, connection) = (shared.clone(), Arc::clone(&cut_off), connection.clone());
        requests.spawn(async move {
            if !exchange(shared, &connection, stream, peer).await {
                cut_off.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    requests.close();
    let turn_away = async {
        // Said at once, and in a way that tells the caller that nothing was done.
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            let _ = send.reset(NOT_TAKEN);
            let _ = receive.stop(NOT_TAKEN);
        }
    };
    tokio::select! {
        () = requests.wait() => {}
        () = async { turn_away.await; requests.wait().await } => {}
    }
    connection.close(DONE, b"");
    cut_off.load(Ordering::Relaxed) == 0
}

/// One request and its reply, until the caller has all of it. `false` where it was cut.
async fn exchange(
    shared: Connection,
    connection: &quinn::Connection,
    (send, receive): (SendStream, RecvStream),
    peer: Peer,
) -> bool {
    let delivered = send.stopped();
    let (cut, stop) = (shared.cut.clone(), shared.stop.clone());
    if !shared.one_exchange(Exchange::new(send, receive), peer).await {
        return false;
    }
    // The connection is closed after the last exchange: not before what was written has arrived.
    tokio::select! {
        _ = delivered => true,
        () = cut.cancelled() => false,
        // All was said, and nobody is there to have it: a door that goes does not wait until the connection is idle for good.
        () = async { stop.cancelled().await; silent(connection).await } => true,
    }
}

/// Comes back once nothing came for longer than a caller that lives lets pass.
async fn silent(connection: &quinn::Connection) {
    let mut heard = connection.stats().udp_rx.datagrams;
    loop {
        tokio::time::sleep(SILENCE).await;
        let now = connection.stats().udp_rx.datagrams;
        if now == heard {
            return;
        }
        heard = now;
    }
}

#[cfg(test)]
mod tests;
