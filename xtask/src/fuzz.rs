//! `./x fuzz`: builds the targets of `fuzz/` with the coverage that libFuzzer steers by, and runs each for a while.
//!
//! What cargo-fuzz does with a nightly compiler, done with the installed one: the flags need `RUSTC_BOOTSTRAP`, and libFuzzer a C++ compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, need};
use crate::shell;

/// Which targets, and for how long.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds for each target.
    #[arg(default_value_t = 60)]
    seconds: u32,
    /// Only this target; may be given again.
    #[arg(long)]
    target: Vec<String>,
}

/// Named, so that flags do not reach build scripts and macros.
#[cfg(target_arch = "x86_64")]
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const TRIPLE: &str = "aarch64-unknown-linux-gnu";

/// cargo-fuzz's, without a sanitizer of memory: there is no unsafe code in what the targets reach.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";

/// Builds and runs. What is found lies in `artifacts` beside the build.
pub fn run(args: &Args) -> Result<()> {
    apt::install(&[need("c++", "g++")])?;
    let folder = shell::target_dir().join("fuzz");
    let mut names = targets()?;
    if !args.target.is_empty() {
        if let Some(unknown) = args.target.iter().find(|name| !names.contains(name)) {
            bail!("there is no fuzz target {unknown:?}: {}", names.join(", "));
        }
        names = args.target.clone();
    }
    build(&folder)?;
    let mut failed = Vec::new();
    for name in &names {
        if let Err(error) = fuzz(&folder, name, args.seconds) {
            println!("{error:#}");
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        let artifacts = folder.join("artifacts");
        bail!(
            "fuzzing failed: {} (inputs in {})",
            failed.join(", "),
            artifacts.display()
        );
    }
    Ok(())
}

/// The names of the targets' files.
fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("fuzz/targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path.file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn build(folder: &Path) -> Result<()> {
    let mut command = shell::cargo(&["build", "--quiet", "--release"]);
    command
        .args(["--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", folder);
    shell::run(&mut command)
}

/// One target: goes on with what earlier runs found interesting, and starts from the seeds.
fn fuzz(folder: &Path, name: &str, seconds: u32) -> Result<()> {
    let corpus = folder.join("corpus").join(name);
    let artifacts = folder.join("artifacts");
    for path in [&corpus, &artifacts] {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    }
    let seeds: PathBuf = shell::root().join("fuzz/seeds").join(name);
    let program = folder.join(TRIPLE).join("release").join(name);
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()))
        .arg(&corpus)
        .args(seeds.is_dir().then_some(&seeds));
    let output = command
        .output()
        .with_context(|| format!("run target {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let from = said.len().saturating_sub(6000);
        let tail: String = said.chars().skip(from).collect();
        bail!("{name}: {}\n{tail}", output.status);
    }
    let stat = |key: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(key));
        line.map_or("?", str::trim).to_owned()
    };
    println!(
        "{name}: {} inputs, {} MiB at most",
        stat("stat::number_of_executed_units:"),
        stat("stat::peak_rss_mb:")
    );
    Ok(())
}
