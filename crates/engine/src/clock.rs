//! Time as Docker writes it.

use jiff::Timestamp;

/// Now, as RFC 3339 with nanoseconds in UTC, as Go prints it.
pub(crate) fn now() -> String {
    hull_api::time::rfc3339_nano(Timestamp::now())
}

/// Seconds since 1970 of an RFC 3339 time; 0 for Go's zero time and for what cannot be read.
pub(crate) fn unix_seconds(time: &str) -> i64 {
    if time == hull_api::time::ZERO {
        return 0;
    }
    time.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}
