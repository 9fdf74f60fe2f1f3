//! The new mount API: detached mounts, attributes (read-only, idmapped, propagation), attaching by fd.
//!
//! A detached mount (an fd from fsmount(2) or open_tree(2)) is configured while nobody can see it, and
//! is attached to an fd that was resolved beneath the rootfs: no path is looked up twice, which is what
//! CVE-2021-30465 and its family need. Linux 5.12 or newer (`mount_setattr`).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::{Errno, Result, check, check_unit};

/// `MOUNT_ATTR_*` bits, of which [`Attr`] is made.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device files cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field of the atime settings: clear it whole before setting one.
    pub const ATIME: u64 = 0x70;
    /// Access times are not updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Directory access times are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped through the user namespace given in [`super::Attr::userns`].
    pub const IDMAP: u64 = 0x0010_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// What [`set_attr`] changes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Attr<'a> {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// User namespace for [`attr::IDMAP`].
    pub userns: Option<BorrowedFd<'a>>,
    /// The whole tree and not only the top mount.
    pub recursive: bool,
}

#[repr(C)]
struct RawAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_IDMAP: u64 = attr::IDMAP;

/// Changes the attributes of the mount behind `mount`, mount_setattr(2).
///
/// # Errors
/// `EPERM` for flags that another user namespace has locked; `EINVAL`: not a mount, or the filesystem
/// cannot be idmapped.
pub fn set_attr(mount: BorrowedFd<'_>, attr: &Attr<'_>) -> Result<()> {
    set_attr_at(mount, c"", attr)
}

/// As [`set_attr`], on `path` below `dir`; an empty path is `dir` itself.
///
/// # Errors
/// As [`set_attr`], and those of looking up the path.
pub fn set_attr_at(dir: BorrowedFd<'_>, path: &CStr, attr: &Attr<'_>) -> Result<()> {
    let raw = raw_attr(attr);
    let mut flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    if attr.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `raw` has the size passed and outlives the call; `path` is a C string.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawAttr>(),
        )
    })
}

fn raw_attr(attr: &Attr<'_>) -> RawAttr {
    RawAttr {
        set: attr.set
            | if attr.userns.is_some() {
                MOUNT_ATTR_IDMAP
            } else {
                0
            },
        clear: attr.clear,
        propagation: attr.propagation,
        userns_fd: attr.userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    }
}

/// A detached copy of the mount at `path` below `dir` with `attr` applied, open_tree_attr(2): the one call
/// that can change the idmapping of a mount which has one. Falls back to two calls before Linux 6.15.
///
/// # Errors
/// Those of open_tree(2) and of [`set_attr`].
pub fn clone_tree_attr(
    dir: BorrowedFd<'_>,
    path: &Path,
    recursive: bool,
    attr: &Attr<'_>,
) -> Result<OwnedFd> {
    const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
    let raw = raw_attr(attr);
    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE.bits()
        | OpenTreeFlags::OPEN_TREE_CLOEXEC.bits()
        | OpenTreeFlags::AT_EMPTY_PATH.bits();
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE.bits();
    }
    // SAFETY: as in `set_attr_at`.
    let opened = check(unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            dir.as_raw_fd(),
            c_path.as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawAttr>(),
        )
    });
    match opened {
        // SAFETY: the kernel returned a new descriptor, which nobody else owns.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        Err(Errno::NOSYS) => {
            let tree = clone_tree(dir, path, recursive)?;
            set_attr(tree.as_fd(), attr)?;
            Ok(tree)
        }
        Err(e) => Err(e),
    }
}

/// A detached copy of the mount (tree) at `path` below `dir`: a bind mount that is attached nowhere.
/// Symbolic links in `path` are followed; an empty path is `dir` itself.
///
/// # Errors
/// Those of open_tree(2).
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir, path, flags)
}

