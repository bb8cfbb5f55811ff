//! The line to a server: hyper by itself where the server speaks plain HTTP, as it does beside its node; reqwest where there
//! is TLS, a proxy or a socket (docs/decisions/0100).

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

#[derive(Debug)]
pub(super) enum Line {
    Plain { http: Box<legacy::Client<HttpConnector, Full<Bytes>>>, headers: HeaderMap },
    Any(reqwest::Client),
}

/// Connections without a call that are kept, and for how long.
pub(super) const POOL_IDLE_PER_HOST_MAX: usize = 64;
const POOL_IDLE_MAX: Duration = Duration::from_secs(90);
/// A peer that is gone without a word is noticed: probed after this much silence, and again, so many times.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(super) struct Broken {
    /// Nothing was sent: no connection came about.
    pub(super) unreachable: bool,
    pub(super) detail: String,
}

/// An answer whose head has come.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Body,
}

enum Body {
    Plain(Incoming),
    Any(reqwest::Body),
}

impl Line {
    /// `headers` go with each request.
    pub(super) fn plain(connect_max: Duration, headers: HeaderMap) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(connect_max));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE));
        connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_MAX)
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST_MAX)
            .build(connector);
        Self::Plain { http: Box::new(http), headers }
    }

    /// # Errors
    /// [`Broken`].
    pub(super) async fn send(&self, mut request: Request<Bytes>) -> Result<Answered, Broken> {
        request.headers_mut().entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        match self {
            Self::Plain { http, headers } => {
                let own = request.headers_mut();
                for (name, value) in headers {
                    own.entry(name).or_insert_with(|| value.clone());
                }
                let sent = http.request(request.map(Full::new)).await;
                let (head, body) = sent.map_err(|e| Broken::new(e.is_connect(), &e))?.into_parts();
                Ok(Answered { status: head.status, headers: head.headers, body: Body::Plain(body) })
            }
            Self::Any(http) => {
                let request = reqwest::Request::try_from(request).map_err(|e| Broken::new(true, &e))?;
                let sent = http.execute(request).await.map_err(|e| Broken::new(e.is_connect(), &e))?;
                let (head, body) = http::Response::<reqwest::Body>::from(sent).into_parts();
                Ok(Answered { status: head.status, headers: head.headers, body: Body::Any(body) })
            }
        }
    }
}

impl Answered {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`Broken`]: it ended within a chunk, or before the length it was to have.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let frame = match &mut self.body {
                Body::Plain(body) => body.frame().await.map(|read| read.map_err(|e| Broken::new(false, &e))),
                Body::Any(body) => body.frame().await.map(|read| read.map_err(|e| Broken::new(false, &e))),
            };
            let Some(frame) = frame.transpose()? else { return Ok(None) };
            // What is no data is trailers, which say nothing here.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl Broken {
    fn new(unreachable: bool, error: &dyn Error) -> Self {
        Self { unreachable, detail: chain(error) }
    }
}

/// With its causes: an error's own message leaves them to `source`.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
