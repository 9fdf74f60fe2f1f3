//! Paths inside a directory that somebody else controls: every look-up is one openat2(2) that cannot leave it.
//!
//! Absolute symbolic links and `..` are taken relative to the root, and magic links are not followed
//! (`RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`). What is opened is used through its fd; a path is never
//! looked up a second time.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};

use crate::{Errno, Result};

/// Deepest path that [`mkdir_all_in_root`] accepts, in components.
const DEPTH_MAX: usize = 512;
/// `EAGAIN` means a rename raced with `..`; the kernel asks to try again.
const RETRIES: usize = 32;
/// Most dangling links that are followed (the kernel's own limit for links).
const LINKS_MAX: usize = 40;

/// Opens `path` beneath `root`.
///
/// # Errors
/// Those of openat2(2); `EAGAIN` when renames kept racing.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    open_with(root, path, flags, mode, ResolveFlags::empty())
}

/// As [`open_in_root`], and refuses symbolic links anywhere in the path (`ELOOP`).
///
/// # Errors
/// As [`open_in_root`].
pub fn open_in_root_nosymlinks(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    open_with(root, path, flags, mode, ResolveFlags::NO_SYMLINKS)
}

fn open_with(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    more: ResolveFlags,
) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    for _ in 0..RETRIES {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the directory `path` beneath `root` as `O_PATH`, making what is missing with `mode`.
///
/// Symbolic links on the way are followed inside the root, also dangling ones, whose targets are made there
/// (an image's `/var/run -> /run` without a `/run`). `..` below something that does not exist is refused.
///
/// # Errors
/// Those of openat2(2) and mkdirat(2); `ENOTDIR`; `ELOOP`; `ENAMETOOLONG` for more than 512 components.
pub fn mkdir_all_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match make_directories(root, &path, mode)? {
            Made::Opened(fd) => return Ok(fd),
            Made::Continue(next) => path = next,
        }
    }
    Err(Errno::LOOP)
}

/// What one pass made.
enum Made {
    /// All of it.
    Opened(OwnedFd),
    /// A dangling link was met: the path to go on with.
    Continue(PathBuf),
}

fn make_directories(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<Made> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, path, directory, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other.map(Made::Opened),
    }
    let (missing, prefix, mut current) = deepest_existing(root, path)?;
    for (index, component) in missing.iter().enumerate() {
        let Component::Normal(name) = component else {
            return Err(Errno::NOENT);
        };
        match mkdirat(&current, *name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let done: PathBuf = prefix.iter().chain(&missing[..index]).collect();
                if let Some(next) = follow(&current, name, &done, &missing[index + 1..])? {
                    return Ok(Made::Continue(next));
                }
            }
            Err(e) => return Err(e),
        }
        // What somebody put there in the meantime is refused, not followed.
        let flags = directory | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        current = openat(&current, *name, flags, Mode::empty())?;
    }
    Ok(Made::Opened(current))
}

