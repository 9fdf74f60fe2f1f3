//! Serde helpers for JSON written by Go programs, and the macro for closed sets of strings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Reads `null` as the type's default: Go writes a nil slice, map or pointer so.
pub(crate) fn null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads `null` and `""` as absent: Go has no other way to say "no string".
pub(crate) fn non_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// Reads Docker's `StrSlice`: a list, a lone string (one element), or `null`.
pub(crate) fn str_slice<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        One(String),
    }
    Ok(
        Option::<Either>::deserialize(deserializer)?.map(|value| match value {
            Either::List(list) => list,
            Either::One(text) => vec![text],
        }),
    )
}

/// For `skip_serializing_if`: Go's `omitempty` on a bool.
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

/// For `skip_serializing_if`: Go's `omitempty` on a number.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A set of strings written as Go's `map[string]struct{}`: `{"80/tcp":{}}`.
pub(crate) mod set {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, SerializeMap, Serializer, de};

    #[derive(serde::Serialize)]
    struct Empty {}

    pub(crate) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(set.len()))?;
        for key in set {
            map.serialize_entry(key, &Empty {})?;
        }
        map.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, de::IgnoredAny>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

/// A string that is not one of a closed set's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: unknown value {value:?} (expected one of {expected})")]
pub struct UnknownValue {
    /// Where the value stands, e.g. `linux.namespaces[].type`.
    pub field: &'static str,
    /// What was found there.
    pub value: String,
    /// The permitted values, comma separated.
    pub expected: String,
}

/// What [`closed_enum!`] implements, so that one visitor serves all.
pub(crate) trait ClosedSet: Sized {
    const FIELD: &'static str;
    fn parse(text: &str) -> Result<Self, UnknownValue>;
}

pub(crate) struct ClosedVisitor<T>(pub(crate) PhantomData<T>);

impl<T: ClosedSet> Visitor<'_> for ClosedVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string for {}", T::FIELD)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(E::custom)
    }
}

/// Reads an optional closed-set value, `""` and `null` being absent.
pub(crate) fn closed_opt<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: ClosedSet,
{
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => T::parse(text).map(Some).map_err(de::Error::custom),
    }
}

/// Serializes anything that displays as its JSON string.
pub(crate) fn display<T: fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.to_string().serialize(serializer)
}

/// Declares an enum over a closed set of JSON strings whose errors name the field and the value.
macro_rules! closed_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident in $field:literal {
            $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
        }

        impl $name {
            /// Every value, in the specification's order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The string that stands in JSON.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::UnknownValue;

            fn from_str(text: &str) -> Result<Self, $crate::UnknownValue> {
                <$name as $crate::go::ClosedSet>::parse(text)
            }
        }

        impl $crate::go::ClosedSet for $name {
            const FIELD: &'static str = $field;

            fn parse(text: &str) -> Result<Self, $crate::UnknownValue> {
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err($crate::UnknownValue {
                        field: $field,
                        value: text.chars().take(128).collect(),
                        expected: [$($text),+].join(", "),
                    }),
                }
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::go::ClosedVisitor(::std::marker::PhantomData))
            }
        }
    };
}
pub(crate) use closed_enum;
