//! This program's own file, protected from the containers that it starts (CVE-2019-5736).
//!
//! A process in a container can reach the program that entered it through `/proc/PID/exe`. So what is
//! executed is a detached, read-only clone of the mount that holds the file: opening it for writing gives
//! `EROFS` to everyone once it no longer runs (`ETXTBSY` before). The clone's descriptor must be closed by the
//! exec: then the mount is in no namespace, and nobody can make it writable. While a descriptor of the detached
//! mount is open somewhere, whoever has `CAP_SYS_ADMIN` over any mount namespace and sees the process can
//! clear the flag. docs/decisions/0002-read-only-self.md.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs};

use crate::exec::{CStrings, execve};
use crate::mount::{Attr, attr, clone_tree, set_attr};
use crate::{Errno, Result};

/// This program's file as `O_PATH`: stays the same when an upgrade replaces the file on disk.
///
/// # Errors
/// Those of open(2) on `/proc/self/exe`.
pub fn executable() -> Result<OwnedFd> {
    rustix::fs::open(
        c"/proc/self/exe",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A detached read-only clone of the file `executable`, to be executed as `/proc/self/fd/N`. Make one for each
/// process and drop it once that has executed it: see above.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; those of open_tree(2).
pub fn read_only_clone(executable: BorrowedFd<'_>) -> Result<OwnedFd> {
    let clone = clone_tree(executable, Path::new(""), false)?;
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
    let exe = executable()?;
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
    let fd = read_only_clone(executable()?.as_fd())?;
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

    #[test]
    fn the_clone_cannot_be_opened_for_writing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let original = rustix::fs::open(file.path(), flags, Mode::empty()).unwrap();
        let clone = match read_only_clone(original.as_fd()) {
            Err(Errno::PERM) => return eprintln!("SKIP: not allowed to clone a mount"),
            other => other.unwrap(),
        };
        let write = |fd: &OwnedFd| {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::open(path, OFlags::WRONLY, Mode::empty())
        };
        write(&original).unwrap();
        assert_eq!(write(&clone).unwrap_err(), Errno::ROFS);
        assert!(!is_read_only().unwrap());
    }
}
