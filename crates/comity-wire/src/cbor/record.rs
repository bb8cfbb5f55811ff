//! `record!` turns a struct with numbered fields into a map of the wire, `enumeration!` a closed list of names into an
//! unsigned integer. Keys stand in the order of their encoded bytes; a test of each kind's vectors would catch a slip.

/// A struct whose fields are the entries of an integer-keyed map.
macro_rules! record {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $key:literal => $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::cbor::Encode for $name {
            fn encode(&self, w: &mut $crate::cbor::Writer) {
                let present = [$($crate::cbor::Encode::is_absent(&self.$field)),*].iter().filter(|absent| !**absent).count();
                w.map(present);
                $(if !$crate::cbor::Encode::is_absent(&self.$field) {
                    w.int($key);
                    $crate::cbor::Encode::encode(&self.$field, w);
                })*
            }
        }

        impl $crate::cbor::Decode for $name {
            fn decode(r: &mut $crate::cbor::Reader<'_>) -> Result<Self, $crate::cbor::Malformed> {
                let start = r.position();
                $(let mut $field: Option<$type> = None;)*
                for _ in 0..r.map()? {
                    let at = r.position();
                    match r.int()? {
                        $($key => $field = Some($crate::cbor::Decode::decode(r)?),)*
                        other => return Err($crate::cbor::Malformed::new(at, $crate::cbor::MalformedKind::UnknownField(other))),
                    }
                }
                Ok(Self {
                    $($field: match $field.or_else(<$type as $crate::cbor::Decode>::absent) {
                        Some(value) => value,
                        None => return Err($crate::cbor::Malformed::new(start, $crate::cbor::MalformedKind::MissingField($key))),
                    },)*
                })
            }
        }
    };
}

/// A closed list: a number on the wire, a snake_case name everywhere else.
macro_rules! enumeration {
    ($(#[$meta:meta])* $vis:vis enum $name:ident: $what:literal {
        $($(#[$variant_meta:meta])* $variant:ident = $number:literal $text:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant = $number,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub const fn number(self) -> u8 {
                self as u8
            }

            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    other => Err(format!("'{other}' is not a known {}: {}", $what, [$($text),*].join(", "))),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($text),*] })
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl $crate::cbor::Encode for $name {
            fn encode(&self, w: &mut $crate::cbor::Writer) {
                w.uint(*self as u64);
            }
        }

        impl $crate::cbor::Decode for $name {
            fn decode(r: &mut $crate::cbor::Reader<'_>) -> Result<Self, $crate::cbor::Malformed> {
                let at = r.position();
                Self::from_number(r.uint()?).ok_or($crate::cbor::Malformed::value(at, $what))
            }
        }
    };
}

pub(crate) use {enumeration, record};
