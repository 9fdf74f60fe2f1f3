//! Starts a daemon in the background when `run` finds none on the default socket.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use clap::Args;
use hull_client::Error;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take until it answers.
const READY_MAX: Duration = Duration::from_secs(20);

/// `hull __daemonize`: leaves the terminal's session and becomes the daemon.
#[derive(Args, Debug)]
pub struct Daemonize {
    args: Vec<String>,
}

impl Run for Daemonize {
    async fn run(self, _: &Cli) -> Outcome {
        rustix::process::setsid().map_err(std::io::Error::from)?;
        std::env::set_current_dir("/")?;
        Err(Command::new(program())
            .arg0("hull")
            .arg("daemon")
            .args(&self.args)
            .exec()
            .into())
    }
}

/// Starts the daemon and waits until it answers. `error` is the refusal that is told when nothing may be started.
pub async fn start(cli: &Cli, error: Error) -> Result<(), Failure> {
    if !cli.target()?.is_default
        || cli.globals.no_autostart
        || !rustix::process::geteuid().is_root()
    {
        return Err(error.into());
    }
    let (log, path) = open_log()?;
    let mut child = Command::new(program())
        .arg0("hull")
        .arg("__daemonize")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    eprintln!(
        "No daemon answers on {}: starting one in the background (log: {path})",
        cli.target()?.host
    );
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(Failure::with_status(
                125,
                format!("{error}\nThe daemon ended at once ({status}); see {path}"),
            ));
        }
        if cli.client()?.ping().await.is_ok() {
            return Ok(());
        }
        if started.elapsed() > READY_MAX {
            return Err(Failure::with_status(
                125,
                format!("{error}\nThe daemon did not answer within {READY_MAX:?}; see {path}"),
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// This program by its own path, so that process lists name it; by the kernel's link where the file was replaced meanwhile.
fn program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/proc/self/exe".into())
}

fn open_log() -> Result<(File, String), Failure> {
    let mut refusal = None;
    for path in ["/var/log/hull.log", "/var/lib/hull/daemon.log"] {
        match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => return Ok((file, path.to_owned())),
            Err(error) => refusal = Some(format!("open {path}: {}", crate::failure_text(&error))),
        }
    }
    Err(Failure::with_status(125, refusal.unwrap_or_default()))
}
