//! Times as Docker writes and reads them: RFC 3339 with Go's trimmed nanoseconds, Unix seconds with a fraction, and
//! durations counted back from now.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

/// Go's zero time: "never".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// Go's `RFC3339Nano`: UTC, trailing zeros of the fraction removed.
pub fn rfc3339_nano(time: Timestamp) -> String {
    let whole = time.strftime("%Y-%m-%dT%H:%M:%S");
    match time.subsec_nanosecond() {
        0 => format!("{whole}Z"),
        nanos => format!("{whole}.{}Z", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// RFC 3339 with all nine digits of the fraction, as in logs with `timestamps`.
pub fn rfc3339_nano_fixed(time: Timestamp) -> String {
    format!(
        "{}.{:09}Z",
        time.strftime("%Y-%m-%dT%H:%M:%S"),
        time.subsec_nanosecond()
    )
}

/// RFC 3339 with seconds only.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads `since` and `until`: `1136073845`, `1136073845.000000001`, RFC 3339 (with or without zone, seconds or time; a missing
/// zone is UTC), or a Go duration such as `1h30m`, counted back from `now`.
///
/// # Errors
/// Docker's sentence (status 400).
pub fn parse_timestamp(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(time) = parse_unix(text) {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Some(duration) = parse_go_duration(text) {
        return now
            .checked_sub(duration)
            .map_err(|_| format!("invalid value {text:?}: out of range"));
    }
    let local = text.trim_end_matches('Z');
    let civil = local
        .parse::<civil::DateTime>()
        .ok()
        .or_else(|| local.parse::<civil::Date>().ok().map(civil::DateTime::from))
        .or_else(|| format!("{local}:00").parse::<civil::DateTime>().ok());
    match civil.and_then(|c| c.to_zoned(TimeZone::UTC).ok()) {
        Some(zoned) => Ok(zoned.timestamp()),
        None => Err(format!(
            "invalid value: failed to parse value as time or duration: {text:?}"
        )),
    }
}

fn parse_unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = seconds.starts_with('-');
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: i32 = match fraction {
        "" => 0,
        digits if digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{digits:0<9}").parse().ok()?
        }
        _ => return None,
    };
    Timestamp::new(seconds, if negative { -nanos } else { nanos }).ok()
}

/// A Go duration: `300ms`, `1.5h`, `2h45m`. `None` where it is not one, or overflows.
pub fn parse_go_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.len() > 19 {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        total += whole * scale;
        if !fraction.is_empty() {
            total += fraction.parse::<i128>().ok()? * scale / 10i128.pow(fraction.len() as u32);
        }
        rest = after;
    }
    let nanos = i64::try_from(if negative { -total } else { total }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> String {
        let now = Timestamp::new(1_000_000_000, 0).unwrap();
        parse_timestamp(text, now).map_or_else(|e| e, rfc3339_nano)
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(at("1136073845"), "2006-01-01T00:04:05Z");
        assert_eq!(at("1136073845.000000001"), "2006-01-01T00:04:05.000000001Z");
        assert_eq!(at("1136073845.5"), "2006-01-01T00:04:05.5Z");
        assert_eq!(
            at("2006-01-02T15:04:05.999999999-07:00"),
            "2006-01-02T22:04:05.999999999Z"
        );
        assert_eq!(at("2006-01-02T15:04:05"), "2006-01-02T15:04:05Z");
        assert_eq!(at("2006-01-02T15:04"), "2006-01-02T15:04:00Z");
        assert_eq!(at("2006-01-02Z"), "2006-01-02T00:00:00Z");
        assert_eq!(at("2006-01-02"), "2006-01-02T00:00:00Z");
        assert_eq!(at("1m40s"), "2001-09-09T01:45:00Z");
        assert_eq!(
            at("x"),
            "invalid value: failed to parse value as time or duration: \"x\""
        );
    }

    #[test]
    fn reads_go_durations() {
        assert_eq!(
            parse_go_duration("1.5h"),
            Some(SignedDuration::from_secs(5400))
        );
        assert_eq!(
            parse_go_duration("2h45m"),
            Some(SignedDuration::from_secs(9900))
        );
        assert_eq!(
            parse_go_duration("-300ms"),
            Some(SignedDuration::from_millis(-300))
        );
        assert_eq!(parse_go_duration("0"), Some(SignedDuration::ZERO));
        for bad in ["", "5", "h", "1x", ".s", "99999999999h"] {
            assert_eq!(parse_go_duration(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_time_is_read_or_refused(text in "[-+0-9.:TZhmsuµn]{0,30}", any in ".{0,30}") {
            let now = Timestamp::new(1_000_000_000, 0).unwrap();
            for text in [&text, &any] {
                let _ = parse_timestamp(text, now);
                let _ = parse_go_duration(text);
            }
        }
    }
}
