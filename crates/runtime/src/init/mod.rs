//! Init: from clone to execve it interprets the plan, step by step, and decides nothing.
//!
//! A failing step is sent to the caller as data and ends the process. Everything that init uses lies in the
//! [`Kit`], which was prepared before the clone.

mod copy_up;
mod devices;
mod filesystem;
mod identity;
mod program;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hull_oci::runtime::{HookKind, Status};
use hull_sys::{Errno, clone, exec, netdev, ns, process, sched, seccomp};
use rustix::fs::{Mode, OFlags, openat};

use crate::hooks;
use crate::kit::{self, Kit};
use crate::plan::{InitPlan, Step};
use crate::wire::{self, Fault};

/// Why a step failed; its index is added by the interpreter.
#[derive(Debug)]
pub(crate) struct StepError {
    errno: Errno,
    path: String,
    detail: String,
}

impl From<Errno> for StepError {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            path: String::new(),
            detail: String::new(),
        }
    }
}

type StepResult<T = ()> = Result<T, StepError>;

/// Names the object of a failing call.
trait At<T> {
    fn at(self, path: impl AsRef<Path>) -> StepResult<T>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, path: impl AsRef<Path>) -> StepResult<T> {
        self.map_err(|errno| StepError {
            errno,
            path: path.as_ref().to_string_lossy().into_owned(),
            detail: String::new(),
        })
    }
}

/// The process between clone and exec.
struct Init<'a> {
    plan: &'a InitPlan,
    kit: &'a Kit,
    /// Towards the caller; after start, towards whoever started.
    sync: OwnedFd,
    /// The pid as the caller sees it, known from its first word.
    pid: i32,
    /// Root and sources that init opened itself.
    opened: Option<(Option<OwnedFd>, Vec<Option<OwnedFd>>)>,
    /// The host's `/proc/self`, opened before the container's could be in the way.
    proc_self: Option<OwnedFd>,
    /// The host's `/proc/sys`.
    proc_sys: Option<OwnedFd>,
    /// The host's `/dev/null`.
    null: Option<OwnedFd>,
    /// The terminal.
    slave: Option<OwnedFd>,
    /// `HOME=`, when it was looked up.
    home: Option<String>,
    /// The program's path.
    program: Option<CString>,
}

/// How init ends when it has said itself, to the user, why the program cannot be executed (runc 1.2's status; 1.1 has 1).
const EXEC_FAILED: i32 = 255;

/// Runs the plan; returns an exit status only when a step failed.
pub(crate) fn run(plan: &InitPlan, kit: &Kit, sync: OwnedFd) -> i32 {
    let mut init = Init {
        plan,
        kit,
        sync,
        pid: 0,
        opened: None,
        proc_self: None,
        proc_sys: None,
        null: None,
        slave: None,
        home: None,
        program: None,
    };
    // Modes of what is made are meant literally; the program's umask is set with its user.
    rustix::process::umask(Mode::empty());
    for (index, step) in plan.steps.iter().enumerate() {
        if let Err(error) = init.step(index, step) {
            if matches!(step, Step::Exec) {
                return refused_by_kernel(&error);
            }
            let fault = Fault {
                step: index,
                errno: error.errno.raw_os_error(),
                path: error.path,
                detail: error.detail,
            };
            // The caller may be gone; there is nobody else to tell.
            let _ = wire::send_fault(init.sync.as_fd(), &fault);
            return 1;
        }
    }
    1
}

