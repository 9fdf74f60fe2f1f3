//! seccomp(2): load a filter, get its notification descriptor, ask which actions exist.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::{Errno, Result, check, check_unit};

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockFilter {
    /// Opcode.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

const SET_MODE_FILTER: libc::c_uint = 1;
const GET_ACTION_AVAIL: libc::c_uint = 2;
/// The notification descriptor is wanted (`SECCOMP_RET_USER_NOTIF`).
pub const FLAG_NEW_LISTENER: u64 = 1 << 3;

/// Installs `filter` on the calling thread. With [`FLAG_NEW_LISTENER`] in `flags` the notification
/// descriptor is returned.
///
/// # Errors
/// `EACCES` without `no_new_privs` and without `CAP_SYS_ADMIN`; `EINVAL` for a malformed filter or
/// unknown flags; `EBUSY` when an installed filter has a listener already.
pub fn set_filter(filter: &[SockFilter], flags: u64) -> Result<Option<OwnedFd>> {
    let prog = SockFprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?,
        filter: filter.as_ptr(),
    };
    // SAFETY: `prog` points at `len` instructions that outlive the call; the kernel copies them.
    let ret = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags as libc::c_uint,
            &raw const prog,
        )
    })?;
    if flags & FLAG_NEW_LISTENER != 0 {
        // SAFETY: with this flag the kernel returns a new descriptor, which nobody else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(ret as i32) }));
    }
    Ok(None)
}

/// Whether the kernel knows the filter action `SECCOMP_RET_*`.
#[must_use]
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            GET_ACTION_AVAIL,
            0 as libc::c_uint,
            &raw const action,
        )
    })
    .is_ok()
}

/// Whether the kernel knows the filter flag: with a null program a known flag gives `EFAULT`.
#[must_use]
pub fn flag_available(flag: u64) -> bool {
    // SAFETY: a null program is refused before anything is installed.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flag as libc::c_uint,
            std::ptr::null::<SockFprog>(),
        )
    }) == Err(Errno::FAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_things_are_known() {
        assert!(action_available(0x7fff_0000));
        assert!(!action_available(0x1234_0000));
        assert!(flag_available(1 << 1));
        assert!(!flag_available(1 << 30));
    }

    #[test]
    fn a_filter_takes_effect() {
        // A = nr; if getppid: errno 42; else allow.
        let filter = [
            SockFilter {
                code: 0x20,
                jt: 0,
                jf: 0,
                k: 0,
            },
            SockFilter {
                code: 0x15,
                jt: 0,
                jf: 1,
                k: libc::SYS_getppid as u32,
            },
            SockFilter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: 0x0005_0000 | 42,
            },
            SockFilter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: 0x7fff_0000,
            },
        ];
        let seen = std::thread::spawn(move || {
            crate::process::set_no_new_privs().unwrap();
            set_filter(&filter, 0).unwrap();
            // SAFETY: getppid takes nothing.
            check(unsafe { libc::syscall(libc::SYS_getppid) }).unwrap_err()
        });
        assert_eq!(seen.join().unwrap().raw_os_error(), 42);
    }
}
