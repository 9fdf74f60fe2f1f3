//! `Range` of a download (RFC 9110, section 14) and `Content-Range` of a chunk (distribution-spec, "Pushing a blob in chunks").

use std::ops::Range;

/// What a `Range` header asks of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no header, another unit, several ranges, or one that does not parse, which a server may ignore.
    Whole,
    /// These bytes, never none.
    Part(Range<u64>),
    /// Bytes that are not there.
    Unsatisfiable,
}

/// Reads a `Range` header for a body of `len` bytes.
pub fn parse_range(header: Option<&str>, len: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Wanted::Whole;
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(len),
        // Invalid rather than out of range; a server may choose, and a client that asks so is better told.
        (Some(first), Some(_)) => first..first,
        (Some(first), None) if last.trim().is_empty() => first..len,
        (None, Some(count)) if first.trim().is_empty() => len.saturating_sub(count)..len,
        _ => return Wanted::Whole,
    };
    if range.is_empty() {
        Wanted::Unsatisfiable
    } else {
        Wanted::Part(range)
    }
}

/// Reads a chunk's `Content-Range`, `<first>-<last>` (both inclusive); also in the form `bytes <first>-<last>/<total>` that HTTP
/// has and some clients send.
pub fn parse_content_range(header: &str) -> Option<Range<u64>> {
    let header = header.trim();
    let header = header.strip_prefix("bytes").unwrap_or(header);
    let header = header.trim_start_matches(['=', ' ']);
    let (range, _total) = header.split_once('/').unwrap_or((header, ""));
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then(|| first..last + 1)
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges() {
        let of = |header| parse_range(Some(header), 10);
        assert_eq!(parse_range(None, 10), Wanted::Whole);
        assert_eq!(of("bytes=0-3"), Wanted::Part(0..4));
        assert_eq!(of("bytes=4-"), Wanted::Part(4..10));
        assert_eq!(of("bytes=-3"), Wanted::Part(7..10));
        assert_eq!(of("bytes=-30"), Wanted::Part(0..10));
        assert_eq!(of("bytes=9-99"), Wanted::Part(9..10));
        assert_eq!(of("bytes=3-1"), Wanted::Unsatisfiable);
        assert_eq!(of("bytes=10-"), Wanted::Unsatisfiable);
        assert_eq!(of("bytes=-0"), Wanted::Unsatisfiable);
        for ignored in ["bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=+1-2"] {
            assert_eq!(of(ignored), Wanted::Whole, "{ignored}");
        }
    }

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("0-9"), Some(0..10));
        assert_eq!(parse_content_range("bytes 5-9/10"), Some(5..10));
        for bad in [
            "",
            "5",
            "9-5",
            "-5",
            "a-b",
            "0-18446744073709551615",
            "0--1",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", len: u64) {
            if let Wanted::Part(range) = parse_range(Some(&header), len) {
                prop_assert!(range.start < range.end && range.end <= len);
            }
        }

        #[test]
        fn never_panics(header in "\\PC{0,40}", len: u64) {
            parse_range(Some(&header), len);
            parse_content_range(&header);
        }
    }
}
