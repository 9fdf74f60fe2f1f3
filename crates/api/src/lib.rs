//! Docker Engine API shapes with Go's JSON rules, version adapters, error body and stream framing; pure.
#![forbid(unsafe_code)]
