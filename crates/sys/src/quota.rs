//! Project quotas: a limit for all that lies below a directory (quotactl(2), linux/dqblk_xfs.h, linux/fs.h). xfs has them with the
//! mount option `pquota`, ext4 with the feature `project` and `prjquota`; both take xfs's commands.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Result, check_unit};

/// `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`: `_IOR('X', 31, 28 bytes)`, `_IOW('X', 32, 28 bytes)`.
const GET_XATTR: libc::c_ulong = 0x801c_581f;
const SET_XATTR: libc::c_ulong = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in a directory belongs to its project.
const INHERIT: u32 = 0x200;

/// `QCMD(Q_XGETQSTAT, PRJQUOTA)`, `QCMD(Q_XSETQLIM, PRJQUOTA)`.
const GET_STATE: libc::c_uint = (0x5805 << 8) | 2;
const SET_LIMIT: libc::c_uint = (0x5804 << 8) | 2;
/// `FS_QUOTA_PDQ_ENFD`: limits of projects are enforced.
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// `FS_DQUOT_VERSION`, `FS_PROJ_QUOTA`, `FS_DQ_BSOFT | FS_DQ_BHARD`.
const VERSION: i8 = 1;
const PROJECT: i8 = 2;
const BLOCK_LIMITS: u16 = (1 << 2) | (1 << 3);
/// Limits are counted in blocks of this many bytes.
const BLOCK_LEN: u64 = 512;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota`; what is not named here is not set.
#[repr(C)]
#[derive(Default)]
struct Limit {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    rest: [u64; 11],
}

/// `struct fs_quota_stat`, of which the flags matter; longer than the kernel's 80 bytes.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    flags: u16,
    rest: [u64; 15],
}

fn quotactl(
    fs: BorrowedFd<'_>,
    command: libc::c_uint,
    id: u32,
    address: *mut libc::c_void,
) -> Result<()> {
    const SYS_QUOTACTL_FD: libc::c_long = 443;
    // SAFETY: both callers pass the address of a live structure of at least the size that the command reads or writes.
    check_unit(unsafe { libc::syscall(SYS_QUOTACTL_FD, fs.as_raw_fd(), command, id, address) })
}

/// Whether the file system behind `fs` enforces limits of projects.
///
/// # Errors
/// `ENOSYS` where the kernel has no quotas, or file system has none of this kind (also `EINVAL`, `ESRCH`).
pub fn enforces_projects(fs: BorrowedFd<'_>) -> Result<bool> {
    let mut state = State::default();
    quotactl(fs, GET_STATE, 0, (&raw mut state).cast())?;
    Ok(state.flags & PROJECTS_ENFORCED != 0)
}

/// Lets what belongs to `project` on the file system behind `fs` take at most `bytes`; 0 takes the limit away.
///
/// # Errors
/// As [`enforces_projects`]; `EPERM` without `CAP_SYS_ADMIN`.
pub fn limit_project(fs: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<()> {
    let blocks = bytes.div_ceil(BLOCK_LEN);
    let mut limit = Limit {
        version: VERSION,
        flags: PROJECT,
        fields: BLOCK_LIMITS,
        id: project,
        blocks_hard: blocks,
        blocks_soft: blocks,
        ..Limit::default()
    };
    quotactl(fs, SET_LIMIT, project, (&raw mut limit).cast())
}

/// The project that a file or directory belongs to; 0 is none.
///
/// # Errors
/// `ENOTTY` where the file system knows no projects.
pub fn project(file: BorrowedFd<'_>) -> Result<u32> {
    attributes(file).map(|attributes| attributes.project)
}

/// Makes a directory, and what will be made in it, part of a project.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system knows no projects; `EPERM` in another user namespace.
pub fn set_project(dir: BorrowedFd<'_>, project: u32) -> Result<()> {
    let mut attributes = attributes(dir)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the structure has the size that the command encodes, and outlives the call.
    let outcome = unsafe { libc::ioctl(dir.as_raw_fd(), SET_XATTR, &raw const attributes) };
    check_unit(outcome.into())
}

fn attributes(file: BorrowedFd<'_>) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the structure has the size that the command encodes, and is the caller's own while the kernel writes it.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), GET_XATTR, &raw mut attributes) };
    check_unit(outcome.into())?;
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// The sizes that linux/fs.h and linux/dqblk_xfs.h give; the ioctl numbers have theirs in them.
    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Limit>(), 112);
        assert!(size_of::<State>() >= 80);
        assert_eq!((GET_XATTR >> 16) & 0x3fff, 28);
        assert_eq!((SET_XATTR >> 16) & 0x3fff, 28);
    }

    #[test]
    fn where_there_are_none_is_an_error() {
        let dir = std::fs::File::open("/proc/self").unwrap();
        assert!(enforces_projects(dir.as_fd()).is_err());
        assert!(project(dir.as_fd()).is_err());
        assert!(set_project(dir.as_fd(), 7).is_err());
    }
}