/// Attaches the detached `mount` onto `target`, an `O_PATH` fd of the mount point.
///
/// # Errors
/// Those of move_mount(2).
pub fn attach_to(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Attaches the detached `mount` at `path` below `dir` (an absolute path needs no `dir`).
///
/// # Errors
/// Those of move_mount(2).
pub fn attach(mount: BorrowedFd<'_>, dir: Option<BorrowedFd<'_>>, path: &Path) -> Result<()> {
    move_mount(
        mount,
        c"",
        dir.unwrap_or(CWD),
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// One fsconfig(2) parameter of a new filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param {
    /// `key` alone.
    Flag(CString),
    /// `key=value`.
    String(CString, CString),
}

impl Param {
    /// Parses `key` or `key=value`.
    ///
    /// # Errors
    /// `EINVAL` for a NUL byte or an empty key.
    pub fn parse(option: &str) -> Result<Self> {
        let c = |s: &str| CString::new(s).map_err(|_| Errno::INVAL);
        match option.split_once('=') {
            Some(("", _)) => Err(Errno::INVAL),
            Some((key, value)) => Ok(Self::String(c(key)?, c(value)?)),
            None if option.is_empty() => Err(Errno::INVAL),
            None => Ok(Self::Flag(c(option)?)),
        }
    }
}

/// Makes a filesystem and returns its detached mount: fsopen, fsconfig, fsmount. `attrs` are
/// [`attr`] bits of the mount; a read-only superblock is the parameter `ro`.
///
/// # Errors
/// The kernel's errno, and what it said in the context's log, if anything (for example
/// `overlay: No changes allowed in reconfigure`).
pub fn create(
    fstype: &CStr,
    source: Option<&CStr>,
    params: &[Param],
    attrs: u64,
) -> std::result::Result<OwnedFd, FsError> {
    let fs = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(FsError::bare)?;
    let run = || -> Result<OwnedFd> {
        if let Some(source) = source {
            fsconfig_set_string(fs.as_fd(), c"source", source)?;
        }
        for param in params {
            match param {
                Param::Flag(key) => fsconfig_set_flag(fs.as_fd(), key.as_c_str())?,
                Param::String(key, value) => {
                    fsconfig_set_string(fs.as_fd(), key.as_c_str(), value.as_c_str())?;
                }
            }
        }
        fsconfig_create(fs.as_fd())?;
        fsmount(
            fs.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::from_bits_retain(attrs as u32),
        )
    };
    run().map_err(|errno| FsError {
        errno,
        log: context_log(fs.as_fd()),
    })
}

/// Begins an option of [`detached`]: only this path of what is mounted is wanted.
pub const SUBPATH: &str = "x-hull.subpath=";

/// As [`create`] with options as strings; the generic ones (`ro`, `nosuid`, `nodev`, `noexec`, `noatime`,
/// ..) become attributes of the mount, the rest go to the filesystem. Two things the kernel cannot do in one call are done
/// here: `fuse.fuse-overlayfs` starts its program ([`crate::fuse`]), and an overlay's `lowerdir+=` that is a file is an erofs
/// image, which is mounted by itself first (Linux 6.12 mounts one from a file, 6.15 lets overlayfs take a detached mount).
/// [`SUBPATH`] asks for a part.
///
/// # Errors
/// As [`create`], and those of [`crate::fuse::overlay`].
pub fn detached<S: AsRef<str>>(
    fstype: &str,
    source: Option<&str>,
    options: &[S],
) -> std::result::Result<OwnedFd, FsError> {
    if fstype == crate::fuse::OVERLAY {
        return crate::fuse::overlay(options);
    }
    let c = |s: &str| CString::new(s).map_err(|_| FsError::bare(Errno::INVAL));
    let mut attrs = 0;
    let mut params = Vec::new();
    let mut subpath = None;
    // Held until the file system that is made of them exists.
    let mut images = Vec::new();
    for option in options {
        let option = option.as_ref();
        if fstype == "overlay"
            && let Some(image) = option.strip_prefix("lowerdir+=")
            && Path::new(image).is_file()
        {
            let mount = create(c"erofs", Some(&c(image)?), &[], attr::RDONLY)?;
            let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
            params.push(Param::String(c("lowerdir+")?, c(&path)?));
            images.push(mount);
            continue;
        }
        match option {
            "ro" => attrs |= attr::RDONLY,
            "nosuid" => attrs |= attr::NOSUID,
            "nodev" => attrs |= attr::NODEV,
            "noexec" => attrs |= attr::NOEXEC,
            "noatime" => attrs |= attr::NOATIME,
            "nodiratime" => attrs |= attr::NODIRATIME,
            "strictatime" => attrs |= attr::STRICTATIME,
            "rw" | "suid" | "dev" | "exec" | "relatime" | "defaults" => {}
            other if other.starts_with(SUBPATH) => subpath = other.strip_prefix(SUBPATH),
            other => params.push(Param::parse(other).map_err(FsError::bare)?),
        }
    }
    let source = source.map(c).transpose()?;
    let mount = create(&c(fstype)?, source.as_deref(), &params, attrs)?;
    match subpath {
        Some(subpath) => part_of(&mount, subpath),
        None => Ok(mount),
    }
}

/// The mount of one file or folder of a detached mount. No symbolic link is followed to it: the content may be anybody's.
/// Linux 6.15 clones what is detached.
fn part_of(mount: &OwnedFd, subpath: &str) -> std::result::Result<OwnedFd, FsError> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found = openat2(mount, subpath, flags, Mode::empty(), within);
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    found
        .and_then(|found| open_tree(&found, c"", clone))
        .map_err(|errno| FsError::new(errno, subpath))
}

/// A failure to make a filesystem.
#[derive(Debug, thiserror::Error)]
#[error("{errno}{}{log}", if log.is_empty() { "" } else { ": " })]
pub struct FsError {
    /// The kernel's errno.
    pub errno: Errno,
    /// What the kernel wrote into the context's log; empty when nothing.
    pub log: String,
}

impl FsError {
    fn bare(errno: Errno) -> Self {
        Self::new(errno, "")
    }

    pub(crate) fn new(errno: Errno, log: impl Into<String>) -> Self {
        Self {
            errno,
            log: log.into(),
        }
    }

    pub(crate) fn invalid() -> Self {
        Self::bare(Errno::INVAL)
    }
}

/// Reads the messages that a failed fsconfig(2) left, at most 16.
fn context_log(fs: BorrowedFd<'_>) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0u8; 512];
    for _ in 0..16 {
        match rustix::io::read(fs, &mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                let text = String::from_utf8_lossy(&buffer[..n]);
                // "e message", "w message", "i message"
                let text = text.trim_end();
                lines.push(text.get(2..).unwrap_or(text).to_owned());
            }
        }
    }
    lines.join("; ")
}

