//! What is done to existing containers: state, list, kill, delete, pause, resume, update, ps.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use hull_oci::runtime::{HookKind, Resources, State, Status};
use hull_sys::{Errno, pidfd};

use crate::error::Context;
use crate::record::{Record, StateDir};
use crate::{Error, Result, hooks};

/// How long a killed init may take to end before deletion gives up.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A container's state.
///
/// # Errors
/// [`Error::NotFound`].
pub fn state(state_root: &Path, id: &str) -> Result<State> {
    let (record, status) = record_of(state_root, id)?;
    Ok(record.state(status))
}

/// A container's record and phase.
pub(crate) fn record_of(state_root: &Path, id: &str) -> Result<(Record, Status)> {
    let dir = StateDir::new(state_root, id)?;
    let record = dir.read(id)?;
    let status = record.status(&dir)?;
    Ok((record, status))
}

/// Every container of a state root, by name. One that is just being deleted is left out.
///
/// # Errors
/// When the root cannot be read; a root that does not exist has none.
pub fn list(state_root: &Path) -> Result<Vec<(Record, Status)>> {
    let entries = match fs::read_dir(state_root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("list", state_root)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.on("list", state_root)?.file_name();
        match record_of(state_root, &name.to_string_lossy()) {
            Ok(one) => found.push(one),
            Err(Error::NotFound(_) | Error::BadId(_)) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    Ok(found)
}

/// Sends `signal` to init, or with `all` to every process of the container.
///
/// # Errors
/// [`Error::WrongStatus`] when it has stopped (runc: "container not running").
pub fn kill(state_root: &Path, id: &str, signal: i32, all: bool) -> Result<()> {
    let dir = StateDir::new(state_root, id)?;
    let record = dir.read(id)?;
    if all {
        return if signal == libc::SIGKILL {
            record.cgroup.kill_all()
        } else {
            record.cgroup.signal_all(signal)
        };
    }
    let stopped = || Error::WrongStatus {
        operation: "kill",
        status: Status::Stopped,
    };
    let opened = pidfd::open(record.pid);
    if !record.alive()? {
        // Without a PID namespace of its own its other processes may live on.
        if signal == libc::SIGKILL && !record.own_pid_namespace {
            return record.cgroup.kill_all();
        }
        return Err(stopped());
    }
    let fd = opened.on("open", format!("process {}", record.pid))?;
    match pidfd::send_signal(fd.as_fd(), signal) {
        Err(Errno::SRCH) => return Err(stopped()),
        other => other.on("signal", format!("process {}", record.pid))?,
    }
    if signal == libc::SIGKILL {
        if !record.own_pid_namespace {
            record.cgroup.kill_all()?;
        } else if record.cgroup.is_frozen()? {
            // A frozen v1 cgroup holds even SIGKILL back.
            record.cgroup.freeze(false)?;
        }
    }
    Ok(())
}

/// Removes what is left of a container: cgroups, state, and runs its poststop hooks.
///
/// A created one is killed first; a running one only with `force`.
///
/// # Errors
/// [`Error::NotFound`] (not with `force`), [`Error::WrongStatus`], [`Error::Cleanup`].
pub fn delete(state_root: &Path, id: &str, force: bool) -> Result<()> {
    let dir = StateDir::new(state_root, id)?;
    let record = match dir.read(id) {
        Err(Error::NotFound(_)) if force => {
            // A create that died before it wrote anything.
            return dir.remove();
        }
        other => other?,
    };
    match record.status(&dir)? {
        Status::Stopped => {}
        Status::Created => end(&record)?,
        _ if force => end(&record)?,
        status => {
            return Err(Error::WrongStatus {
                operation: "delete",
                status,
            });
        }
    }
    if !record.own_pid_namespace {
        record.cgroup.kill_all()?;
    }
    record.cgroup.remove()?;
    if let Some(group) = &record.resctrl {
        group.remove()?;
    }
    dir.remove()?;
    let state = record.state(Status::Stopped);
    for e in hooks::run_each(HookKind::Poststop, &record.poststop, &state) {
        // runtime.md, lifecycle step 13: a warning, and on with the remaining hooks.
        tracing::warn!("{e}");
    }
    Ok(())
}

/// Kills init and waits until it is dead (its parent reaps it).
fn end(record: &Record) -> Result<()> {
    let opened = pidfd::open(record.pid);
    if !record.alive()? {
        return Ok(());
    }
    let fd = opened.on("open", format!("process {}", record.pid))?;
    match pidfd::send_signal(fd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(e) => return Err(e).on("kill", format!("process {}", record.pid)),
    }
    if record.cgroup.is_frozen()? {
        record.cgroup.freeze(false)?;
    }
    let deadline = Instant::now() + KILL_DEADLINE;
    while !pidfd::ended_within(fd.as_fd(), 100).on("wait for", "init")? {
        if Instant::now() >= deadline {
            let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(source).on("wait for", format!("process {}", record.pid));
        }
    }
    Ok(())
}

/// Freezes a running container.
///
/// # Errors
/// [`Error::WrongStatus`], or when the freezer refuses.
pub fn pause(state_root: &Path, id: &str) -> Result<()> {
    let (record, status) = record_of(state_root, id)?;
    match status {
        Status::Running | Status::Created => record.cgroup.freeze(true),
        status => Err(Error::WrongStatus {
            operation: "pause",
            status,
        }),
    }
}

/// Thaws a paused container.
///
/// # Errors
/// [`Error::WrongStatus`], or when the freezer refuses.
pub fn resume(state_root: &Path, id: &str) -> Result<()> {
    let (record, status) = record_of(state_root, id)?;
    match status {
        Status::Paused => record.cgroup.freeze(false),
        status => Err(Error::WrongStatus {
            operation: "resume",
            status,
        }),
    }
}

/// Changes limits; what is absent stays.
///
/// # Errors
/// [`Error::WrongStatus`] when it has stopped; [`Error::Limit`] with the field that the kernel refuses.
pub fn update(state_root: &Path, id: &str, resources: &Resources) -> Result<()> {
    let (record, status) = record_of(state_root, id)?;
    if status == Status::Stopped {
        return Err(Error::WrongStatus {
            operation: "update",
            status,
        });
    }
    record.cgroup.update(resources)
}

/// The processes of a container, by their pids on the host.
///
/// # Errors
/// [`Error::NotFound`].
pub fn ps(state_root: &Path, id: &str) -> Result<Vec<i32>> {
    let (record, _) = record_of(state_root, id)?;
    record.cgroup.pids()
}
