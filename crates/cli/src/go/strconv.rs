//! Go's `strconv`: quoting, and number parsing with the error sentences that Docker users see.

use std::fmt::Write as _;

/// Quotes as `strconv.Quote`: double quotes, `\n`-style escapes, `\x7f`, `\u00ad` for what does not print.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if is_print(c) => out.push(c),
            c if (c as u32) < 0x10000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}

/// Roughly `strconv.IsPrint`: no control, format, private-use or non-ASCII space characters.
fn is_print(c: char) -> bool {
    let code = c as u32;
    if c == ' ' {
        return true;
    }
    !(c.is_control()
        || c.is_whitespace()
        || code == 0xad
        || (0x200b..=0x200f).contains(&code)
        || (0x202a..=0x202e).contains(&code)
        || (0x2060..=0x206f).contains(&code)
        || code == 0xfeff
        || (0xe000..=0xf8ff).contains(&code)
        || code >= 0xf0000)
}

fn syntax(function: &str, text: &str) -> String {
    format!(
        "strconv.{function}: parsing {}: invalid syntax",
        quote(text)
    )
}

fn range(function: &str, text: &str) -> String {
    format!(
        "strconv.{function}: parsing {}: value out of range",
        quote(text)
    )
}

/// `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(syntax("ParseBool", text)),
    }
}

fn split_base(text: &str) -> (u32, &str) {
    let lower = text.get(..2).map(str::to_ascii_lowercase);
    match lower.as_deref() {
        Some("0x") => (16, &text[2..]),
        Some("0b") => (2, &text[2..]),
        Some("0o") => (8, &text[2..]),
        _ if text.len() > 1 && text.starts_with('0') => (8, &text[1..]),
        _ => (10, text),
    }
}

fn digits(text: &str, base: u32) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_digit(base))
}

/// `strconv.ParseInt(text, 0, 64)`: decimal, or 0x, 0o, 0b, 0 prefixes.
pub fn parse_int(text: &str) -> Result<i64, String> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, body) = split_base(body);
    if !digits(body, base) {
        return Err(syntax("ParseInt", text));
    }
    let value = i128::from_str_radix(body, base).map_err(|_| range("ParseInt", text))?;
    let value = if negative { -value } else { value };
    i64::try_from(value).map_err(|_| range("ParseInt", text))
}

/// `strconv.ParseUint(text, 0, bits)`.
pub fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let (base, body) = split_base(text);
    parse_uint_body(text, body, base, bits)
}

/// `strconv.ParseUint(text, 10, bits)`: decimal only.
pub fn parse_uint_decimal(text: &str, bits: u32) -> Result<u64, String> {
    parse_uint_body(text, text, 10, bits)
}

fn parse_uint_body(text: &str, body: &str, base: u32, bits: u32) -> Result<u64, String> {
    if !digits(body, base) {
        return Err(syntax("ParseUint", text));
    }
    let value = u64::from_str_radix(body, base).map_err(|_| range("ParseUint", text))?;
    if bits < 64 && value >> bits != 0 {
        return Err(range("ParseUint", text));
    }
    Ok(value)
}

/// `strconv.ParseInt(text, 10, 64)`: decimal only, as ulimits take it.
pub fn parse_int_decimal(text: &str) -> Result<i64, String> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits(body, 10) {
        return Err(syntax("ParseInt", text));
    }
    text.parse().map_err(|_| range("ParseInt", text))
}

/// `strconv.ParseFloat(text, 64)` for plain decimal and exponent forms.
pub fn parse_float(text: &str) -> Result<f64, String> {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E'));
    if !plain {
        return Err(syntax("ParseFloat", text));
    }
    text.parse().map_err(|_| syntax("ParseFloat", text))
}

/// `fmt.Sprintf("%.*g", precision, value)`.
pub fn format_g(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else if value > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let precision = precision.max(1);
    let scientific = format!("{:.*e}", precision - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        return format!(
            "{}e{}{:02}",
            trim_zeros(mantissa),
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// `%v` of a float64: shortest form, exponent below 1e-4 and from 1e21.
pub fn format_float(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..21).contains(&exponent) {
        return format!(
            "{mantissa}e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
    }
    format!("{value}")
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(
            quote("a\"b\\\n\u{7f}é\u{200b}…"),
            r#""a\"b\\\n\x7fé\u200b…""#
        );
    }

    #[test]
    fn numbers_are_go_numbers() {
        assert_eq!(parse_int("0x10"), Ok(16));
        assert_eq!(parse_int("-1"), Ok(-1));
        assert_eq!(
            parse_int("a").unwrap_err(),
            r#"strconv.ParseInt: parsing "a": invalid syntax"#
        );
        assert_eq!(
            parse_uint("70000", 16).unwrap_err(),
            r#"strconv.ParseUint: parsing "70000": value out of range"#
        );
        assert_eq!(
            parse_bool("foo").unwrap_err(),
            r#"strconv.ParseBool: parsing "foo": invalid syntax"#
        );
    }

    #[test]
    fn percent_g() {
        assert_eq!(format_g(1.23456, 4), "1.235");
        assert_eq!(format_g(999.9, 3), "1e+03");
        assert_eq!(format_g(100.0, 3), "100");
        assert_eq!(format_g(0.0, 3), "0");
        assert_eq!(format_float(1e21), "1e+21");
        assert_eq!(format_float(1234.5), "1234.5");
    }
}
