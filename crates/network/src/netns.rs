//! Network namespaces: made by a thread that leaves its own, pinned by a bind mount (ip-netns(8) does the same), entered by other threads.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::error::{Error, Result};
use crate::host::sysctl;
use crate::netlink::Batch;
use crate::netlink::route::Route;

/// The namespace of the thread that opens it; `/proc/self` would be that of the process's first thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// File system of namespaces (include/uapi/linux/magic.h).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
/// Helper threads do a few system calls.
const STACK_BYTES: usize = 128 << 10;

/// A container's network namespace.
pub(crate) struct Sandbox {
    netns: OwnedFd,
    route: Mutex<Route>,
}

impl Sandbox {
    /// Makes a namespace with loopback up and pins it at `path`, which must not exist. On failure nothing is left.
    pub(crate) fn create(path: &Path) -> Result<Sandbox> {
        pin(path, || {
            in_thread(|| {
                hull_sys::ns::unshare(hull_sys::clone::CLONE_NEWNET).map_err(|errno| {
                    Error::Kernel {
                        operation: "unshare",
                        object: "network namespace".to_owned(),
                        source: io::Error::from_raw_os_error(errno.raw_os_error()),
                    }
                })?;
                Sandbox::set_up_and_mount(path)
            })
        })
    }

    /// Pins a namespace that exists.
    pub(crate) fn adopt(path: &Path, netns: BorrowedFd<'_>) -> Result<Sandbox> {
        pin(path, || inside(netns, || Sandbox::set_up_and_mount(path)))
    }

    /// In a thread of the namespace. Mounting is the last step.
    fn set_up_and_mount(path: &Path) -> Result<Sandbox> {
        let sandbox = Sandbox::of_this_thread()?;
        sandbox.set_up()?;
        mount_bind(OWN_NAMESPACE, path)
            .map_err(|e| file("bind network namespace to", path, e.into()))?;
        Ok(sandbox)
    }

    /// A namespace that is pinned already; none when there is none, or only the file of one that is being pinned or unpinned.
    pub(crate) fn open(path: &Path) -> Result<Option<Sandbox>> {
        let netns = match File::open(path) {
            Ok(netns) => netns,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(file("open", path, e)),
        };
        let stat = rustix::fs::fstatfs(&netns).map_err(|e| file("stat", path, e.into()))?;
        if stat.f_type != NSFS_MAGIC {
            return Ok(None);
        }
        inside(netns.as_fd(), Sandbox::of_this_thread).map(Some)
    }

    fn of_this_thread() -> Result<Sandbox> {
        let path = Path::new(OWN_NAMESPACE);
        let netns = File::open(path).map_err(|e| file("open", path, e))?;
        Ok(Sandbox {
            netns: netns.into(),
            route: Mutex::new(Route::open()?),
        })
    }

    fn set_up(&self) -> Result<()> {
        let mut batch = Batch::new();
        batch.link_up(1, "lo");
        self.route().execute(batch)?;
        // As Docker: interfaces have IPv6 only where their network has it; loopback always.
        match sysctl::set("ipv6/conf/default/disable_ipv6", "1") {
            // A kernel without IPv6.
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    pub(crate) fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// The rtnetlink socket inside.
    pub(crate) fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the file to mount on; removes it again when `mount` fails.
fn pin(path: &Path, mount: impl FnOnce() -> Result<Sandbox>) -> Result<Sandbox> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| file("create", path, e))?;
    mount().inspect_err(|_| {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(%error, path = %path.display(), "cannot undo the making of a sandbox");
        }
    })
}

/// Unpins a namespace. One that is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // EINVAL: a crash came between making the file and mounting.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(file("unmount", path, errno.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs `work` in a thread that has joined `netns`. Files and sockets that it opens stay in that namespace.
pub(crate) fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    in_thread(|| {
        hull_sys::ns::setns(netns, hull_sys::clone::CLONE_NEWNET).map_err(|errno| {
            Error::Kernel {
                operation: "join",
                object: "network namespace".to_owned(),
                source: io::Error::from_raw_os_error(errno.raw_os_error()),
            }
        })?;
        work()
    })
}

/// Namespaces belong to threads: a thread of its own takes its namespace with it, whatever happens, and no other thread is ever in the
/// wrong one.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |source| Error::Kernel {
        operation: "start",
        object: "namespace thread".to_owned(),
        source,
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work).map_err(failed)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed(io::Error::other("panicked"))))
    })
}

fn file(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File {
        operation,
        path: path.to_owned(),
        source,
    }
}
