//! A program in the foreground: its signals are forwarded, its terminal is joined to ours, its end awaited.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_sys::pidfd::{self, Exit};
use hull_sys::{Errno, signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Signals that are forwarded: all that a user may send on purpose.
const FORWARDED: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGPOLL,
    libc::SIGPWR,
];

/// Holds signals back until [`wait`] can forward them. The program must not inherit that, so this returns
/// the mask for [`unblock`]; init clears it by itself.
pub(super) fn block(foreground: bool) -> anyhow::Result<Option<u64>> {
    Ok(if foreground {
        Some(signal::block(FORWARDED)?)
    } else {
        None
    })
}

/// Gives up [`block`].
pub(super) fn unblock(mask: Option<u64>) {
    if let Some(mask) = mask {
        // Cannot fail for a mask that the kernel gave out.
        let _ = signal::restore(mask);
    }
}

/// Our terminal in raw mode, put back when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Forwards signals, and with a terminal bytes, until the process ends; reaps it and orphans it left us.
pub(super) fn wait(process: BorrowedFd<'_>, console: Option<OwnedFd>) -> anyhow::Result<Exit> {
    let signals = signal::signalfd(FORWARDED)?;
    let raw = console.as_ref().and_then(|_| Raw::enter());
    if let Some(console) = &console {
        copy_size(console);
    }
    let mut reads_stdin = console.is_some();
    let mut reads_console = console.is_some();
    loop {
        let (ready, ended) = {
            let mut fds = vec![
                PollFd::from_borrowed_fd(process, PollFlags::IN),
                PollFd::new(&signals, PollFlags::IN),
            ];
            if let Some(console) = &console {
                let events = |on| {
                    if on {
                        PollFlags::IN
                    } else {
                        PollFlags::empty()
                    }
                };
                fds.push(PollFd::from_borrowed_fd(stdin(), events(reads_stdin)));
                fds.push(PollFd::new(console, events(reads_console)));
            }
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            (ready.clone(), ready[0])
        };
        if ready[1] {
            forward(&signals, process, console.as_ref())?;
        }
        if let Some(console) = &console {
            if ready[3] && reads_console {
                reads_console = copy(console.as_fd(), stdout());
            }
            if ready[2] && reads_stdin {
                reads_stdin = copy(stdin(), console.as_fd());
            }
        }
        if ended {
            // What it wrote last.
            while reads_console && readable(console.as_ref()) {
                reads_console = console.as_ref().is_some_and(|c| copy(c.as_fd(), stdout()));
            }
            drop(raw);
            return Ok(pidfd::wait(process)?);
        }
    }
}

fn readable(fd: Option<&OwnedFd>) -> bool {
    let Some(fd) = fd else {
        return false;
    };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0) && fds[0].revents().contains(PollFlags::IN)
}

fn forward(
    signals: &OwnedFd,
    process: BorrowedFd<'_>,
    console: Option<&OwnedFd>,
) -> anyhow::Result<()> {
    while let Some(received) = signal::read_signalfd(signals.as_fd())? {
        if let (libc::SIGWINCH, Some(console)) = (received.signal, console) {
            copy_size(console);
            continue;
        }
        match pidfd::send_signal(process, received.signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn copy_size(console: &OwnedFd) {
    // Standard input may be no terminal: then the size stays.
    if let Ok(size) = tcgetwinsize(stdin()) {
        let _ = tcsetwinsize(console, size);
    }
}

/// Copies what is there; false at the end (EIO is a terminal's end).
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0u8; 16384];
    let n = match rustix::io::read(from, &mut buffer) {
        Ok(0) | Err(Errno::IO) => return false,
        Ok(n) => n,
        Err(Errno::INTR | Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut rest = &buffer[..n];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(n) => rest = &rest[n..],
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}
