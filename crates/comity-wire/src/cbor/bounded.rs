//! Values with a bound in their type, and the plain types' CBOR forms.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::{Decode, Encode, Malformed, Reader, Writer};

/// Text of at most `MAX` bytes without control or bidirectional-override characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text<const MAX: usize>(String);

/// At most `MAX` items. A map leaves an empty list out, and an explicit empty one is malformed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    try_from = "Vec<T>",
    into = "Vec<T>",
    bound(serialize = "T: Serialize + Clone", deserialize = "T: Deserialize<'de>")
)]
pub struct List<T, const MAX: usize>(Vec<T>);

/// A byte string of at most `MAX` bytes. JSON: base64url without padding.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bytes<const MAX: usize>(Vec<u8>);

/// More than the type holds, or a character it refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfBounds {
    #[error("text of {bytes} bytes where at most {max} are allowed")]
    Text { bytes: usize, max: usize },
    #[error("control and direction-override characters are not allowed in text")]
    Character,
    #[error("{items} items where at most {max} are allowed")]
    List { items: usize, max: usize },
    #[error("{bytes} bytes where at most {max} are allowed")]
    Bytes { bytes: usize, max: usize },
    #[error("not base64url without padding")]
    Base64,
}

impl<const MAX: usize> Text<MAX> {
    pub fn new(text: impl Into<String>) -> Result<Self, OutOfBounds> {
        let text = text.into();
        if text.len() > MAX {
            return Err(OutOfBounds::Text { bytes: text.len(), max: MAX });
        }
        if text.chars().any(is_refused) {
            return Err(OutOfBounds::Character);
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// C0, DEL and C1 controls but line feed; marks and overrides that reorder what a person reads.
fn is_refused(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = OutOfBounds;
    fn try_from(text: String) -> Result<Self, OutOfBounds> {
        Self::new(text)
    }
}

impl<const MAX: usize> TryFrom<&str> for Text<MAX> {
    type Error = OutOfBounds;
    fn try_from(text: &str) -> Result<Self, OutOfBounds> {
        Self::new(text)
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> Encode for Text<MAX> {
    fn encode(&self, w: &mut Writer) {
        w.text(&self.0);
    }
}

impl<const MAX: usize> Decode for Text<MAX> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        Self::new(r.text()?).map_err(|_| Malformed::value(at, "text"))
    }
}

impl<T, const MAX: usize> List<T, MAX> {
    pub fn new(items: Vec<T>) -> Result<Self, OutOfBounds> {
        if items.len() > MAX { Err(OutOfBounds::List { items: items.len(), max: MAX }) } else { Ok(Self(items)) }
    }

    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a List<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for List<T, MAX> {
    type Error = OutOfBounds;
    fn try_from(items: Vec<T>) -> Result<Self, OutOfBounds> {
        Self::new(items)
    }
}

impl<T, const MAX: usize> From<List<T, MAX>> for Vec<T> {
    fn from(list: List<T, MAX>) -> Self {
        list.0
    }
}

impl<T: Encode, const MAX: usize> Encode for List<T, MAX> {
    fn encode(&self, w: &mut Writer) {
        w.array(self.0.len());
        for item in &self.0 {
            item.encode(w);
        }
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Decode, const MAX: usize> Decode for List<T, MAX> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        let length = r.array()?;
        if length == 0 || length > MAX {
            return Err(Malformed::value(at, "list length"));
        }
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(T::decode(r)?);
        }
        Ok(Self(items))
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

impl<const MAX: usize> Bytes<MAX> {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, OutOfBounds> {
        let bytes = bytes.into();
        if bytes.len() > MAX { Err(OutOfBounds::Bytes { bytes: bytes.len(), max: MAX }) } else { Ok(Self(bytes)) }
    }

    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MAX: usize> Deref for Bytes<MAX> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const MAX: usize> Encode for Bytes<MAX> {
    fn encode(&self, w: &mut Writer) {
        w.bytes(&self.0);
    }
}

impl<const MAX: usize> Decode for Bytes<MAX> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        Self::new(r.bytes()?).map_err(|_| Malformed::value(at, "byte string length"))
    }
}

impl<const MAX: usize> Serialize for Bytes<MAX> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&data_encoding::BASE64URL_NOPAD.encode(&self.0))
    }
}

/// Base64url without padding.
impl<const MAX: usize> schemars::JsonSchema for Bytes<MAX> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Bytes{MAX}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[A-Za-z0-9_-]*$", "maxLength": (MAX * 4).div_ceil(3),
            "contentEncoding": "base64url",
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let bytes = data_encoding::BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom(OutOfBounds::Base64))?;
        Self::new(bytes).map_err(serde::de::Error::custom)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, w: &mut Writer) {
        if let Some(value) = self {
            value.encode(w);
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::decode(r).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

macro_rules! unsigned {
    ($($int:ty),*) => {$(
        impl Encode for $int {
            fn encode(&self, w: &mut Writer) {
                w.uint(u64::from(*self));
            }
        }
        impl Decode for $int {
            fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                let at = r.position();
                <$int>::try_from(r.uint()?).map_err(|_| Malformed::value(at, "integer"))
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64);

impl Encode for bool {
    fn encode(&self, w: &mut Writer) {
        w.bool(*self);
    }
}

impl Decode for bool {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.bool()
    }
}
