//! Namespaces: setns(2) by namespace fd or pidfd, unshare(2).

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Errno, Result, check_unit};

/// Joins namespaces. With a pidfd, `flags` says which of that process's namespaces, all in one step; with
/// a namespace fd it must be 0 or that namespace's type.
///
/// # Errors
/// `EPERM`, `EINVAL` (also: a user or mount namespace from a multi-threaded process), `ESRCH`.
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    let flags = libc::c_int::try_from(flags).map_err(|_| Errno::INVAL)?;
    // SAFETY: takes plain numbers; namespaces are not memory.
    check_unit(unsafe { libc::setns(fd.as_raw_fd(), flags) }.into())
}

/// Moves the caller into new namespaces. Only `CLONE_NEW*` flags: unsharing a file table could pull a
/// descriptor from under an owner, so it is refused.
///
/// # Errors
/// `EINVAL` for other flags; `EPERM`, `ENOSPC`.
pub fn unshare(flags: u64) -> Result<()> {
    const NAMESPACES: u64 = crate::clone::CLONE_NEWNS
        | crate::clone::CLONE_NEWUTS
        | crate::clone::CLONE_NEWIPC
        | crate::clone::CLONE_NEWUSER
        | crate::clone::CLONE_NEWPID
        | crate::clone::CLONE_NEWNET
        | crate::clone::CLONE_NEWCGROUP
        | crate::clone::CLONE_NEWTIME;
    if flags & !NAMESPACES != 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: only namespaces are unshared, no memory and no file table.
    check_unit(unsafe { libc::unshare(flags as libc::c_int) }.into())
}
