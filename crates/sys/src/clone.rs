//! clone3(2) without shared memory: a fork with namespaces, a pidfd and a cgroup of birth.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Result, check};

/// New mount namespace.
pub const CLONE_NEWNS: u64 = libc::CLONE_NEWNS as u64;
/// New UTS namespace.
pub const CLONE_NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
/// New IPC namespace.
pub const CLONE_NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
/// New user namespace.
pub const CLONE_NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
/// New PID namespace.
pub const CLONE_NEWPID: u64 = libc::CLONE_NEWPID as u64;
/// New network namespace.
pub const CLONE_NEWNET: u64 = libc::CLONE_NEWNET as u64;
/// New cgroup namespace.
pub const CLONE_NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// New time namespace.
pub const CLONE_NEWTIME: u64 = 0x80;
/// The child's parent is the caller's parent.
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;
/// The child starts with default signal handlers (Linux 5.5).
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// The child is born in the cgroup given by [`CloneArgs::cgroup`] (Linux 5.7, cgroup v2 only).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;

/// Flags under which parent and child would share memory or a file table, or which need a stack of
/// their own: [`clone3`] refuses them.
const REFUSED: u64 = (libc::CLONE_VM
    | libc::CLONE_VFORK
    | libc::CLONE_FILES
    | libc::CLONE_FS
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SETTLS) as u64;

/// What the new process is born with.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneArgs<'a> {
    /// `CLONE_NEW*`, [`CLONE_PARENT`], [`CLONE_CLEAR_SIGHAND`].
    pub flags: u64,
    /// Cgroup v2 directory in which the child is born. A v1 directory gives `EBADF`.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Signal sent to the parent on exit; 0 for none. Ignored by the kernel with [`CLONE_PARENT`].
    pub exit_signal: u64,
}

/// The parent's handle on a child made by [`clone3`].
#[derive(Debug)]
pub struct Child {
    /// PID as the parent's PID namespace sees it.
    pub pid: i32,
    /// Close-on-exec pidfd of the child.
    pub pidfd: OwnedFd,
}

/// Makes a process that runs `child` and exits with the status which that returns.
///
/// The child is a copy of the calling thread alone. **Callers must be single-threaded**: a lock that
/// another thread holds at this moment (the allocator's, say) is never released in the child, which then
/// hangs. That is a matter of progress and not of memory safety, for the child shares no memory.
/// A panic in `child` ends the child with status 101 and never unwinds into the caller's frames.
///
/// # Errors
/// `EINVAL` for flags that share memory with the parent, else what clone3(2) says: `EPERM`, `ENOSPC`
/// (namespace limits), `EAGAIN`, `EBADF` or `EBUSY` or `EACCES` for the cgroup.
pub fn clone3<F: FnOnce() -> i32>(args: &CloneArgs<'_>, child: F) -> Result<Child> {
    if args.flags & REFUSED != 0 {
        return Err(crate::Errno::INVAL);
    }
    let mut pidfd: libc::c_int = -1;
    let mut raw = libc::clone_args {
        flags: args.flags | CLONE_PIDFD,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: if args.flags & CLONE_PARENT == 0 {
            args.exit_signal
        } else {
            0
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no flag that shares memory, file table or stack is set (REFUSED), so the child runs on a
    // copy of this stack, like fork(2). `raw` and `pidfd` outlive the call.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const raw,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
        crate::process::exit_now(status);
    }
    // SAFETY: the kernel stored a new close-on-exec descriptor, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child {
        pid: pid as i32,
        pidfd,
    })
}

/// Makes a plain child that runs `child` and exits with the status which that returns: fork(2), for a process inside a container, where
/// Docker's seccomp profile answers clone3(2) with `ENOSYS`. Returns the child's PID; it is to be waited for by that.
///
/// **Callers must be single-threaded**, as for [`clone3`].
///
/// # Errors
/// What fork(2) says: `EAGAIN`, `ENOMEM`.
pub fn fork<F: FnOnce() -> i32>(child: F) -> Result<i32> {
    // SAFETY: the child runs on a copy of this address space and leaves it by `exit_now` without returning into the caller's frames.
    let pid = check(unsafe { libc::fork() }.into())?;
    if pid == 0 {
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
        crate::process::exit_now(status);
    }
    i32::try_from(pid).map_err(|_| crate::Errno::OVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    fn exit_status(child: &Child) -> i32 {
        waitid(
            rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        )
        .unwrap()
        .unwrap()
        .exit_status()
        .unwrap()
    }

    // The test harness has threads; these children only make system calls.
    #[test]
    fn child_runs_and_its_status_arrives() {
        let args = CloneArgs {
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        let child = clone3(&args, || 42).unwrap();
        assert_eq!(exit_status(&child), 42);
    }

    #[test]
    fn child_in_a_new_pid_namespace_is_pid_one() {
        let args = CloneArgs {
            flags: CLONE_NEWPID,
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        let child = clone3(&args, || rustix::process::getpid().as_raw_nonzero().get());
        match child {
            Ok(child) => assert_eq!(exit_status(&child), 1),
            Err(crate::Errno::PERM) => eprintln!("SKIP: not allowed to make a PID namespace"),
            Err(e) => panic!("clone3: {e}"),
        }
    }

    #[test]
    fn sharing_memory_is_refused() {
        let args = CloneArgs {
            flags: libc::CLONE_VM as u64,
            ..CloneArgs::default()
        };
        assert_eq!(clone3(&args, || 0).unwrap_err(), crate::Errno::INVAL);
    }
}
