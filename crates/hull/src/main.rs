//! One file: command line, daemon, shim, OCI runtime, registry server and init.
fn main() {}
