//! Pseudoterminals in a given devpts instance; the slave is opened through the master, never by path
//! (CVE-2025-52565).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{Result, check_unit};

/// A master and its slave.
#[derive(Debug)]
pub struct Pty {
    /// For the one who reads and writes as the terminal.
    pub master: OwnedFd,
    /// For the program in the terminal.
    pub slave: OwnedFd,
}

/// Opens a pair in the devpts instance whose root is `devpts`.
///
/// # Errors
/// Those of opening `ptmx` there; `ENOSPC` when it is full.
pub fn open_in(devpts: BorrowedFd<'_>) -> Result<Pty> {
    let master = openat(
        devpts,
        c"ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    pair(master)
}

/// Opens a pair in the devpts instance of the caller's `/dev/ptmx`.
///
/// # Errors
/// As [`open_in`].
pub fn open() -> Result<Pty> {
    pair(rustix::pty::openpt(
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?)
}

fn pair(master: OwnedFd) -> Result<Pty> {
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(Pty { master, slave })
}

/// Sets the size of the terminal in characters.
///
/// # Errors
/// `ENOTTY`.
pub fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size)
}

/// Makes `terminal` the controlling terminal of the caller's session (which has none).
///
/// # Errors
/// `EPERM` when the caller is no session leader or has a terminal already.
pub fn set_controlling(terminal: BorrowedFd<'_>) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: TIOCSCTTY takes a number.
    check_unit(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_arrives() {
        let pty = open().unwrap();
        set_size(pty.master.as_fd(), 100, 30).unwrap();
        let size = rustix::termios::tcgetwinsize(&pty.slave).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (100, 30));
        rustix::io::write(&pty.master, b"hello\n").unwrap();
        let mut buffer = [0; 16];
        let n = rustix::io::read(&pty.slave, &mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"hello\n");
    }
}
