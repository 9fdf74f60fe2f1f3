//! execve(2) and execveat(2) with arrays built beforehand, so that nothing is allocated at the last moment.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use crate::{Errno, Result, check_unit};

/// A null-terminated array of C strings.
#[derive(Debug)]
pub struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CStrings {
    /// Builds the array.
    ///
    /// # Errors
    /// `EINVAL` when an element contains a NUL byte.
    pub fn new<S: AsRef<OsStr>>(items: impl IntoIterator<Item = S>) -> Result<Self> {
        let strings = items
            .into_iter()
            .map(|s| CString::new(s.as_ref().as_bytes()).map_err(|_| Errno::INVAL))
            .collect::<Result<Vec<_>>>()?;
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(Self { strings, pointers })
    }

    /// The strings.
    #[must_use]
    pub fn as_slice(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces the process image. Returns only on failure.
#[must_use]
pub fn execve(path: &CStr, argv: &CStrings, envp: &CStrings) -> Errno {
    // SAFETY: `path` is a C string, both arrays are null-terminated arrays of C strings that the
    // CStrings own and never change.
    let ret = unsafe {
        libc::execve(
            path.as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
        )
    };
    check_unit(ret.into()).err().unwrap_or(Errno::NOEXEC)
}

/// Replaces the process image by the file that `fd` refers to (`AT_EMPTY_PATH`). Returns only on failure.
///
/// A script cannot be run through a close-on-exec descriptor: `ENOENT`.
#[must_use]
pub fn execveat(fd: BorrowedFd<'_>, argv: &CStrings, envp: &CStrings) -> Errno {
    // SAFETY: as in `execve`; the path is the empty string.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    check_unit(ret).err().unwrap_or(Errno::NOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_enoent_and_a_nul_is_refused() {
        let none = CStrings::new(Vec::<String>::new()).unwrap();
        assert_eq!(execve(c"/nonexistent", &none, &none), Errno::NOENT);
        assert_eq!(CStrings::new(["a\0b"]).unwrap_err(), Errno::INVAL);
    }
}
