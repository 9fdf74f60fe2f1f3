//! `tmpcopyup`: what a tmpfs will cover is copied into it, by descriptors on both sides.

use std::os::fd::{AsFd, BorrowedFd};

use hull_sys::Errno;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat,
    mknodat, openat, readlinkat, statat, symlinkat,
};

/// Deepest tree that is copied.
const DEPTH_MAX: usize = 128;

/// Copies the contents and the attributes of directory `from` to the directory `to`.
pub(super) fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    copy_directory(from, to, 0)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = openat(from, c".", flags, Mode::empty())?;
    let to = openat(to, c".", flags, Mode::empty())?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(&to, name, Mode::from_raw_mode(0o700))?;
                let open = |dir: BorrowedFd<'_>| {
                    openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())
                };
                let (below, target) = (open(from.as_fd())?, open(to.as_fd())?);
                copy_directory(below.as_fd(), target.as_fd(), depth + 1)?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(&from, name, Vec::new())?, &to, name)?;
                own(&to, name, &stat)?;
            }
            FileType::RegularFile => copy_file(from.as_fd(), to.as_fd(), name)?,
            other => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                mknodat(&to, name, other, mode, stat.st_rdev)?;
                own(&to, name, &stat)?;
            }
        }
    }
    attributes(&to, &fstat(&from)?)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    // Ends at the end of the file, or with ENOSPC when the tmpfs is full.
    while rustix::fs::sendfile(&target, &source, None, 1 << 20)? > 0 {}
    attributes(&target, &fstat(&source)?)
}

fn attributes(fd: impl AsFd, stat: &Stat) -> Result<(), Errno> {
    fchown(
        &fd,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

fn own(dir: impl AsFd, name: &std::ffi::CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}
