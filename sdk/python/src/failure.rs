//! Errors as Python raises them: `comity.errors` has a class for each kind, and each has code, hint and limit.

use comity_cli::Failure;
use comity_sdk::Error;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict as _, PyDict};
use serde_json::Value;

/// What Python raises.
#[derive(Debug)]
pub(crate) struct Raised(Box<Said>);

#[derive(Debug, Default)]
struct Said {
    message: String,
    code: String,
    hint: Option<String>,
    limit: Option<String>,
    /// The other side's HTTP status, where it gave one.
    status: Option<u16>,
    retry_after_s: Option<u64>,
    /// Machine fields of a refusal, as JSON.
    fields: Option<Value>,
}

impl Raised {
    pub(crate) fn of(code: &str, error: impl Into<Failure>) -> Self {
        let Failure { message, hint } = error.into();
        Self(Box::new(Said { message, code: code.to_owned(), hint, ..Said::default() }))
    }

    /// What bytes are not, with the protocol's code for it.
    pub(crate) fn said(code: &str, error: impl std::fmt::Display) -> Self {
        Self(Box::new(Said { message: error.to_string(), code: code.to_owned(), ..Said::default() }))
    }

    /// What a caller of this module got wrong.
    pub(crate) fn input(error: impl std::fmt::Display) -> Self {
        Self(Box::new(Said { message: error.to_string(), code: "invalid_request".to_owned(), ..Said::default() }))
    }

    /// A call that is not of the form that it must have. The parser's own words would quote the prompt.
    pub(crate) fn form(error: &serde_json::Error) -> Self {
        Self::input(format!(
            "the call has a value of the wrong kind, or one that it must not have (at character {} of its JSON): a prompt is a \
             string or a list of messages, an amount is a whole number of micro-credits",
            error.column()
        ))
    }

    /// With the limit that stopped it, and machine fields.
    pub(crate) fn within(mut self, limit: Option<String>, fields: Value) -> Self {
        self.0.limit = limit;
        self.0.fields = Some(fields);
        self
    }

    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        match self.made(py) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    }

    fn made<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let said = *self.0;
        let fields = said.fields.map(|fields| fields.to_string());
        let arguments: Bound<'py, PyDict> =
            [("code", Some(said.code)), ("hint", said.hint), ("limit", said.limit), ("fields", fields)]
                .into_py_dict(py)?;
        arguments.set_item("status", said.status)?;
        arguments.set_item("retry_after_s", said.retry_after_s)?;
        py.import("comity.errors")?.call_method("made", (said.message,), Some(&arguments))
    }
}

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        let refusal = error.refusal();
        Self(Box::new(Said {
            code: error.name().to_owned(),
            hint: error.hint(),
            limit: error.limit(),
            status: refusal.map(|refusal| refusal.remote.status),
            retry_after_s: error.retry_after_s(),
            fields: fields(&error),
            message: Failure::from(error).message,
        }))
    }
}

/// A refusal's machine fields, and who was tried where the caller left open which model answers.
fn fields(error: &Error) -> Option<Value> {
    let mut fields = error.refusal().map(|refusal| (*refusal.remote.fields).clone());
    if !error.tried().is_empty() {
        fields.get_or_insert_default().insert("tried".to_owned(), serde_json::json!(error.tried()));
    }
    fields.map(Value::Object)
}

impl From<Failure> for Raised {
    fn from(failure: Failure) -> Self {
        Self::of("failed", failure)
    }
}
