//! Connections for the pool: TCP with TLS and a judged key, straight or through a hub; or a Unix socket.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::relayed::{Through, Tunnel};
use crate::problem::RemoteError;
use crate::tls::{PeerCertificate, SERVER_NAME};

/// Why there is no connection. Clonable, so that it can be taken out of the pool's error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Io(#[source] Arc<io::Error>),
    /// Somebody answered, but not with an expected key.
    #[error("the server is not who it should be: {detail}")]
    WrongKey { detail: String },
    #[error("TLS failed: {detail}")]
    Tls { detail: String },
    #[error("no connection within {ms} ms")]
    Slow { ms: u64 },
    #[error("the door is closing")]
    Closing,
    /// No token at hand that a hub would take.
    #[error("no token to show to the hub: draw one for this node first")]
    NoPass,
    /// The hub answered, and does not connect.
    #[error("the hub does not connect: {0}")]
    Refused(#[source] Arc<RemoteError>),
}

impl ConnectError {
    /// Finds one in a chain of causes.
    pub(super) fn within(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            cause = error.source();
        }
        None
    }

    /// tokio-rustls hides rustls' errors in those of `io`.
    pub(super) fn of_handshake(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(reason))) => {
                Self::WrongKey { detail: reason.0.to_string() }
            }
            Some(rustls::Error::InvalidCertificate(reason)) => Self::WrongKey { detail: reason.to_string() },
            Some(other) => Self::Tls { detail: other.to_string() },
            None => Self::Io(Arc::new(error)),
        }
    }
}

/// Whether a chain of causes says that the connection ended under the call. What the other side said in order, and ended
/// on purpose, is not among them.
pub(super) fn was_lost(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let hyper = error.downcast_ref::<hyper::Error>();
        if hyper.is_some_and(|e| e.is_incomplete_message() || e.is_closed() || e.is_canceled())
            || error.is::<io::Error>()
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[derive(Clone)]
pub(super) enum Target {
    Tls(Arc<ClientConfig>),
    Relayed(Arc<Through>),
    Unix(PathBuf),
}

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) connect: Duration,
}

impl Connector {
    async fn open(self, uri: Uri) -> Result<Stream, ConnectError> {
        let io = |e| ConnectError::Io(Arc::new(e));
        let config = match self.target {
            Target::Unix(path) => return UnixStream::connect(path).await.map(Stream::Unix).map_err(io),
            Target::Relayed(through) => return through.open().await.map(|tls| Stream::Relayed(Box::new(tls))),
            Target::Tls(config) => config,
        };
        let host = uri.host().unwrap_or_default();
        let tls = over(config, tcp(host, uri.port_u16()).await?).await?;
        Ok(Stream::Tls(Box::new(tls)))
    }
}

/// A TCP connection that sends small frames at once.
pub(super) async fn tcp(host: &str, port: Option<u16>) -> Result<TcpStream, ConnectError> {
    let io = |e| ConnectError::Io(Arc::new(e));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((host, port.unwrap_or(443))).await.map_err(io)?;
    tcp.set_nodelay(true).map_err(io)?;
    Ok(tcp)
}

/// TLS over a stream, with the judgement of keys that the configuration has.
pub(super) async fn over<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    stream: S,
) -> Result<TlsStream<S>, ConnectError> {
    let name = ServerName::try_from(SERVER_NAME).expect("a constant that is a host name");
    TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::of_handshake)
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        async move {
            let connect = connector.connect;
            let ms = connect.as_millis() as u64;
            let open = tokio::time::timeout(connect, connector.open(uri)).await;
            open.unwrap_or(Err(ConnectError::Slow { ms })).map(TokioIo::new)
        }
        .boxed()
    }
}

pub(super) enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Relayed(Box<TlsStream<Tunnel>>),
    Unix(UnixStream),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let session = match self {
            Self::Tls(tls) => tls.get_ref().1,
            Self::Relayed(tls) => tls.get_ref().1,
            Self::Unix(_) => return Connected::new(),
        };
        let mut connected = Connected::new();
        if let Some(peer) = PeerCertificate::of_chain(session.peer_certificates()) {
            connected = connected.extra(peer);
        }
        if session.alpn_protocol() == Some(b"h2") { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
            Self::Relayed(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
            Self::Relayed(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Relayed(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(s) => s.is_write_vectored(),
            Self::Relayed(s) => s.is_write_vectored(),
            Self::Unix(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
            Self::Relayed(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
            Self::Relayed(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
