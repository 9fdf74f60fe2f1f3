//! The command line alone, without daemon, shim and runtime: builds in seconds.

fn main() {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or("hull").to_owned();
    std::process::exit(hull_cli::main(&name, &words.collect::<Vec<_>>()));
}
