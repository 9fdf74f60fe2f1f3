//! Pidfds: open, signal (any number), wait, poll.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, waitid};

use crate::{Errno, Result, check_unit};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// As a shell says it: the status, or 128 plus the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A pidfd of process `pid`.
///
/// # Errors
/// `ESRCH`, `EINVAL` for a pid below 1 or a thread.
pub fn open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// Sends `signal` (any number, also real-time; 0 only checks).
///
/// # Errors
/// `ESRCH` when the process is gone, `EPERM`, `EINVAL`.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: no siginfo is given, the rest are numbers.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
}

/// Waits for the child behind `pidfd` to end and reaps it.
///
/// # Errors
/// `ECHILD` when it is not the caller's child or was reaped.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => continue,
                });
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Reaps the child behind `pidfd` if it has ended.
///
/// # Errors
/// As [`wait`].
pub fn try_wait(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
    let status = waitid(
        WaitId::PidFd(pidfd.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    )?;
    Ok(
        status.and_then(|s| match (s.exit_status(), s.terminating_signal()) {
            (Some(code), _) => Some(Exit::Code(code)),
            (None, Some(signal)) => Some(Exit::Signal(signal)),
            (None, None) => None,
        }),
    )
}

/// Whether the process has ended within `timeout_ms` (any process, not only a child).
///
/// # Errors
/// Those of poll(2).
pub fn ended_within(pidfd: BorrowedFd<'_>, timeout_ms: u64) -> Result<bool> {
    let timeout = Timespec {
        tv_sec: (timeout_ms / 1000) as i64,
        tv_nsec: (timeout_ms % 1000 * 1_000_000) as i64,
    };
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_signalled_and_reaped_through_its_pidfd() {
        let child = std::process::Command::new("sleep").arg("100").spawn();
        let mut child = child.unwrap();
        let fd = open(child.id() as i32).unwrap();
        assert_eq!(try_wait(fd.as_fd()), Ok(None));
        assert_eq!(ended_within(fd.as_fd(), 1), Ok(false));
        send_signal(fd.as_fd(), libc::SIGKILL).unwrap();
        assert_eq!(wait(fd.as_fd()), Ok(Exit::Signal(libc::SIGKILL)));
        assert_eq!(send_signal(fd.as_fd(), 0), Err(Errno::SRCH));
        // Reaped already: std learns so.
        child.wait().unwrap_err();
        assert_eq!(Exit::Signal(9).shell_code(), 137);
    }
}
