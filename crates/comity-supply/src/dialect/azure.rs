//! Azure OpenAI: OpenAI's API with the deployment in the path, the version in the query and the key in a header of its
//! own. `upstream_model` names the deployment. What its content filter refuses is the caller's to change, not a fault.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::openai::{OpenAi, error_text};
use super::{Ask, Decode, Dialect, Speak};
use crate::server::ApiKey;
use crate::{Call, UpstreamError};

#[derive(Debug)]
pub(super) struct Azure {
    inner: OpenAi,
    version: String,
}

/// The newest that is not a preview, when this was written.
const VERSION: &str = "2024-10-21";

impl Azure {
    pub(super) fn new(version: Option<&str>) -> Self {
        Self { inner: OpenAi(Dialect::Azure.flavour()), version: version.unwrap_or(VERSION).to_owned() }
    }
}

impl Speak for Azure {
    fn ask(&self, call: Call) -> Result<Ask, UpstreamError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if call.model.is_empty() || !call.model.bytes().all(plain) {
            return Err(UpstreamError::Settings { detail: format!("'{}' names no deployment", call.model) });
        }
        let deployment = call.model.clone();
        let Ask { path, mut body } = self.inner.ask(call)?;
        body.shift_remove("model");
        Ok(Ask { path: format!("openai/deployments/{deployment}/{path}?api-version={}", self.version), body })
    }

    fn decoder(&self, call: &Call) -> Box<dyn Decode> {
        self.inner.decoder(call)
    }

    fn headers(
        &self,
        key: Option<&ApiKey>,
    ) -> Vec<(HeaderName, Result<HeaderValue, http::header::InvalidHeaderValue>)> {
        let name = HeaderName::from_static("api-key");
        key.map(|key| (name, HeaderValue::from_str(key.expose()))).into_iter().collect()
    }

    fn models_path(&self) -> String {
        format!("openai/models?api-version={}", self.version)
    }

    fn error(&self, body: &[u8]) -> (Option<String>, String) {
        let (code, message) = error_text(body);
        let inner = serde_json::from_slice::<Value>(body).ok();
        let inner = inner.as_ref().and_then(|value| value["error"]["innererror"]["code"].as_str());
        match (code.as_deref(), inner) {
            (_, Some("ResponsibleAIPolicyViolation")) | (Some("content_filter"), _) => {
                (Some("content_filter".into()), message)
            }
            _ => (code, message),
        }
    }
}
