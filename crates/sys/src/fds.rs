//! Descriptors: close_range(2), taking inherited ones, sealed memfds.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::{Errno, Result, check_unit};

/// Marks every descriptor from `first` up close-on-exec, so that nothing which the caller forgot reaches
/// the next program (CVE-2024-21626). It does not close them: no owner in this process is surprised.
///
/// # Errors
/// `EINVAL` before Linux 5.11.
pub fn cloexec_from(first: u32) -> Result<()> {
    // SAFETY: only a flag of the descriptors changes.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
}

/// Closes every descriptor from `first` to `last` inclusive, except none.
///
/// For a process just made by [`crate::clone::clone3`] that keeps nothing of its parent's; afterwards any
/// owner of such a descriptor in this process must be forgotten without using it.
///
/// # Errors
/// `EINVAL` when `first` is above `last`.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: descriptors are not memory: a later use of a closed one gives EBADF, and children of
    // clone3 end in exec or exit without running the parent's destructors.
    check_unit(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Takes ownership of an inherited descriptor by number (`LISTEN_FDS`, `--preserve-fds`, a number that the
/// parent process promised).
///
/// Take each number once: it is closed when the result is dropped.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn take(fd: RawFd) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: F_GETFD only asks.
    check_unit(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and the contract above gives it to the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Borrows an inherited descriptor by number for the rest of the program.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn borrow(fd: RawFd) -> Result<BorrowedFd<'static>> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: F_GETFD only asks.
    check_unit(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    // SAFETY: it is open and not -1.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Duplicates `from` onto the number `to`, which an exec inherits.
///
/// # Errors
/// `EBADF`, `EINVAL` when both are the same number.
pub fn dup_to(from: BorrowedFd<'_>, to: RawFd) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: descriptors are not memory; `to` is a number that the caller gives away.
    check_unit(unsafe { libc::syscall(libc::SYS_dup3, from.as_raw_fd(), to, 0) })
}

/// A memfd with these contents, sealed against any change.
///
/// # Errors
/// Those of memfd_create(2) and write(2).
pub fn sealed_memfd(name: &CStr, mut contents: &[u8]) -> Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    while !contents.is_empty() {
        let written = rustix::io::write(&fd, contents)?;
        contents = &contents[written..];
    }
    rustix::fs::fcntl_add_seals(
        &fd,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_memfd_cannot_be_written() {
        let fd = sealed_memfd(c"hull-test", b"abc").unwrap();
        assert_eq!(rustix::io::write(&fd, b"x"), Err(Errno::PERM));
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&fd, &mut buffer), Ok(3));
    }

    #[test]
    fn a_closed_number_is_refused() {
        assert_eq!(take(-1).unwrap_err(), Errno::BADF);
        assert_eq!(take(1_000_000).unwrap_err(), Errno::BADF);
    }
}