/// If `name` in `directory` is a symbolic link: the path with the link replaced by its target.
fn follow(
    directory: &OwnedFd,
    name: &OsStr,
    done: &Path,
    rest: &[Component<'_>],
) -> Result<Option<PathBuf>> {
    let target = match readlinkat(directory, name, Vec::new()) {
        Err(Errno::INVAL) => return Ok(None),
        other => other?,
    };
    // An absolute target replaces what came before: it starts at the root, as openat2 takes it.
    let mut next = done.join(OsStr::from_bytes(target.as_bytes()));
    next.extend(rest);
    Ok(Some(next))
}

/// The components of `path` that do not exist, those that do, and the directory at which they end.
fn deepest_existing<'p>(
    root: BorrowedFd<'_>,
    path: &'p Path,
) -> Result<(Vec<Component<'p>>, Vec<Component<'p>>, OwnedFd)> {
    let components: Vec<_> = path
        .components()
        .filter(|c| !matches!(c, Component::RootDir | Component::CurDir))
        .collect();
    if components.len() > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for existing in (0..components.len()).rev() {
        let prefix: PathBuf = components[..existing].iter().collect();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match open_in_root(root, &prefix, flags, Mode::empty()) {
            Ok(fd) => {
                let (before, after) = components.split_at(existing);
                return Ok((after.to_vec(), before.to_vec(), fd));
            }
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::NOENT)
}

/// Opens `path` beneath `root` as `O_PATH` for use as the mount point of a file, making an empty file (and
/// its parents) if nothing is there.
///
/// # Errors
/// As [`mkdir_all_in_root`].
pub fn create_file_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd> {
    match open_in_root(root, path, OFlags::PATH, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let (parent, name) = open_parent_in_root(root, &path, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&parent, name, flags | OFlags::RDONLY, mode) {
            Ok(_) => {}
            Err(Errno::EXIST) => {
                let above = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
                if let Some(next) = follow(&parent, name, &above, &[])? {
                    path = next;
                    continue;
                }
            }
            Err(e) => return Err(e),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        return openat(&parent, name, flags, Mode::empty());
    }
    Err(Errno::LOOP)
}

/// The parent directory of `path` beneath `root` (made if missing) and the last component.
///
/// # Errors
/// `EINVAL` when the path has no last component; else as [`mkdir_all_in_root`].
pub fn open_parent_in_root<'p>(
    root: BorrowedFd<'_>,
    path: &'p Path,
    mode: Mode,
) -> Result<(OwnedFd, &'p OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    Ok((mkdir_all_in_root(root, parent, mode)?, name))
}

/// Opens a directory as `O_PATH` by a path of the caller's own.
///
/// # Errors
/// Those of open(2).
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Whether `fd` lies on procfs.
///
/// # Errors
/// Those of fstatfs(2).
pub fn is_on_proc<Fd: AsFd>(fd: Fd) -> Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        (dir, fd)
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (dir, fd) = root();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/x"), "inside").unwrap();
        symlink("/etc", dir.path().join("abs")).unwrap();
        symlink("../../../../etc", dir.path().join("up")).unwrap();
        for path in ["abs/x", "up/x", "/../../etc/x", "etc/../../etc/x"] {
            let file = open_in_root(fd.as_fd(), Path::new(path), OFlags::RDONLY, Mode::empty());
            let mut text = String::new();
            use std::io::Read;
            std::fs::File::from(file.unwrap())
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "inside", "{path}");
        }
    }

    #[test]
    fn directories_are_made_inside_through_links() {
        let (dir, fd) = root();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink("/real", dir.path().join("link")).unwrap();
        let mode = Mode::from_raw_mode(0o755);
        mkdir_all_in_root(fd.as_fd(), Path::new("/link/a/b"), mode).unwrap();
        assert!(dir.path().join("real/a/b").is_dir());
        create_file_in_root(fd.as_fd(), Path::new("/link/a/f"), mode).unwrap();
        assert!(dir.path().join("real/a/f").is_file());
    }

    #[test]
    fn dangling_links_are_made_inside_and_loops_refused() {
        let (dir, fd) = root();
        let mode = Mode::from_raw_mode(0o755);
        std::fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        symlink("../../../../other", dir.path().join("var/up")).unwrap();
        mkdir_all_in_root(fd.as_fd(), Path::new("/var/run/x"), mode).unwrap();
        create_file_in_root(fd.as_fd(), Path::new("/var/up"), mode).unwrap();
        assert!(dir.path().join("run/x").is_dir());
        assert!(dir.path().join("other").is_file());
        symlink("/b", dir.path().join("a")).unwrap();
        symlink("/a", dir.path().join("b")).unwrap();
        for path in ["a", "a/x", "new/../../x"] {
            mkdir_all_in_root(fd.as_fd(), Path::new(path), mode).unwrap_err();
        }
    }
}
