//! Any text as what a request's query brings: filters, moments, durations. Refused, or read; filters are written as what is read as the same.
#![no_main]

use hull_api::filters::Filters;
use hull_api::time::{parse_go_duration, parse_timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(filters) = Filters::parse(text) {
        let again = Filters::parse(&filters.encode());
        assert_eq!(again.as_ref(), Ok(&filters));
    }
    let _ = parse_timestamp(text, "2026-01-02T03:04:05Z".parse().expect("a moment"));
    let _ = parse_go_duration(text);
});
