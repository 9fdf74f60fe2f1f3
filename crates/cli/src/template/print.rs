//! How Go prints values: `%v`, `%q`, `%d`, .. over JSON data.

use super::structs;
use crate::go::strconv;
use serde_json::{Number, Value};

/// `%v` of a value: maps as `map[a:1 b:2]` (sorted), lists as `[a b]`, structures as `{1 2}`, nothing as `<no value>`.
pub fn display(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, "<no value>");
    out
}

fn write(out: &mut String, value: &Value, null: &str) {
    match value {
        Value::Null => out.push_str(null),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&display_number(number)),
        Value::String(text) => out.push_str(text),
        Value::Array(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write(out, item, "<nil>");
            }
            out.push(']');
        }
        Value::Object(map) => {
            if let Some(values) = structs::values(map) {
                return write_struct(out, &values);
            }
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push_str("map[");
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                match structs::member(key, &map[key]) {
                    Some(text) => out.push_str(text),
                    None => write(out, &map[key], "<nil>"),
                }
            }
            out.push(']');
        }
    }
}

fn write_struct(out: &mut String, values: &[Result<&Value, &'static str>]) {
    out.push('{');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        match value {
            Ok(value) => write(out, value, "<nil>"),
            Err(zero) => out.push_str(zero),
        }
    }
    out.push('}');
}

fn display_number(number: &Number) -> String {
    if number.is_f64() {
        strconv::format_float(number.as_f64().unwrap_or(0.0))
    } else {
        number.to_string()
    }
}

/// `fmt.Sprint`: spaces between operands when neither is a string.
pub fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 && !value.is_string() && !values[index - 1].is_string() {
            out.push(' ');
        }
        write(&mut out, value, "<nil>");
    }
    out
}

/// `fmt.Sprintln`.
pub fn sprintln(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        write(&mut out, value, "<nil>");
    }
    out.push('\n');
    out
}

/// Widths and precisions beyond this are not honoured: a format string cannot ask for gigabytes.
const WIDTH_MAX: usize = 10_000;

#[derive(Default)]
struct Spec {
    minus: bool,
    zero: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

/// `fmt.Sprintf` with the verbs that make sense for JSON data, and Go's `%!d(string=x)` notes.
pub fn sprintf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(&flag) = chars.peek() {
            match flag {
                '-' => spec.minus = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => break,
            }
            chars.next();
        }
        spec.width = take_number(&mut chars).unwrap_or(0);
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(take_number(&mut chars).unwrap_or(0));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.get(next) else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        next += 1;
        out.push_str(&pad(&one(verb, &spec, value), &spec));
    }
    if next < values.len() {
        let extra: Vec<String> = values[next..]
            .iter()
            .map(|value| format!("{}={}", go_type(value), sprint(std::slice::from_ref(value))))
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn take_number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        number = Some((number.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
        chars.next();
    }
    number
}

fn pad(text: &str, spec: &Spec) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    if missing == 0 {
        return text.to_owned();
    }
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if !spec.zero {
        return format!("{}{text}", " ".repeat(missing));
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    format!("{sign}{}{digits}", "0".repeat(missing))
}

fn one(verb: char, spec: &Spec, value: &Value) -> String {
    match (verb, value) {
        ('v', value) => sprint(std::slice::from_ref(value)),
        ('s', Value::String(text)) => match spec.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.clone(),
        },
        ('s', Value::Array(_) | Value::Object(_)) => sprint(std::slice::from_ref(value)),
        ('q', Value::String(text)) => strconv::quote(text),
        ('q', Value::Array(list)) => {
            let items: Vec<String> = list.iter().map(|item| one('q', spec, item)).collect();
            format!("[{}]", items.join(" "))
        }
        ('x', Value::String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::String(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('t', Value::Bool(flag)) => flag.to_string(),
        ('T', value) => go_type(value).to_owned(),
        ('d' | 'b' | 'o' | 'x' | 'X' | 'c' | 'U', Value::Number(number)) if !number.is_f64() => {
            integer(verb, spec, number)
        }
        ('f' | 'F' | 'e' | 'g', Value::Number(number)) if number.is_f64() => {
            let value = number.as_f64().unwrap_or(0.0);
            match verb {
                'g' => spec.precision.map_or_else(
                    || strconv::format_float(value),
                    |p| strconv::format_g(value, p),
                ),
                'e' => strconv_e(value, spec.precision.unwrap_or(6)),
                _ => format!("{value:.*}", spec.precision.unwrap_or(6).min(WIDTH_MAX)),
            }
        }
        (verb, value) => format!(
            "%!{verb}({}={})",
            go_type(value),
            sprint(std::slice::from_ref(value))
        ),
    }
}

fn strconv_e(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!(
        "{mantissa}e{}{:02}",
        if exponent < 0 { '-' } else { '+' },
        exponent.abs()
    )
}

fn integer(verb: char, spec: &Spec, number: &Number) -> String {
    let value = number
        .as_i64()
        .map_or_else(|| i128::from(number.as_u64().unwrap_or(0)), i128::from);
    let sign = if value < 0 {
        "-"
    } else if spec.plus {
        "+"
    } else {
        ""
    };
    let size = value.unsigned_abs();
    let body = match verb {
        'b' => format!("{size:b}"),
        'o' => format!("{size:o}"),
        'x' if spec.sharp => format!("0x{size:x}"),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'U' => format!("U+{size:04X}"),
        'c' => {
            return u32::try_from(size)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or('\u{fffd}')
                .to_string();
        }
        _ => size.to_string(),
    };
    format!("{sign}{body}")
}

/// The Go type that a JSON value has in Docker's structures, for messages.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
