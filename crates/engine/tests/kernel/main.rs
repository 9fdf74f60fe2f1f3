//! The engine on the real kernel: containers started, seen, stopped, removed; restarts of the daemon; failures.
//!
//! The program is its own shim: `Engine` starts `/proc/self/exe shim`. Cases run one after another, each on an engine of its
//! own; arguments filter by name.

mod crash;
mod debris;
mod devices;
mod fixture;
mod forwarding;
mod lifecycle;
mod network;
mod plugins;
mod points;
mod steps;
mod world;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;

use fixture::Case;

fn cases() -> Vec<Case> {
    [
        lifecycle::CASES,
        network::CASES,
        steps::CASES,
        crash::CASES,
        points::CASES,
        devices::CASES,
        forwarding::CASES,
        plugins::CASES,
    ]
    .concat()
}

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some("shim") => std::process::exit(hull_shim::main(&args[2..])),
        Some("victim") => std::process::exit(points::victim(&args[2..])),
        _ => {}
    }
    let filters: Vec<String> = args[1..]
        .iter()
        .filter_map(|arg| arg.to_str())
        .filter(|arg| !arg.starts_with("--"))
        .map(str::to_owned)
        .collect();
    if args.iter().any(|arg| arg == "--list") {
        cases().iter().for_each(|case| println!("{}: test", case.0));
        return;
    }
    if !hull_testkit::skips::is_root() {
        hull_testkit::skip!("the engine's kernel tests need root");
        return;
    }
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .try_init();
    let mut failed = Vec::new();
    let mut ran = 0;
    for (name, case) in cases() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        ran += 1;
        let begun = std::time::Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(case())));
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {word} ({} ms)",
            begun.elapsed().as_millis()
        );
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!("\n{} of {ran} cases passed", ran - failed.len());
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
        std::process::exit(1);
    }
}
