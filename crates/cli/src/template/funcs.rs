//! The functions that templates call: Go's own and Docker's.

use super::Mode;
use super::print::{display, go_type, sprint, sprintf, sprintln};
use crate::go::json;
use serde_json::{Number, Value};
use std::cmp::Ordering;

const NAMES: [&str; 27] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js",
    "urlquery", "call", "eq", "ne", "lt", "le", "gt", "ge", "json", "split", "join", "title",
    "lower", "upper", "pad", "truncate",
];

/// Longest padding that `pad` adds.
const PAD_MAX: i64 = 10_000;

/// Whether `name` is a function.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Go's truth: zero, empty, null and false are false.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Calls function `name` (not `and`/`or`, which decide what is evaluated).
pub fn call(name: &str, args: Vec<Value>, mode: Mode) -> Result<Value, String> {
    if mode == Mode::Header
        && matches!(
            name,
            "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate"
        )
    {
        return Ok(args.into_iter().next().unwrap_or(Value::Null));
    }
    let text = |index: usize| as_text(name, args.get(index));
    match name {
        "json" => fixed(name, &args, 1).map(|()| Value::String(json::compact(&args[0]))),
        "lower" => fixed(name, &args, 1).and_then(|()| Ok(text(0)?.to_lowercase().into())),
        "upper" => fixed(name, &args, 1).and_then(|()| Ok(text(0)?.to_uppercase().into())),
        "title" => fixed(name, &args, 1).and_then(|()| Ok(title(text(0)?).into())),
        "split" => fixed(name, &args, 2).and_then(|()| Ok(split(text(0)?, text(1)?))),
        "join" => fixed(name, &args, 2).and_then(|()| join(&args[0], text(1)?)),
        "pad" => fixed(name, &args, 3)
            .and_then(|()| pad(text(0)?, int(name, &args[1])?, int(name, &args[2])?)),
        "truncate" => {
            fixed(name, &args, 2).and_then(|()| Ok(truncate(text(0)?, int(name, &args[1])?).into()))
        }
        "not" => fixed(name, &args, 1).map(|()| Value::Bool(!truth(&args[0]))),
        "len" => fixed(name, &args, 1).and_then(|()| length(&args[0])),
        "index" => index(&args),
        "slice" => slice(&args),
        "print" => Ok(sprint(&args).into()),
        "println" => Ok(sprintln(&args).into()),
        "printf" => Ok(sprintf(text(0)?, &args[1..]).into()),
        "html" => Ok(html(&plain(&args)).into()),
        "js" => Ok(js(&plain(&args)).into()),
        "urlquery" => Ok(urlquery(&plain(&args)).into()),
        "call" => Err("error calling call: non-function".into()),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, &args),
        _ => Err(format!("{name:?} is not a defined function")),
    }
}

fn fixed(name: &str, args: &[Value], count: usize) -> Result<(), String> {
    if args.len() == count {
        Ok(())
    } else {
        Err(format!(
            "wrong number of args for {name}: want {count} got {}",
            args.len()
        ))
    }
}

fn as_text<'a>(name: &str, value: Option<&'a Value>) -> Result<&'a str, String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        None => Err(format!(
            "wrong number of args for {name}: want at least 1 got 0"
        )),
        Some(Value::Null) => Err("invalid value; expected string".into()),
        Some(other) => Err(format!(
            "wrong type for value; expected string; got {}",
            go_type(other)
        )),
    }
}

fn int(_: &str, value: &Value) -> Result<i64, String> {
    value
        .as_i64()
        .ok_or_else(|| format!("wrong type for value; expected int; got {}", go_type(value)))
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(|c| Value::String(c.into())).collect();
    }
    text.split(separator)
        .map(|part| Value::String(part.into()))
        .collect()
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(display).collect();
            Ok(items.join(separator).into())
        }
        Value::Null => Ok("".into()),
        other => Err(format!(
            "wrong type for value; expected []string; got {}",
            go_type(other)
        )),
    }
}

fn pad(text: &str, before: i64, after: i64) -> Result<Value, String> {
    if text.is_empty() {
        return Ok("".into());
    }
    let spaces = |count: i64| match count {
        ..0 => Err("error calling pad: strings: negative Repeat count".to_owned()),
        count => Ok(" ".repeat(count.min(PAD_MAX) as usize)),
    };
    Ok(format!("{}{text}{}", spaces(before)?, spaces(after)?).into())
}

fn truncate(text: &str, length: i64) -> String {
    let length = usize::try_from(length).unwrap_or(0);
    if text.len() < length {
        return text.to_owned();
    }
    String::from_utf8_lossy(&text.as_bytes()[..length]).into_owned()
}

