//! One file: command line, daemon, shim, OCI runtime, registry server and init.
#![forbid(unsafe_code)]
fn main() {}
