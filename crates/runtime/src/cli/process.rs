//! `exec`: one more process, from flags or from a file.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use hull_oci::runtime::{Capabilities, Process};

use super::args::{Exec, Global};
use super::{foreground, run};
use crate::lifecycle::record_of;
use crate::{ExecOptions, Execed};

/// Largest process file that is read.
const PROCESS_MAX: u64 = 16 << 20;

pub(super) fn exec(global: &Global, args: &Exec) -> anyhow::Result<i32> {
    let root = global.state_root();
    let process = process(global, args)?;
    run::check_console(process.terminal, args.detach, args.console_socket.is_some())?;
    let mask = foreground::block(!args.detach)?;
    let executed = crate::exec(ExecOptions {
        state_root: &root,
        id: &args.id,
        process: &process,
        stdio: run::stdio(process.terminal, args.console_socket.is_none()),
        pid_file: args.pid_file.as_deref(),
        preserve_fds: args.preserve_fds,
        sub_cgroup: args.cgroup.clone(),
        ignore_paused: args.ignore_paused,
    });
    let Execed {
        pidfd,
        console_master,
        ..
    } = executed
        .inspect_err(|_| foreground::unblock(mask))
        .map_err(run::explain)?;
    if let Some(path) = &args.pidfd_socket {
        run::send_fd(path, b"pidfd", pidfd.as_fd())?;
    }
    if let (Some(path), Some(console)) = (&args.console_socket, &console_master) {
        run::send_fd(path, b"/dev/pts/0", console.as_fd())?;
    }
    if args.detach {
        return Ok(0);
    }
    let exit = foreground::wait(pidfd.as_fd(), console_master)?;
    Ok(exit.shell_code())
}

/// The process: `--process`, or the container's own with what the flags change.
fn process(global: &Global, args: &Exec) -> anyhow::Result<Process> {
    if let Some(path) = &args.process {
        return read_process(path);
    }
    let (record, _) = record_of(&global.state_root(), &args.id)?;
    let spec = run::read_spec(&record.bundle)?;
    let mut process = spec
        .process
        .ok_or_else(|| anyhow!("process property of config.json is missing"))?;
    if args.command.is_empty() {
        bail!("process args cannot be empty");
    }
    process.args = args.command.clone();
    process.terminal = args.tty;
    process.console_size = None;
    process.env.extend(args.env.iter().cloned());
    process.no_new_privileges |= args.no_new_privs;
    if let Some(cwd) = &args.cwd {
        process.cwd = cwd.clone();
    }
    if let Some(profile) = &args.apparmor {
        process.apparmor_profile = Some(profile.clone());
    }
    if let Some(label) = &args.process_label {
        process.selinux_label = Some(label.clone());
    }
    add_capabilities(&mut process, &args.cap);
    if let Some(user) = &args.user {
        set_user(&mut process, user)?;
    }
    process.user.additional_gids.extend(&args.additional_gids);
    Ok(process)
}

fn read_process(path: &Path) -> anyhow::Result<Process> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.take(PROCESS_MAX).read_to_end(&mut text)?;
    Ok(crate::error::parse(path.to_owned(), &text)?)
}

fn add_capabilities(process: &mut Process, names: &[String]) {
    let capabilities = process
        .capabilities
        .get_or_insert_with(Capabilities::default);
    for name in names {
        for set in [
            &mut capabilities.bounding,
            &mut capabilities.effective,
            &mut capabilities.permitted,
        ] {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
    }
}

fn set_user(process: &mut Process, user: &str) -> anyhow::Result<()> {
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (user, None),
    };
    let parse = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| anyhow!("user {user:?}: not a number (names are the engine's)"))
    };
    process.user.uid = parse(uid)?;
    if let Some(gid) = gid {
        process.user.gid = parse(gid)?;
    }
    Ok(())
}
