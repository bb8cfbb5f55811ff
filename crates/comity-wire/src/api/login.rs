//! Logging in at an issuer that the clearing house believes (spec/09-http.md §2, docs/operating/persons.md): the house talks to the issuer, the
//! caller's key signs the calls, and the login says whose key that is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::person::WhoamiReply;
use crate::time::Timestamp;

/// `GET /v1/issuers`, by anybody: where persons can log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuersReply {
    pub issuers: Vec<IssuerShown>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuerShown {
    pub name: String,
    pub issuer: String,
    /// Whether a code can be typed into another device; a browser on this computer always can.
    pub device: bool,
}

/// `POST /v1/logins`, by any key: the login will say whose key it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Left out: the only one that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub issuer: Option<String>,
    /// Where a browser on the caller's own computer is to be sent afterwards, `http://127.0.0.1:PORT/…` or `http://[::1]:PORT/…`;
    /// left out: a code is typed into another device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub redirect: Option<String>,
    /// Whether it must be with a second factor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mfa: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginReply {
    /// Names the login in `POST /v1/logins/{id}`.
    pub login: String,
    pub issuer: String,
    /// To be opened in a browser.
    pub url: String,
    /// To be typed in there, where `url` does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_code: Option<String>,
    pub interval_s: u64,
    pub expires_at: Timestamp,
}

/// `POST /v1/logins/{id}`, by the key that began it: empty, to ask whether it is done; or what the browser brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginContinue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4_096))]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub state: Option<String>,
    /// RFC 9207.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub iss: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginState {
    /// `pending` or `done`.
    pub state: String,
    /// Of one that is pending: ask again after so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// What the issuer said and the house does not believe, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Of one that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whoami: Option<WhoamiReply>,
}
