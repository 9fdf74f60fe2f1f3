//! keyctl(2): a session keyring of one's own.

use std::ffi::CStr;

use crate::{Result, check};

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;

/// Joins (makes) the session keyring `name` and returns its serial number.
///
/// # Errors
/// `ENOSYS` without keyrings, `EDQUOT`, `EACCES`.
pub fn join_session(name: &CStr) -> Result<i32> {
    // SAFETY: `name` is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
        .map(|serial| serial as i32)
}

/// Sets the permission bits of key `serial`.
///
/// # Errors
/// `EACCES` when the caller may not change them.
pub fn set_permissions(serial: i32, permissions: u32) -> Result<()> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, permissions) })
        .map(|_| ())
}
