//! What init takes with it over the clone: descriptors and arrays, prepared from the plan by the caller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hull_oci::runtime::State;
use hull_sys::exec::CStrings;
use hull_sys::mount::{self, Attr};
use hull_sys::seccomp::SockFilter;
use hull_sys::{Errno, path};
use rustix::fs::{CWD, Mode, OFlags};

use crate::idmap;
use crate::plan::{Attrs, InitPlan, RootSource, Source};

/// Prepared before the clone; read-only for init but for what it opens itself.
#[derive(Debug)]
pub(crate) struct Kit {
    /// The root: a detached mount.
    pub root: Option<OwnedFd>,
    /// The plan's sources: detached mounts, by index.
    pub sources: Vec<Option<OwnedFd>>,
    /// Streams for 0, 1, 2; `None`: inherited, or a terminal.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Arguments.
    pub argv: CStrings,
    /// Environment.
    pub envp: CStrings,
    /// The compiled filter.
    pub filter: Vec<SockFilter>,
    /// Listening socket by which another process starts the container.
    pub start: Option<OwnedFd>,
    /// The `tasks` files of its v1 cgroups.
    pub cgroups: Vec<(PathBuf, OwnedFd)>,
    /// The container's init, for exec.
    pub target: Option<OwnedFd>,
    /// The state that hooks get; init fills in its pid.
    pub state: State,
}

/// A source that could not be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    /// The field that names it.
    pub field: String,
    /// The path.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
    /// What the kernel said besides.
    pub detail: String,
}

/// Opens root and sources as the plan says. By the caller, or by a rootless init in its own namespaces.
pub(crate) fn open_sources(
    plan: &InitPlan,
) -> Result<(Option<OwnedFd>, Vec<Option<OwnedFd>>), OpenError> {
    let root = plan.root.as_ref().map(open_root).transpose()?;
    let sources = plan
        .sources
        .iter()
        .map(|source| match open_source(source, plan) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) if source.optional => Ok(None),
            Err(errno) => Err(OpenError {
                field: source.field.clone(),
                path: source.path.clone(),
                errno,
                detail: String::new(),
            }),
        });
    Ok((root, sources.collect::<Result<_, _>>()?))
}

/// The root as a detached mount, ready to be pivoted to.
pub(crate) fn open_root(root: &RootSource) -> Result<OwnedFd, OpenError> {
    let error = |path: &Path, errno, detail| OpenError {
        field: "root.path".into(),
        path: path.into(),
        errno,
        detail,
    };
    let fd = match root {
        RootSource::Directory(path) => {
            let directory = path::open_dir(path).map_err(|e| error(path, e, String::new()))?;
            mount::clone_tree(directory.as_fd(), Path::new(""), true)
                .map_err(|e| error(path, e, String::new()))?
        }
        RootSource::Filesystem {
            fstype,
            source,
            options,
        } => mount::detached(fstype, source.as_deref(), options)
            .map_err(|e| error(Path::new(fstype), e.errno, e.log))?,
    };
    // pivot_root(2) wants a root that is not shared; the tree below it is a slave of the host's.
    for (propagation, recursive) in [(libc::MS_SLAVE, true), (libc::MS_PRIVATE, false)] {
        let attr = Attr {
            propagation,
            recursive,
            ..Attr::default()
        };
        mount::set_attr(fd.as_fd(), &attr)
            .map_err(|e| error(Path::new("/"), e, "propagation".into()))?;
    }
    Ok(fd)
}

/// Clones `/proc/PID/root/PATH`, which lies in another mount namespace: open_tree(2) clones only what lies in the caller's own, so the
/// caller goes there for this one call. It is how `--ipc container:` gets the other's /dev/shm without a mount on the host.
/// `PATH` is resolved with that process's root as the root.
fn clone_from_process(path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut components = path.components().map(|part| part.as_os_str());
    let fixed = [Some("/"), Some("proc")];
    if fixed
        .iter()
        .any(|want| components.next().and_then(|c| c.to_str()) != *want)
    {
        return Err(Errno::INVAL);
    }
    let pid = components.next().ok_or(Errno::INVAL)?;
    if components.next().and_then(|c| c.to_str()) != Some("root") {
        return Err(Errno::INVAL);
    }
    let inside = Path::new("/").join(components.collect::<PathBuf>());
    let open =
        |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = open(Path::new("/proc/self/ns/mnt"))?;
    let theirs = open(&Path::new("/proc").join(pid).join("ns/mnt"))?;
    let here = rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    hull_sys::ns::setns(theirs.as_fd(), hull_sys::clone::CLONE_NEWNS)?;
    let cloned = mount::clone_tree(CWD, &inside, recursive);
    // Neither fails after the first did not: they lead back to where this process was.
    hull_sys::ns::setns(own.as_fd(), hull_sys::clone::CLONE_NEWNS)?;
    rustix::process::fchdir(&here)?;
    cloned
}

fn open_source(source: &Source, plan: &InitPlan) -> Result<OwnedFd, Errno> {
    let tree = match &source.idmap {
        None => match mount::clone_tree(CWD, &source.path, source.recursive) {
            Err(Errno::INVAL) => clone_from_process(&source.path, source.recursive)?,
            other => other?,
        },
        Some(idmap) => {
            let maps = idmap.maps.as_ref().or(plan.id_maps.as_ref());
            let userns = idmap::user_namespace(maps.ok_or(Errno::INVAL)?)?;
            let attr = Attr {
                userns: Some(userns.as_fd()),
                recursive: idmap.recursive,
                ..Attr::default()
            };
            mount::clone_tree_attr(CWD, &source.path, source.recursive, &attr)?
        }
    };
    set_attrs(tree.as_fd(), &source.attrs)?;
    Ok(tree)
}

/// Applies attribute changes to the mount behind `fd`: the tree first, then the top, then propagation.
pub(crate) fn set_attrs(fd: BorrowedFd<'_>, attrs: &Attrs) -> Result<(), Errno> {
    for (set, clear, recursive) in [
        (attrs.rec_set, attrs.rec_clear, true),
        (attrs.set, attrs.clear, false),
    ] {
        if set | clear != 0 {
            let attr = Attr {
                set,
                clear: clear | atime_field(set),
                recursive,
                ..Attr::default()
            };
            mount::set_attr(fd, &attr)?;
        }
    }
    for change in &attrs.propagation {
        let attr = Attr {
            propagation: change.flag,
            recursive: change.recursive,
            ..Attr::default()
        };
        mount::set_attr(fd, &attr)?;
    }
    Ok(())
}

/// The kernel wants the whole access-time field cleared when one value of it is set.
fn atime_field(set: u64) -> u64 {
    if set & mount::attr::ATIME != 0 {
        mount::attr::ATIME
    } else {
        0
    }
}
