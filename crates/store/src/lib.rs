//! Content by digest, layers (tar apply and diff), snapshots (storage drivers).
#![forbid(unsafe_code)]
