//! Developer tasks: `./x TASK`, or `cargo xtask TASK`.
#![forbid(unsafe_code)]

mod apt;
mod bench;
mod demo;
mod fuzz;
mod shell;
mod soak;
mod suite;
mod tidy;

use clap::{Parser, Subcommand};

/// Developer tasks of the Hull workspace.
#[derive(Parser)]
#[command(name = "x")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build Hull and do the main job with it: nginx with a published port and a volume.
    Demo(demo::Args),
    /// Install what the tests need and run all of them.
    Test(suite::Args),
    /// Measure Hull beside docker.io and podman, or its runtime beside runc and crun, and the kernel floor.
    Bench(bench::Args),
    /// Load a daemon with eight clients at random while it is killed again and again; nothing may leak.
    Soak(soak::Args),
    /// Run the fuzz targets for a while each, with the sanitizer's coverage of the installed compiler.
    Fuzz(fuzz::Args),
    /// Check the rules of the house: floors, unsafe, file heads and sizes, links.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => suite::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Tidy => tidy::run(),
    }
}
