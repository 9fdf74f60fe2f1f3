//! Go's `encoding/json` rules over serde: keys match a struct's fields in any case, null is the zero value, numbers are
//! range checked and errors are in Go's words. Also the small (de)serialisers for Docker's odd field shapes.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::{Map, Value};

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The text is not JSON.
    Syntax(String),
    /// A value has another type than its field: Go's `UnmarshalTypeError`.
    Mismatch {
        /// What was found: `string`, `number 5000000000`, `object` ...
        got: String,
        /// The Go type that was wanted.
        want: String,
        /// Outermost struct's name.
        root: Option<&'static str>,
        /// Field names from the outermost struct to the value.
        path: Vec<String>,
    },
    /// Anything else, already a sentence.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Syntax(text) | Error::Other(text) => f.write_str(text),
            Error::Mismatch {
                got,
                want,
                root: Some(root),
                path,
            } if !path.is_empty() => write!(
                f,
                "json: cannot unmarshal {got} into Go struct field {root}.{} of type {want}",
                path.iter()
                    .rev()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(".")
            ),
            Error::Mismatch { got, want, .. } => {
                write!(
                    f,
                    "json: cannot unmarshal {got} into Go value of type {want}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error::Other(message.to_string())
    }
}

impl Error {
    fn inside(mut self, field: &str) -> Self {
        if let Error::Mismatch { path, .. } = &mut self {
            path.push(field.to_owned());
        }
        self
    }

    fn inside_struct(mut self, name: &'static str) -> Self {
        if let Error::Mismatch { root, .. } = &mut self {
            *root = Some(name);
        }
        self
    }
}

/// Reads a value by Go's rules from JSON text.
///
/// # Errors
/// [`Error::Syntax`] where the bytes are not one JSON document, else the first mismatch.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    from_value(document(bytes)?)
}

/// One JSON document, not yet read as anything.
///
/// # Errors
/// [`Error::Syntax`] with Go's sentence where it has one for the case.
pub fn document(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        Error::Syntax(match () {
            () if error.is_eof() => "unexpected EOF".to_owned(),
            () if text.starts_with("trailing characters") => {
                "unexpected content after JSON".to_owned()
            }
            () => text,
        })
    })
}

/// As [`from_slice`], from text.
///
/// # Errors
/// As [`from_slice`].
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    from_slice(text.as_bytes())
}

/// As [`from_slice`], from a parsed document.
///
/// # Errors
/// The first mismatch of type or range.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Go(value))
}

/// Removes and returns the member that Go would read into a field named `key`: the exact name, else the last in any case.
pub fn take_member(object: &mut Map<String, Value>, key: &str) -> Option<Value> {
    let found = match object.contains_key(key) {
        true => key.to_owned(),
        false => object
            .keys()
            .rev()
            .find(|k| k.eq_ignore_ascii_case(key))?
            .clone(),
    };
    object.shift_remove(&found)
}

/// A JSON document, read by Go's rules.
struct Go(Value);

fn mismatch(value: &Value, want: &str) -> Error {
    let got = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(n) if want != "string" && want != "bool" => format!("number {n}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    Error::Mismatch {
        got,
        want: want.to_owned(),
        root: None,
        path: Vec::new(),
    }
}

macro_rules! integer {
    ($method:ident, $visit:ident, $type:ty, $as:ident, $go:literal) => {
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match &self.0 {
                Value::Null => visitor.$visit(0),
                Value::Number(n) => match n.$as().and_then(|n| <$type>::try_from(n).ok()) {
                    Some(n) => visitor.$visit(n),
                    None => Err(mismatch(&self.0, $go)),
                },
                other => Err(mismatch(other, $go)),
            }
        }
    };
}

