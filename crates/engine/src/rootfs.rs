//! A container's root file system seen from the daemon, always by descriptor: mounted detached (no mount point, nothing to
//! undo after a crash), or through `/proc/<pid>/root` while the container runs.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hull_oci::runtime::Mount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, statat};
use rustix::io::Errno;

use crate::error::{Error, Result, failed};

/// Longest `passwd` or `group` that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What Hull and its runtime make in a container's layer: the mark, and what is there only to be mounted on. Docker keeps these in a
/// layer of their own, so they are no changes there, and nothing of them goes into an image.
pub(crate) const MADE_BY_US: &[&str] = &[
    MARK,
    "dev",
    "dev/console",
    "dev/mqueue",
    "dev/pts",
    "dev/shm",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "sys",
];

/// What programs look for to know that they are in a container of Docker's kind.
const MARK: &str = ".dockerenv";

/// Puts the mark into a container's new layer, unless its image has one. `owner`: user and group of the container's root.
pub(crate) fn mark(mounts: &[Mount], owner: (u32, u32)) -> Result<()> {
    let upper = mounts
        .iter()
        .flat_map(|mount| &mount.options)
        .find_map(|option| option.strip_prefix("upperdir="));
    let root = match upper {
        // The layer by itself: a mount costs more than the file.
        Some(upper) => open_dir(upper)?,
        None => open_writable(mounts)?,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&root, MARK, flags, Mode::from_raw_mode(0o755)) {
        Ok(file) => rustix::fs::fchown(
            &file,
            Some(rustix::fs::Uid::from_raw(owner.0)),
            Some(rustix::fs::Gid::from_raw(owner.1)),
        )
        .map_err(failed(format!("give /{MARK} to the container's root"))),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Error::failed(format!("make /{MARK}"), errno)),
    }
}

/// The directories of an overlay mount, uppermost first.
fn layers(mount: &Mount) -> (Vec<&str>, bool) {
    let upper = mount
        .options
        .iter()
        .find_map(|option| option.strip_prefix("upperdir="));
    let lowers = mount
        .options
        .iter()
        .filter_map(|option| option.strip_prefix("lowerdir+="));
    (upper.into_iter().chain(lowers).collect(), upper.is_some())
}

fn one(mounts: &[Mount]) -> Result<&Mount> {
    match mounts {
        [mount] => Ok(mount),
        _ => Err(Error::internal(format!(
            "a root file system of {} mounts cannot be opened by the daemon",
            mounts.len()
        ))),
    }
}

/// The root for reading only. A writable overlay may be in use by its container at the same time: its upper directory is
/// then just the uppermost of the lower ones.
pub(crate) fn open_read_only(mounts: &[Mount]) -> Result<OwnedFd> {
    let mount = one(mounts)?;
    if mount.kind.as_deref() == Some("bind") {
        return bind(mount);
    }
    let (layers, _) = layers(mount);
    if let [only] = layers[..] {
        return open_dir(only);
    }
    let own = mount.options.iter().filter(|option| {
        !["lowerdir+=", "upperdir=", "workdir="]
            .iter()
            .any(|key| option.starts_with(key))
            && *option != "volatile"
    });
    let options: Vec<String> = own
        .cloned()
        .chain(layers.iter().map(|layer| format!("lowerdir+={layer}")))
        .chain(["ro".to_owned()])
        .collect();
    detached(mount, &options)
}

/// The root for writing; only while nothing else has it mounted.
pub(crate) fn open_writable(mounts: &[Mount]) -> Result<OwnedFd> {
    let mount = one(mounts)?;
    match mount.kind.as_deref() {
        Some("bind") => bind(mount),
        Some(_) | None => detached(mount, &mount.options),
    }
}

fn detached(mount: &Mount, options: &[String]) -> Result<OwnedFd> {
    let fstype = mount.kind.as_deref().unwrap_or("overlay");
    hull_sys::mount::detached(fstype, mount.source.as_deref(), options)
        .map_err(failed("mount the container's root file system"))
}

fn bind(mount: &Mount) -> Result<OwnedFd> {
    open_dir(mount.source.as_deref().unwrap_or_default())
}

fn open_dir(path: &str) -> Result<OwnedFd> {
    hull_sys::path::open_dir(Path::new(path)).map_err(failed(format!("open {path}")))
}

