//! `encoding/json`'s layouts: indented with four spaces, compact, with or without HTML escapes.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, PrettyFormatter, Serializer};

/// Compact JSON without HTML escapes (`json` of a template).
pub fn compact(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, CompactFormatter);
    if value.serialize(&mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Compact JSON as `json.Marshal` writes it: `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub fn compact_escaped(value: &impl Serialize) -> String {
    escape_html(&compact(value))
}

/// JSON indented by `indent`, empty lists and objects as `[]` and `{}`.
pub fn indented(value: &impl Serialize, indent: &str) -> String {
    let mut out = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(indent.as_bytes()));
    if value.serialize(&mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8(out).unwrap_or_default()
}

/// `json.Indent`: lays out JSON text anew without touching its strings and numbers. The text must be valid JSON.
pub fn reindent(raw: &str, indent: &str) -> String {
    let mut out = String::with_capacity(raw.len() * 2);
    let (mut depth, mut need_indent) = (0usize, false);
    scan(raw, |token| match token {
        Token::Text(text) => {
            if need_indent {
                need_indent = false;
                newline(&mut out, depth, indent);
            }
            out.push_str(text);
        }
        Token::Open(c) => {
            if need_indent {
                newline(&mut out, depth, indent);
            }
            out.push(c);
            depth += 1;
            need_indent = true;
        }
        Token::Close(c) => {
            depth = depth.saturating_sub(1);
            if !need_indent {
                newline(&mut out, depth, indent);
            }
            need_indent = false;
            out.push(c);
        }
        Token::Comma => {
            out.push(',');
            newline(&mut out, depth, indent);
        }
        Token::Colon => out.push_str(": "),
    });
    out
}

/// `json.Compact`: drops the white space between tokens.
pub fn compact_raw(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    scan(raw, |token| match token {
        Token::Text(text) => out.push_str(text),
        Token::Open(c) | Token::Close(c) => out.push(c),
        Token::Comma => out.push(','),
        Token::Colon => out.push(':'),
    });
    out
}

fn newline(out: &mut String, depth: usize, indent: &str) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str(indent);
    }
}

enum Token<'a> {
    Text(&'a str),
    Open(char),
    Close(char),
    Comma,
    Colon,
}

fn scan<'a>(raw: &'a str, mut emit: impl FnMut(Token<'a>)) {
    let bytes = raw.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        at += 1;
        match bytes[start] {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            c @ (b'{' | b'[') => emit(Token::Open(c as char)),
            c @ (b'}' | b']') => emit(Token::Close(c as char)),
            b',' => emit(Token::Comma),
            b':' => emit(Token::Colon),
            b'"' => {
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                emit(Token::Text(&raw[start..at]));
            }
            _ => {
                while at < bytes.len()
                    && !matches!(
                        bytes[at],
                        b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'}' | b']'
                    )
                {
                    at += 1;
                }
                emit(Token::Text(raw.get(start..at).unwrap_or("")));
            }
        }
    }
}

/// Escapes what Go's `json.Marshal` escapes for HTML; only string contents can hold these characters.
pub fn escape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

/// Sorts the keys of every object, as a Go map is marshalled.
pub fn sort_keys(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.sort_keys();
            map.values_mut().for_each(sort_keys);
        }
        Value::Array(list) => list.iter_mut().for_each(sort_keys),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layouts() {
        let value = json!([{"a": "<x>", "b": [], "c": {}}]);
        assert_eq!(compact(&value), r#"[{"a":"<x>","b":[],"c":{}}]"#);
        assert_eq!(
            compact_escaped(&value),
            r#"[{"a":"\u003cx\u003e","b":[],"c":{}}]"#
        );
        assert_eq!(
            indented(&value, "    "),
            "[\n    {\n        \"a\": \"<x>\",\n        \"b\": [],\n        \"c\": {}\n    }\n]"
        );
    }

    #[test]
    fn raw_text_keeps_its_numbers_and_escapes() {
        let raw = r#"[{"a" : "\u003cx: ,\"y","n":1.50, "e":[ ] ,"o":{}}]"#;
        assert_eq!(
            reindent(raw, "  "),
            "[\n  {\n    \"a\": \"\\u003cx: ,\\\"y\",\n    \"n\": 1.50,\n    \"e\": [],\n    \"o\": {}\n  }\n]"
        );
        assert_eq!(
            compact_raw(raw),
            r#"[{"a":"\u003cx: ,\"y","n":1.50,"e":[],"o":{}}]"#
        );
    }
}
