//! `start`: init goes on to execve, by the handle or through the socket in the state directory.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use hull_oci::runtime::{HookKind, Status};
use hull_sys::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::Context;
use crate::plan::InitPlan;
use crate::record::{Record, StateDir};
use crate::wire::{self, Fault, FromInit};
use crate::{Error, InitError, Result, hooks};

/// A created container that waits.
///
/// Dropped without start, an init created with [`crate::StartBy::Handle`] ends.
#[derive(Debug)]
pub struct InitHandle {
    channel: Channel,
    record: Record,
}

#[derive(Debug)]
enum Channel {
    Pair {
        socket: OwnedFd,
        plan: Box<InitPlan>,
    },
    Socket(StateDir),
}

impl InitHandle {
    pub(crate) fn new(socket: OwnedFd, record: Record, plan: InitPlan) -> Self {
        Self {
            channel: Channel::Pair {
                socket,
                plan: Box::new(plan),
            },
            record,
        }
    }

    pub(crate) fn by_socket(record: Record, dir: StateDir) -> Self {
        Self {
            channel: Channel::Socket(dir),
            record,
        }
    }

    /// Lets init execute the program; returns once execve happened, or failed for a reason that init told on the container's
    /// standard error before it ended with 255.
    ///
    /// # Errors
    /// [`Error::Init`] when a step between start and execve fails.
    pub fn start(self) -> Result<()> {
        match &self.channel {
            Channel::Pair { socket, plan } => {
                wire::go(socket.as_fd(), self.record.pid).on("tell", "init")?;
                finish(socket, |fault| init_error(plan, fault))?;
            }
            Channel::Socket(dir) => through_socket(dir)?,
        }
        poststart(&self.record);
        Ok(())
    }
}

/// Starts a container that another process created.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::WrongStatus`] when it does not wait; [`Error::Init`] when a step between start and execve fails.
pub fn start(state_root: &Path, id: &str) -> Result<()> {
    let dir = StateDir::new(state_root, id)?;
    let record = dir.read(id)?;
    match record.status(&dir)? {
        Status::Created => {}
        status => {
            return Err(Error::WrongStatus {
                operation: "start",
                status,
            });
        }
    }
    through_socket(&dir)?;
    poststart(&record);
    Ok(())
}

fn through_socket(dir: &StateDir) -> Result<()> {
    let path = dir.start_socket();
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .on("make", "socket")?;
    let directory = hull_sys::path::open_dir(dir.path()).on("open", dir.path())?;
    let address = socket_address(&directory).on("name", &path)?;
    rustix::net::connect(&socket, &address).on("connect to", &path)?;
    // From here on it is no longer waiting: a second start finds no socket.
    fs::remove_file(&path).on("remove", &path)?;
    finish(&socket, |fault| {
        Error::Init(InitError {
            // This process has no plan; few steps come after start.
            step: if fault.errno == Errno::CANCELED.raw_os_error() {
                "hook".into()
            } else {
                "init".into()
            },
            path: fault.path,
            errno: fault.errno,
            detail: fault.detail,
        })
    })
}

/// `start.sock` below an open directory, short whatever the directory's path is.
pub(crate) fn socket_address(directory: &OwnedFd) -> std::result::Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!(
        "/proc/self/fd/{}/start.sock",
        directory.as_raw_fd()
    ))
}

/// Waits until the socket closes, which execve does.
pub(crate) fn finish(socket: &OwnedFd, error: impl FnOnce(Fault) -> Error) -> Result<()> {
    match wire::receive(socket).on("receive from", "init")? {
        FromInit::Closed => Ok(()),
        FromInit::Error(fault) => Err(error(fault)),
        FromInit::Ready | FromInit::Console(_) | FromInit::Listener(_) | FromInit::Hooks { .. } => {
            Err(Errno::PROTO).on("receive from", "init")
        }
    }
}

/// A fault with the name of its step.
pub(crate) fn init_error(plan: &InitPlan, fault: Fault) -> Error {
    let step = plan.steps.get(fault.step);
    Error::Init(InitError {
        step: step.map_or("init", |s| s.name()).to_owned(),
        path: fault.path,
        errno: fault.errno,
        detail: fault.detail,
    })
}

/// A failing one is told and changes nothing (runtime.md, lifecycle step 9).
fn poststart(record: &Record) {
    let state = record.state(Status::Running);
    if let Err(e) = hooks::run_all(HookKind::Poststart, &record.poststart, &state) {
        tracing::warn!("{e}");
    }
}