/// The root of a running process, as it sees it.
pub(crate) fn of_process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    rustix::fs::open(
        &path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed(format!("open {path}")))
}

/// Reads a small file below a root; `None` when it is not there.
pub(crate) fn read_text(root: BorrowedFd<'_>, path: &str) -> Result<Option<String>> {
    let opened = hull_sys::path::open_in_root(
        root,
        Path::new(path),
        OFlags::RDONLY | OFlags::NONBLOCK,
        Mode::empty(),
    );
    match opened {
        Ok(fd) => read_all(fd, path).map(Some),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Error::failed(
            format!("open {path} in the container"),
            errno,
        )),
    }
}

fn read_all(fd: OwnedFd, path: &str) -> Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed(format!("read {path} in the container")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `/etc/passwd` and `/etc/group` of a container that does not run: read from the layers themselves, which saves a mount;
/// where something unusual (a symbolic link, say) is in the way, through a mount after all.
pub(crate) fn user_files(mounts: &[Mount]) -> Result<crate::spec::UserFiles> {
    let mount = one(mounts)?;
    let mut found = [None, None];
    // A bind mount and a volume's own file system (devicemapper, zfs) have no layers to look into.
    let (layers, _) = layers(mount);
    if !layers.is_empty() {
        for (slot, name) in found.iter_mut().zip(["passwd", "group"]) {
            *slot = in_layers(&layers, name)?;
        }
    }
    if let [Some(passwd), Some(group)] = found {
        return Ok(crate::spec::UserFiles { passwd, group });
    }
    let root = open_read_only(mounts)?;
    Ok(crate::spec::UserFiles {
        passwd: read_text(root.as_fd(), "etc/passwd")?.unwrap_or_default(),
        group: read_text(root.as_fd(), "etc/group")?.unwrap_or_default(),
    })
}

/// A file of /etc by overlayfs's own rules. `None`: cannot tell.
fn in_layers(layers: &[&str], name: &str) -> Result<Option<String>> {
    for layer in layers {
        // An erofs image must be mounted to be looked into.
        if Path::new(layer).is_file() {
            return Ok(None);
        }
        let dir = open_dir(layer)?;
        let etc = match hull_sys::path::open_in_root_nosymlinks(
            dir.as_fd(),
            Path::new("etc"),
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            Ok(etc) => etc,
            Err(Errno::NOENT) => continue,
            Err(_) => return Ok(None),
        };
        match statat(&etc, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                return match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => {
                        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let fd = rustix::fs::openat(&etc, name, flags, Mode::empty())
                            .map_err(failed(format!("open etc/{name}")))?;
                        read_all(fd, name).map(Some)
                    }
                    // A whiteout: the layers below do not count.
                    FileType::CharacterDevice if stat.st_rdev == 0 => Ok(Some(String::new())),
                    _ => Ok(None),
                };
            }
            Err(Errno::NOENT) => {
                let mut value = [0u8; 1];
                let opaque = rustix::fs::fgetxattr(&etc, c"trusted.overlay.opaque", &mut value[..]);
                if matches!(opaque, Ok(1)) && value[0] == b'y' {
                    return Ok(Some(String::new()));
                }
            }
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_searched_from_the_top() {
        let dir = tempfile::tempdir().unwrap();
        let [top, middle, bottom] = ["top", "middle", "bottom"].map(|name| dir.path().join(name));
        for layer in [&top, &middle, &bottom] {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        std::fs::write(middle.join("etc/passwd"), "middle").unwrap();
        std::fs::write(bottom.join("etc/passwd"), "bottom").unwrap();
        std::fs::write(bottom.join("etc/group"), "group").unwrap();
        let paths = [&top, &middle, &bottom].map(|path| path.to_str().unwrap());
        assert_eq!(
            in_layers(&paths, "passwd").unwrap().as_deref(),
            Some("middle")
        );
        assert_eq!(
            in_layers(&paths, "group").unwrap().as_deref(),
            Some("group")
        );
        assert_eq!(in_layers(&paths, "shadow").unwrap().as_deref(), Some(""));
        std::os::unix::fs::symlink("passwd", top.join("etc/group")).unwrap();
        assert_eq!(
            in_layers(&paths, "group").unwrap(),
            None,
            "a link needs a real look-up"
        );
    }
}
