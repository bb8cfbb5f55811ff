//! A door of somebody else's: a node's, a hub's, the house's. Trusted by key, found by address.

use base64::Engine as _;
use bytes::Bytes;
use comity_http::dial::{self, CallError, ConnectError, Relay, Timeouts};
use comity_http::{DialError, Endpoint, RemoteError, TrustedKeys};
use comity_token::request::header;
use comity_wire::object::DoorKind;
use comity_wire::{Code, Digest, PublicKey, SecretKey, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{Error, World};

/// A door that can be knocked at. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Door {
    client: dial::Client,
    name: String,
}

/// Why a door gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("cannot reach {name}")]
    Dial { name: String, source: DialError },
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    #[error("{name} answered with something else than was asked for")]
    Form { name: String, source: serde_json::Error },
}

/// What a door said instead of an answer.
#[derive(Debug)]
pub struct Refusal {
    pub message: String,
    pub remote: RemoteError,
    /// A stored receipt that came with it, `:base64:`.
    pub receipt: Option<String>,
    /// Headers for whoever asked ([`crate::chat::for_the_caller`]).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The same bytes went before, over a connection that died: what is said of these is not said of those.
    pub repeated: bool,
}

/// An accepted call's answer, still to be read.
#[derive(Debug)]
pub struct Response {
    inner: http::Response<Incoming>,
    name: String,
}

/// The most of an answer that is read whole.
const BODY_BYTES_MAX: usize = 16 << 20;

impl Door {
    /// # Errors
    /// [`DoorError::Dial`] where an address is none.
    pub fn new(addresses: Vec<String>, keys: Vec<PublicKey>) -> Result<Self, DoorError> {
        Self::through(addresses, keys, Vec::new())
    }

    /// A door with hubs to go through where none of the addresses can be reached.
    ///
    /// # Errors
    /// As [`Door::new`].
    pub fn through(addresses: Vec<String>, keys: Vec<PublicKey>, relays: Vec<Relay>) -> Result<Self, DoorError> {
        let relayed = || relays.first().map(|relay| relay.node.to_string());
        let name = addresses.first().cloned().or_else(relayed);
        let name = name.unwrap_or_else(|| "a door without an address".to_owned());
        let trusted = TrustedKeys::Exactly(keys.iter().map(|key| *key.as_bytes()).collect());
        let client = dial::Client::with(Endpoint { addresses, trusted }, relays, Timeouts::default());
        Ok(Self { client: client.map_err(|source| DoorError::Dial { name: name.clone(), source })?, name })
    }

    /// The same, by what it is to whoever reads that it cannot be reached.
    #[must_use]
    pub fn called(self, who: &str) -> Self {
        Self { name: format!("{who} at {}", self.name), ..self }
    }

