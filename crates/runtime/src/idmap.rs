//! User namespace maps: written by the caller, by newuidmap(1) where it may not, and namespaces made for
//! idmapped mounts alone.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use hull_oci::runtime::IdMapping;
use hull_sys::clone::{CLONE_NEWUSER, CloneArgs, clone3};
use hull_sys::{Errno, pidfd};
use rustix::fs::{Mode, OFlags};

use crate::error::Context;
use crate::plan::IdMaps;
use crate::{Error, Result};

fn lines(maps: &[IdMapping]) -> String {
    maps.iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect()
}

/// Writes the maps of the new user namespace of process `pid`.
///
/// A caller without rights over the mapped ids maps itself alone directly, and ranges through newuidmap(1)
/// and newgidmap(1), which check /etc/subuid and /etc/subgid.
///
/// # Errors
/// When the kernel or the helper refuses.
pub(crate) fn write(pid: i32, maps: &IdMaps, rootless: bool) -> Result<()> {
    let euid = rustix::process::geteuid().as_raw();
    let egid = rustix::process::getegid().as_raw();
    let own =
        |maps: &[IdMapping], id: u32| matches!(maps, [one] if one.size == 1 && one.host_id == id);
    let file = |name: &str| format!("/proc/{pid}/{name}");
    let put = |name: &str, text: &str| {
        let path = file(name);
        fs::write(&path, text).on("write", path)
    };
    if rootless && euid != 0 && own(&maps.gids, egid) {
        // An unprivileged process may map its own group only after giving up setgroups(2), CVE-2014-8989.
        put("setgroups", "deny")?;
    }
    if rootless && euid != 0 && !own(&maps.uids, euid) {
        helper("newuidmap", pid, &maps.uids)?;
    } else {
        put("uid_map", &lines(&maps.uids))?;
    }
    if rootless && euid != 0 && !own(&maps.gids, egid) {
        helper("newgidmap", pid, &maps.gids)
    } else {
        put("gid_map", &lines(&maps.gids))
    }
}

fn helper(program: &'static str, pid: i32, maps: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for m in maps {
        command.args([m.container_id, m.host_id, m.size].map(|n| n.to_string()));
    }
    let output = command.output().map_err(|source| Error::Unsupported {
        field: "linux.uidMappings".into(),
        reason: format!("ranges of ids need the program {program} (package uidmap): {source}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Unsupported {
        field: "linux.uidMappings".into(),
        reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// A user namespace with these maps and no process in it, for an idmapped mount.
///
/// # Errors
/// Those of clone3(2) and of writing the maps.
pub(crate) fn user_namespace(maps: &IdMaps) -> std::result::Result<OwnedFd, Errno> {
    let args = CloneArgs {
        flags: CLONE_NEWUSER,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    let child = clone3(&args, || {
        // Ends when it is killed below, or with the caller.
        if hull_sys::process::set_parent_death_signal(libc::SIGKILL).is_err() {
            return 1;
        }
        let _ = rustix::event::poll(&mut [], None);
        0
    })?;
    let errno = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let open = || {
        for (name, maps) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
            fs::write(format!("/proc/{}/{name}", child.pid), lines(maps)).map_err(errno)?;
        }
        let path = format!("/proc/{}/ns/user", child.pid);
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let opened = open();
    pidfd::send_signal(child.pidfd.as_fd(), libc::SIGKILL)?;
    pidfd::wait(child.pidfd.as_fd())?;
    opened
}
