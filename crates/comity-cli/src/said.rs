//! Saying no in OpenAI's form. What a node said is passed on as it said it; the proxy's own refusals have the same shape.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use comity_sdk::Error;
use comity_wire::Code;
use serde_json::{Map, Value, json};

/// What goes wrong, as a caller reads it. Kept apart from its response: a batch writes it down instead.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) error: Map<String, Value>,
    pub(crate) retry: bool,
    pub(crate) retry_after_s: Option<u64>,
    headers: Vec<(axum::http::HeaderName, HeaderValue)>,
}

impl Said {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let fields = json!({"message": message.into(), "type": kind(status), "param": null, "code": code});
        let Value::Object(error) = fields else { unreachable!("made as an object") };
        Self { status, error, retry: false, retry_after_s: None, headers: Vec::new() }
    }

    pub(crate) fn bad_request(message: impl Into<String>, param: Option<&str>) -> Self {
        let mut said = Self::new(StatusCode::BAD_REQUEST, "invalid_request", message);
        said.error.insert("param".into(), param.into());
        said
    }

    /// What comes next and which limit it was, as the package and the commands say it.
    fn next(&mut self, error: &Error) {
        let said = [("hint", error.hint()), ("limit", error.limit())];
        let said = said.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?))));
        self.error.extend(said);
    }

    /// Trying again after so many seconds may help.
    pub(crate) fn after(self, seconds: u64) -> Self {
        Self { retry: true, retry_after_s: Some(seconds), ..self }
    }

    pub(crate) fn body(&self) -> Value {
        json!({"error": self.error})
    }

    pub(crate) fn response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert("x-should-retry", HeaderValue::from_static(if self.retry { "true" } else { "false" }));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// The last frame of a stream that failed: never followed by `[DONE]`.
    pub(crate) fn frame(&self) -> Bytes {
        Bytes::from(format!("data: {}\n\n", self.body()))
    }
}

impl From<&Error> for Said {
    fn from(error: &Error) -> Self {
        let mut said = Self::of(error);
        if !error.tried().is_empty() {
            said.error.insert("tried".into(), json!(error.tried()));
        }
        said
    }
}

impl Said {
    fn of(error: &Error) -> Self {
        if let Some(refusal) = error.refusal() {
            let remote = &refusal.remote;
            let status = StatusCode::from_u16(remote.status).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut said = Self::new(status, &remote.code, remote.message.clone());
            // OpenAI's four keep their meaning, also where a house spoke in the form of RFC 9457; machine fields come along.
            let is_form = |name: &str| matches!(name, "type" | "title" | "status" | "detail" | "instance");
            let fields = remote.fields.iter().filter(|(name, _)| !is_form(name));
            said.error.extend(fields.map(|(name, value)| (name.clone(), value.clone())));
            said.next(error);
            return Self {
                retry: remote.retry,
                retry_after_s: remote.retry_after_s,
                headers: refusal.headers.clone(),
                ..said
            };
        }
        let code = error.code();
        let status = match (code, error.root()) {
            (Some(code), _) => StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_GATEWAY),
            (None, Error::ModelUnknown(_) | Error::NoChoice { .. }) => StatusCode::NOT_FOUND,
            (None, Error::KeyConflict) => StatusCode::UNPROCESSABLE_ENTITY,
            (None, Error::Limit { .. } | Error::TokenLimit { .. } | Error::DayLimit { .. } | Error::Wallet(_)) => {
                StatusCode::PAYMENT_REQUIRED
            }
            (None, Error::Unpriced(_)) => StatusCode::FORBIDDEN,
            // Nobody was asked: as if a hub had said so.
            (None, _) if error.name() == Code::NodeUnreachable.as_str() => StatusCode::SERVICE_UNAVAILABLE,
            (None, _) => StatusCode::BAD_GATEWAY,
        };
        let mut said = Self::new(status, error.name(), sentence(error));
        said.next(error);
        said.retry = code.is_some_and(Code::should_retry) || status == StatusCode::SERVICE_UNAVAILABLE;
        said.retry_after_s = error.retry_after_s().or_else(|| (code == Some(Code::InFlight)).then_some(1));
        if let Error::Replayed { receipt, charge } = error.root() {
            said.error.insert("receipt".into(), json!(receipt));
            said.error.insert("charged".into(), json!(charge.ucr()));
        }
        said
    }
}

fn sentence(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// OpenAI's `type`: the SDKs class by status, people read this.
fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        402 => "insufficient_quota",
        429 => "rate_limit_error",
        401 => "authentication_error",
        403 => "permission_error",
        409 => "conflict_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use comity_sdk::client::{Cost, Tried};
    use comity_wire::{Amount, Digest};

    use super::*;

    #[test]
    fn each_trouble_has_the_status_that_an_sdk_classes_by() {
        let replayed = Error::Replayed { receipt: Digest([1; 32]), charge: Amount::from_ucr(7) };
        let named = Error::Wallet(comity_sdk::wallet::WalletError::Named);
        for (error, status, code, retry) in [
            (Error::KeyConflict, 422, "idempotency_conflict", false),
            (replayed, 409, "replayed", false),
            (named, 409, "in_flight", true),
            (Error::ModelUnknown("lab/none".parse().unwrap()), 404, "model_not_found", false),
            (Error::Limit { limit: Amount::ZERO, asked: Amount::ZERO }, 402, "wallet_limit", false),
            (Error::NoReceipt, 502, "receipt_missing", false),
        ] {
            let said = Said::from(&error);
            assert_eq!(
                (said.status.as_u16(), &said.error["code"], said.retry),
                (status, &json!(code), retry),
                "{error}"
            );
            let next = said.error.get("hint").cloned();
            let response = said.response();
            assert!(
                next.is_some() || !matches!(error, Error::Limit { .. } | Error::NoReceipt),
                "{error}: what comes next"
            );
            assert_eq!(response.headers()["x-should-retry"], if retry { "true" } else { "false" });
        }
    }

    #[test]
    fn what_was_tried_stands_beside_what_the_last_one_said() {
        let model = "lab/m".parse().unwrap();
        let tried = Tried { model, code: "in_flight".to_owned(), cost: Cost::UpTo(Amount::from_ucr(7)) };
        let last = Box::new(Error::Wallet(comity_sdk::wallet::WalletError::Named));
        let error = Error::Tried { asked: "same:lab/m".to_owned(), tried: vec![tried], last };
        let said = Said::from(&error);
        assert_eq!((said.status.as_u16(), &said.error["code"], said.retry), (409, &json!("in_flight"), true));
        assert_eq!(said.error["tried"], json!([{"model": "lab/m", "code": "in_flight", "cost": {"up_to": 7}}]));
        let none = Said::from(&Error::NoChoice { asked: "any:price<=0".to_owned(), why: String::new() });
        assert_eq!((none.status.as_u16(), &none.error["code"]), (404, &json!("model_not_found")));
    }
}
