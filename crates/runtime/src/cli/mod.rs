//! runc's command line: what dockerd, containerd and Podman call.
//!
//! Flags, output and exit codes are runc's. Errors go to standard error and to `--log`, in runc's format, from
//! where containerd reads them.

mod args;
mod criu;
mod events;
mod foreground;
mod manage;
mod process;
mod run;
mod spec;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;

use args::{Cli, Command, Global, LogFormat};

/// Runs the command line `args` (the program's name first) and returns the exit status.
///
/// Call it from a program that has no threads yet.
#[must_use]
pub fn cli_main(args: Vec<OsString>) -> i32 {
    let enters =
        |arg: &OsString| arg == "create" || arg == "run" || arg == "exec" || arg == "restore";
    if args.iter().any(enters) {
        // Before anything else: this may start the program afresh.
        run::protect();
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors.
            let status = i32::from(e.use_stderr());
            let _ = e.print();
            return status;
        }
    };
    let name = cli.command.name();
    match dispatch(&cli.global, cli.command) {
        Ok(status) => status,
        Err(e) => {
            report(&cli.global, &format!("runc {name} failed: {e:#}"));
            // As runc: exec tells its own failure from the program's.
            if name == "exec" { 255 } else { 1 }
        }
    }
}

fn dispatch(global: &Global, command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Create(args) => run::create(global, &args),
        Command::Run(args) => run::run(global, &args),
        Command::Start { id } => {
            crate::start(&global.state_root(), &id).map_err(run::explain)?;
            Ok(0)
        }
        Command::Exec(args) => process::exec(global, &args),
        Command::State { id } => manage::state(global, &id),
        Command::Kill(args) => manage::kill(global, &args),
        Command::Delete { force, ids } => manage::delete(global, force, &ids),
        Command::List { format, quiet } => manage::list(global, format, quiet),
        Command::Ps { format, id, ps } => manage::ps(global, &format, &id, &ps),
        Command::Pause { id } => {
            crate::pause(&global.state_root(), &id)?;
            Ok(0)
        }
        Command::Resume { id } => {
            crate::resume(&global.state_root(), &id)?;
            Ok(0)
        }
        Command::Update(args) => manage::update(global, &args),
        Command::Events {
            interval,
            stats,
            id,
        } => events::events(global, &interval, stats, &id),
        Command::Spec { bundle, rootless } => spec::write(bundle.as_deref(), rootless),
        Command::Features => {
            println!("{}", serde_json::to_string_pretty(&crate::features())?);
            Ok(0)
        }
        Command::Checkpoint(args) => criu::checkpoint(global, *args),
        Command::Restore(args) => criu::restore(global, &args),
    }
}

/// Writes an error where the caller looks for it.
fn report(global: &Global, message: &str) {
    eprintln!("{message}");
    let Some(path) = &global.log else {
        return;
    };
    let time = jiff::Timestamp::now().to_string();
    let line = match global.log_format {
        LogFormat::Json => {
            serde_json::json!({"level": "error", "msg": message, "time": time}).to_string()
        }
        LogFormat::Text => format!("time={time:?} level=error msg={message:?}"),
    };
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    // It is on standard error as well.
    if let Ok(mut file) = file {
        let _ = writeln!(file, "{line}");
    }
}

impl Global {
    /// Where state is kept: `--root`, else runc's places.
    fn state_root(&self) -> PathBuf {
        if let Some(root) = &self.root {
            return root.clone();
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR");
        match runtime.filter(|_| rustix::process::geteuid().as_raw() != 0) {
            Some(dir) => PathBuf::from(dir).join("hull-runtime"),
            None => PathBuf::from("/run/hull-runtime"),
        }
    }

    fn cgroup_manager(&self) -> crate::CgroupManager {
        if self.systemd_cgroup {
            crate::CgroupManager::Systemd
        } else {
            crate::CgroupManager::Cgroupfs
        }
    }
}
