//! `org.systemd.property.NAME` annotations: more properties for the unit, in GVariant's text form, as runc
//! takes them (CRI-O and Podman set `CollectMode` and `TimeoutStopUSec` this way).

use std::collections::BTreeMap;

use super::Properties;
use crate::dbus::Value;
use crate::{Error, Problem, Result};

const PREFIX: &str = "org.systemd.property.";

/// The properties among a container's annotations.
///
/// # Errors
/// [`Error::Invalid`] with the annotation that cannot be read.
pub(crate) fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Properties> {
    let mut found = Properties::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let bad = |reason: String| {
            Error::Invalid(vec![Problem {
                field: format!("annotations[{key}]"),
                reason,
            }])
        };
        // Letters only and at least three, as runc has it.
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(bad(format!("{name:?} is no name of a property")));
        }
        let value = parse(text).ok_or_else(|| bad(format!("cannot read the value {text:?}")))?;
        found.push(
            match name.strip_suffix("Sec").filter(|n| !n.ends_with('U')) {
                // Files of units have seconds, D-Bus has microseconds only.
                Some(base) => (
                    format!("{base}USec"),
                    microseconds(&value).ok_or_else(|| bad(format!("{text:?} is no time")))?,
                ),
                None => (name.to_owned(), value),
            },
        );
    }
    Ok(found)
}

fn microseconds(value: &Value) -> Option<Value> {
    let whole = |n: i128| u64::try_from(n).ok().and_then(|n| n.checked_mul(1_000_000));
    let micros = match value {
        Value::Byte(n) => whole((*n).into()),
        Value::I16(n) => whole((*n).into()),
        Value::U16(n) => whole((*n).into()),
        Value::I32(n) => whole((*n).into()),
        Value::U32(n) => whole((*n).into()),
        Value::I64(n) => whole((*n).into()),
        Value::U64(n) => whole((*n).into()),
        Value::Double(n) if *n >= 0.0 && *n < 1e12 => Some((n * 1e6) as u64),
        _ => None,
    };
    micros.map(Value::U64)
}

/// A scalar, a text, or an array of either: `true`, `5`, `uint64 5`, `1.5`, `'x'`, `['a', 'b']`.
fn parse(text: &str) -> Option<Value> {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) else {
        return scalar(text);
    };
    let mut items = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let end = end_of_item(rest)?;
        items.push(scalar(rest[..end].trim())?);
        rest = rest[end..].trim_start_matches(',').trim_start();
    }
    let element = items.first().map(Value::signature)?;
    let uniform = items.iter().all(|v| v.signature() == element);
    uniform.then_some(Value::Array(element, items))
}

/// Where the first item of a list ends: at its comma, not one inside quotes.
fn end_of_item(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let from = match quote {
        Some(quote) => 2 + text[1..].find(quote)?,
        None => 0,
    };
    Some(text[from..].find(',').map_or(text.len(), |at| from + at))
}

fn scalar(text: &str) -> Option<Value> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            // Nothing that needs an escape is in any property's value.
            return (!inner.contains(['\\', quote])).then(|| Value::str(inner));
        }
    }
    if let Some((kind, number)) = text.split_once(' ') {
        let number = number.trim();
        return match kind {
            "byte" => number.parse().ok().map(Value::Byte),
            "int16" => number.parse().ok().map(Value::I16),
            "uint16" => number.parse().ok().map(Value::U16),
            "int32" => number.parse().ok().map(Value::I32),
            "uint32" => number.parse().ok().map(Value::U32),
            "int64" => number.parse().ok().map(Value::I64),
            "uint64" => number.parse().ok().map(Value::U64),
            "double" => number.parse().ok().map(Value::Double),
            "boolean" => number.parse().ok().map(Value::Bool),
            "string" => scalar(number).filter(|v| matches!(v, Value::Str(_))),
            _ => None,
        };
    }
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ if text.contains('.') => text.parse().ok().map(Value::Double),
        _ => text.parse().ok().map(Value::I32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Result<Properties> {
        let key = format!("org.systemd.property.{name}");
        from_annotations(&[(key, text.to_owned())].into())
    }

    #[test]
    fn values_in_gvariant_s_text() {
        let cases = [
            ("true", Value::Bool(true)),
            ("-5", Value::I32(-5)),
            ("uint64 20000000", Value::U64(20_000_000)),
            ("1.5", Value::Double(1.5)),
            ("'inactive-or-failed'", Value::str("inactive-or-failed")),
            (
                "['a.service', \"b, c\"]",
                Value::Array(
                    "s".into(),
                    vec![Value::str("a.service"), Value::str("b, c")],
                ),
            ),
        ];
        for (text, value) in cases {
            assert_eq!(one("Any", text).unwrap(), [("Any".to_owned(), value)]);
        }
        for bad in [
            "",
            "x",
            "'a",
            "[1, 'a']",
            "[]",
            "uint64 -1",
            "uint9 1",
            "'a\\'b'",
        ] {
            one("Any", bad).unwrap_err();
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        let micros = |n| Value::U64(n);
        assert_eq!(
            one("TimeoutStopSec", "2").unwrap(),
            [("TimeoutStopUSec".to_owned(), micros(2_000_000))]
        );
        assert_eq!(
            one("TimeoutStopSec", "0.5").unwrap(),
            [("TimeoutStopUSec".to_owned(), micros(500_000))]
        );
        assert_eq!(
            one("TimeoutStopUSec", "uint64 7").unwrap(),
            [("TimeoutStopUSec".to_owned(), micros(7))]
        );
        one("TimeoutStopSec", "-1").unwrap_err();
        one("TimeoutStopSec", "'1'").unwrap_err();
    }

    #[test]
    fn names_are_letters() {
        one("a/b", "1").unwrap_err();
        one("ab", "1").unwrap_err();
        let other = [("org.example".to_owned(), "x".to_owned())].into();
        assert!(from_annotations(&other).unwrap().is_empty());
    }
}
