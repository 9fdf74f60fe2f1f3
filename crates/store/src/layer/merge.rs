//! Laying an unpacked layer over a complete tree, for drivers without overlayfs.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, Stat};
use rustix::io::Errno;

use super::lower::{Found, copy_metadata, copy_node};
use crate::fsutil::{is_opaque, is_whiteout, open_dir, open_dir_at, remove_tree, sorted_names};
use crate::{Error, Result};

/// Deepest tree, as in diffs.
const DEPTH_MAX: usize = 1024;

/// Lays the layer at `layer` (in overlayfs's form) over the tree at `tree`. Files are moved where both lie on one file
/// system and copied (as reflinks where possible) otherwise; what is left of `layer` is to be thrown away.
///
/// # Errors
/// Those of the file system.
pub fn merge(layer: &Path, tree: &Path) -> Result<()> {
    let from = open_dir(layer).map_err(Error::io("open", layer))?;
    let to = open_dir(tree).map_err(Error::io("open", tree))?;
    let mut copies = Copies::default();
    merge_dir(from.as_fd(), to.as_fd(), &mut copies, 0).map_err(Error::io("merge into", tree))?;
    root_metadata(layer, tree).map_err(Error::io("set attributes of", tree))
}

/// Copies the tree `from` into the empty directory `to`: hard links stay, content is shared where the file system can.
///
/// # Errors
/// Those of the file system.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let source = open_dir(from).map_err(Error::io("open", from))?;
    let target = open_dir(to).map_err(Error::io("open", to))?;
    let mut copies = Copies {
        always: true,
        ..Copies::default()
    };
    merge_dir(source.as_fd(), target.as_fd(), &mut copies, 0).map_err(Error::io("copy to", to))?;
    root_metadata(from, to).map_err(Error::io("set attributes of", to))
}

/// The first copies of files with several names, by inode: where they are, as open directory and name.
#[derive(Default)]
struct Copies {
    always: bool,
    links: std::collections::HashMap<u64, (std::os::fd::OwnedFd, std::ffi::OsString)>,
}

/// Files with several names that one copy remembers; each holds a directory open.
const LINKS_MAX: usize = 4096;

fn root_metadata(from: &Path, to: &Path) -> io::Result<()> {
    let dir = open_dir(from)?;
    let stat = rustix::fs::fstat(&dir)?;
    let target = open_dir(to)?;
    let found = Found { dir, stat };
    copy_metadata(&found, OsStr::new("."), target.as_fd(), OsStr::new("."))
}

fn merge_dir(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    copies: &mut Copies,
    depth: usize,
) -> io::Result<()> {
    if depth == DEPTH_MAX {
        return Err(io::Error::other("directories nested too deeply"));
    }
    for name in sorted_names(from)? {
        let name = OsStr::from_bytes(name.to_bytes());
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_whiteout(&stat) && !copies.always {
            remove_if_there(to, name)?;
        } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let child = open_dir_at(from, name)?;
            let target = enter(to, name, is_opaque(child.as_fd()) && !copies.always)?;
            merge_dir(child.as_fd(), target.as_fd(), copies, depth + 1)?;
            let found = Found {
                dir: from.try_clone_to_owned()?,
                stat,
            };
            copy_metadata(&found, name, to, name)?;
        } else {
            remove_if_there(to, name)?;
            place(from, &stat, to, name, copies)?;
        }
    }
    Ok(())
}

/// The directory `name` in `to`, made if it is not there, emptied if `fresh`.
fn enter(to: BorrowedFd<'_>, name: &OsStr, fresh: bool) -> io::Result<std::os::fd::OwnedFd> {
    if fresh {
        remove_if_there(to, name)?;
    }
    match rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => match open_dir_at(to, name) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                remove_tree(to, name)?;
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            }
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    }
    Ok(open_dir_at(to, name)?)
}

fn remove_if_there(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match remove_tree(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn place(
    from: BorrowedFd<'_>,
    stat: &Stat,
    to: BorrowedFd<'_>,
    name: &OsStr,
    copies: &mut Copies,
) -> io::Result<()> {
    if !copies.always {
        match rustix::fs::renameat(from, name, to, name) {
            Err(Errno::XDEV) => {}
            other => return Ok(other?),
        }
    }
    if stat.st_nlink > 1
        && let Some((dir, first)) = copies.links.get(&stat.st_ino)
    {
        return Ok(rustix::fs::linkat(
            dir,
            first.as_os_str(),
            to,
            name,
            AtFlags::empty(),
        )?);
    }
    copy_node(from, name, stat, to, name)?;
    let found = Found {
        dir: from.try_clone_to_owned()?,
        stat: *stat,
    };
    copy_metadata(&found, name, to, name)?;
    if stat.st_nlink > 1 && copies.links.len() < LINKS_MAX {
        copies
            .links
            .insert(stat.st_ino, (to.try_clone_to_owned()?, name.to_owned()));
    }
    Ok(())
}
