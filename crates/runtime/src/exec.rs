//! `exec`: one more process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use hull_oci::runtime::Status;
use hull_sys::clone::{
    CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, Child,
};
use hull_sys::exec::CStrings;
use hull_sys::{Errno, pidfd};

use crate::create::{open_cgroup, write_pid_file};
use crate::error::Context;
use crate::kit::Kit;
use crate::options::{ExecOptions, Execed, Stdio};
use crate::plan::{BEFORE_USER, InitPlan, PlanOptions, plan_exec};
use crate::record::{Record, StateDir};
use crate::seccomp::{self, Listener};
use crate::spawn::{Birth, Entered, spawn_in_cgroup};
use crate::start::init_error;
use crate::wire::{self, FromInit};
use crate::{Error, HostFacts, Problem, Result, validate};

/// Runs a process in a container; returns once its execve happened.
///
/// # Errors
/// [`Error::WrongStatus`] when the container does not run; [`Error::Init`] with the step that failed.
pub fn exec(mut options: ExecOptions<'_>) -> Result<Execed> {
    validate::process(options.process)?;
    let dir = StateDir::new(options.state_root, options.id)?;
    let record = dir.read(options.id)?;
    let target = open_init(&record)?;
    check_status(record.status(&dir)?, options.ignore_paused)?;
    let facts = HostFacts::probe()?;
    let plan = exec_plan(&options, &record, &facts)?;
    let cgroup = match &options.sub_cgroup {
        Some(below) => record.cgroup.below(below),
        None => record.cgroup.clone(),
    };
    let mut kit = exec_kit(&mut options, &record, &dir, &plan, target)?;
    kit.cgroups = cgroup.open_tasks()?;
    let (ours, theirs) = wire::pair().on("make", "socket pair")?;
    let target = kit
        .target
        .as_ref()
        .ok_or(Errno::SRCH)
        .on("enter", &record.id)?;
    let directory = cgroup.unified.as_ref().and_then(|path| open_cgroup(path));
    let user = record.namespaces & CLONE_NEWUSER != 0;
    let entered = |flag| Entered {
        fd: target.as_fd(),
        flag,
        path: PathBuf::from(format!("/proc/{}/ns", record.pid)),
    };
    let pid = record.namespaces & CLONE_NEWPID;
    let mut birth = Birth {
        flags: 0,
        joins: match user {
            true => [CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS]
                .into_iter()
                .filter(|flag| record.namespaces & BEFORE_USER & flag != 0)
                .map(entered)
                .collect(),
            false if pid != 0 => vec![entered(pid)],
            false => Vec::new(),
        },
        user: user.then(|| entered(CLONE_NEWUSER | pid)),
        cgroup: directory.as_ref().map(AsFd::as_fd),
        oom_score_adj: options.process.oom_score_adj,
    };
    let listener = record.seccomp_listener.as_ref().map(Listener::connect);
    let listener = listener.transpose()?;
    let (child, born) = spawn_in_cgroup(&mut birth, &plan, &kit, &ours, theirs)?;
    let attached = match born {
        true => Ok(()),
        false => cgroup.attach_unified(child.pid),
    };
    let conversation =
        attached.and_then(|()| converse(&ours, &child, &plan, &record, listener.as_ref()));
    let written = conversation.and_then(|console| {
        if let Some(path) = options.pid_file {
            write_pid_file(path, child.pid)?;
        }
        Ok(console)
    });
    match written {
        Ok(console_master) => Ok(Execed {
            pid: child.pid,
            pidfd: child.pidfd,
            console_master,
        }),
        Err(e) => {
            // Dead already, most likely; never left behind.
            let _ = pidfd::send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = pidfd::wait(child.pidfd.as_fd());
            Err(e)
        }
    }
}

/// The container's init as a pidfd, checked to be the process that was created.
fn open_init(record: &Record) -> Result<OwnedFd> {
    let opened = pidfd::open(record.pid);
    // Opened first, checked after: the pid cannot change owner in between unnoticed.
    if !record.alive()? {
        return Err(Error::WrongStatus {
            operation: "exec in",
            status: Status::Stopped,
        });
    }
    opened.on("open", format!("process {}", record.pid))
}

fn check_status(status: Status, ignore_paused: bool) -> Result<()> {
    match status {
        Status::Running => Ok(()),
        Status::Paused if ignore_paused => Ok(()),
        // runc allows it: the namespaces are there.
        Status::Created => Ok(()),
        Status::Creating | Status::Paused | Status::Stopped => Err(Error::WrongStatus {
            operation: "exec in",
            status,
        }),
    }
}

fn exec_plan(options: &ExecOptions<'_>, record: &Record, facts: &HostFacts) -> Result<InitPlan> {
    let (terminal, console_size) = match &options.stdio {
        Stdio::Terminal { size } => (true, *size),
        Stdio::Inherit | Stdio::Fds { .. } => (false, None),
    };
    let plan_options = PlanOptions {
        id: record.id.clone(),
        bundle: record.bundle.clone(),
        no_new_keyring: !record.new_keyring,
        preserve_fds: options.preserve_fds,
        console_size,
        terminal,
        seccomp_flags: record.seccomp_flags,
        ..PlanOptions::default()
    };
    plan_exec(options.process, facts, &plan_options, record.namespaces)
}

fn exec_kit(
    options: &mut ExecOptions<'_>,
    record: &Record,
    dir: &StateDir,
    plan: &InitPlan,
    target: OwnedFd,
) -> Result<Kit> {
    let strings = |items: &[String], field: &str| {
        CStrings::new(items).map_err(|_| {
            Error::Invalid(vec![Problem {
                field: field.into(),
                reason: "contains a NUL byte".into(),
            }])
        })
    };
    let filter = match record.seccomp_flags {
        Some(_) => seccomp::from_bytes(&dir.read_filter()?),
        None => Vec::new(),
    };
    Ok(Kit {
        root: None,
        sources: Vec::new(),
        stdio: match std::mem::take(&mut options.stdio) {
            Stdio::Fds {
                stdin,
                stdout,
                stderr,
            } => Some([stdin, stdout, stderr]),
            Stdio::Inherit | Stdio::Terminal { .. } => None,
        },
        argv: strings(&plan.program.args, "process.args")?,
        envp: strings(&plan.program.env, "process.env")?,
        filter,
        start: None,
        cgroups: Vec::new(),
        target: Some(target),
        state: record.state(Status::Running),
    })
}

/// Lets it go and listens until its execve closes the socket.
fn converse(
    socket: &OwnedFd,
    child: &Child,
    plan: &InitPlan,
    record: &Record,
    listener: Option<&OwnedFd>,
) -> Result<Option<OwnedFd>> {
    let go = || match wire::go(socket.as_fd(), child.pid) {
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(e) => Err(e).on("tell", "process"),
    };
    go()?;
    let mut console = None;
    loop {
        match wire::receive(socket).on("receive from", "process")? {
            FromInit::Closed => return Ok(console),
            FromInit::Console(fd) => console = Some(fd),
            FromInit::Listener(fd) => {
                let (Some(to), Some(connection)) = (&record.seccomp_listener, listener) else {
                    return Err(Errno::PROTO).on("receive from", "process");
                };
                to.hand_over(connection, child, fd, record.state(Status::Running))?;
                go()?;
            }
            FromInit::Error(fault) => return Err(init_error(plan, fault)),
            FromInit::Ready | FromInit::Hooks { .. } => {
                return Err(Errno::PROTO).on("receive from", "process");
            }
        }
    }
}
