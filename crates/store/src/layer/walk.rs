//! What changed between a snapshot and its parent, as a walk: from an overlayfs upper directory, or from two trees.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::{ChangeKind, WHITEOUT_PREFIX};
use crate::fsutil::{is_opaque, is_whiteout, open_dir, open_dir_at, sorted_names, xattrs};
use crate::snapshot::DiffSource;
use crate::{Error, Result};

/// Deepest tree that is walked; each level holds an open directory.
const DEPTH_MAX: usize = 1024;

/// One thing that a walk meets. Parents come before their children, siblings in byte order.
pub(super) enum Step<'w> {
    /// A file of any kind that was added or changed.
    File {
        path: &'w [u8],
        dir: BorrowedFd<'w>,
        name: &'w OsStr,
        stat: &'w Stat,
        kind: ChangeKind,
    },
    /// Something that is gone.
    Gone { path: &'w [u8] },
    /// The directory met before hides all that was below it.
    Opaque { path: &'w [u8] },
}

/// Walks the changes of a snapshot.
pub(super) fn walk(
    source: &DiffSource,
    visit: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let open = |path: &Path| open_dir(path).map_err(Error::io("open", path));
    match source {
        DiffSource::Upper { upper, lowers } => {
            let lowers = super::lower::open_all(lowers)?;
            let mut walk = UpperWalk {
                lowers,
                path: Vec::new(),
                visit,
            };
            walk.dir(open(upper)?.as_fd(), 0, true)
        }
        DiffSource::Trees { lower, upper } => {
            let lower = lower.as_deref().map(open).transpose()?;
            let mut walk = TreesWalk {
                path: Vec::new(),
                visit,
                unvisited: Vec::new(),
            };
            walk.dir(lower.as_ref().map(AsFd::as_fd), open(upper)?.as_fd(), 0)
        }
    }
}

fn failed(operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error {
    let path = Path::new(OsStr::from_bytes(path)).to_owned();
    move |source| Error::Io {
        operation,
        path,
        source: source.into(),
    }
}

fn too_deep(path: &[u8]) -> Error {
    Error::Refused {
        entry: String::from_utf8_lossy(path).into_owned(),
        why: "directories nested too deeply",
    }
}

/// The attributes of `name`; `None` when it vanished in the meantime.
fn stat(dir: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(failed("stat", path)(error)),
    }
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn os(name: CString) -> OsString {
    OsString::from_vec(name.into_bytes())
}

/// Runs `body` with `name` added to `path`.
fn push(path: &mut Vec<u8>, name: &OsStr) -> usize {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    length
}

struct UpperWalk<'v> {
    lowers: Vec<OwnedFd>,
    path: Vec<u8>,
    visit: &'v mut dyn FnMut(Step<'_>) -> Result<()>,
}

impl UpperWalk<'_> {
    /// `below`: whether the layers below may have something here.
    fn dir(&mut self, dir: BorrowedFd<'_>, depth: usize, below: bool) -> Result<()> {
        if depth == DEPTH_MAX {
            return Err(too_deep(&self.path));
        }
        for name in sorted_names(dir).map_err(failed("list", &self.path))? {
            let name = os(name);
            let length = push(&mut self.path, &name);
            self.one(dir, &name, depth, below)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn one(&mut self, dir: BorrowedFd<'_>, name: &OsStr, depth: usize, below: bool) -> Result<()> {
        let Some(stat) = stat(dir, name, &self.path)? else {
            return Ok(());
        };
        if name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            // fuse-overlayfs leaves marks of its own beside the attribute that says the same, and a layer can hold no such name.
            return Ok(());
        }
        if is_whiteout(&stat) {
            return (self.visit)(Step::Gone { path: &self.path });
        }
        let found = match below {
            true => super::lower::find(&self.lowers, &self.path)
                .map_err(Error::io("look below for", Path::new(name)))?,
            false => None,
        };
        let kind = if found.is_some() {
            ChangeKind::Modified
        } else {
            ChangeKind::Added
        };
        (self.visit)(Step::File {
            path: &self.path,
            dir,
            name,
            stat: &stat,
            kind,
        })?;
        if !is_dir(&stat) {
            return Ok(());
        }
        let child = open_dir_at(dir, name).map_err(failed("open", &self.path))?;
        let opaque = is_opaque(child.as_fd());
        if opaque && found.is_some_and(|found| is_dir(&found.stat)) {
            (self.visit)(Step::Opaque { path: &self.path })?;
        }
        self.dir(child.as_fd(), depth + 1, below && !opaque)
    }
}

