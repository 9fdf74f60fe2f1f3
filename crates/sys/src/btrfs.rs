//! btrfs subvolumes: make, snapshot, destroy (`btrfs-ioctl(2)`, linux/btrfs.h).

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use crate::{Errno, Result, check_unit};

/// `BTRFS_IOC_SUBVOL_CREATE`, `_SNAP_DESTROY` and `_SNAP_CREATE_V2`: `_IOW(0x94, 14 | 15 | 23, 4096 bytes)`.
const SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
const SNAP_DESTROY: libc::c_ulong = 0x5000_940f;
const SNAP_CREATE_V2: libc::c_ulong = 0x5000_9417;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// Makes the empty subvolume `name` in `dir`.
///
/// # Errors
/// `ENOTTY` where `dir` is not on btrfs; `EEXIST`; `ENAMETOOLONG`.
pub fn create(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    by_name(dir, name, SUBVOL_CREATE)
}

/// Destroys the subvolume `name` in `dir` with all its files; the space is freed in the background.
///
/// # Errors
/// `EINVAL` for a directory that is no subvolume; `ENOTEMPTY` when it holds other subvolumes.
pub fn destroy(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    by_name(dir, name, SNAP_DESTROY)
}

/// Makes `name` in `dir` a writable snapshot of the subvolume `source`.
///
/// # Errors
/// `EXDEV` when they are on different file systems; `EINVAL` for a source that is no subvolume.
pub fn snapshot(dir: BorrowedFd<'_>, name: &OsStr, source: BorrowedFd<'_>) -> Result<()> {
    let args = VolArgsV2 {
        fd: source.as_raw_fd().into(),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name: terminated(name)?,
    };
    // SAFETY: SNAP_CREATE_V2 reads one vol_args_v2 of 4096 bytes, which outlives the call; both fds are borrowed.
    check_unit(unsafe { libc::ioctl(dir.as_raw_fd(), SNAP_CREATE_V2, &raw const args) }.into())
}

fn by_name(dir: BorrowedFd<'_>, name: &OsStr, request: libc::c_ulong) -> Result<()> {
    let args = VolArgs {
        fd: 0,
        name: terminated(name)?,
    };
    // SAFETY: both requests read one vol_args of 4096 bytes, which outlives the call.
    check_unit(unsafe { libc::ioctl(dir.as_raw_fd(), request, &raw const args) }.into())
}

/// The name with a NUL after it, at most 255 bytes long.
fn terminated<const LEN: usize>(name: &OsStr) -> Result<[u8; LEN]> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 255 || bytes.contains(&b'/') {
        return Err(Errno::NAMETOOLONG);
    }
    let mut field = [0; LEN];
    field[..bytes.len()].copy_from_slice(bytes);
    Ok(field)
}
