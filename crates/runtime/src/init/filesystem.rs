//! Init's steps about the mount tree: root, mounts, masks, pivot. Everything is reached by descriptors below
//! the root; no path of the container is looked up twice (CVE-2021-30465 and its family).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hull_sys::mount::{self, Attr, Param, attr};
use hull_sys::{Errno, path};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};

use super::copy_up::copy_tree;
use super::devices::{is_directory, open_nofollow};
use super::{At, Init, StepError, StepResult};
use crate::kit::set_attrs;
use crate::plan::{Attrs, Hierarchy, MountStep, Propagation, What};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
/// Files of procfs over which a mount is allowed (runc's list: lxcfs and the like put theirs there).
const PROC_ALLOWED: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Changes the propagation of everything that came from the host.
pub(super) fn host_propagation(change: Propagation) -> StepResult {
    propagate(host_root()?.as_fd(), change)
}

fn host_root() -> StepResult<OwnedFd> {
    rustix::fs::open(c"/", DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("/")
}

/// Makes the mount that `point` lies on private: a root attached to a shared one would appear on the host, and pivot_root(2) refuses
/// it. Only the root of a mount can be changed, so it is searched upwards, as runc's `rootfsParentMountPrivate` does.
fn private_mount_of(point: &Path) -> StepResult {
    let private = Propagation {
        flag: libc::MS_PRIVATE,
        recursive: false,
    };
    for path in point.ancestors() {
        let fd = rustix::fs::open(path, DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(path)?;
        match propagate(fd.as_fd(), private) {
            Err(error) if error.errno == Errno::INVAL && path.parent().is_some() => {}
            done => return done,
        }
    }
    Ok(())
}

fn propagate(fd: BorrowedFd<'_>, change: Propagation) -> StepResult {
    let attr = Attr {
        propagation: change.flag,
        recursive: change.recursive,
        ..Attr::default()
    };
    Ok(mount::set_attr(fd, &attr)?)
}

impl Init<'_> {
    /// Attaches the root at `point`. Its parent mount must not be shared for pivot_root(2), so it stands on a
    /// private mount of its own where the host's mounts are left shared.
    pub(super) fn attach_root(&self, point: &Path, shared: bool) -> StepResult {
        if shared {
            private_mount_of(point)?;
        }
        mount::attach(self.root()?, None, point).at(point)
    }

    pub(super) fn mount(&self, step: &MountStep) -> StepResult {
        let destination = &step.destination;
        self.mount_inner(step).map_err(|mut error| {
            if error.path.is_empty() {
                error.path = destination.to_string_lossy().into_owned();
            }
            error
        })
    }

    fn mount_inner(&self, step: &MountStep) -> StepResult {
        let destination = &step.destination;
        match &step.what {
            What::New {
                fstype,
                source,
                data,
                attrs,
                copy_up,
                fallback,
            } => {
                let made = new_filesystem(fstype, source.as_deref(), data, attrs);
                let fd = match (made, fallback) {
                    (Err(e), Some(index)) if may_fall_back(&e) => {
                        let target = self.target(destination, true, false)?;
                        return Ok(mount::attach_to(self.source(*index)?, target.as_fd())?);
                    }
                    (made, _) => made?,
                };
                let special = matches!(fstype.as_str(), "proc" | "sysfs");
                let target = if special {
                    self.plain_directory(destination)?
                } else {
                    self.target(destination, true, false)?
                };
                if *copy_up {
                    copy_tree(target.as_fd(), fd.as_fd())?;
                    set_top(fd.as_fd(), attrs.set & attr::RDONLY)?;
                }
                mount::attach_to(fd.as_fd(), target.as_fd())?;
                let late = Attrs {
                    set: 0,
                    clear: 0,
                    ..attrs.clone()
                };
                Ok(set_attrs(fd.as_fd(), &late)?)
            }
            What::Bind { source } => {
                let tree = self.source(*source)?;
                let target =
                    self.target(destination, is_directory(tree)?, path::is_on_proc(tree)?)?;
                Ok(mount::attach_to(tree, target.as_fd())?)
            }
            What::CgroupV1 { hierarchies, attrs } => {
                self.cgroup_v1(destination, hierarchies, attrs)
            }
            What::Remount { attrs } => self.remount(destination, attrs),
        }
    }

    /// The mount point, made where it is missing, as an `O_PATH` descriptor that is not looked up again.
    fn target(&self, destination: &Path, directory: bool, from_proc: bool) -> StepResult<OwnedFd> {
        let root = self.root()?;
        let mode = Mode::from_raw_mode(0o755);
        let fd = if directory {
            path::mkdir_all_in_root(root, destination, mode)?
        } else {
            path::create_file_in_root(root, destination, mode)?
        };
        // A mount over the container's procfs could feign what the runtime writes there
        // (CVE-2019-16884, CVE-2023-27561), also when a symbolic link leads there.
        if path::is_on_proc(&fd)? {
            let allowed = PROC_ALLOWED
                .iter()
                .any(|known| destination == Path::new(known));
            let flags = OFlags::PATH;
            let plain = path::open_in_root_nosymlinks(root, destination, flags, Mode::empty());
            // The root of procfs itself may be replaced by another procfs (a bind of /proc over /proc).
            let whole =
                from_proc && destination == Path::new("/proc") && mount::is_mount_root(fd.as_fd())?;
            let fine = whole || allowed && plain.is_ok();
            if !fine {
                return Err(StepError {
                    errno: Errno::PERM,
                    path: destination.to_string_lossy().into_owned(),
                    detail: "it lies inside /proc".into(),
                });
            }
        }
        Ok(fd)
    }

    /// The mount point of procfs and sysfs: an ordinary directory, reached through no symbolic link
    /// (CVE-2019-19921).
    fn plain_directory(&self, destination: &Path) -> StepResult<OwnedFd> {
        let root = self.root()?;
        let open = || path::open_in_root_nosymlinks(root, destination, DIRECTORY, Mode::empty());
        match open() {
            Err(Errno::NOENT) => {
                path::mkdir_all_in_root(root, destination, Mode::from_raw_mode(0o755))?;
                Ok(open()?)
            }
            Err(e @ (Errno::LOOP | Errno::NOTDIR)) => Err(StepError {
                errno: e,
                path: destination.to_string_lossy().into_owned(),
                detail: "must be mounted on an ordinary directory".into(),
            }),
            other => Ok(other?),
        }
    }

    /// A tmpfs with a directory and a mount for each hierarchy.
    fn cgroup_v1(&self, destination: &Path, list: &[Hierarchy], attrs: &Attrs) -> StepResult {
        let base = attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let mode = [Param::parse("mode=755")?];
        let tmpfs = mount::create(c"tmpfs", Some(c"tmpfs"), &mode, base).map_err(fs_error)?;
        let target = self.target(destination, true, false)?;
        mount::attach_to(tmpfs.as_fd(), target.as_fd())?;
        for hierarchy in list {
            let at = destination.join(&hierarchy.name);
            self.hierarchy(tmpfs.as_fd(), hierarchy, attrs)
                .map_err(|mut e| {
                    e.path = at.to_string_lossy().into_owned();
                    e
                })?;
        }
        set_top(tmpfs.as_fd(), attrs.set & attr::RDONLY)?;
        let propagation = Attrs {
            propagation: attrs.propagation.clone(),
            ..Attrs::default()
        };
        Ok(set_attrs(tmpfs.as_fd(), &propagation)?)
    }

    fn hierarchy(&self, dir: BorrowedFd<'_>, hierarchy: &Hierarchy, attrs: &Attrs) -> StepResult {
        let name = hierarchy.name.as_str();
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
        let target = open_nofollow(dir, name, DIRECTORY)?;
        if let Some(index) = hierarchy.source {
            mount::attach_to(self.source(index)?, target.as_fd())?;
        } else {
            let fstype = if hierarchy.data.is_some() {
                "cgroup"
            } else {
                "cgroup2"
            };
            let options = hierarchy.data.as_deref().unwrap_or("").split(',');
            let options = options.filter(|o| !o.is_empty()).map(str::to_owned);
            let data: Vec<String> = options.collect();
            let fd = new_filesystem(fstype, Some("cgroup"), &data, attrs)?;
            mount::attach_to(fd.as_fd(), target.as_fd())?;
        }
        for link in &hierarchy.links {
            match rustix::fs::symlinkat(name, dir, link.as_str()) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    pub(super) fn remount(&self, destination: &Path, attrs: &Attrs) -> StepResult {
        let fd = path::open_in_root(self.root()?, destination, OFlags::PATH, Mode::empty())
            .at(destination)?;
        set_attrs(fd.as_fd(), attrs).at(destination)
    }

    pub(super) fn readonly_root(&self) -> StepResult {
        set_top(self.root()?, attr::RDONLY)
    }

    /// Binds the path over itself, read-only with all below it. A missing one is fine.
    pub(super) fn readonly_path(&self, at: &Path) -> StepResult {
        let fd = match path::open_in_root(self.root()?, at, OFlags::PATH, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.at(at)?,
        };
        let tree = mount::clone_tree(fd.as_fd(), Path::new(""), true).at(at)?;
        let attr = Attr {
            set: attr::RDONLY,
            recursive: true,
            ..Attr::default()
        };
        mount::set_attr(tree.as_fd(), &attr).at(at)?;
        mount::attach_to(tree.as_fd(), fd.as_fd()).at(at)
    }

    /// Covers files with the host's `/dev/null` and directories with one empty read-only tmpfs.
    pub(super) fn mask_paths(&self, paths: &[PathBuf]) -> StepResult {
        let root = self.root()?;
        let null = self.null.as_ref().ok_or(Errno::BADF)?;
        let mut empty: Option<OwnedFd> = None;
        for at in paths {
            let fd = match path::open_in_root(root, at, OFlags::PATH, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                other => other.at(at)?,
            };
            if !is_directory(&fd).at(at)? {
                let mask = mount::clone_tree(null.as_fd(), Path::new(""), false).at(at)?;
                let private = Propagation {
                    flag: libc::MS_PRIVATE,
                    recursive: false,
                };
                propagate(mask.as_fd(), private)?;
                mount::attach_to(mask.as_fd(), fd.as_fd()).at(at)?;
                continue;
            }
            let mask = match &empty {
                Some(first) => mount::clone_tree(first.as_fd(), Path::new(""), false).at(at)?,
                None => empty_tmpfs()?,
            };
            mount::attach_to(mask.as_fd(), fd.as_fd()).at(at)?;
            empty.get_or_insert(mask);
        }
        Ok(())
    }

    /// Makes the attached root the root of this mount namespace, and drops the host's mounts from it.
    pub(super) fn pivot_root(&self, by_move: bool, shared: bool) -> StepResult {
        let root = self.root()?;
        let old = host_root()?;
        let slave = Propagation {
            flag: libc::MS_SLAVE,
            recursive: true,
        };
        rustix::process::fchdir(root)?;
        if by_move {
            if shared {
                // What is moved onto a mount that is shared with the host appears there too.
                propagate(old.as_fd(), slave)?;
            }
            rustix::mount::mount_move(".", "/")?;
            rustix::process::chroot(".")?;
        } else {
            // The old root ends up on top of the new one, at the same place: pivot_root(2), NOTES.
            rustix::process::pivot_root(".", ".")?;
            if shared {
                // Unmounting what is shared with the host would unmount it there. Only now, when the container's own mounts,
                // which are to stay shared, are no longer below.
                propagate(old.as_fd(), slave)?;
            }
            unmount(".", UnmountFlags::DETACH)?;
        }
        Ok(rustix::process::chdir("/")?)
    }

    /// Without a mount namespace of its own.
    pub(super) fn chroot(&self) -> StepResult {
        rustix::process::fchdir(self.root()?)?;
        rustix::process::chroot(".")?;
        Ok(rustix::process::chdir("/")?)
    }

    pub(super) fn root_propagation(&self, change: Propagation) -> StepResult {
        propagate(
            self.root()?,
            Propagation {
                recursive: false,
                ..change
            },
        )
    }
}

/// A new filesystem's detached mount. Read-only is left to the end where its contents are made here.
fn new_filesystem(
    fstype: &str,
    source: Option<&str>,
    data: &[String],
    attrs: &Attrs,
) -> StepResult<OwnedFd> {
    let c = |s: &str| std::ffi::CString::new(s).map_err(|_| Errno::INVAL);
    let mut params = Vec::with_capacity(data.len() + 1);
    // A disk that is mounted read-only must not be written to by its journal either.
    let pseudo = matches!(
        fstype,
        "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2"
    );
    if !pseudo && attrs.set & attr::RDONLY != 0 {
        params.push(Param::parse("ro")?);
    }
    for option in data {
        params.push(Param::parse(option)?);
    }
    let source = source.map(c).transpose()?;
    let result = mount::create(&c(fstype)?, source.as_deref(), &params, attrs.set);
    result.map_err(fs_error)
}

/// The kernel refuses a new sysfs or cgroup2 for lack of rights, not for a wrong option.
fn may_fall_back(error: &StepError) -> bool {
    matches!(error.errno, Errno::PERM | Errno::BUSY | Errno::NODEV)
}

fn fs_error(error: mount::FsError) -> StepError {
    StepError {
        errno: error.errno,
        path: String::new(),
        detail: error.log,
    }
}

fn set_top(fd: BorrowedFd<'_>, set: u64) -> StepResult {
    if set == 0 {
        return Ok(());
    }
    let attr = Attr {
        set,
        ..Attr::default()
    };
    Ok(mount::set_attr(fd, &attr)?)
}

fn empty_tmpfs() -> StepResult<OwnedFd> {
    let params = [
        Param::parse("nr_blocks=1")?,
        Param::parse("nr_inodes=1")?,
        Param::parse("mode=755")?,
    ];
    let attrs = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    mount::create(c"tmpfs", Some(c"tmpfs"), &params, attrs).map_err(fs_error)
}
