//! The clone: namespaces entered around it, the cgroup of birth, and the intermediate for user namespaces.
//!
//! One clone3(2) makes init with all its new namespaces; docs/decisions/0003. Existing ones are entered by the
//! caller just before and left just after, which costs no process and keeps the caller's rights over them.
//! A user namespace cannot be left again, so for one that exists an intermediate process enters it and clones
//! init as its sibling (`CLONE_PARENT`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hull_sys::clone::{CLONE_NEWPID, CLONE_NEWUSER, CLONE_PARENT, Child, CloneArgs, clone3};
use hull_sys::{Errno, fdpass, ns, pidfd};
use rustix::fs::{Mode, OFlags};

use crate::error::Context;
use crate::kit::Kit;
use crate::plan::{InitPlan, Join};
use crate::{Error, Result, init};

/// How a process is born.
pub(crate) struct Birth<'a> {
    /// New namespaces.
    pub flags: u64,
    /// Namespaces entered around the clone.
    pub joins: Vec<Entered<'a>>,
    /// User namespace that the intermediate enters: a namespace file, or a process.
    pub user: Option<Entered<'a>>,
    /// Cgroup v2 directory.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// OOM score adjustment that the intermediate sets while its procfs files still belong to its user; what
    /// comes of it is seen by init's own step.
    pub oom_score_adj: Option<i32>,
}

/// A namespace to enter.
pub(crate) struct Entered<'a> {
    /// A namespace or a pidfd.
    pub fd: BorrowedFd<'a>,
    /// `CLONE_NEW*`.
    pub flag: u64,
    /// For errors.
    pub path: PathBuf,
}

/// Opens the namespaces of a plan.
pub(crate) fn open_joins(joins: &[Join]) -> Result<Vec<OwnedFd>> {
    let open = |join: &Join| open_namespace(&join.path);
    joins.iter().map(open).collect()
}

pub(crate) fn open_namespace(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .on("open namespace", path)
}

/// Makes the process. `child` runs in it.
///
/// # Errors
/// [`Error::Io`] for the namespace that cannot be entered, or for the clone.
pub(crate) fn spawn(birth: &Birth<'_>, child: impl FnOnce() -> i32) -> Result<Child> {
    match &birth.user {
        Some(user) => through_intermediate(birth, user, child),
        None => around(birth, child),
    }
}

/// Makes a process that runs the plan, in its cgroup v2 directory where the kernel allows that; whether it was.
///
/// # Errors
/// As [`spawn`].
pub(crate) fn spawn_in_cgroup(
    birth: &mut Birth<'_>,
    plan: &InitPlan,
    kit: &Kit,
    ours: &OwnedFd,
    theirs: OwnedFd,
) -> Result<(Child, bool)> {
    let number = ours.as_raw_fd() as u32;
    let run = |socket: OwnedFd| {
        // The caller's end: while init had it open too, it would never see the caller go.
        match hull_sys::fds::close_range(number, number) {
            Ok(()) => init::run(plan, kit, socket),
            Err(_) => 1,
        }
    };
    let copy = theirs.try_clone().on("duplicate", "socket")?;
    match spawn(birth, || run(theirs)) {
        Ok(child) => Ok((child, birth.cgroup.is_some())),
        // A cgroup that takes no processes at birth (threaded, busy, not delegated) may take them later.
        Err(_) if birth.cgroup.is_some() => {
            birth.cgroup = None;
            Ok((spawn(birth, || run(copy))?, false))
        }
        Err(e) => Err(e),
    }
}

/// Enters, clones, leaves.
fn around(birth: &Birth<'_>, child: impl FnOnce() -> i32) -> Result<Child> {
    let mut left = Vec::with_capacity(birth.joins.len());
    let entered = birth.joins.iter().try_for_each(|join| {
        let own = own_namespace(join.flag)?;
        ns::setns(join.fd, join.flag).on("enter namespace", &join.path)?;
        left.push((own, join.flag));
        Ok(())
    });
    let cloned = entered.and_then(|()| clone(birth, child));
    for (own, flag) in left.iter().rev() {
        ns::setns(own.as_fd(), *flag).on("return to namespace", own_path(*flag))?;
    }
    cloned
}

