//! Small file system tools: removing trees of hostile shape, xattrs by fd, measuring.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Directories deeper than this are moved up before they are removed, so that a hostile tree cannot use up all fds.
const DEPTH_MAX: usize = 64;
/// Longest list of xattr names the kernel gives (`XATTR_LIST_MAX`), and longest value (`XATTR_SIZE_MAX`).
const XATTR_LEN_MAX: usize = 64 << 10;

pub(crate) const OPEN_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens the directory `name` in `dir`, never through a symbolic link.
pub(crate) fn open_dir_at(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, OPEN_DIR, Mode::empty())
}

/// Opens a directory by a path of our own.
pub(crate) fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Whether this is overlayfs's whiteout: a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The names in a directory, without `.` and `..`, in byte order.
pub(crate) fn sorted_names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !is_dot(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Removes `name` in `dir` and everything below it. Follows no link, holds a bounded number of fds.
pub(crate) fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(other?),
    }
    let top = open_dir_at(dir, name)?;
    let mut moved = 0;
    empty_dir(top.as_fd(), top.as_fd(), 0, &mut moved)?;
    // What was too deep now lies directly below the top, each round at most DEPTH_MAX levels shallower.
    while moved > 0 {
        moved = 0;
        empty_dir(top.as_fd(), top.as_fd(), 0, &mut moved)?;
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

fn empty_dir(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    depth: usize,
    moved: &mut usize,
) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                other => {
                    other?;
                    continue;
                }
            }
        }
        if depth == DEPTH_MAX {
            let aside = format!(".hull-deep-{:016x}", rand::random::<u64>());
            rustix::fs::renameat(dir, name, top, aside.as_str())?;
            *moved += 1;
            continue;
        }
        let child = open_dir_at(dir, OsStr::from_bytes(name.to_bytes()))?;
        empty_dir(top, child.as_fd(), depth + 1, moved)?;
        drop(child);
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Removes a directory tree by a path of our own; one that is not there is no error.
pub(crate) fn remove_path(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match open_dir(parent) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    match remove_tree(parent.as_fd(), name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A path by which the xattr calls reach `name` in `dir` without following a link at its end.
fn link_path(dir: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    path.push(name);
    path
}

/// All xattrs of `name` in `dir`, sorted by name. A file system without xattrs has none.
pub(crate) fn xattrs(
    dir: BorrowedFd<'_>,
    name: &OsStr,
) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = link_path(dir, name);
    let mut list = [0u8; 512];
    let names = match rustix::fs::llistxattr(&path, &mut list) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => list[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut long = vec![0; XATTR_LEN_MAX];
            let length = rustix::fs::llistxattr(&path, long.as_mut_slice())?;
            long.truncate(length);
            long
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; XATTR_LEN_MAX];
        match rustix::fs::lgetxattr(&path, OsStr::from_bytes(name), value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// Sets one xattr of `name` in `dir`, not following a link.
pub(crate) fn set_xattr(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    key: &[u8],
    value: &[u8],
) -> rustix::io::Result<()> {
    let path = link_path(dir, name);
    rustix::fs::lsetxattr(
        &path,
        OsStr::from_bytes(key),
        value,
        rustix::fs::XattrFlags::empty(),
    )
}

/// Whether a directory is marked opaque for overlayfs.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 2];
    matches!(rustix::fs::fgetxattr(dir, crate::layer::OPAQUE_XATTR, &mut value), Ok(1) if value[0] == b'y')
}

/// Bytes and files below a directory; a file with several names counts once.
pub(crate) fn measure(root: &Path) -> io::Result<(u64, u64)> {
    let mut seen = HashSet::new();
    let mut sum = (0, 1);
    let root = open_dir(root)?;
    measure_dir(root.as_fd(), &mut seen, &mut sum, 0)?;
    Ok(sum)
}

fn measure_dir(
    dir: BorrowedFd<'_>,
    seen: &mut HashSet<u64>,
    sum: &mut (u64, u64),
    depth: usize,
) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            sum.1 += 1;
            if depth < 1024 {
                let child = open_dir_at(dir, OsStr::from_bytes(name.to_bytes()))?;
                measure_dir(child.as_fd(), seen, sum, depth + 1)?;
            }
        } else if stat.st_nlink == 1 || seen.insert(stat.st_ino) {
            sum.0 += if kind == FileType::RegularFile {
                stat.st_size as u64
            } else {
                0
            };
            sum.1 += 1;
        }
    }
    Ok(())
}
