//! Docker's own command line as a client of the daemon under test.

use crate::process::{self, Output};
use crate::temp::TempRoot;
use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

/// `docker` with its own configuration directory and host, so that nothing of the machine's leaks in.
#[derive(Debug)]
pub struct DockerCli {
    host: String,
    config: TempRoot,
    program: std::path::PathBuf,
}

impl DockerCli {
    /// A client of `host` (`unix:///run/x.sock`, `tcp://127.0.0.1:2375`); `None` when no `docker` is installed.
    pub fn new(host: &str) -> Option<DockerCli> {
        let program = crate::skips::program("docker")?;
        Some(DockerCli::with_program(program, host))
    }

    /// The same with another client, such as `hull` itself.
    pub fn with_program(program: impl Into<std::path::PathBuf>, host: &str) -> DockerCli {
        DockerCli {
            host: host.to_owned(),
            config: TempRoot::new("docker-config"),
            program: program.into(),
        }
    }

    /// The command, to be extended and run by the caller.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_CONFIG", self.config.path());
        command
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION")
            .env_remove("DOCKER_TLS_VERIFY");
        command.env("DOCKER_CLI_HINTS", "false");
        command
    }

    /// Runs it to its end, within a minute.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.run_with_input(args, &[])
    }

    /// Runs it with `input` on its standard input.
    #[track_caller]
    pub fn run_with_input<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Output {
        match process::run_with_input(&mut self.command(args), input, Duration::from_secs(60)) {
            Ok(output) => output,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Runs it, panics with its messages if it fails, and gives its trimmed output.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.run(args).ok().to_owned()
    }

    /// The configuration directory (`config.json` is written there by `login`).
    pub fn config_folder(&self) -> &std::path::Path {
        self.config.path()
    }
}
