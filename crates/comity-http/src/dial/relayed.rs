//! A connection through a hub: `CONNECT <node>` within TLS to the hub, and within that TLS to the node.
//!
//! The hub sees a token, the node's id and how many bytes pass; what they say it cannot see, since the node's own key
//! ends the inner TLS (spec/09-http.md §9.7).

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use comity_token::request::header;
use comity_wire::{NodeId, SecretKey, Timestamp};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio_rustls::client::TlsStream;

use super::connector::{ConnectError, over, tcp};
use super::{DialError, parse};
use crate::problem::RemoteError;
use crate::signed;
use crate::tls::TrustedKeys;

/// A hub that a node dials, and what to show there.
#[derive(Clone)]
pub struct Relay {
    /// The hub's HTTPS doors.
    pub addresses: Vec<String>,
    pub trusted: TrustedKeys,
    /// Whom to be connected to.
    pub node: NodeId,
    /// Asked for each connection; `None` where the caller has no token for the node.
    pub pass: Arc<dyn Fn() -> Option<Pass> + Send + Sync>,
}

/// A token for the node, and the key of its leaf.
#[derive(Clone)]
pub struct Pass {
    pub chain: Vec<u8>,
    pub key: SecretKey,
    /// The caller's clock: the hub takes no call that was signed more than a minute ago.
    pub now: Timestamp,
}

/// A relay, ready to connect.
pub(super) struct Through {
    hub: Vec<Authority>,
    outer: Arc<ClientConfig>,
    inner: Arc<ClientConfig>,
    relay: Relay,
}

/// What the hub copies.
pub(super) type Tunnel = TokioIo<Upgraded>;

const REFUSAL_BYTES_MAX: usize = 64 << 10;

impl Relay {
    /// What the node is called in the inner requests: its id.
    pub(super) fn authority(&self) -> Authority {
        self.node.to_string().parse().expect("an id fits a host name")
    }

    pub(super) fn through(self, inner: Arc<ClientConfig>) -> Result<Through, DialError> {
        let hub: Vec<_> = self.addresses.iter().map(|a| parse(a).map(|(_, at)| at)).collect::<Result<_, _>>()?;
        let mut outer = self.trusted.client_config().as_ref().clone();
        // A tunnel takes a connection of its own.
        outer.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut inner = inner.as_ref().clone();
        // One tunnel carries all calls.
        inner.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Through { hub, outer: Arc::new(outer), inner: Arc::new(inner), relay: self })
    }
}

impl Through {
    pub(super) async fn open(&self) -> Result<TlsStream<Tunnel>, ConnectError> {
        let mut refused = ConnectError::NoPass;
        for hub in &self.hub {
            match self.tunnel(hub).await {
                Ok(tunnel) => return over(Arc::clone(&self.inner), tunnel).await,
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn tunnel(&self, hub: &Authority) -> Result<Tunnel, ConnectError> {
        let request = self.request()?;
        let tls = over(Arc::clone(&self.outer), tcp(hub.host(), hub.port_u16()).await?).await?;
        let failed = |error: hyper::Error| ConnectError::Io(Arc::new(std::io::Error::other(error)));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(failed)?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status() == StatusCode::OK {
            return hyper::upgrade::on(response).await.map(TokioIo::new).map_err(failed);
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await.map(|whole| whole.to_bytes());
        let said = RemoteError::read(parts.status.as_u16(), &parts.headers, &body.unwrap_or_default());
        Err(ConnectError::Refused(Arc::new(said)))
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, ConnectError> {
        let Pass { chain, key, now } = (self.relay.pass)().ok_or(ConnectError::NoPass)?;
        // Signed as if it had the path `/`, since CONNECT has none (RFC 9421 §2.2.6).
        let mut request =
            Request::builder().method(Method::CONNECT).body(Full::default()).expect("a method and no more");
        signed::sign(&mut request, &[], &key, now);
        let target: Authority = format!("{}:443", self.relay.node).parse().expect("an id fits a host name");
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(target.as_str()).expect("a host name fits a header");
        let token = HeaderValue::from_str(&format!(":{}:", STANDARD.encode(chain))).expect("base64 fits a header");
        headers.insert(http::header::HOST, host);
        headers.insert(header::TOKEN, token);
        *request.uri_mut() = Uri::builder().authority(target).build().expect("an authority is a target");
        Ok(request)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("node", &self.node).field("hub", &self.addresses).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass")
    }
}
