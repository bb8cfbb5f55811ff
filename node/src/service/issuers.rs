//! The wire to OpenID providers that a house believes: HTTPS with the certificates of the web; plain HTTP to loopback alone.
//!
//! Nothing is sent before somebody logs in. Redirects are not followed, so that a client's password goes where the metadata says.

use std::sync::Arc;
use std::time::Duration;

use comity_clearing::Clearing;
use comity_clearing::persons::Issuer;
use comity_clearing::persons::oidc::{Client, Line, REPLY_BYTES_MAX, Secret, Unreached};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::settings::{HOUSE_FILE, secret_of};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Has the house believe these issuers. Does nothing where there are none.
///
/// # Errors
/// [`Failure`] naming the issuer that is not well described, or whose secret cannot be read.
pub(super) fn believe(issuers: Vec<Issuer>, home: &Home, house: &Clearing) -> Result<(), Failure> {
    if issuers.is_empty() {
        return Ok(());
    }
    let is_plain = issuers.iter().all(|issuer| issuer.issuer.starts_with("http://"));
    let client = |issuer: Issuer| {
        let secret = issuer.client_secret_file.as_deref().map(|file| secret_of(home, file)).transpose()?;
        Ok(Client { issuer, secret: secret.map(Secret) })
    };
    let clients = issuers.into_iter().map(client).collect::<Result<Vec<_>, Failure>>()?;
    let line = Arc::new(Web::open(is_plain)?);
    house.believe(clients, line).map_err(|error| {
        Failure::new(format!("{HOUSE_FILE}: {error}"))
            .hint("docs/operating/persons.md shows [[issuer]] for several providers")
    })
}

struct Web(reqwest::Client);

impl Web {
    fn open(is_plain: bool) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("comity/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(CALL_TIME_MAX);
        if is_plain {
            // No TLS will be spoken, so a machine without a system trust store will do.
            builder = builder.no_proxy().tls_certs_only([]);
        }
        Ok(Self(builder.build().while_("no HTTP client for issuers")?))
    }

    async fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Unreached> {
        // Where it was to go may be in what went wrong; a code may be in that.
        let unreached = |error: reqwest::Error| Unreached { what: super::central::chain(&error.without_url()) };
        let request = reqwest::Request::try_from(request).map_err(unreached)?;
        let mut response = self.0.execute(request).await.map_err(unreached)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreached)? {
            if body.len() + chunk.len() > REPLY_BYTES_MAX {
                return Err(Unreached { what: format!("an answer of more than {REPLY_BYTES_MAX} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        let whole = Response::builder().status(response.status()).body(body);
        whole.map_err(|error| Unreached { what: error.to_string() })
    }
}

impl Line for Web {
    fn call(&self, request: Request<Vec<u8>>) -> BoxFuture<'_, Result<Response<Vec<u8>>, Unreached>> {
        self.answer(request).boxed()
    }
}
