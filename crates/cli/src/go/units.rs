//! Docker's sizes and spans of time for people, and the sizes that people type (`go-units`).

use super::strconv::{format_g, parse_float};
use std::time::Duration;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

fn scale(mut size: f64, base: f64, units: &'static [&'static str; 9]) -> (f64, &'static str) {
    let mut index = 0;
    while size >= base && index < units.len() - 1 {
        size /= base;
        index += 1;
    }
    (size, units[index])
}

/// Decimal size, `precision` significant digits: `1.23MB`.
pub fn human_size_precision(size: f64, precision: usize) -> String {
    let (size, unit) = scale(size, 1000.0, &DECIMAL);
    format!("{}{unit}", format_g(size, precision))
}

/// Decimal size with four significant digits: `1.234MB`.
pub fn human_size(size: f64) -> String {
    human_size_precision(size, 4)
}

/// Binary size: `1.205MiB`.
pub fn bytes_size(size: f64) -> String {
    let (size, unit) = scale(size, 1024.0, &BINARY);
    format!("{}{unit}", format_g(size, 4))
}

/// How long ago, in Docker's words: `About a minute`, `3 hours`.
pub fn human_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    let hours = (span.as_secs_f64() / 3600.0 + 0.5) as u64;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Parses `512m`, `1.5 GiB`, `100b` (powers of 1024), with go-units' error sentences.
pub fn ram_in_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let split = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(invalid)?;
    let number = if text.as_bytes()[split] == b' ' {
        &text[..split]
    } else {
        &text[..=split]
    };
    let suffix = &text[split + 1..];
    let size = parse_float(number)?;
    if size < 0.0 {
        return Err(invalid());
    }
    let bad = || format!("invalid suffix: '{}'", suffix.to_lowercase());
    if suffix.is_empty() {
        return Ok(size as i64);
    }
    if suffix.len() > 3 {
        return Err(format!("invalid suffix: '{suffix}'"));
    }
    let lower = suffix.to_lowercase();
    if lower.starts_with('b') {
        return if lower.len() > 1 {
            Err(bad())
        } else {
            Ok(size as i64)
        };
    }
    let power = match lower.as_bytes()[0] {
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        b'p' => 5,
        _ => return Err(bad()),
    };
    if !matches!(&lower[1..], "" | "b" | "ib") {
        return Err(bad());
    }
    Ok((size * 1024f64.powi(power)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(human_size(1_234_567.0), "1.235MB");
        assert_eq!(human_size_precision(4_261_550.0, 3), "4.26MB");
        assert_eq!(human_size_precision(0.0, 3), "0B");
        assert_eq!(bytes_size(1_258_291.2), "1.2MiB");
    }

    #[test]
    fn typed_sizes() {
        assert_eq!(ram_in_bytes("1.5g"), Ok(1_610_612_736));
        assert_eq!(ram_in_bytes("32 KiB"), Ok(32768));
        assert_eq!(ram_in_bytes("10"), Ok(10));
        assert_eq!(ram_in_bytes("x").unwrap_err(), "invalid size: 'x'");
        assert_eq!(ram_in_bytes("1x").unwrap_err(), "invalid suffix: 'x'");
        assert_eq!(ram_in_bytes("-1").unwrap_err(), "invalid size: '-1'");
        assert_eq!(ram_in_bytes("1mbb").unwrap_err(), "invalid suffix: 'mbb'");
    }

    #[test]
    fn spans() {
        let of = |s| human_duration(Duration::from_secs(s));
        assert_eq!(of(0), "Less than a second");
        assert_eq!(of(59), "59 seconds");
        assert_eq!(of(61), "About a minute");
        assert_eq!(of(3600), "About an hour");
        assert_eq!(of(3600 * 5), "5 hours");
        assert_eq!(of(86400 * 3), "3 days");
        assert_eq!(of(86400 * 800), "2 years");
    }

    proptest! {
        #[test]
        fn sizes_never_panic(text in "\\PC{0,12}") {
            let _ = ram_in_bytes(&text);
        }
    }
}
