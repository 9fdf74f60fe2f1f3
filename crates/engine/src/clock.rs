//! Time as Docker writes it.

use crate::error::{Error, Result};

/// Now, as RFC 3339 with nanoseconds in UTC, as Go prints it (trailing zeros of the fraction left out).
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Seconds and nanoseconds since 1970.
pub(crate) fn now_unix() -> (i64, i32) {
    let now = jiff::Timestamp::now();
    (now.as_second(), now.subsec_nanosecond())
}

/// Nanoseconds since 1970 of an RFC 3339 time; 0 for Go's zero time and for what cannot be read.
pub(crate) fn unix_nanos(time: &str) -> i128 {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) if time.as_second() > -62_000_000_000 => time.as_nanosecond(),
        Ok(_) | Err(_) => 0,
    }
}

/// Seconds since 1970 of an RFC 3339 time.
pub(crate) fn unix_seconds(time: &str) -> i64 {
    (unix_nanos(time) / 1_000_000_000) as i64
}

/// Reads `since`/`until`: seconds with an optional fraction since 1970, RFC 3339 (zone and time may be missing: then local), or a
/// Go duration before now. Nanoseconds since 1970.
pub(crate) fn parse_when(text: &str) -> Result<i128> {
    let bad = || Error::invalid(format!("invalid value for time: {text}: expected a timestamp or a duration"));
    if let Some(nanos) = unix_fraction(text) {
        return Ok(nanos);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_nanosecond());
    }
    if let Some(ago) = go_duration(text) {
        return Ok(jiff::Timestamp::now().as_nanosecond() - ago);
    }
    let local = text.parse::<jiff::civil::DateTime>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        Some(date.at(0, 0, 0, 0))
    });
    let zoned = local.ok_or_else(bad)?.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| bad())?;
    Ok(zoned.timestamp().as_nanosecond())
}

/// `1136073845`, `1136073845.000000001`.
fn unix_fraction(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(i128::from(seconds) * 1_000_000_000 + nanos)
}

/// Go's `time.ParseDuration`, in nanoseconds.
pub(crate) fn go_duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_length] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_length..];
    }
    let nanos = total as i128;
    Some(if negative { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        assert_eq!(parse_when("1136073845").unwrap(), 1_136_073_845_000_000_000);
        assert_eq!(parse_when("1136073845.000000001").unwrap(), 1_136_073_845_000_000_001);
        assert_eq!(parse_when("2006-01-02T15:04:05Z").unwrap(), 1_136_214_245_000_000_000);
        assert!(parse_when("10m").unwrap() < jiff::Timestamp::now().as_nanosecond());
        assert!(parse_when("yesterday").is_err());
        assert_eq!(go_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(go_duration("1.5s"), Some(1_500_000_000));
        assert_eq!(go_duration("5"), None);
        assert_eq!(unix_nanos("0001-01-01T00:00:00Z"), 0);
    }
}
