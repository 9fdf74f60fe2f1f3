//! Signals for single-threaded event loops: block, signalfd(2), reset before exec.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use crate::{Errno, Result, check, check_unit};

/// The kernel's signal set: bit n-1 is signal n.
fn mask(signals: &[i32]) -> Result<u64> {
    signals.iter().try_fold(0, |mask, signal| {
        let bit = u32::try_from(signal - 1).map_err(|_| Errno::INVAL)?;
        1u64.checked_shl(bit).map(|b| mask | b).ok_or(Errno::INVAL)
    })
}

fn set_mask(how: libc::c_int, set: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: both sets are 8 bytes, which is the size passed.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const set,
            &raw mut old,
            8usize,
        )
    })?;
    Ok(old)
}

/// Blocks `signals` in the calling thread; returns the mask from before for [`restore`].
///
/// # Errors
/// `EINVAL` for a number that is no signal.
pub fn block(signals: &[i32]) -> Result<u64> {
    set_mask(libc::SIG_BLOCK, mask(signals)?)
}

/// Blocks all signals that can be; returns the mask from before.
///
/// # Errors
/// None are known.
pub fn block_all() -> Result<u64> {
    set_mask(libc::SIG_SETMASK, !0)
}

/// Sets the calling thread's mask; 0 blocks nothing.
///
/// # Errors
/// None are known.
pub fn restore(mask: u64) -> Result<()> {
    set_mask(libc::SIG_SETMASK, mask).map(|_| ())
}

/// Ignores a signal, or (`ignore` false) gives it its default effect.
///
/// # Errors
/// `EINVAL` for SIGKILL, SIGSTOP and numbers that are no signal.
pub fn ignore(signal: i32, ignore: bool) -> Result<()> {
    let handler = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither disposition runs code of this process.
    if unsafe { libc::signal(signal, handler) } == libc::SIG_ERR {
        return Err(Errno::INVAL);
    }
    Ok(())
}

/// One signal as signalfd(2) reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// The sender's pid, or for SIGCHLD the child's.
    pub pid: i32,
}

/// A non-blocking, close-on-exec descriptor that reads `signals`, which the caller has blocked.
///
/// # Errors
/// `EINVAL`, `EMFILE`.
pub fn signalfd(signals: &[i32]) -> Result<OwnedFd> {
    let mask = mask(signals)?;
    // SAFETY: the mask is 8 bytes, which is the size passed.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            -1,
            &raw const mask,
            8usize,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )
    })?;
    // SAFETY: the kernel returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Reads one signal; `None` when there is none.
///
/// # Errors
/// Those of read(2).
pub fn read_signalfd(fd: BorrowedFd<'_>) -> Result<Option<Received>> {
    // struct signalfd_siginfo: signo at 0, pid at 12, 128 bytes in all.
    let mut buffer = [0u8; 128];
    match rustix::io::read(fd, &mut buffer) {
        Ok(128) => {
            let word = |at: usize| {
                i32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]])
            };
            Ok(Some(Received {
                signal: word(0),
                pid: word(12),
            }))
        }
        Ok(_) => Err(Errno::IO),
        Err(Errno::AGAIN) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_blocked_signal_is_read() {
        std::thread::spawn(|| {
            let old = block(&[libc::SIGUSR1]).unwrap();
            let fd = signalfd(&[libc::SIGUSR1]).unwrap();
            assert_eq!(read_signalfd(fd.as_fd()), Ok(None));
            // SAFETY: raise sends a blocked signal to this thread.
            unsafe { libc::raise(libc::SIGUSR1) };
            let got = read_signalfd(fd.as_fd()).unwrap().unwrap();
            assert_eq!(got.signal, libc::SIGUSR1);
            restore(old).unwrap();
        })
        .join()
        .unwrap();
    }
}