impl<'de> Deserializer<'de> for Go {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(n), _, _) => visitor.visit_i64(n),
                (_, Some(n), _) => visitor.visit_u64(n),
                (_, _, Some(n)) => visitor.visit_f64(n),
                _ => Err(Error::Other(format!("json: number {n} out of range"))),
            },
            Value::String(s) => visitor.visit_string(s),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(map) => visitor.visit_map(Members {
                entries: map.into_iter(),
                value: None,
            }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(*b),
            other => Err(mismatch(other, "bool")),
        }
    }

    integer!(deserialize_i8, visit_i8, i8, as_i64, "int8");
    integer!(deserialize_i16, visit_i16, i16, as_i64, "int16");
    integer!(deserialize_i32, visit_i32, i32, as_i64, "int32");
    integer!(deserialize_i64, visit_i64, i64, as_i64, "int64");
    integer!(deserialize_u8, visit_u8, u8, as_u64, "uint8");
    integer!(deserialize_u16, visit_u16, u16, as_u64, "uint16");
    integer!(deserialize_u32, visit_u32, u32, as_u64, "uint32");
    integer!(deserialize_u64, visit_u64, u64, as_u64, "uint64");

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (&self.0, self.0.as_f64()) {
            (Value::Null, _) => visitor.visit_f64(0.0),
            (_, Some(n)) => visitor.visit_f64(n),
            (other, None) => Err(mismatch(other, "float64")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_string(String::new()),
            Value::String(s) => visitor.visit_string(s),
            other => Err(mismatch(&other, "string")),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            other => visitor.visit_some(Go(other)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items(Vec::new().into_iter())),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            other => Err(mismatch(&other, "[]string")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        // A Go array takes what is there, and zero for the rest.
        match self.0 {
            Value::Null => visitor.visit_seq(Items(vec![Value::Null; len].into_iter())),
            Value::Array(mut items) => {
                items.resize(len, Value::Null);
                visitor.visit_seq(Items(items.into_iter()))
            }
            other => Err(mismatch(&other, "[]uint")),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_map(Members {
                entries: Map::new().into_iter(),
                value: None,
            }),
            Value::Object(map) => visitor.visit_map(Members {
                entries: map.into_iter(),
                value: None,
            }),
            other => Err(mismatch(&other, "map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let object = match self.0 {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            other => return Err(mismatch(&other, name)),
        };
        let members = normalise(object, fields);
        visitor
            .visit_map(Members {
                entries: members.into_iter(),
                value: None,
            })
            .map_err(|error| error.inside_struct(name))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0
            .deserialize_enum(name, variants, visitor)
            .map_err(|e| Error::Other(e.to_string()))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// Renames members to the struct's own spelling; a later spelling of a field replaces an earlier one, and null and unknown
/// members fall away, all as in Go.
fn normalise(object: Map<String, Value>, fields: &'static [&'static str]) -> Map<String, Value> {
    let mut known = Map::new();
    for (key, value) in object {
        let exact = fields.iter().find(|f| **f == key);
        let Some(field) = exact.or_else(|| fields.iter().find(|f| f.eq_ignore_ascii_case(&key)))
        else {
            continue;
        };
        if !value.is_null() {
            known.insert((*field).to_owned(), value);
        }
    }
    known
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0
            .next()
            .map(|value| seed.deserialize(Go(value)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Members {
    entries: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        let parsed = seed.deserialize(key.clone().into_deserializer())?;
        self.value = Some((key, value));
        Ok(Some(parsed))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| Error::Other("value read before its key".into()))?;
        seed.deserialize(Go(value))
            .map_err(|error| error.inside(&key))
    }
}

/// Is this the type's zero value? For `skip_serializing_if`, where Docker has `omitempty`.
pub fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Serialises an empty collection as null: a nil slice or map without `omitempty`.
pub fn null_if_empty<C, S>(collection: &C, serializer: S) -> Result<S::Ok, S::Error>
where
    C: serde::Serialize + Default + PartialEq,
    S: serde::Serializer,
{
    match is_zero(collection) {
        true => serializer.serialize_unit(),
        false => collection.serialize(serializer),
    }
}

/// Reads null as the zero value, for the fields that [`null_if_empty`] writes: these are then read back by plain serde too.
///
/// # Errors
/// Those of the deserializer.
pub fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// `strslice.StrSlice`: a list of strings, or one string for a list of one; null and absent are the empty list.
pub fn string_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match <Value as serde::Deserialize>::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::String(one) => Ok(vec![one]),
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                Value::Null => Ok(String::new()),
                _ => Err(de::Error::custom(
                    "json: cannot unmarshal non-string into Go value of type string",
                )),
            })
            .collect(),
        _ => Err(de::Error::custom(
            "json: cannot unmarshal value into Go value of type strslice.StrSlice",
        )),
    }
}

/// `map[string]struct{}`: a set written as `{"80/tcp": {}}`.
pub mod set {
    use super::BTreeSet;
    use serde::de::IgnoredAny;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::BTreeMap;

    /// Writes `{"a": {}}`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, BTreeMap::<String, ()>::new())))
    }

    /// Reads the keys of an object.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        Ok(BTreeMap::<String, IgnoredAny>::deserialize(deserializer)?
            .into_keys()
            .collect())
    }
}