/// Whether `fd` is the root of a mount, by statx(2).
///
/// # Errors
/// Those of statx(2).
pub fn is_mount_root(fd: BorrowedFd<'_>) -> Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let stat = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, openat};

    #[test]
    fn a_detached_tmpfs_is_read_only_after_set_attr() {
        let mount = match detached("tmpfs", Some("hull-test"), &["nosuid", "size=64k"]) {
            Ok(mount) => mount,
            Err(e) if e.errno == Errno::PERM => return eprintln!("SKIP: not allowed to mount"),
            Err(e) => panic!("{e}"),
        };
        let create = |name: &str| {
            openat(
                &mount,
                name,
                OFlags::CREATE | OFlags::WRONLY,
                Mode::from_raw_mode(0o600),
            )
        };
        create("a").unwrap();
        let attr = Attr {
            set: attr::RDONLY,
            ..Attr::default()
        };
        set_attr(mount.as_fd(), &attr).unwrap();
        assert_eq!(create("b").unwrap_err(), Errno::ROFS);
        assert!(is_mount_root(mount.as_fd()).unwrap());
    }

    #[test]
    fn a_part_of_a_mount() {
        let whole = match detached("tmpfs", None, &["size=64k"]) {
            Ok(mount) => mount,
            Err(e) if e.errno == Errno::PERM => return eprintln!("SKIP: not allowed to mount"),
            Err(e) => panic!("{e}"),
        };
        let root = format!("/proc/self/fd/{}", whole.as_raw_fd());
        std::fs::create_dir_all(format!("{root}/a/b")).unwrap();
        std::fs::write(format!("{root}/a/b/file"), "part").unwrap();
        std::os::unix::fs::symlink("/", format!("{root}/a/link")).unwrap();
        let part = match part_of(&whole, "a/b") {
            Err(e) if e.errno == Errno::INVAL => {
                return eprintln!("SKIP: the kernel does not clone detached mounts (Linux 6.15)");
            }
            other => other.unwrap(),
        };
        assert!(is_mount_root(part.as_fd()).unwrap());
        let file = format!("/proc/self/fd/{}/file", part.as_raw_fd());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "part");
        let errno = |path: &str| part_of(&whole, path).map(drop).unwrap_err().errno;
        assert_eq!(errno("a/link"), Errno::LOOP);
        assert_eq!(errno("nothing"), Errno::NOENT);
        assert_eq!(errno("../etc"), Errno::XDEV);
    }

    #[test]
    fn a_bad_option_is_named_by_the_kernel() {
        match detached("tmpfs", None, &["nonsense=1"]) {
            Err(e) if e.errno == Errno::PERM => eprintln!("SKIP: not allowed to mount"),
            Err(e) => assert!(e.log.contains("nonsense"), "{e}"),
            Ok(_) => panic!("accepted"),
        }
    }
}
