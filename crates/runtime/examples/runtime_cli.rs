//! The runtime as a program of its own: what `hull runtime` is, without the rest of Hull. The tests of this
//! crate run it.
#![forbid(unsafe_code)]

fn main() {
    std::process::exit(hull_runtime::cli_main(std::env::args_os().collect()));
}
