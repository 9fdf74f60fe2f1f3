//! Configuration, wiring, HTTP routes, hijack, error to status.
#![forbid(unsafe_code)]