/// As [`set`], written as null when empty.
pub mod nullable_set {
    use super::BTreeSet;
    use serde::Serializer;

    /// Reads the keys of an object, or null.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        use serde::Deserialize;
        let keys =
            Option::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>::deserialize(
                deserializer,
            )?;
        Ok(keys.unwrap_or_default().into_keys().collect())
    }

    /// Writes `{"a": {}}`, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match set.is_empty() {
            true => serializer.serialize_unit(),
            false => super::set::serialize(set, serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{ContainerConfig, ContainerCreateRequest};
    use crate::host::HostConfig;
    use expect_test::{Expect, expect};

    fn create(body: &str) -> Result<ContainerCreateRequest, String> {
        ContainerCreateRequest::from_slice(body.as_bytes()).map_err(|e| e.to_string())
    }

    fn refused(body: &str, expected: Expect) {
        expected.assert_eq(&create(body).unwrap_err());
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_wins() {
        let request = create(
            r#"{"image":"busybox","CMD":["a"],"hostconfig":{"MEMORY":5,"memory":7,"networkMode":"host","nope":1},"networkingconfig":{"endpointsConfig":{"Net":{"ALIASES":["x"]}}}}"#,
        )
        .unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, ["a"]);
        assert_eq!(request.host_config.resources.memory, 7);
        assert_eq!(request.host_config.network_mode, "host");
        let endpoint = request.networking_config.endpoints_config["Net"]
            .as_ref()
            .unwrap();
        assert_eq!(endpoint.aliases, ["x"]);
    }

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let request = create(
            r#"{"Image":null,"Cmd":null,"Env":null,"Tty":null,"Labels":null,"Volumes":null,"HostConfig":{"Binds":null,"PortBindings":{"80/tcp":null},"ConsoleSize":null,"Memory":null,"Ulimits":null},"NetworkingConfig":{"EndpointsConfig":{"a":null}}}"#,
        )
        .unwrap();
        assert_eq!(request.config, ContainerConfig::default());
        assert_eq!(request.host_config.port_bindings["80/tcp"], None);
        assert_eq!(request.networking_config.endpoints_config["a"], None);
        assert_eq!(create("null").unwrap(), ContainerCreateRequest::default());
    }

    #[test]
    fn a_string_is_a_command_of_one() {
        let request =
            create(r#"{"Cmd":"ls -l","Entrypoint":["sh"],"HostConfig":{"CapAdd":"ALL"}}"#).unwrap();
        assert_eq!(request.config.cmd, ["ls -l"]);
        assert_eq!(request.config.entrypoint, ["sh"]);
        assert_eq!(request.host_config.cap_add, ["ALL"]);
    }

    #[test]
    fn sets_are_objects() {
        let request =
            create(r#"{"ExposedPorts":{"80/tcp":{}},"Volumes":{"/a":{},"/b":null}}"#).unwrap();
        assert_eq!(
            request.config.exposed_ports.into_iter().collect::<Vec<_>>(),
            ["80/tcp"]
        );
        assert_eq!(
            request.config.volumes.into_iter().collect::<Vec<_>>(),
            ["/a", "/b"]
        );
    }

    #[test]
    fn wrong_types_are_named_as_go_names_them() {
        refused(
            r#"{"Image":5}"#,
            expect![
                "json: cannot unmarshal number into Go struct field ContainerConfig.Image of type string"
            ],
        );
        refused(
            r#"{"Tty":"yes"}"#,
            expect![
                "json: cannot unmarshal string into Go struct field ContainerConfig.Tty of type bool"
            ],
        );
        refused(
            r#"{"HostConfig":{"Memory":99999999999999999999}}"#,
            expect![
                "json: cannot unmarshal number 1e+20 into Go struct field HostConfig.Memory of type int64"
            ],
        );
        refused(
            r#"{"HostConfig":{"BlkioWeight":70000}}"#,
            expect![
                "json: cannot unmarshal number 70000 into Go struct field HostConfig.BlkioWeight of type uint16"
            ],
        );
        refused(
            r#"{"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":"1"}]}}"#,
            expect![
                "json: cannot unmarshal string into Go struct field HostConfig.Ulimits.Soft of type int64"
            ],
        );
        refused(
            "[]",
            expect!["json: cannot unmarshal array into Go value of type ContainerConfig"],
        );
    }

    #[test]
    fn zero_values_are_written_as_docker_writes_them() {
        expect![[r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":[],"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{}}"#]]
        .assert_eq(&serde_json::to_string(&ContainerConfig::default()).unwrap());
        let host: Value = serde_json::to_value(HostConfig::default()).unwrap();
        assert!(
            host["Binds"].is_null()
                && host["MemorySwappiness"].is_null()
                && host["Ulimits"].is_array()
        );
        assert_eq!(
            from_value::<HostConfig>(host).unwrap(),
            HostConfig::default()
        );
    }

    /// Stored records are read by plain serde too: what is written must be read back without the rules above.
    #[test]
    fn plain_serde_reads_what_was_written() {
        fn check<
            T: serde::Serialize + serde::de::DeserializeOwned + Default + PartialEq + fmt::Debug,
        >() {
            let text = serde_json::to_string(&T::default()).unwrap();
            assert_eq!(
                serde_json::from_str::<T>(&text).unwrap(),
                T::default(),
                "{text}"
            );
        }
        check::<ContainerConfig>();
        check::<HostConfig>();
        check::<crate::network::EndpointSettings>();
        check::<crate::network::Network>();
        check::<crate::inspect::ContainerInspect>();
        check::<crate::inspect::ContainerSummary>();
        check::<crate::image::ImageInspect>();
        check::<crate::image::ImageSummary>();
        check::<crate::volume::Volume>();
        check::<crate::system::SystemInfo>();
        check::<crate::stats::ContainerStats>();
        check::<crate::exec::ExecInspect>();
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let key = prop::sample::select(vec![
            "Memory",
            "memory",
            "Binds",
            "Ulimits",
            "Name",
            "Soft",
            "PortBindings",
            "80/tcp",
            "HostPort",
            "Mounts",
            "Type",
            "TmpfsOptions",
            "Options",
            "Cmd",
            "Env",
            "Healthcheck",
            "Test",
            "MaskedPaths",
            "ConsoleSize",
            "HostConfig",
            "NetworkingConfig",
            "EndpointsConfig",
            "IPAMConfig",
            "Labels",
            "Volumes",
            "RestartPolicy",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9/:=]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(
                    |members| Value::Object(
                        members
                            .into_iter()
                            .map(|(k, v)| (k.to_owned(), v))
                            .collect()
                    )
                ),
            ]
        })
    }

    proptest::proptest! {
        /// No document panics, and what is accepted is written so that it is read as the same again.
        #[test]
        fn what_is_read_survives_writing(document in any_json()) {
            if let Ok(host) = from_value::<HostConfig>(document.clone()) {
                let again = from_value(serde_json::to_value(&host).unwrap());
                proptest::prop_assert_eq!(again, Ok(host));
            }
            if let Ok(request) = create(&document.to_string()) {
                let again = create(&serde_json::to_string(&request).unwrap());
                proptest::prop_assert_eq!(again, Ok(request));
            }
        }
    }
}