fn length(value: &Value) -> Result<Value, String> {
    let count = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        // A list or map that Go leaves nil.
        Value::Null => 0,
        other => return Err(format!("error calling len: len of type {}", go_type(other))),
    };
    Ok(count.into())
}

fn index(args: &[Value]) -> Result<Value, String> {
    let Some((first, keys)) = args.split_first() else {
        return Err("wrong number of args for index: want at least 1 got 0".into());
    };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Array(list), key) => {
                let at = key.as_i64().ok_or_else(|| {
                    format!(
                        "error calling index: cannot index slice/array with type {}",
                        go_type(key)
                    )
                })?;
                let found = usize::try_from(at).ok().and_then(|at| list.get(at));
                found
                    .cloned()
                    .ok_or_else(|| format!("error calling index: index out of range: {at}"))?
            }
            (Value::Object(map), Value::String(key)) => {
                map.get(key).cloned().unwrap_or(Value::Null)
            }
            (Value::Object(_), key) => {
                return Err(format!(
                    "error calling index: value has type {}; should be string",
                    go_type(key)
                ));
            }
            (Value::String(text), key) => {
                let at = key.as_i64().ok_or_else(|| {
                    format!(
                        "error calling index: cannot index slice/array with type {}",
                        go_type(key)
                    )
                })?;
                let found = usize::try_from(at)
                    .ok()
                    .and_then(|at| text.as_bytes().get(at));
                found
                    .map(|&byte| Value::from(byte))
                    .ok_or_else(|| format!("error calling index: index out of range: {at}"))?
            }
            (Value::Null, _) => return Err("error calling index: index of untyped nil".into()),
            (other, _) => {
                return Err(format!(
                    "error calling index: can't index item of type {}",
                    go_type(other)
                ));
            }
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let Some((item, bounds)) = args.split_first() else {
        return Err("wrong number of args for slice: want at least 1 got 0".into());
    };
    let size = match item {
        Value::String(text) => text.len(),
        Value::Array(list) => list.len(),
        Value::Null => return Err("error calling slice: slice of untyped nil".into()),
        other => {
            return Err(format!(
                "error calling slice: can't slice item of type {}",
                go_type(other)
            ));
        }
    };
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Ok(default),
        Some(value) => {
            let wanted = value.as_i64().ok_or_else(|| {
                format!(
                    "error calling slice: cannot index slice/array with type {}",
                    go_type(value)
                )
            })?;
            usize::try_from(wanted)
                .ok()
                .filter(|at| *at <= size)
                .ok_or_else(|| format!("error calling slice: index out of range: {wanted}"))
        }
    };
    let (from, to) = (bound(0, 0)?, bound(1, size)?);
    if from > to {
        return Err(format!(
            "error calling slice: invalid slice index: {from} > {to}"
        ));
    }
    Ok(match item {
        Value::Array(list) => Value::Array(list[from..to].to_vec()),
        Value::String(text) => String::from_utf8_lossy(&text.as_bytes()[from..to])
            .into_owned()
            .into(),
        _ => Value::Null,
    })
}

fn plain(args: &[Value]) -> String {
    match args {
        [Value::String(text)] => text.clone(),
        args => sprint(args),
    }
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => {
                out.push('\\');
                out.push(c);
            }
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char)
            }
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn compare(name: &str, args: &[Value]) -> Result<Value, String> {
    let Some((first, others)) = args.split_first() else {
        return Err(format!(
            "wrong number of args for {name}: want at least 1 got 0"
        ));
    };
    if others.is_empty() {
        return Err(format!(
            "error calling {name}: missing argument for comparison"
        ));
    }
    if name == "eq" {
        for other in others {
            if equal(name, first, other)? {
                return Ok(true.into());
            }
        }
        return Ok(false.into());
    }
    fixed(name, args, 2)?;
    if name == "ne" {
        return Ok((!equal(name, first, &others[0])?).into());
    }
    let order =
        order(first, &others[0]).map_err(|message| format!("error calling {name}: {message}"))?;
    Ok(match name {
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }
    .into())
}

fn equal(name: &str, left: &Value, right: &Value) -> Result<bool, String> {
    match (left, right) {
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::String(a), Value::String(b)) => Ok(a == b),
        (Value::Number(a), Value::Number(b)) => Ok(number_order(a, b) == Some(Ordering::Equal)),
        (Value::Array(_) | Value::Object(_), _) => {
            Err(format!("error calling {name}: non-comparable type"))
        }
        _ => Err(format!(
            "error calling {name}: incompatible types for comparison"
        )),
    }
}

fn order(left: &Value, right: &Value) -> Result<Ordering, &'static str> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => {
            number_order(a, b).ok_or("invalid type for comparison")
        }
        (Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::Null, _) => {
            Err("invalid type for comparison")
        }
        _ => Err("incompatible types for comparison"),
    }
}

fn number_order(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}
