//! Go's time layouts that Docker prints, in the local time zone.

use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// `time.Unix(seconds, 0).String()`: `2006-01-02 15:04:05 -0700 MST`.
pub fn unix_string(seconds: i64) -> String {
    let Ok(stamp) = Timestamp::from_second(seconds) else {
        return String::new();
    };
    stamp
        .to_zoned(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S %z %Z")
        .to_string()
}

/// Seconds since the epoch of an RFC 3339 time; `None` for Go's zero time and for rubbish.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    if text.starts_with("0001-01-01") {
        return None;
    }
    text.parse().ok()
}

/// Time since `seconds` (Unix), nothing when it lies ahead.
pub fn since(seconds: i64) -> Duration {
    let now = Timestamp::now().as_second();
    Duration::from_secs(u64::try_from(now.saturating_sub(seconds)).unwrap_or(0))
}

/// RFC 3339 with seconds in the local zone, as `Format(time.RFC3339)`.
pub fn rfc3339_local(seconds: i64) -> String {
    let Ok(stamp) = Timestamp::from_second(seconds) else {
        return String::new();
    };
    let zone = stamp.to_zoned(TimeZone::system());
    if zone.offset().is_zero() {
        return zone.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    }
    zone.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// `RFC3339NanoFixed` in the local zone: nine digits of fraction, as `docker events` prints.
pub fn rfc3339_nano_fixed(nanos: i128) -> String {
    let Ok(stamp) = Timestamp::from_nanosecond(nanos) else {
        return String::new();
    };
    let zone = stamp.to_zoned(TimeZone::system());
    if zone.offset().is_zero() {
        return zone.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string();
    }
    zone.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string()
}

/// `Time.String()` of an RFC 3339 time in its own zone: `2006-01-02 15:04:05.999999999 -0700 MST`; other text as it is.
pub fn created_text(text: &str) -> String {
    let Ok(stamp) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    let offset = jiff::fmt::temporal::DateTimeParser::new()
        .parse_pieces(text)
        .ok()
        .and_then(|pieces| pieces.to_numeric_offset())
        .unwrap_or(jiff::tz::Offset::UTC);
    let zoned = stamp.to_zoned(TimeZone::fixed(offset));
    let zone = if offset.is_zero() {
        "+0000 UTC".to_owned()
    } else {
        zoned.strftime("%z %z").to_string()
    };
    let fraction = match zoned.subsec_nanosecond() {
        0 => String::new(),
        nanos => format!(".{}", format!("{nanos:09}").trim_end_matches('0')),
    };
    format!("{}{fraction} {zone}", zoned.strftime("%Y-%m-%d %H:%M:%S"))
}

/// `time.ANSIC`-like form of `docker version`: `Mon Jan  2 15:04:05 2006`, from an RFC 3339 time; other text as it is.
pub fn ansic(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(stamp) => stamp
            .to_zoned(TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        assert!(unix_string(0).starts_with("19"));
        assert_eq!(
            ansic("2025-05-30T12:07:14.000000000+00:00"),
            "Fri May 30 12:07:14 2025"
        );
        assert_eq!(
            created_text("2025-05-30T12:07:14.100000000Z"),
            "2025-05-30 12:07:14.1 +0000 UTC"
        );
        assert_eq!(
            created_text("2025-05-30T12:07:14+02:00"),
            "2025-05-30 12:07:14 +0200 +0200"
        );
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), None);
    }
}
