//! Filling an empty volume with what the image has at its mount point: files with their owners, modes, times, links and
//! extended attributes. All by descriptor: nothing in the image can lead outside.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{Result, failed};

/// Deepest directory that is copied.
const DEPTH_MAX: usize = 256;

/// Copies the directory `path` of `root` into the directory that `open` gives to its argument, if that is empty. Nothing happens, and
/// nothing is opened, when the image has no such directory.
pub(crate) fn fill(
    root: BorrowedFd<'_>,
    path: &str,
    open: impl FnOnce(&dyn Fn(BorrowedFd<'_>) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let operation = || format!("fill the volume at {path}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let source = match hull_sys::path::open_in_root(root, Path::new(path), flags, Mode::empty()) {
        Ok(source) => source,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(failed(operation())(errno)),
    };
    open(&|target| {
        if !is_empty(target).map_err(failed(operation()))? {
            return Ok(());
        }
        let mut copy = Copy {
            links: BTreeMap::new(),
            top: target,
        };
        copy.directory(source.as_fd(), target, Path::new(""), 0)
            .map_err(failed(operation()))
    })
}

fn is_empty(dir: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Copy<'a> {
    /// Files with several names: where the first copy lies, below the target.
    links: BTreeMap<(u64, u64), PathBuf>,
    top: BorrowedFd<'a>,
}

impl Copy<'_> {
    fn directory(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        at: &Path,
        depth: usize,
    ) -> rustix::io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let name = OsStr::from_bytes(name.to_bytes());
            self.entry(source, target, name, &at.join(name), depth)?;
        }
        attributes(source, target)?;
        let stat = fstat(source)?;
        settle(target, &stat)
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &OsStr,
        at: &Path,
        depth: usize,
    ) -> rustix::io::Result<()> {
        let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                return linkat(self.top, first, target, name, AtFlags::empty());
            }
            self.links.insert(key, at.to_owned());
        }
        match kind {
            FileType::Directory => {
                mkdirat(target, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = openat(source, name, flags, Mode::empty())?;
                let to = openat(target, name, flags, Mode::empty())?;
                self.directory(from.as_fd(), to.as_fd(), at, depth + 1)
            }
            FileType::RegularFile => file(source, target, name, &stat),
            FileType::Symlink => {
                let link = readlinkat(source, name, Vec::new())?;
                symlinkat(link.as_c_str(), target, name)?;
                own(target, name, &stat)
            }
            FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Fifo
            | FileType::Socket => {
                mknodat(target, name, kind, mode_of(&stat), stat.st_rdev)?;
                own(target, name, &stat)
            }
            _ => Ok(()),
        }
    }
}

fn mode_of(stat: &Stat) -> Mode {
    Mode::from_raw_mode((stat.st_mode & 0o7777) as RawMode)
}

fn times(stat: &Stat) -> Timestamps {
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

fn own(dir: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Owner before mode: a change of owner clears the set-user-id bit.
fn settle(fd: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    fchown(
        fd,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(fd, mode_of(stat))?;
    futimens(fd, &times(stat))
}

fn file(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &OsStr,
    stat: &Stat,
) -> rustix::io::Result<()> {
    let from: OwnedFd = openat(
        source,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to: OwnedFd = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
    let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
    std::io::copy(&mut from, &mut to)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    // Owner first here too: it clears security.capability.
    fchown(
        &to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    attributes(from.as_fd(), to.as_fd())?;
    fchmod(&to, mode_of(stat))?;
    futimens(&to, &times(stat))
}

/// Extended attributes but overlayfs's own.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let length = match flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let Ok(name) = CString::new(name) else {
            continue;
        };
        let mut value = vec![0u8; 64 << 10];
        let length = fgetxattr(from, name.as_c_str(), &mut value[..])?;
        match fsetxattr(to, name.as_c_str(), &value[..length], XattrFlags::empty()) {
            // The volume's file system may have none.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_arrives_as_it_was_and_only_once() {
        let image = tempfile::tempdir().unwrap();
        let volume = tempfile::tempdir().unwrap();
        let data = image.path().join("srv/data");
        std::fs::create_dir_all(data.join("sub")).unwrap();
        std::fs::write(data.join("file"), "hello").unwrap();
        std::fs::set_permissions(data.join("file"), std::fs::Permissions::from_mode(0o4755))
            .unwrap();
        std::os::unix::fs::chown(data.join("file"), Some(33), Some(34)).unwrap();
        std::fs::set_permissions(data.join("file"), std::fs::Permissions::from_mode(0o4755))
            .unwrap();
        std::fs::hard_link(data.join("file"), data.join("sub/again")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        // The path itself goes over an absolute link, which stays inside.
        symlink("/srv/data", image.path().join("data")).unwrap();
        let root = hull_sys::path::open_dir(image.path()).unwrap();
        let open = |fill: &dyn Fn(BorrowedFd<'_>) -> Result<()>| {
            fill(std::fs::File::open(volume.path()).unwrap().as_fd())
        };
        fill(root.as_fd(), "/data", open).unwrap();
        let file = std::fs::metadata(volume.path().join("file")).unwrap();
        assert_eq!(
            (file.uid(), file.gid(), file.mode() & 0o7777),
            (33, 34, 0o4755)
        );
        assert_eq!(
            file.ino(),
            std::fs::metadata(volume.path().join("sub/again"))
                .unwrap()
                .ino()
        );
        assert_eq!(
            std::fs::read_link(volume.path().join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        std::fs::remove_file(volume.path().join("file")).unwrap();
        fill(root.as_fd(), "/data", open).unwrap();
        assert!(
            !volume.path().join("file").exists(),
            "a volume with files in it is left alone"
        );
        fill(root.as_fd(), "/no/such", open).unwrap();
    }
}
