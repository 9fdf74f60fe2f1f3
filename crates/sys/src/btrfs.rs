//! btrfs subvolumes: make, snapshot, destroy (`btrfs-ioctl(2)`, linux/btrfs.h).

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use crate::{Errno, Result, check_unit};

/// `BTRFS_IOC_SUBVOL_CREATE`, `_SNAP_DESTROY` and `_SNAP_CREATE_V2`: `_IOW(0x94, 14 | 15 | 23, 4096 bytes)`.
const SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
const SNAP_DESTROY: libc::c_ulong = 0x5000_940f;
const SNAP_CREATE_V2: libc::c_ulong = 0x5000_9417;

/// `BTRFS_IOC_QUOTA_CTL`, `_QGROUP_LIMIT` and `_QUOTA_RESCAN_WAIT`: `_IOWR(0x94, 40, 16)`, `_IOR(0x94, 43, 48)`, `_IO(0x94, 46)`.
const QUOTA_CTL: libc::c_ulong = 0xc010_9428;
const QGROUP_LIMIT: libc::c_ulong = 0x8030_942b;
const QUOTA_RESCAN_WAIT: libc::c_ulong = 0x942e;

/// `BTRFS_QUOTA_CTL_ENABLE`, `BTRFS_QGROUP_LIMIT_MAX_RFER`.
const QUOTA_CTL_ENABLE: u64 = 1;
const LIMIT_MAX_RFER: u64 = 1;

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

/// Switches quotas on for the file system of `tree`, and waits until what is there has been counted.
///
/// # Errors
/// `EPERM`; `ENOTTY` where it is no btrfs.
pub fn enable_quota(tree: BorrowedFd<'_>) -> Result<()> {
    // `struct btrfs_ioctl_quota_ctl_args`: command, status.
    let mut args = [QUOTA_CTL_ENABLE, 0u64];
    // SAFETY: QUOTA_CTL reads and writes the 16 bytes of `args`, which outlives the call.
    check_unit(unsafe { libc::ioctl(tree.as_raw_fd(), QUOTA_CTL, args.as_mut_ptr()) }.into())?;
    // SAFETY: QUOTA_RESCAN_WAIT has no argument.
    check_unit(unsafe { libc::ioctl(tree.as_raw_fd(), QUOTA_RESCAN_WAIT) }.into())
}

/// Lets the subvolume `tree` refer to at most `bytes`, files shared with other subvolumes included.
///
/// # Errors
/// `ENOTCONN` while quotas are off; `EPERM`.
pub fn limit_referenced(tree: BorrowedFd<'_>, bytes: u64) -> Result<()> {
    // `struct btrfs_ioctl_qgroup_limit_args`: qgroupid (0: this subvolume's), flags, max_rfer, max_excl, rsv_rfer, rsv_excl.
    let args = [0u64, LIMIT_MAX_RFER, bytes, 0, 0, 0];
    // SAFETY: QGROUP_LIMIT reads the 48 bytes of `args`, which outlives the call.
    check_unit(unsafe { libc::ioctl(tree.as_raw_fd(), QGROUP_LIMIT, args.as_ptr()) }.into())
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