    /// `GET`, unsigned.
    ///
    /// # Errors
    /// [`Error::Door`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        Ok(self.client.call(Method::GET, path, None::<&()>).await.map_err(|error| self.failed(error))?)
    }

    /// `POST` of an object that carries its own signature.
    ///
    /// # Errors
    /// [`Error::Door`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        Ok(self.client.call(Method::POST, path, Some(body)).await.map_err(|error| self.failed(error))?)
    }

    /// `POST`, signed with `key` (tag `comity-api-v1`).
    ///
    /// # Errors
    /// [`Error::Door`].
    pub async fn post_signed<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &SecretKey,
        world: &World,
    ) -> Result<T, Error> {
        let called = self.client.call_signed(Method::POST, path, Some(body), key, (world.clock)()).await;
        Ok(called.map_err(|error| self.failed(error))?)
    }

    /// `GET`, signed with `key`.
    ///
    /// # Errors
    /// [`Error::Door`].
    pub async fn get_signed<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &SecretKey,
        world: &World,
    ) -> Result<T, Error> {
        self.get_signed_at(path, key, (world.clock)()).await
    }

    /// `GET`, signed with `key` at a moment of the caller's choice.
    ///
    /// # Errors
    /// [`Error::Door`].
    pub(crate) async fn get_signed_at<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &SecretKey,
        created: Timestamp,
    ) -> Result<T, Error> {
        let called = self.client.call_signed(Method::GET, path, None::<&()>, key, created).await;
        Ok(called.map_err(|error| self.failed(error))?)
    }

    /// The bytes of an object by its digest.
    ///
    /// # Errors
    /// [`Error::Door`].
    pub async fn frame(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = format!("/comity/v1/frames/{digest}");
        let response = self.send(Method::GET, &path, Vec::new(), Bytes::new()).await?;
        Ok(response.bytes().await?)
    }

    /// Sends as it is. Anything but 2xx is a refusal.
    ///
    /// # Errors
    /// [`DoorError`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    ) -> Result<Response, DoorError> {
        let request = |detail: String| self.dial(DialError::Request { detail });
        let mut built =
            Request::builder().method(method).uri(path).body(Full::new(body)).map_err(|e| request(e.to_string()))?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(&value).map_err(|error| request(error.to_string()))?;
            built.headers_mut().insert(HeaderName::from_static(name), value);
        }
        if built.headers().contains_key(header::SEQ) {
            // Charged once, however often these bytes come (rule 2).
            built.extensions_mut().insert(dial::Repeatable);
        }
        let response = self.client.request(built).await.map_err(|source| self.dial(source))?;
        if response.status().is_success() {
            return Ok(Response { inner: response, name: self.name.clone() });
        }
        let whole = dial::collect(response, BODY_BYTES_MAX).await.map_err(|source| self.dial(source))?;
        let receipt = whole.headers().get(header::RECEIPT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let remote = RemoteError::read(whole.status().as_u16(), whole.headers(), whole.body());
        let mut refusal = refusal(remote);
        refusal.receipt = receipt;
        refusal.headers = crate::chat::for_the_caller(whole.headers());
        refusal.repeated = whole.extensions().get::<dial::Repeated>().is_some();
        Err(DoorError::Refused(refusal))
    }

    fn dial(&self, source: DialError) -> DoorError {
        DoorError::Dial { name: self.name.clone(), source }
    }

    fn failed(&self, error: CallError) -> DoorError {
        match error {
            CallError::Dial(source) => self.dial(source),
            CallError::Remote(remote) => DoorError::Refused(refusal(remote)),
            CallError::Answer { source, .. } => DoorError::Form { name: self.name.clone(), source },
        }
    }
}

fn refusal(remote: RemoteError) -> Box<Refusal> {
    let message = match &remote.hint {
        Some(hint) => format!("{}: {} ({hint})", remote.code, remote.message),
        None => format!("{}: {}", remote.code, remote.message),
    };
    Box::new(Refusal { message, remote, receipt: None, headers: Vec::new(), repeated: false })
}

impl DoorError {
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => refusal.remote.known_code(),
            _ => None,
        }
    }

    /// Whether the other side said a clear no: nothing was charged, or it would have shown the receipt. Its own failures
    /// are none: they may have come after the charge.
    pub fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| !matches!(code, Code::InFlight | Code::Internal | Code::StoreUnavailable))
    }

    /// Whether what it answers had been sent before.
    pub fn is_of_a_repeat(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.repeated)
    }

    /// Whether the only way there was through a hub, and there was no token to show to it.
    pub fn is_without_pass(&self) -> bool {
        matches!(self, Self::Dial { source: DialError::Connect { source: ConnectError::NoPass, .. }, .. })
    }

    /// Whether nothing has left this machine.
    pub fn is_unsent(&self) -> bool {
        let unsent = |source: &DialError| {
            matches!(source, DialError::Connect { .. } | DialError::Address { .. } | DialError::NoAddress)
        };
        matches!(self, Self::Dial { source, .. } if unsent(source))
    }

    pub fn receipt(&self) -> Option<Vec<u8>> {
        let Self::Refused(refusal) = self else { return None };
        let text = refusal.receipt.as_deref()?.strip_prefix(':')?.strip_suffix(':')?;
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    }
}

impl Response {
    /// Which door it came by: QUIC, HTTPS, or through a hub.
    pub fn door(&self) -> Option<DoorKind> {
        self.inner.extensions().get().copied()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`DoorError`] where it breaks off or is larger than 16 MiB.
    pub async fn bytes(self) -> Result<Vec<u8>, DoorError> {
        let name = self.name;
        let whole = dial::collect(self.inner, BODY_BYTES_MAX).await;
        Ok(whole.map_err(|source| DoorError::Dial { name, source })?.into_body().to_vec())
    }

    /// The next piece of the body; `None` at its end. Safe to drop.
    ///
    /// # Errors
    /// [`DoorError`] where it breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, DoorError> {
        loop {
            match self.inner.body_mut().frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(source)) => {
                    let source = DialError::Body { address: self.name.clone(), source };
                    return Err(DoorError::Dial { name: self.name.clone(), source });
                }
            }
        }
    }
}
