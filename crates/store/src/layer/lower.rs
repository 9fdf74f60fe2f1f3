//! Looking into the layers below: what a path is there, and settling what a layer alone could not decide.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::Pending;
use super::dirs::split;
use crate::fsutil::{is_opaque, is_whiteout, open_dir, open_dir_at, set_xattr, xattrs};
use crate::snapshot::Tree;
use crate::{Error, Result};

/// Something found in a layer: its directory there and its attributes.
pub(super) struct Found {
    pub dir: OwnedFd,
    pub stat: Stat,
}

/// Finds `path` (clean, relative) in the uppermost of `lowers` that has it. Whiteouts and opaque directories on the way
/// end the search, as overlayfs does; no symbolic link is followed.
pub(super) fn find(lowers: &[OwnedFd], path: &[u8]) -> io::Result<Option<Found>> {
    for lower in lowers {
        match find_in(lower.as_fd(), path)? {
            Search::Found(found) => return Ok(Some(found)),
            Search::Hidden => return Ok(None),
            Search::Below => {}
        }
    }
    Ok(None)
}

enum Search {
    Found(Found),
    Hidden,
    Below,
}

fn find_in(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Search> {
    let mut dir = root.try_clone_to_owned()?;
    let mut components = path.split(|b| *b == b'/').peekable();
    let mut opaque = false;
    while let Some(name) = components.next() {
        let name = OsStr::from_bytes(name);
        let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if opaque => return Ok(Search::Hidden),
            Err(Errno::NOENT) => return Ok(Search::Below),
            Err(error) => return Err(error.into()),
        };
        if is_whiteout(&stat) {
            return Ok(Search::Hidden);
        }
        if components.peek().is_none() {
            return Ok(Search::Found(Found { dir, stat }));
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Search::Hidden);
        }
        dir = open_dir_at(dir.as_fd(), name)?;
        opaque |= is_opaque(dir.as_fd());
    }
    Ok(Search::Below)
}

/// Opens the directories of layers.
pub(super) fn open_all(trees: &[Tree]) -> Result<Vec<OwnedFd>> {
    trees
        .iter()
        .map(|tree| open_dir(tree).map_err(Error::io("open", tree)))
        .collect()
}

/// Settles what [`apply`](super::apply) left open, now that the layers below are known (uppermost first).
///
/// # Errors
/// [`Error::Refused`] for a hard link whose target is nowhere; [`Error::Entry`] when the file system refuses.
pub fn settle(root: &Path, pending: &Pending, lowers: &[Tree]) -> Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    let root = open_dir(root).map_err(Error::io("open", root))?;
    let lowers = open_all(lowers)?;
    for (path, target) in &pending.links {
        link(root.as_fd(), path, target, &lowers)?;
    }
    // Last and children first, for settling makes files and so changes times.
    for path in pending.implicit_dirs.iter().rev() {
        take_over(root.as_fd(), path, &lowers).map_err(entry_error("settle", path))?;
    }
    Ok(())
}

fn entry_error(operation: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Entry {
        operation,
        entry: String::from_utf8_lossy(path).into_owned(),
        source,
    }
}

/// Gives a directory the attributes that it has below.
fn take_over(root: BorrowedFd<'_>, path: &[u8], lowers: &[OwnedFd]) -> io::Result<()> {
    let Some(below) = find(lowers, path)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(below.stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    let Search::Found(own) = find_in(root, path)? else {
        return Ok(());
    };
    let (_, name) = split(path);
    let name = OsStr::from_bytes(name);
    copy_metadata(&below, name, own.dir.as_fd(), name)
}

/// Copies owner, xattrs, mode and times of `from_name` to `name` in `dir`.
pub(super) fn copy_metadata(
    from: &Found,
    from_name: &OsStr,
    dir: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<()> {
    let stat = &from.stat;
    let owner = (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    );
    rustix::fs::chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    for (key, value) in xattrs(from.dir.as_fd(), from_name)? {
        if !key.starts_with(b"trusted.overlay.") {
            set_xattr(dir, name, &key, &value)?;
        }
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(
            dir,
            name,
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        )?;
    }
    rustix::fs::utimensat(dir, name, &stat_times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn stat_times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

/// Makes a hard link whose target lies below: the target is copied up to its own path first, as overlayfs would.
fn link(root: BorrowedFd<'_>, path: &[u8], target: &[u8], lowers: &[OwnedFd]) -> Result<()> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let refused = |why| Error::Refused {
        entry: shown(),
        why,
    };
    if let Search::Below | Search::Hidden =
        find_in(root, target).map_err(entry_error("link", path))?
    {
        let below = find(lowers, target).map_err(entry_error("link", path))?;
        let below = below.ok_or_else(|| refused("a hard link to a file that does not exist"))?;
        copy_up(root, &below, target).map_err(entry_error("copy up the target of", path))?;
    }
    let found = |path: &[u8]| -> Result<OwnedFd> {
        let parent = Path::new(OsStr::from_bytes(split(path).0));
        hull_sys::path::open_in_root(
            root,
            parent,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .map_err(|error| entry_error("link", path)(error.into()))
    };
    let (from, to) = (found(target)?, found(path)?);
    let (from_name, to_name) = (
        OsStr::from_bytes(split(target).1),
        OsStr::from_bytes(split(path).1),
    );
    match rustix::fs::linkat(&from, from_name, &to, to_name, AtFlags::empty()) {
        // A later member of the same name won.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(entry_error("link", path)(error.into())),
    }
}

fn copy_up(root: BorrowedFd<'_>, below: &Found, target: &[u8]) -> io::Result<()> {
    let (parent, name) = split(target);
    let name = OsStr::from_bytes(name);
    let parent = Path::new(OsStr::from_bytes(parent));
    hull_sys::path::mkdir_all_in_root(root, parent, Mode::from_raw_mode(0o755))?;
    let dir = hull_sys::path::open_in_root(
        root,
        parent,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    copy_node(below.dir.as_fd(), name, &below.stat, dir.as_fd(), name)?;
    copy_metadata(below, name, dir.as_fd(), name)
}

/// Copies a file of any kind but a directory, without its metadata.
pub(super) fn copy_node(
    from: BorrowedFd<'_>,
    from_name: &OsStr,
    stat: &Stat,
    to: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = File::from(rustix::fs::openat(from, from_name, flags, Mode::empty())?);
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = File::from(rustix::fs::openat(to, name, flags, mode)?);
            copy_content(&source, &target)
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, from_name, Vec::new())?;
            Ok(rustix::fs::symlinkat(&link, to, name)?)
        }
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        kind => Ok(rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?),
    }
}

/// A reflink where the file system has them, else a copy inside the kernel.
fn copy_content(source: &File, target: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    io::copy(&mut &*source, &mut &*target)?;
    Ok(())
}
