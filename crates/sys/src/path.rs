//! Paths inside a directory that somebody else controls: every look-up is one openat2(2) that cannot leave it.
//!
//! Absolute symbolic links and `..` are taken relative to the root, and magic links are not followed
//! (`RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`). What is opened is used through its fd; a path is never
//! looked up a second time.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};

use crate::{Errno, Result};

/// Deepest path that [`mkdir_all_in_root`] accepts, in components.
const DEPTH_MAX: usize = 512;
/// `EAGAIN` means a rename raced with `..`; the kernel asks to try again.
const RETRIES: usize = 32;

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
/// Symbolic links on the way are followed inside the root. A dangling one is refused (`ENOENT`), as is `..`
/// below something that does not exist.
///
/// # Errors
/// Those of openat2(2) and mkdirat(2); `ENOTDIR`; `ENAMETOOLONG` for more than 512 components.
pub fn mkdir_all_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, path, directory, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (existing, mut current) = deepest_existing(root, path)?;
    for component in existing {
        let Component::Normal(name) = component else {
            return Err(Errno::NOENT);
        };
        match mkdirat(&current, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        // A symlink that somebody put there in the meantime is refused, not followed.
        current = openat(
            &current,
            name,
            directory | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
    }
    Ok(current)
}

/// The components of `path` that do not exist, and the deepest directory that does.
fn deepest_existing<'p>(
    root: BorrowedFd<'_>,
    path: &'p Path,
) -> Result<(Vec<Component<'p>>, OwnedFd)> {
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
            Ok(fd) => return Ok((components[existing..].to_vec(), fd)),
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
    let (parent, name) = open_parent_in_root(root, path, Mode::from_raw_mode(0o755))?;
    let made = openat(
        &parent,
        name,
        OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY,
        mode,
    );
    match made {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    openat(
        &parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
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
    fn a_dangling_link_and_dots_below_nothing_are_refused() {
        let (dir, fd) = root();
        symlink("/nowhere", dir.path().join("dangling")).unwrap();
        let mode = Mode::from_raw_mode(0o755);
        for path in ["dangling", "dangling/x", "new/../../x"] {
            mkdir_all_in_root(fd.as_fd(), Path::new(path), mode).unwrap_err();
        }
        assert!(!dir.path().join("nowhere").exists());
    }
}
