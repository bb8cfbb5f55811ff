//! One connection: handshake, protocol, requests, end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use comity_wire::NodeId;
use http::{HeaderName, HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Limits;
use super::listen::Socket;
use super::preface::Prefaced;
use super::unread::lingering;

/// Who is at the other end; in each request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Quic(SocketAddr),
    /// Somebody whose call this hub passed on.
    Relayed(NodeId),
    /// Somebody who may open the socket's file: the operator.
    Unix,
}

/// The request's id, as in `x-request-id` of its reply; in each request's extensions, for spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

#[derive(Clone)]
pub(super) struct Connection {
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) limits: Limits,
    pub(super) router: Router,
    pub(super) stop: CancellationToken,
    pub(super) cut: CancellationToken,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Connection {
    /// Serves it to its end. `false` where it was cut at the drain's deadline.
    pub(super) async fn serve(self, socket: Socket) -> bool {
        let (stream, peer) = match socket {
            Socket::Unix(stream) => return self.http(stream, Peer::Unix, Protocol::Http1).await,
            Socket::Passed(stream, hub) => return self.secured(stream, Peer::Relayed(hub)).await,
            Socket::Tcp(stream, address) => (stream, Peer::Tcp(address)),
        };
        // Each frame of a stream leaves at once.
        let _ = stream.set_nodelay(true);
        self.secured(stream, peer).await
    }

    async fn secured(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) -> bool {
        let Some(tls) = self.tls.clone() else { return self.http(stream, peer, Protocol::Http1).await };
        let handshake = TlsAcceptor::from(tls).accept(stream);
        let within = Duration::from_millis(self.limits.handshake_ms_max);
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return true,
            shaken = tokio::time::timeout(within, handshake) => shaken,
        };
        let Ok(Ok(stream)) = shaken else {
            tracing::debug!(?peer, "no TLS handshake");
            return true;
        };
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        self.http(stream, peer, protocol).await
    }

    /// One request of HTTP/1.1 and its reply. `false` where it was cut.
    pub(super) async fn one_exchange(self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) -> bool {
        let router = self.router;
        let service = service_fn(move |request| answer(router.clone(), request, peer));
        let mut builder = http1(&self.limits);
        let exchange = builder.keep_alive(false).serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            ended = exchange => logged(ended, peer),
            () = self.cut.cancelled() => false,
        }
    }

    async fn http(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        protocol: Protocol,
    ) -> bool {
        let router = self.router;
        let service = service_fn(move |request| answer(router.clone(), request, peer));
        match protocol {
            Protocol::Http1 => {
                let connection = http1(&self.limits).serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection.with_upgrades());
                tokio::select! {
                    ended = connection.as_mut() => return logged(ended, peer),
                    () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
                    () = self.cut.cancelled() => return false,
                }
                tokio::select! {
                    ended = connection => logged(ended, peer),
                    () = self.cut.cancelled() => false,
                }
            }
            Protocol::Http2 => {
                let stream = Prefaced::new(stream, Duration::from_millis(self.limits.header_read_ms_max));
                let mut connection = pin!(http2(&self.limits).serve_connection(TokioIo::new(stream), service));
                tokio::select! {
                    ended = connection.as_mut() => return logged(ended, peer),
                    () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
                    () = self.cut.cancelled() => return false,
                }
                tokio::select! {
                    ended = connection => logged(ended, peer),
                    () = self.cut.cancelled() => false,
                }
            }
        }
    }
}

/// Known before the first byte, by ALPN or by the kind of socket. hyper-util's `auto` would read the first bytes
/// itself, with no timeout on them, even where it is told which protocol to expect.
#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

fn http1(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .half_close(false)
        .header_read_timeout(Duration::from_millis(limits.header_read_ms_max))
        .max_buf_size(limits.header_bytes_max.max(HYPER_BUF_BYTES_MIN))
        .max_headers(limits.headers_max);
    builder
}

/// hyper takes no smaller buffer.
const HYPER_BUF_BYTES_MIN: usize = 8 << 10;

fn http2(limits: &Limits) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn answer(router: Router, mut request: Request<Incoming>, peer: Peer) -> Result<Response, Infallible> {
    let id = request_id();
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = router.oneshot(lingering(request)).await?;
    let id = HeaderValue::from_str(&id).expect("hexadecimal digits fit a header");
    response.headers_mut().entry(REQUEST_ID).or_insert(id);
    Ok(response)
}

fn request_id() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    format!("req-{:016x}", u64::from_be_bytes(bytes))
}

fn logged(ended: Result<(), hyper::Error>, peer: Peer) -> bool {
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "connection ended");
    }
    true
}