impl Init<'_> {
    fn step(&mut self, index: usize, step: &Step) -> StepResult {
        match step {
            Step::Undumpable => Ok(process::set_dumpable(false)?),
            Step::Session => match rustix::process::setsid() {
                // It leads a group already only where it leads a session.
                Ok(_) | Err(Errno::PERM) => Ok(()),
                Err(e) => Err(e.into()),
            },
            Step::AwaitIdMap => {
                self.pid = wire::await_go(self.sync.as_fd())?;
                identity::become_root()?;
                // The change of user took it away; nobody else is in this namespace yet.
                Ok(process::set_dumpable(true)?)
            }
            Step::UserRoot => identity::become_root(),
            Step::OpenSources => self.open_sources(),
            Step::Enter(0) => Ok(()),
            Step::Enter(flags) => {
                let target = self.kit.target.as_ref().ok_or(Errno::SRCH)?;
                Ok(ns::setns(target.as_fd(), *flags)?)
            }
            Step::JoinMount(path) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let fd = rustix::fs::open(path, flags, Mode::empty()).at(path)?;
                ns::setns(fd.as_fd(), clone::CLONE_NEWNS).at(path)
            }
            Step::OpenProc => self.open_proc(),
            Step::Keyring { name, label } => self.keyring(name, label.as_deref()),
            Step::LoopbackUp => Ok(netdev::loopback_up()?),
            Step::LinksUp(names) => names.iter().try_for_each(|name| {
                let index = netdev::index_of(name).at(name)?;
                netdev::link_up(index).at(name)
            }),
            Step::TimeNamespace(offsets) => time_namespace(offsets),
            Step::HostPropagation(change) => filesystem::host_propagation(*change),
            Step::AttachRoot { point, shared } => self.attach_root(point, *shared),
            Step::JoinCgroups => self.kit.cgroups.iter().try_for_each(|(file, tasks)| {
                rustix::io::write(tasks, b"0").at(file)?;
                Ok(())
            }),
            Step::AwaitCgroup => {
                self.pid = wire::await_go(self.sync.as_fd())?;
                Ok(())
            }
            Step::CgroupNamespace => Ok(ns::unshare(clone::CLONE_NEWCGROUP)?),
            Step::Mount(mount) => self.mount(mount),
            Step::Devices { nodes, links } => self.devices(nodes, *links),
            Step::Console { size, bind } => self.console(*size, *bind),
            Step::HostHooks(_) => self.host_hooks(index),
            Step::ContainerHooks { kind, hooks } => self.container_hooks(*kind, hooks),
            Step::PivotRoot { by_move, shared } => self.pivot_root(*by_move, *shared),
            Step::Chroot => self.chroot(),
            Step::RootPropagation(change) => self.root_propagation(*change),
            Step::Remount { path, attrs } => self.remount(path, attrs),
            Step::ReadonlyRoot => self.readonly_root(),
            Step::Sysctl { path, value } => self.sysctl(path, value),
            Step::ReadonlyPath(path) => self.readonly_path(path),
            Step::MaskPaths(paths) => self.mask_paths(paths),
            Step::Hostname(name) => rustix::system::sethostname(name.as_bytes()).at(name),
            Step::Domainname(name) => rustix::system::setdomainname(name.as_bytes()).at(name),
            _ => self.late_step(step),
        }
    }

    /// The steps after the file system: what the process itself is.
    fn late_step(&mut self, step: &Step) -> StepResult {
        match step {
            Step::OomScoreAdj(score) => self.oom_score_adj(*score),
            Step::Rlimit {
                name,
                resource,
                soft,
                hard,
            } => process::set_rlimit(0, *resource, *soft, *hard).at(name),
            Step::Personality(persona) => Ok(process::set_personality(*persona)?),
            Step::MemoryPolicy { mode, nodes } => Ok(sched::set_memory_policy(*mode, nodes)?),
            Step::Scheduler(attr) => Ok(sched::set_attr(attr)?),
            Step::IoPriority { class, level } => Ok(sched::set_io_priority(*class, *level)?),
            Step::CpuAffinity(cpus) => Ok(sched::set_affinity(0, cpus)?),
            Step::ExecLabel { file, label } => self.write_proc_self(&format!("attr/{file}"), label),
            Step::NoNewPrivileges => Ok(process::set_no_new_privs()?),
            Step::Stdio { uid, terminal } => self.stdio(*uid, *terminal),
            Step::Bounding { keep, last } => Ok(hull_sys::caps::limit_bounding(*keep, *last)?),
            Step::User {
                uid,
                gid,
                groups,
                umask,
            } => self.user(*uid, *gid, groups, *umask),
            Step::Cwd(path) => self.cwd(path),
            Step::FindProgram => self.find_program(),
            Step::CloseOnExec(first) => Ok(hull_sys::fds::cloexec_from(*first)?),
            Step::AwaitStart => self.await_start(),
            Step::Seccomp { flags } => self.seccomp(*flags),
            Step::Capabilities {
                effective,
                permitted,
                inheritable,
                ambient,
            } => identity::capabilities(*effective, *permitted, *inheritable, *ambient),
            Step::Exec => self.exec(),
            // `step` handles the others.
            _ => Err(Errno::NOSYS.into()),
        }
    }

    /// The root: what the caller opened, or init.
    fn root(&self) -> StepResult<BorrowedFd<'_>> {
        let own = self.opened.as_ref().and_then(|(root, _)| root.as_ref());
        let root = own.or(self.kit.root.as_ref()).ok_or(Errno::BADF)?;
        Ok(root.as_fd())
    }

    fn source(&self, index: usize) -> StepResult<BorrowedFd<'_>> {
        let own = self.opened.as_ref().map(|(_, sources)| sources);
        let sources = own.unwrap_or(&self.kit.sources);
        let source = sources.get(index).and_then(Option::as_ref);
        Ok(source.ok_or(Errno::BADF)?.as_fd())
    }

    fn open_sources(&mut self) -> StepResult {
        let opened = kit::open_sources(self.plan).map_err(|e| StepError {
            errno: e.errno,
            path: format!("{} {}", e.field, e.path.display()),
            detail: e.detail,
        })?;
        self.opened = Some(opened);
        Ok(())
    }

    fn open_proc(&mut self) -> StepResult {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &str| {
            let fd = rustix::fs::open(path, flags, Mode::empty()).at(path)?;
            if !hull_sys::path::is_on_proc(&fd)? {
                return Err(Errno::INVAL).at(path);
            }
            Ok(fd)
        };
        self.proc_self = Some(open("/proc/self")?);
        if self
            .plan
            .steps
            .iter()
            .any(|s| matches!(s, Step::Sysctl { .. }))
        {
            self.proc_sys = Some(open("/proc/sys")?);
        }
        if self
            .plan
            .steps
            .iter()
            .any(|s| matches!(s, Step::MaskPaths(_)))
        {
            self.null = Some(devices::open_null()?);
        }
        Ok(())
    }

    fn write_proc_self(&self, name: &str, value: &str) -> StepResult {
        let directory = self.proc_self.as_ref().ok_or(Errno::BADF)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(directory, name, flags, Mode::empty()).at(value)?;
        rustix::io::write(file, value.as_bytes()).at(value)?;
        Ok(())
    }

    /// Fine also when it may not be written but is so already: inherited, or set by the intermediate process.
    fn oom_score_adj(&self, score: i32) -> StepResult {
        let Err(error) = self.write_proc_self("oom_score_adj", &score.to_string()) else {
            return Ok(());
        };
        let directory = self.proc_self.as_ref().ok_or(Errno::BADF)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(directory, c"oom_score_adj", flags, Mode::empty())?;
        let mut text = [0; 16];
        let n = rustix::io::read(file, &mut text)?;
        let now = std::str::from_utf8(&text[..n])
            .ok()
            .and_then(|t| t.trim().parse().ok());
        if now == Some(score) {
            Ok(())
        } else {
            Err(error)
        }
    }

    fn sysctl(&self, path: &str, value: &str) -> StepResult {
        let root = self.proc_sys.as_ref().ok_or(Errno::BADF)?;
        let file = hull_sys::path::open_in_root_nosymlinks(
            root.as_fd(),
            Path::new(path),
            OFlags::WRONLY,
            Mode::empty(),
        )
        .at(path)?;
        rustix::io::write(file, value.as_bytes()).at(path)?;
        Ok(())
    }

    fn host_hooks(&mut self, index: usize) -> StepResult {
        wire::send(self.sync.as_fd(), b'H', index)?;
        // The caller reports a failing hook itself and closes.
        wire::await_go(self.sync.as_fd())?;
        Ok(())
    }

    fn container_hooks(&self, kind: HookKind, list: &[hull_oci::runtime::Hook]) -> StepResult {
        let mut state = self.kit.state.clone();
        state.pid = self.pid;
        // Both points lie before the program runs: `creating`, or `created` once init waits for start.
        state.status = match kind {
            HookKind::StartContainer => Status::Created,
            _ => Status::Creating,
        };
        hooks::run_all(kind, list, &state).map_err(|e| StepError {
            errno: Errno::CANCELED,
            path: String::new(),
            detail: e.to_string(),
        })
    }

    /// Says that everything is ready, and waits: for the caller, or for a connection to the start socket.
    fn await_start(&mut self) -> StepResult {
        wire::send(self.sync.as_fd(), b'R', 0)?;
        if let Some(socket) = &self.kit.start {
            let connection = loop {
                match rustix::net::accept_with(socket, rustix::net::SocketFlags::CLOEXEC) {
                    Err(Errno::INTR) => {}
                    other => break other?,
                }
            };
            self.sync = connection;
            return Ok(());
        }
        wire::await_go(self.sync.as_fd())?;
        Ok(())
    }

    fn seccomp(&self, flags: u64) -> StepResult {
        let notify = seccomp::set_filter(&self.kit.filter, flags)?;
        if let Some(notify) = notify {
            // The caller fetches it and passes it on: sendmsg(2) may be one of the calls to be answered.
            wire::send_listener(self.sync.as_fd(), notify.as_raw_fd())?;
            wire::await_go(self.sync.as_fd())?;
        }
        Ok(())
    }

    fn exec(&mut self) -> StepResult {
        let path = self.program.take().ok_or(Errno::NOENT)?;
        // What execve would pass on: the caller's blocked signals, and SIGPIPE, which Rust programs ignore.
        hull_sys::signal::ignore(libc::SIGPIPE, false)?;
        hull_sys::signal::restore(0)?;
        let errno = match self.home.take() {
            None => exec::execve(&path, &self.kit.argv, &self.kit.envp),
            Some(home) => {
                let mut env = self.plan.program.env.clone();
                env.push(home);
                exec::execve(&path, &self.kit.argv, &exec::CStrings::new(env)?)
            }
        };
        Err(errno).at(path.to_string_lossy().as_ref())
    }
}

/// The program was found and may be executed, so `create` succeeded; that the kernel cannot run it (another architecture, a script whose
/// interpreter is missing, too long arguments) is the started container's own end, as in runc: its output says why. `start` sees the
/// socket close.
fn refused_by_kernel(error: &StepError) -> i32 {
    let reason = crate::error::go_errno(error.errno);
    let line = format!("exec {}: {reason}\n", error.path);
    // Nobody is left to be told that nobody reads.
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    EXEC_FAILED
}

/// The offsets must be written before anybody enters the namespace: unshare makes it for children only, and
/// setns(2) enters it.
fn time_namespace(offsets: &str) -> StepResult {
    ns::unshare(clone::CLONE_NEWTIME)?;
    if !offsets.is_empty() {
        let path = "/proc/self/timens_offsets";
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).at(path)?;
        rustix::io::write(file, offsets.as_bytes()).at(path)?;
    }
    let path = "/proc/self/ns/time_for_children";
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at(path)?;
    ns::setns(fd.as_fd(), clone::CLONE_NEWTIME).at(path)
}