fn own_path(flag: u64) -> PathBuf {
    use hull_sys::clone;
    let name = match flag {
        clone::CLONE_NEWNET => "net",
        clone::CLONE_NEWIPC => "ipc",
        clone::CLONE_NEWUTS => "uts",
        clone::CLONE_NEWCGROUP => "cgroup",
        clone::CLONE_NEWTIME => "time",
        clone::CLONE_NEWNS => "mnt",
        clone::CLONE_NEWUSER => "user",
        _ => "pid",
    };
    Path::new("/proc/self/ns").join(name)
}

fn own_namespace(flag: u64) -> Result<OwnedFd> {
    open_namespace(&own_path(flag))
}

fn clone(birth: &Birth<'_>, child: impl FnOnce() -> i32) -> Result<Child> {
    let args = CloneArgs {
        flags: birth.flags,
        cgroup: birth.cgroup,
        exit_signal: libc::SIGCHLD as u64,
    };
    clone3(&args, child).on("clone", "init")
}

/// An intermediate process enters the user namespace and clones init as the caller's child.
fn through_intermediate(
    birth: &Birth<'_>,
    user: &Entered<'_>,
    child: impl FnOnce() -> i32,
) -> Result<Child> {
    let (ours, theirs) = crate::wire::pair().on("make", "socket pair")?;
    let args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    let intermediate = clone3(&args, || {
        let result = enter_user(birth, user).and_then(|()| {
            let args = CloneArgs {
                flags: birth.flags | CLONE_PARENT,
                cgroup: birth.cgroup,
                exit_signal: 0,
            };
            clone3(&args, child)
        });
        let told = match result {
            Ok(born) => fdpass::send(theirs.as_fd(), &[0; 4], &[born.pidfd.as_fd()]),
            Err(errno) => fdpass::send(theirs.as_fd(), &errno.raw_os_error().to_ne_bytes(), &[]),
        };
        i32::from(told.is_err())
    })
    .on("clone", "intermediate process")?;
    // So that its end is seen.
    drop(theirs);
    let mut buffer = [0; 8];
    let answer = fdpass::recv(ours.as_fd(), &mut buffer);
    pidfd::wait(intermediate.pidfd.as_fd()).on("wait for", "intermediate process")?;
    let (n, mut fds) = answer.on("receive from", "intermediate process")?;
    match (n, fds.pop()) {
        (4, Some(pidfd)) => Ok(Child {
            pid: pid_of(pidfd.as_fd())?,
            pidfd,
        }),
        (4, None) => {
            let errno = i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            Err(Errno::from_raw_os_error(errno)).on("enter user namespace", &user.path)
        }
        _ => Err(Error::InitDied {
            during: "entering the user namespace",
            how: "no answer".into(),
        }),
    }
}

/// In the intermediate: namespaces that belong to the caller's side first, the rest once the user namespace
/// gives the right.
fn enter_user(birth: &Birth<'_>, user: &Entered<'_>) -> std::result::Result<(), Errno> {
    if let Some(score) = birth.oom_score_adj {
        let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    let mut later = Vec::new();
    for join in &birth.joins {
        match ns::setns(join.fd, join.flag) {
            Ok(()) => {}
            Err(Errno::PERM) => later.push(join),
            Err(e) => return Err(e),
        }
    }
    ns::setns(user.fd, user.flag & (CLONE_NEWUSER | CLONE_NEWPID))?;
    later
        .iter()
        .try_for_each(|join| ns::setns(join.fd, join.flag))
}

/// The pid behind a pidfd, as this process's procfs shows it.
fn pid_of(pidfd: BorrowedFd<'_>) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path).on("read", &path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = line.and_then(|pid| pid.trim().parse().ok());
    pid.ok_or(Errno::SRCH).on("read", path)
}
