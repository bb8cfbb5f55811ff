//! An application's id: 16 random bytes of the node, `app-` and 32 hex digits in text. And what makes an event's link a secret.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// Names an application at the node that it was made at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ApplicationId(pub [u8; 16]);

/// A text that names no application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an application: app- and 32 lower-case hex digits are expected")]
pub struct NotAnApplicationId;

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app-{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for ApplicationId {
    type Err = NotAnApplicationId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER.decode(text.strip_prefix("app-").ok_or(NotAnApplicationId)?.as_bytes());
        bytes.ok().and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NotAnApplicationId)
    }
}

impl From<ApplicationId> for String {
    fn from(id: ApplicationId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ApplicationId {
    type Error = NotAnApplicationId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// 16 random bytes in an event: whoever sees its link and not its text cannot try texts until one fits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Salt(pub [u8; 16]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> Self {
        HEXLOWER.encode(&salt.0)
    }
}

impl TryFrom<String> for Salt {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a salt is 32 lower-case hex digits")
    }
}
