//! Saying no, in two forms: OpenAI's error body for the model's routes, RFC 9457 for the house's own.
//!
//! One [`Refusal`] gives both, so that a code, its status and its `x-should-retry` cannot differ between them. Rule 12:
//! every refusal has one code and says whether trying again helps.

mod remote;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use comity_wire::Code;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

pub use remote::RemoteError;

/// A refusal for outsiders: a stable code and a kind sentence. The chain of causes belongs in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// `x-should-retry`: whether the same call may succeed later with nobody changing it.
    pub retry: bool,
    pub retry_after_s: Option<u64>,
    /// What to do next, as a sentence or a command.
    pub hint: Option<String>,
    /// The request field it is about.
    pub param: Option<String>,
    /// Machine fields: amounts, limits, receipts. They stand beside `code`, and cannot replace what is named above.
    /// Boxed: a refusal travels in many a `Result`.
    pub extra: Box<Map<String, Value>>,
}

/// Which body a route's callers expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"error": {"message", "type", "param", "code", …}}`
    OpenAi,
    /// `application/problem+json` (RFC 9457).
    Problem,
}

impl Refusal {
    /// Status and retry as the code has them.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).expect("every code has a real status");
        Self { retry: code.should_retry(), ..Self::with_status(status, code.as_str(), message) }
    }

    /// For a code that is not the protocol's.
    pub fn with_status(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            code,
            message,
            retry: false,
            retry_after_s: None,
            hint: None,
            param: None,
            extra: Box::default(),
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(field.to_owned(), value.into());
        self
    }

    /// The body in a form; also what an error frame inside a stream carries (OpenAI's form).
    pub fn body(&self, form: Form) -> Value {
        let mut fields = match form {
            Form::OpenAi => json!({
                "message": self.message,
                "type": openai_type(self.status),
                "param": self.param,
                "code": self.code,
                "retry": self.retry,
            }),
            Form::Problem => json!({
                "type": format!("urn:comity:error:{}", self.code),
                "title": self.code.replace('_', " "),
                "status": self.status.as_u16(),
                "detail": self.message,
                "code": self.code,
                "retry": self.retry,
            }),
        };
        let map = fields.as_object_mut().expect("made as an object above");
        let mut add = |name: &str, value: Value| {
            map.entry(name).or_insert(value);
        };
        if let Some(hint) = &self.hint {
            add("hint", hint.as_str().into());
        }
        if let (Form::Problem, Some(param)) = (form, &self.param) {
            add("param", param.as_str().into());
        }
        if let Some(seconds) = self.retry_after_s {
            add("retry_after_s", seconds.into());
        }
        for (name, value) in self.extra.iter() {
            add(name, value.clone());
        }
        match form {
            Form::OpenAi => json!({ "error": fields }),
            Form::Problem => fields,
        }
    }

    /// The response in a form. The refusal rides in its extensions, so that a layer can log it or change the form.
    pub fn response(self, form: Form) -> Response {
        let media_type = match form {
            Form::OpenAi => "application/json",
            Form::Problem => "application/problem+json",
        };
        let mut response = Response::new(Body::from(self.body(form).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert("x-should-retry", HeaderValue::from_static(if self.retry { "true" } else { "false" }));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// In OpenAI's form; under [`problem_form`] in RFC 9457's.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.response(Form::OpenAi)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// A layer (`axum::middleware::from_fn(problem_form)`) for routes that are not OpenAI's: their refusals become problems.
/// Headers that a handler added to the refusal stay.
pub async fn problem_form(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(refusal) = response.extensions_mut().remove::<Refusal>() else { return response };
    let (parts, body) = refusal.response(Form::Problem).into_parts();
    *response.body_mut() = body;
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().extend(parts.headers);
    response.extensions_mut().extend(parts.extensions);
    response
}

/// A fallback for a router: a route outside the table is 404 with a body, not an empty one.
pub async fn no_such_route(method: http::Method, uri: http::Uri) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no {method} {}", uri.path()))
}

/// Likewise for a method that a route does not have.
pub async fn no_such_method(method: http::Method, uri: http::Uri) -> Refusal {
    Refusal::new(Code::MethodNotAllowed, format!("{} takes no {method}", uri.path()))
}

/// OpenAI's `type`: the SDKs class by status, people read this.
fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        409 => "conflict_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same_and_machine_fields_cannot_replace_the_named_ones() {
        let refusal = Refusal::new(Code::BudgetInFlight, "other calls hold the rest")
            .hint("try again")
            .retry_after_s(2)
            .with("free_ucr", 7)
            .with("code", "forged");
        assert_eq!(
            refusal.body(Form::OpenAi),
            json!({"error": {"message": "other calls hold the rest", "type": "rate_limit_error", "param": null,
                "code": "budget_in_flight", "retry": true, "hint": "try again", "retry_after_s": 2, "free_ucr": 7}})
        );
        assert_eq!(
            refusal.body(Form::Problem),
            json!({"type": "urn:comity:error:budget_in_flight", "title": "budget in flight", "status": 429,
                "detail": "other calls hold the rest", "code": "budget_in_flight", "retry": true, "hint": "try again",
                "retry_after_s": 2, "free_ucr": 7})
        );
        let response = refusal.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["x-should-retry"], "true");
        assert_eq!(response.headers()["retry-after"], "2");
    }

    #[test]
    fn every_code_says_whether_to_try_again_and_none_for_money_gone_says_yes() {
        for &code in Code::ALL {
            let response = Refusal::new(code, "x").into_response();
            let said = response.headers()["x-should-retry"].to_str().unwrap();
            assert_eq!(said, code.should_retry().to_string(), "{code}");
        }
        assert!(!Refusal::new(Code::BudgetExhausted, "x").retry);
    }
}
