//! `./x soak`: the soak of the test suite (crates/hull/tests/compat/soak.rs), for as long as one wants.

use anyhow::Result;

use crate::shell;

/// How long.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds of load; the checks come on top.
    #[arg(default_value_t = 120)]
    pub seconds: u32,
}

/// Builds Hull and soaks it.
pub fn run(args: &Args) -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "build",
        "--quiet",
        "--package",
        "hull",
    ]))?;
    let mut command = shell::cargo(&[
        "test",
        "--quiet",
        "--package",
        "hull",
        "--test",
        "compat",
        "soak::",
        "--",
        "--nocapture",
    ]);
    command
        .env("HULL_BIN", shell::target_dir().join("debug/hull"))
        .env("HULL_SOAK_SECONDS", args.seconds.to_string());
    shell::run(&mut command)
}
