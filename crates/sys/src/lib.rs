//! The only unsafe code: clone3, the mount API, pidfd, seccomp(2), bpf(2), fd passing, pty.
//!
//! Every function here is safe to call: what the kernel wants as raw pointers is built from borrowed
//! values, and what it gives back is owned. `rustix` is used wherever it already has a safe call; this
//! crate adds only what it lacks, so callers use both. Errors are bare [`Errno`]s: the caller knows
//! which operation on which object it was doing, and says so.
//!
//! What does not live here: any policy, any knowledge of containers.

pub mod bpf;
pub mod btrfs;
pub mod caps;
pub mod clone;
pub mod exec;
pub mod fdpass;
pub mod fds;
pub mod fuse;
pub mod keyring;
pub mod mount;
pub mod netdev;
pub mod ns;
pub mod path;
pub mod pidfd;
pub mod process;
pub mod pty;
pub mod quota;
pub mod resident;
pub mod sched;
pub mod seccomp;
pub mod selfexe;
pub mod signal;

pub use rustix::io::{Errno, Result};

/// Turns the return value of a raw system call into a result.
///
/// `libc::syscall` reports failure as -1 and leaves the reason in `errno`.
fn check(ret: libc::c_long) -> Result<libc::c_long> {
    if ret == -1 {
        // SAFETY: __errno_location always returns a valid pointer to this thread's errno.
        Err(Errno::from_raw_os_error(unsafe {
            *libc::__errno_location()
        }))
    } else {
        Ok(ret)
    }
}

/// As [`check`], for calls that return nothing of interest.
fn check_unit(ret: libc::c_long) -> Result<()> {
    check(ret).map(|_| ())
}