struct TreesWalk<'v> {
    path: Vec<u8>,
    visit: &'v mut dyn FnMut(Step<'_>) -> Result<()>,
    /// Unchanged directories on the way to here that were not shown yet: length of their path, fd of their parent, name.
    unvisited: Vec<(usize, OwnedFd, OsString, Stat)>,
}

impl TreesWalk<'_> {
    fn dir(
        &mut self,
        lower: Option<BorrowedFd<'_>>,
        upper: BorrowedFd<'_>,
        depth: usize,
    ) -> Result<()> {
        if depth == DEPTH_MAX {
            return Err(too_deep(&self.path));
        }
        let names = |dir: BorrowedFd<'_>| sorted_names(dir).map_err(failed("list", &self.path));
        let mut all = names(upper)?;
        if let Some(lower) = lower {
            all.extend(names(lower)?);
            all.sort_unstable();
            all.dedup();
        }
        for name in all {
            let name = os(name);
            let length = push(&mut self.path, &name);
            self.one(lower, upper, &name, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn one(
        &mut self,
        lower: Option<BorrowedFd<'_>>,
        upper: BorrowedFd<'_>,
        name: &OsStr,
        depth: usize,
    ) -> Result<()> {
        let old = match lower {
            Some(lower) => stat(lower, name, &self.path)?.map(|stat| (lower, stat)),
            None => None,
        };
        let Some(new) = stat(upper, name, &self.path)? else {
            if old.is_some() {
                self.show_parents()?;
                (self.visit)(Step::Gone { path: &self.path })?;
            }
            return Ok(());
        };
        let same = match &old {
            Some((lower, old)) => {
                is_same(*lower, old, upper, &new, name).map_err(failed("compare", &self.path))?
            }
            None => false,
        };
        let mut waiting = false;
        if !same {
            self.show_parents()?;
            let kind = if old.is_some() {
                ChangeKind::Modified
            } else {
                ChangeKind::Added
            };
            (self.visit)(Step::File {
                path: &self.path,
                dir: upper,
                name,
                stat: &new,
                kind,
            })?;
        } else if is_dir(&new) {
            waiting = true;
            let parent = upper
                .try_clone_to_owned()
                .map_err(Error::io("open", Path::new(name)))?;
            self.unvisited
                .push((self.path.len(), parent, name.to_owned(), new));
        }
        if is_dir(&new) {
            let child = open_dir_at(upper, name).map_err(failed("open", &self.path))?;
            let below = match old {
                Some((lower, old)) if is_dir(&old) => {
                    Some(open_dir_at(lower, name).map_err(failed("open", &self.path))?)
                }
                Some(_) | None => None,
            };
            self.dir(below.as_ref().map(AsFd::as_fd), child.as_fd(), depth + 1)?;
        }
        if waiting
            && self
                .unvisited
                .last()
                .is_some_and(|(length, ..)| *length == self.path.len())
        {
            self.unvisited.pop();
        }
        Ok(())
    }

    /// Something below changed: a tar then has its directories too, as overlayfs's upper has.
    fn show_parents(&mut self) -> Result<()> {
        for (length, dir, name, stat) in std::mem::take(&mut self.unvisited) {
            let path = &self.path[..length];
            (self.visit)(Step::File {
                path,
                dir: dir.as_fd(),
                name: &name,
                stat: &stat,
                kind: ChangeKind::Modified,
            })?;
        }
        Ok(())
    }
}

/// Whether two files are the same for a layer. A directory's times change with its children and do not count.
fn is_same(
    lower: BorrowedFd<'_>,
    old: &Stat,
    upper: BorrowedFd<'_>,
    new: &Stat,
    name: &OsStr,
) -> rustix::io::Result<bool> {
    let owner = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if owner(old) != owner(new) {
        return Ok(false);
    }
    let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
    if !is_dir(new) && time(old) != time(new) {
        return Ok(false);
    }
    Ok(xattrs(lower, name)? == xattrs(upper, name)?)
}
