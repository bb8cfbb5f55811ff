//! The wire to a central site of AMIE, and the task that takes turns with it.
//!
//! HTTPS with the certificates of the web, which is what central sites have; plain HTTP to loopback alone. The key is a bearer
//! secret: it is read from a file that nobody else can read, and stands in one header and nowhere else.

use std::time::Duration;

use comity_clearing::Clearing;
use comity_clearing::amie::central::Central;
use comity_clearing::service::central::{Wire, WireError};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::settings::CentralSettings;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// What an answer may have, bytes: a thousand packets of 64 KiB are more than a central site says at once.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// What is kept of a refusal's sentence, characters.
const SENTENCE_MAX: usize = 300;

/// The calls of one site at one central site.
pub(super) struct Line {
    http: reqwest::Client,
    amie: Url,
    usage: Url,
    site: String,
    /// Where a central site quotes the key, it is cut out.
    key: zeroize::Zeroizing<String>,
}

impl Line {
    /// # Errors
    /// [`Failure`] saying what of the settings is wrong; never with the key.
    pub(super) fn open(settings: &CentralSettings, home: &Home) -> Result<Self, Failure> {
        let (amie, usage) = (base("amie_url", &settings.amie_url)?, base("usage_url", &settings.usage_url)?);
        let key = settings.key(home)?;
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, text: &str| -> Result<(), Failure> {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| Failure::new(format!("what header {name} is to say has characters that no header has")))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
            Ok(())
        };
        put("xa-site", &settings.site)?;
        put("xa-api-key", &key)?;
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("comity/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(CALL_TIME_MAX);
        if amie.scheme() == "http" && usage.scheme() == "http" {
            // No TLS will be spoken, so a machine without a system trust store will do.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().while_("no HTTP client for the central site")?;
        Ok(Self { http, amie, usage, site: settings.site.clone(), key })
    }

    fn at(&self, base: &Url, path: &str) -> Result<Url, WireError> {
        base.join(path).map_err(|error| WireError::Unreached { what: format!("{path}: {error}") })
    }

    async fn call(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Value, WireError> {
        let request = self.http.request(method, url);
        let request = match body {
            Some(body) => request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.to_string()),
            None => request,
        };
        self.answer(request).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, WireError> {
        let unreached = |error: reqwest::Error| WireError::Unreached { what: self.cut(&chain(&error.without_url())) };
        let mut response = request.send().await.map_err(unreached)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreached)? {
            if bytes.len() + chunk.len() > REPLY_BYTES_MAX {
                return Err(WireError::Unreached { what: format!("a reply of more than {REPLY_BYTES_MAX} bytes") });
            }
            bytes.extend_from_slice(&chunk);
        }
        let said = serde_json::from_slice::<Value>(&bytes);
        if status.as_u16() == 200 {
            // What is no JSON came from something before the central site.
            return said.map_err(|error| WireError::Unreached { what: format!("the reply is no JSON: {error}") });
        }
        let said = said.unwrap_or_default();
        let sentence = ["message", "error", "Message", "detail"].iter().find_map(|name| said[*name].as_str());
        let what = self.cut(sentence.unwrap_or("no reason given"));
        Err(WireError::Refused { status: status.as_u16(), what })
    }

    /// Its words, without the key, and not more than a sentence.
    fn cut(&self, text: &str) -> String {
        text.replace(self.key.as_str(), "…").chars().take(SENTENCE_MAX).collect()
    }
}

impl Wire for Line {
    async fn packets(&self) -> Result<Vec<Value>, WireError> {
        let url = self.at(&self.amie, &format!("packets/{}", self.site))?;
        match self.call(Method::GET, url, None).await?["result"].take() {
            Value::Array(packets) => Ok(packets),
            _ => Err(WireError::Unreached { what: "a list of packets has no result".into() }),
        }
    }

    async fn transaction(&self, id: u64) -> Result<Value, WireError> {
        let url = self.at(&self.amie, &format!("transactions/{}/{id}/packets", self.site))?;
        Ok(self.call(Method::GET, url, None).await?["result"].take())
    }

    async fn send(&self, packet: Value) -> Result<Value, WireError> {
        let url = self.at(&self.amie, &format!("packets/{}", self.site))?;
        self.call(Method::POST, url, Some(&packet)).await
    }

    async fn usage(&self, message: Value) -> Result<Value, WireError> {
        let url = self.at(&self.usage, "usage/")?;
        self.call(Method::POST, url, Some(&message)).await
    }
}

fn base(what: &str, text: &str) -> Result<Url, Failure> {
    const HINT: &str = "https://…/, or http://127.0.0.1:PORT/… for a central site beside this house";
    let wrong = |why: &str| Failure::new(format!("[central] {what} = \"{text}\": {why}")).hint(HINT);
    let url = Url::parse(text).map_err(|_| wrong("not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a user, a query or a fragment"));
    }
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => return Err(wrong("names no host")),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return Err(wrong("the key would go over the network in the clear")),
    }
    if !url.path().ends_with('/') {
        return Err(wrong("must end with a slash"));
    }
    Ok(url)
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}

/// A central site that turns are taken with, for as long as the house runs.
pub(super) struct Turns(Option<(CancellationToken, tokio::task::JoinHandle<()>)>);

impl Turns {
    /// # Errors
    /// [`Failure`] saying what of the settings is wrong.
    pub(super) fn open(settings: Option<CentralSettings>, home: &Home, clearing: &Clearing) -> Result<Self, Failure> {
        let Some(settings) = settings else { return Ok(Self(None)) };
        let central = settings.central()?;
        let line = Line::open(&settings, home)?;
        let every = Duration::from_secs(settings.every_s());
        tracing::info!(central = central.name, site = central.site, url = %line.amie, "this house is a resource of a central site");
        let (stop, clearing) = (CancellationToken::new(), clearing.clone());
        let task = tokio::spawn(take(clearing, central, line, every, stop.clone()));
        Ok(Self(Some((stop, task))))
    }

    /// What is under way is ended, between two calls; what it did not hear is read back the next time.
    pub(super) async fn close(self) {
        if let Some((stop, task)) = self.0 {
            stop.cancel();
            let _ = task.await;
        }
    }
}

async fn take(clearing: Clearing, central: Central, line: Line, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = turn(&clearing, &central, &line) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// What waits there, then what is to be told of usage. Cut short anywhere, the next one goes on.
async fn turn(clearing: &Clearing, central: &Central, line: &Line) {
    let name = &central.name;
    let failed = |error: &comity_clearing::Failure| {
        tracing::error!(central = name, error = chain(error), "a turn with a central site failed at this house");
    };
    let ended = |why: String| {
        tracing::warn!(central = name, why, "a turn with a central site did not end; it is taken again");
    };
    match clearing.central_turn(central, line).await {
        Ok(turned) => {
            if turned.taken + turned.answered > 0 {
                tracing::info!(
                    central = name,
                    taken = turned.taken,
                    answered = turned.answered,
                    "a turn with a central site"
                );
            }
            if let Some(why) = turned.failed {
                return ended(why.to_string());
            }
        }
        Err(failure) => return failed(&failure),
    }
    match clearing.central_report(central, line).await {
        Ok(reported) => {
            if reported.taken + reported.refused > 0 {
                tracing::info!(
                    central = name,
                    taken = reported.taken,
                    refused = reported.refused,
                    "usage was reported to a central site"
                );
            }
            if let Some(why) = reported.failed {
                ended(why.to_string());
            }
        }
        Err(failure) => failed(&failure),
    }
}
