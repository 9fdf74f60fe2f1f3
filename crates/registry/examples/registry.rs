//! The server alone, for tests that kill it and for measurements.
fn main() {
    std::process::exit(hull_registry::main(std::env::args_os().skip(1).collect()));
}
