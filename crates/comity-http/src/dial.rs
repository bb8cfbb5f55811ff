//! The dialler for doors: HTTPS to whoever holds an expected key, over whichever of its addresses answers.
//!
//! HTTP/2 or HTTP/1.1 by ALPN, connections kept and shared by clones. Connecting and the response head are bounded in
//! time, a body is not: an answer may stream for long. An address is passed over only while nothing was sent.

mod call;
mod connector;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::tls::TrustedKeys;
use connector::{Connector, Target};

/// In the extensions of a response that came over TLS: the certificate the door showed.
pub use crate::tls::PeerCertificate;
pub use call::{CallError, collect};
pub use connector::ConnectError;

/// Where a node listens, and whose keys are to be found there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://host:port`, the preferred first; at most [`Endpoint::ADDRESSES_MAX`] are used.
    pub addresses: Vec<String>,
    pub trusted: TrustedKeys,
}

impl Endpoint {
    pub const ADDRESSES_MAX: usize = 8;
}

#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP and TLS together, per address.
    pub connect_ms_max: u64,
    /// From sending to the response head. A door sends it only when its upstream has answered.
    pub head_ms_max: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms_max: 10_000, head_ms_max: 600_000 }
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    #[error("'{address}' is not https://host:port")]
    Address { address: String },
    #[error("no address to dial")]
    NoAddress,
    /// Nothing was sent: the call may go elsewhere, or be made again.
    #[error("cannot connect to {address}")]
    Connect { address: String, source: ConnectError },
    /// Something may have been sent: only a call that can be repeated safely may be.
    #[error("no response from {address}")]
    Broken { address: String, source: legacy::Error },
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
    http: legacy::Client<Connector, Full<Bytes>>,
    scheme: Scheme,
    addresses: Arc<[Authority]>,
    /// The address that answered last.
    preferred: Arc<AtomicUsize>,
    timeouts: Timeouts,
}

const IDLE: Duration = Duration::from_secs(60);
const IDLE_PER_HOST_MAX: usize = 64;

impl Client {
    /// # Errors
    /// [`DialError::Address`], [`DialError::NoAddress`].
    pub fn new(endpoint: Endpoint) -> Result<Self, DialError> {
        Self::with_timeouts(endpoint, Timeouts::default())
    }

    /// # Errors
    /// As [`Client::new`].
    pub fn with_timeouts(endpoint: Endpoint, timeouts: Timeouts) -> Result<Self, DialError> {
        let kept = endpoint.addresses.iter().take(Endpoint::ADDRESSES_MAX);
        let addresses: Arc<[Authority]> = kept.map(|a| authority(a)).collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(DialError::NoAddress);
        }
        let target = Target::Tls(endpoint.trusted.client_config());
        Ok(Self::of(target, Scheme::HTTPS, addresses, timeouts))
    }

    /// A client of an admin socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let name = Authority::from_static("admin.comity.invalid");
        Self::of(Target::Unix(path.into()), Scheme::HTTP, Arc::from([name]), Timeouts::default())
    }

    fn of(target: Target, scheme: Scheme, addresses: Arc<[Authority]>, timeouts: Timeouts) -> Self {
        let connector = Connector { target, connect: Duration::from_millis(timeouts.connect_ms_max) };
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .build(connector);
        Self { http, scheme, addresses, preferred: Arc::default(), timeouts }
    }

    /// Sends a request whose URI is a path and query, and waits for the response head. Dropping the future, or the
    /// body of the response, cancels the call at the door.
    ///
    /// # Errors
    /// [`DialError`]; an answer of any status is not one.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, DialError> {
        let (parts, body) = request.into_parts();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut refused = DialError::NoAddress;
        for turn in 0..self.addresses.len() {
            let index = (first + turn) % self.addresses.len();
            let mut request = Request::from_parts(parts.clone(), body.clone());
            *request.uri_mut() = self.uri(index, &parts.uri)?;
            match self.send(index, request).await {
                Ok(response) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(error @ DialError::Connect { .. }) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    async fn send(&self, index: usize, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, DialError> {
        let address = || self.addresses[index].to_string();
        let ms = self.timeouts.head_ms_max;
        let sent = tokio::time::timeout(Duration::from_millis(ms), self.http.request(request)).await;
        match sent {
            Err(_) => Err(DialError::Slow { address: address(), ms }),
            Ok(Err(source)) => Err(match ConnectError::within(&source) {
                Some(source) => DialError::Connect { address: address(), source },
                None => DialError::Broken { address: address(), source },
            }),
            Ok(Ok(response)) => Ok(response),
        }
    }

    fn uri(&self, index: usize, target: &Uri) -> Result<Uri, DialError> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.addresses[index].clone());
        parts.path_and_query = Some(target.path_and_query().cloned().unwrap_or_else(|| "/".parse().expect("a path")));
        Uri::from_parts(parts).map_err(|e| DialError::Request { detail: e.to_string() })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn authority(address: &str) -> Result<Authority, DialError> {
    let wrong = || DialError::Address { address: address.to_owned() };
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let plain = uri.scheme() == Some(&Scheme::HTTPS) && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|a| plain && !a.as_str().contains('@')).ok_or_else(wrong)?;
    Ok(authority.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_addresses_without_path_user_or_query_are_dialled() {
        let client = |address: &str| {
            Client::new(Endpoint { addresses: vec![address.into()], trusted: TrustedKeys::Exactly(vec![]) }).is_ok()
        };
        assert!(client("https://127.0.0.1:8443"));
        assert!(client("https://[::1]:8443/"));
        assert!(client("https://door.example.org"));
        for wrong in ["http://127.0.0.1:1", "127.0.0.1:1", "https://a/b", "https://u@a", "https://a/?q", "", "https://"]
        {
            assert!(!client(wrong), "{wrong}");
        }
        let none = Client::new(Endpoint { addresses: vec![], trusted: TrustedKeys::Exactly(vec![]) });
        assert!(matches!(none, Err(DialError::NoAddress)));
    }
}
