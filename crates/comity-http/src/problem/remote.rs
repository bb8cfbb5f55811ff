//! Reading at the caller's side what a [`Refusal`](super::Refusal) said, or whatever else a server sent instead.

use comity_wire::Code;
use http::HeaderMap;
use serde_json::{Map, Value};

/// What a server answered instead of what was asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code} ({status}): {message}")]
pub struct RemoteError {
    pub status: u16,
    /// `unknown` where the server gave none.
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    pub retry: bool,
    pub retry_after_s: Option<u64>,
    pub request_id: Option<String>,
    /// Every member of the error body, machine fields included.
    pub fields: Box<Map<String, Value>>,
}

impl RemoteError {
    /// Reads either form; a body of neither gives its first 300 characters as the message.
    pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let fields = match serde_json::from_slice(body) {
            Ok(Value::Object(mut map)) => match map.remove("error") {
                Some(Value::Object(error)) => error,
                Some(Value::String(message)) => Map::from_iter([("message".to_owned(), Value::String(message))]),
                _ => map,
            },
            _ => Map::new(),
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(clip);
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let message =
            text("message").or_else(|| text("detail")).unwrap_or_else(|| clip(&String::from_utf8_lossy(body)));
        let retry_after_s = header("retry-after").and_then(|v| v.trim().parse().ok());
        Self {
            status,
            code: text("code").unwrap_or_else(|| "unknown".into()),
            message: if message.is_empty() { "the server gave no reason".into() } else { message },
            hint: text("hint"),
            // What the server says goes before what its status suggests.
            retry: match header("x-should-retry") {
                Some(said) => said == "true",
                None => matches!(status, 408 | 429 | 502..=504),
            },
            retry_after_s: retry_after_s.or_else(|| fields.get("retry_after_s").and_then(Value::as_u64)),
            request_id: header("x-request-id").map(clip),
            fields: Box::new(fields),
        }
    }

    /// The protocol's code, where it is one.
    pub fn known_code(&self) -> Option<Code> {
        self.code.parse().ok()
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }
}

/// A stranger's text goes to a terminal: bounded, without control characters.
fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::problem::{Form, Refusal};

    #[test]
    fn what_a_refusal_says_in_either_form_is_what_the_caller_reads() {
        let refusal = Refusal::new(Code::ModelStarting, "loading").hint("wait").retry_after_s(9).with("eta_s", 40);
        for form in [Form::OpenAi, Form::Problem] {
            let headers = refusal.clone().into_response().headers().clone();
            let read = RemoteError::read(503, &headers, refusal.body(form).to_string().as_bytes());
            assert_eq!(read.known_code(), Some(Code::ModelStarting));
            assert_eq!((read.message.as_str(), read.hint.as_deref()), ("loading", Some("wait")));
            assert_eq!((read.retry, read.retry_after_s), (true, Some(9)));
            assert_eq!(read.fields["eta_s"], 40);
        }
    }

    #[test]
    fn a_body_of_no_known_form_is_still_an_error_and_cannot_paint_the_terminal() {
        let read = RemoteError::read(502, &HeaderMap::new(), b"<b>bad\x1b[31m gateway</b>");
        assert_eq!((read.code.as_str(), read.retry), ("unknown", true));
        assert_eq!(read.message, "<b>bad [31m gateway</b>");
        assert_eq!(RemoteError::read(500, &HeaderMap::new(), b"[]").message, "[]");
        assert_eq!(RemoteError::read(500, &HeaderMap::new(), b"").message, "the server gave no reason");
    }
}
