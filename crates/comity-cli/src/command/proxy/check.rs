//! Who may call: this computer's own programs, or whoever has the key. And what a browser is told of that.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Proxied;
use crate::said::Said;

/// A layer over all routes but `/health`: refuses strangers, answers a browser's `OPTIONS`, and tells a browser what its page
/// may read. A page of another computer is let in only by the key.
pub(super) async fn admit(State(shared): State<Proxied>, request: Request, next: Next) -> Response {
    let key = shared.key.as_deref();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = request.method() == Method::OPTIONS;
    let checked = if is_preflight { origin_allowed(key, request.headers()) } else { check(key, request.headers()) };
    let mut response = match checked {
        Err(said) => {
            // Read, so that the connection can go on.
            axum::body::to_bytes(request.into_body(), DRAINED_BYTES_MAX).await.ok();
            return said.response();
        }
        Ok(()) if is_preflight => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        if is_preflight {
            let fixed = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, "600"),
            ];
            headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
        }
    }
    response
}

/// The most that is read of what a stranger sends.
const DRAINED_BYTES_MAX: usize = 1 << 20;

/// What the official SDKs send from a browser.
const ALLOWED_HEADERS: &str = "authorization, content-type, idempotency-key, openai-organization, openai-project, \
    x-stainless-arch, x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count, \
    x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout, x-stainless-helper-method";

/// The caller has the key, where one is set, compared by digest, so that time tells nothing. Where none is set, web pages
/// are kept out: whoever can make this computer's browser call would spend the wallet.
fn check(key: Option<&str>, headers: &HeaderMap) -> Result<(), Said> {
    let Some(key) = key else { return origin_allowed(None, headers) };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let digest = |text: &str| comity_wire::Digest::of(text.as_bytes());
    if digest(given) == digest(key) {
        return Ok(());
    }
    Err(Said::new(StatusCode::UNAUTHORIZED, "invalid_api_key", "this proxy asks for the key it was started with"))
}

/// With a key any page may ask, since it needs the key; without one only pages of this computer.
fn origin_allowed(key: Option<&str>, headers: &HeaderMap) -> Result<(), Said> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    if key.is_some() || [text(header::HOST), origin].into_iter().flatten().all(is_local) {
        return Ok(());
    }
    let said = "a web page, or a name that is not this computer's, asked: start the proxy with --key to allow that";
    Err(Said::new(StatusCode::FORBIDDEN, "not_yours", said))
}

/// Whether a `host` or `host:port` names this computer.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_computer_is_local() {
        for local in ["127.0.0.1:8899", "localhost", "LOCALHOST:1", "[::1]:8899", "127.9.9.9"] {
            assert!(is_local(local), "{local}");
        }
        for other in ["example.org", "127.0.0.1.example.org:8899", "localhost.example.org", "null", "", "10.0.0.1:80"] {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn a_page_of_another_computer_needs_the_key() {
        let from = |origin: &str, bearer: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8899"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            if let Some(key) = bearer {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}")).unwrap());
            }
            headers
        };
        assert!(check(None, &from("http://localhost:3000", None)).is_ok());
        assert_eq!(check(None, &from("https://example.org", None)).unwrap_err().status, 403);
        assert_eq!(check(Some("k"), &from("https://example.org", None)).unwrap_err().status, 401);
        assert_eq!(check(Some("k"), &from("http://localhost:3000", Some("other"))).unwrap_err().status, 401);
        assert!(check(Some("k"), &from("https://example.org", Some("k"))).is_ok());
        assert!(origin_allowed(Some("k"), &from("https://example.org", None)).is_ok(), "OPTIONS carries no key");
        assert_eq!(origin_allowed(None, &from("https://example.org", None)).unwrap_err().status, 403);
    }
}
