//! Ids of notices and deliveries: digests, so that whoever makes one again makes the same.

use std::fmt;
use std::str::FromStr;

use comity_wire::{Digest, Timestamp, TokenId};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

const NOTICE: &[u8] = b"comity/v1/access-notice\0";
const DELIVERY: &[u8] = b"comity/v1/access-delivery\0";

/// Names a notice: 16 bytes that begin with its time as a UUID of version 7 does (decision 0042), `notice-` and 32 hex digits
/// in text. It has no full stop, which the signature of a webhook needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NoticeId(pub [u8; 16]);

/// Names a notice on its way to one receiver; an outbox has it once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub [u8; 16]);

/// A text that names no notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a notice: notice- and 32 lower-case hex digits are expected")]
pub struct NotANoticeId;

impl NoticeId {
    /// Of whatever tells this notice from every other.
    pub(crate) fn of(at: Timestamp, parts: &[&[u8]]) -> Self {
        Self(TokenId::v7(at, first(NOTICE, parts)).0)
    }
}

impl DeliveryId {
    /// Of one notice at one target and address.
    pub(super) fn of(notice: NoticeId, target: &str, address: Option<&str>) -> Self {
        let at = Timestamp(u64::from_be_bytes(notice.0[..8].try_into().expect("eight bytes")) >> 16).0 / 1_000;
        let digest = first(DELIVERY, &[&notice.0, target.as_bytes(), b"\0", address.unwrap_or_default().as_bytes()]);
        Self(TokenId::v7(Timestamp(at), digest).0)
    }
}

fn first(context: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let parts: Vec<&[u8]> = std::iter::once(context).chain(parts.iter().copied()).collect();
    let digest = Digest::of_parts(&parts);
    digest.as_bytes()[..16].try_into().expect("a digest has 32 bytes")
}

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "notice-{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delivery-{}", HEXLOWER.encode(&self.0))
    }
}

impl FromStr for NoticeId {
    type Err = NotANoticeId;

    fn from_str(text: &str) -> Result<Self, NotANoticeId> {
        let bytes = HEXLOWER.decode(text.strip_prefix("notice-").ok_or(NotANoticeId)?.as_bytes());
        bytes.ok().and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NotANoticeId)
    }
}

impl From<NoticeId> for String {
    fn from(id: NoticeId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for NoticeId {
    type Error = NotANoticeId;

    fn try_from(text: String) -> Result<Self, NotANoticeId> {
        text.parse()
    }
}
