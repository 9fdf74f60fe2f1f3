//! This program's own file, protected from the containers that it starts (CVE-2019-5736).
//!
//! A process in a container can reach the program that entered it through `/proc/PID/exe`. So what is
//! executed is a detached, read-only clone of the mount that holds the file: opening it for writing gives
//! `EROFS` to everyone, and no container can remount a mount that is in no namespace of its own.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, StatVfsMountFlags, fstatvfs};

use crate::exec::{CStrings, execve};
use crate::mount::{Attr, attr, clone_tree, set_attr};
use crate::{Errno, Result};

/// A detached read-only clone of this program's file, to be executed as `/proc/self/fd/N`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; those of open_tree(2).
pub fn read_only_fd() -> Result<OwnedFd> {
    let clone = clone_tree(CWD, Path::new("/proc/self/exe"), false)?;
    let attr = Attr {
        set: attr::RDONLY,
        ..Attr::default()
    };
    set_attr(clone.as_fd(), &attr)?;
    Ok(clone)
}

/// Whether this program already runs from a read-only mount.
///
/// # Errors
/// Those of open(2) on `/proc/self/exe`.
pub fn is_read_only() -> Result<bool> {
    let exe = rustix::fs::open(
        c"/proc/self/exe",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok(fstatvfs(exe)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Makes sure that this program runs from a read-only mount, by executing itself once more if it does not.
/// Returns when it does already, or with the error when it cannot be arranged.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` (rootless: the file then belongs to another user than any in the
/// container, or to the user itself, who can write it anyway).
pub fn ensure_read_only() -> Result<()> {
    if is_read_only()? {
        return Ok(());
    }
    let fd = read_only_fd()?;
    let args = CStrings::new(std::env::args_os())?;
    let env = CStrings::new(std::env::vars_os().map(|(key, value)| {
        let mut entry = key;
        entry.push("=");
        entry.push(value);
        entry
    }))?;
    let path =
        CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Errno::INVAL)?;
    Err(execve(&path, &args, &env))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn the_clone_cannot_be_opened_for_writing() {
        let fd = match read_only_fd() {
            Err(Errno::PERM) => return eprintln!("SKIP: not allowed to clone a mount"),
            other => other.unwrap(),
        };
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let opened = rustix::fs::open(path, OFlags::WRONLY, Mode::empty());
        assert!(
            matches!(opened, Err(Errno::ROFS | Errno::TXTBSY)),
            "{opened:?}"
        );
    }
}
