//! From `hull shim` to the running monitor.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::monitor::{Monitor, Parts};
use crate::protocol::{CONTROL_FD, ShimConfig};
use crate::task::Task;

/// Runs the shim whose folder is the argument: `hull shim FOLDER`, started by the daemon; or its log process (`log`), started by the
/// shim. Returns the exit status.
#[must_use]
pub fn main(args: &[OsString]) -> i32 {
    let [first] = args else {
        eprintln!("shim: the daemon starts it with the container's folder as argument");
        return 1;
    };
    if first == "log" {
        return crate::forward::main();
    }
    match run(Path::new(first)) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("shim: {}", crate::chain(e.as_ref()));
            1
        }
    }
}

fn run(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::env::set_current_dir(folder)?;
    // A session of its own: signals to the daemon's terminal or process group are not for us.
    let _ = rustix::process::setsid();
    // Orphans of the container, and external runtimes' init, become our children, so that we see how they end.
    hull_sys::process::set_child_subreaper(true)?;
    let signals = block_signals()?;
    let control = take_control()?;
    let config: ShimConfig = serde_json::from_slice(&std::fs::read(folder.join("shim.json"))?)?;
    std::fs::write(folder.join("pid"), std::process::id().to_string())?;
    let listener = listen(folder)?;
    let parts = Parts {
        id: config.id.clone(),
        listener,
        signals,
        log: config.log.clone(),
        terminal: config.terminal,
        stdin_once: config.stdin_once,
        task: Task::new(config)?,
        folder: folder.to_owned(),
    };
    let mut monitor = Monitor::new(parts);
    monitor.connect(control)?;
    monitor.run()?;
    Ok(())
}

/// SIGCHLD is read from a descriptor; signals that would end the shim without its container are not taken.
fn block_signals() -> io::Result<OwnedFd> {
    use rustix::process::Signal;
    let child = Signal::CHILD.as_raw();
    let deaf = [
        Signal::HUP.as_raw(),
        Signal::INT.as_raw(),
        Signal::TERM.as_raw(),
        Signal::QUIT.as_raw(),
    ];
    hull_sys::signal::block(&deaf)?;
    hull_sys::signal::block(&[child])?;
    Ok(hull_sys::signal::signalfd(&[child])?)
}

/// The first control connection arrives as standard input; /dev/null takes its place.
fn take_control() -> io::Result<UnixStream> {
    let stdin = hull_sys::fds::borrow(CONTROL_FD)?;
    let control = UnixStream::from(stdin.try_clone_to_owned()?);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    hull_sys::fds::dup_to(null.as_fd(), CONTROL_FD)?;
    Ok(control)
}

/// The socket appears under its name only when it listens.
fn listen(folder: &Path) -> io::Result<UnixListener> {
    // Relative to the working directory: a socket's path is limited to 108 bytes (unix(7)), the folder's is not.
    let part = Path::new("sock.part");
    let _ = std::fs::remove_file(part);
    let listener = UnixListener::bind(part)?;
    rustix::fs::chmod(part, Mode::from_raw_mode(0o600))?;
    std::fs::rename(part, folder.join("sock"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
