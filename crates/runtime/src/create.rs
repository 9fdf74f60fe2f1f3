//! `create`: everything up to an init that waits for start.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::{
    HookKind, Hooks, Linux, NamespaceType, NetDevice, Resources, Spec, Status,
};
use hull_sys::clone::Child;
use hull_sys::exec::CStrings;
use hull_sys::{Errno, netdev, pidfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::cgroup::CgroupPaths;
use crate::cgroup::systemd::{self, Properties};
use crate::criu::Outside;
use crate::error::Context;
use crate::kit::{self, Kit};
use crate::options::{CreateOptions, Created, StartBy, Stdio};
use crate::plan::{InitPlan, PlanOptions, flag_of, plan};
use crate::record::{Record, StateDir, birth};
use crate::seccomp::{self, Filter, Listener};
use crate::spawn::{self, Birth, Entered};
use crate::start::{InitHandle, init_error};
use crate::undo::Undo;
use crate::wire::{self, FromInit};
use crate::{Error, HostFacts, Problem, Result, hooks, idmap, resctrl, validate};

/// Creates a container: its init has done every step and waits for start.
///
/// On failure everything that was made is undone.
///
/// # Errors
/// [`Error::Invalid`] before anything is made; [`Error::Init`] with the step that failed.
pub fn create(options: CreateOptions<'_>) -> Result<Created> {
    prepare(options)?.create()
}

/// Does what comes before init's clone and needs none of the namespaces that it joins: they may be made meanwhile.
///
/// # Errors
/// As [`create`].
pub fn prepare(mut options: CreateOptions<'_>) -> Result<Preparation> {
    validate::spec(options.spec)?;
    let facts = HostFacts::probe()?;
    let decided = decide(&options, &facts)?;
    let mut undo = Undo::default();
    let dir = StateDir::create(options.state_root, options.id)?;
    {
        let dir = dir.clone();
        undo.push("state directory", move || dir.remove());
    }
    let resources = resources(options.spec);
    let cgroup = match decided.cgroup.unit {
        // systemd makes it around init.
        Some(_) => decided.cgroup.clone(),
        None => make_cgroup(&decided.cgroup, &resources, &facts)?,
    };
    {
        let cgroup = cgroup.clone();
        undo.push("cgroup", move || cgroup.remove());
    }
    if let Some(filter) = &decided.filter {
        dir.write_filter(&seccomp::to_bytes(&filter.instructions))?;
    }
    let linux = options.spec.linux.as_ref();
    let rdt = linux.and_then(|l| l.intel_rdt.as_ref());
    let group = rdt.map(|rdt| resctrl::Group::create(Path::new(resctrl::ROOT), options.id, rdt));
    let group = group.transpose()?;
    if let Some(group) = group.clone() {
        undo.push("resctrl group", move || group.remove());
    }
    let net_devices = linux.map(|l| l.net_devices.clone());
    // Before the kit takes the streams.
    let record = Record {
        resctrl: group,
        ..record(&options, &decided, &cgroup)
    };
    let kit = kit(&mut options, &decided, &cgroup, &dir)?;
    let listener = decided.listener.as_ref().map(Listener::connect);
    Ok(Preparation {
        listener: listener.transpose()?,
        decided,
        facts,
        resources,
        kit,
        dir,
        record,
        cgroup,
        hooks: options.spec.hooks.clone(),
        net_devices: net_devices.unwrap_or_default(),
        start_by: options.start_by,
        pid_file: options.pid_file.map(Path::to_owned),
        undo,
    })
}

/// A container that lacks only its init. Dropped, it is undone.
pub struct Preparation {
    decided: Decided,
    facts: HostFacts,
    resources: Resources,
    kit: Kit,
    dir: StateDir,
    record: Record,
    cgroup: CgroupPaths,
    listener: Option<OwnedFd>,
    hooks: Option<Hooks>,
    net_devices: BTreeMap<String, NetDevice>,
    start_by: StartBy,
    pid_file: Option<PathBuf>,
    undo: Undo<'static>,
}

impl Preparation {
    /// Makes init, which does every step and then waits for start.
    ///
    /// # Errors
    /// As [`create`]; everything is undone.
    pub fn create(mut self) -> Result<Created> {
        let (ours, theirs) = wire::pair().on("make", "socket pair")?;
        let (child, born_unified) =
            birth_of(&self.decided.plan, &self.cgroup, &self.kit, &ours, theirs)?;
        let kill = child.pidfd.try_clone().on("duplicate", "pidfd")?;
        self.undo.push("init", move || end(&kill));
        let mut parent = Parent {
            prepared: &mut self,
            socket: &ours,
            child: &child,
            console: None,
        };
        parent.answer(born_unified)?;
        let console_master = parent.console.take();
        if let Some(path) = &self.pid_file {
            write_pid_file(path, child.pid)?;
        }
        self.undo.disarm();
        let init = match self.start_by {
            StartBy::Handle => InitHandle::new(ours, self.record, self.decided.plan),
            StartBy::Socket => InitHandle::by_socket(self.record, self.dir),
        };
        Ok(Created {
            pid: child.pid,
            pidfd: child.pidfd,
            console_master,
            cgroup: self.cgroup,
            init,
        })
    }
}

/// What is decided before anything is made.
pub(crate) struct Decided {
    pub plan: InitPlan,
    pub filter: Option<Filter>,
    pub listener: Option<Listener>,
    pub cgroup: CgroupPaths,
    unit_properties: Properties,
}

pub(crate) fn decide(options: &CreateOptions<'_>, facts: &HostFacts) -> Result<Decided> {
    let empty = Linux::default();
    let linux = options.spec.linux.as_ref().unwrap_or(&empty);
    let filter = linux
        .seccomp
        .as_ref()
        .map(seccomp::filter)
        .transpose()?
        .flatten();
    let cgroup = CgroupPaths::locate(
        &facts.cgroup,
        linux.cgroups_path.as_deref(),
        options.id,
        options.cgroup_manager,
        facts.rootless,
    )?;
    let (terminal, console_size) = match &options.stdio {
        Stdio::Terminal { size } => (true, *size),
        Stdio::Inherit | Stdio::Fds { .. } => (false, None),
    };
    let unified = facts.cgroup.hierarchies().iter().find(|h| h.unified);
    let unified_name = unified.map(|h| h.name.clone()).unwrap_or_default();
    let v1 = cgroup
        .v1
        .iter()
        .map(|(name, path)| (name.clone(), path.clone()));
    let v2 = cgroup
        .unified
        .iter()
        .map(|path| (unified_name.clone(), path.clone()));
    let plan_options = PlanOptions {
        id: options.id.to_owned(),
        bundle: options.bundle.to_owned(),
        rootfs: options.rootfs.to_vec(),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds,
        cgroups: v1.chain(v2).collect(),
        console_size,
        terminal,
        seccomp_flags: filter.as_ref().map(|f| f.flags),
    };
    Ok(Decided {
        plan: plan(options.spec, facts, &plan_options)?,
        listener: Listener::of(linux.seccomp.as_ref(), filter.as_ref()),
        filter,
        cgroup,
        unit_properties: systemd::from_annotations(&options.spec.annotations)?,
    })
}

pub(crate) fn resources(spec: &Spec) -> Resources {
    let linux = spec.linux.as_ref();
    linux.and_then(|l| l.resources.clone()).unwrap_or_default()
}

/// Makes the cgroups. A rootless caller without delegation gets none, unless limits are asked for.
pub(crate) fn make_cgroup(
    paths: &CgroupPaths,
    resources: &Resources,
    facts: &HostFacts,
) -> Result<CgroupPaths> {
    if !facts.rootless {
        paths.create(resources)?;
        return Ok(paths.clone());
    }
    // Device rules cannot be set without privileges; the user namespace already denies making nodes.
    let limits = Resources {
        devices: Vec::new(),
        ..resources.clone()
    };
    match paths.create_delegated(&limits) {
        Ok(()) => Ok(paths.clone()),
        Err(e) if limits == Resources::default() => {
            tracing::debug!("no cgroup for a rootless container: {e}");
            Ok(CgroupPaths {
                v1: Default::default(),
                unified: None,
                ..paths.clone()
            })
        }
        Err(e) => Err(Error::Unsupported {
            field: "linux.resources".into(),
            reason: format!("this user has no delegated cgroup: {e}"),
        }),
    }
}

fn kit(
    options: &mut CreateOptions<'_>,
    decided: &Decided,
    cgroup: &CgroupPaths,
    dir: &StateDir,
) -> Result<Kit> {
    let plan = &decided.plan;
    let (root, sources) = if plan.open_in_init {
        (None, Vec::new())
    } else {
        kit::open_sources(plan).map_err(open_error)?
    };
    let start = match options.start_by {
        StartBy::Handle => None,
        StartBy::Socket => Some(listen(dir)?),
    };
    let strings = |items: &[String], field: &str| {
        CStrings::new(items).map_err(|_| {
            Error::Invalid(vec![Problem {
                field: field.into(),
                reason: "contains a NUL byte".into(),
            }])
        })
    };
    let state = hull_oci::runtime::State {
        oci_version: options.spec.oci_version.clone(),
        id: options.id.to_owned(),
        status: Status::Creating,
        pid: 0,
        bundle: options.bundle.to_string_lossy().into_owned(),
        annotations: options.spec.annotations.clone(),
    };
    Ok(Kit {
        root,
        sources,
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
        filter: decided
            .filter
            .as_ref()
            .map(|f| f.instructions.clone())
            .unwrap_or_default(),
        start,
        cgroups: open_tasks(cgroup)?,
        target: None,
        state,
    })
}

/// What the first process writes to, to be in the v1 cgroups.
pub(crate) fn open_tasks(cgroup: &CgroupPaths) -> Result<Vec<(PathBuf, OwnedFd)>> {
    match &cgroup.unit {
        // Not there yet: systemd makes them around it.
        Some(_) => Ok(Vec::new()),
        None => cgroup.open_tasks(),
    }
}

/// Puts process `pid`, whose children the container's will be, where it could not be born.
pub(crate) fn enter_cgroup(
    decided: &Decided,
    cgroup: &CgroupPaths,
    pid: i32,
    resources: &Resources,
    facts: &HostFacts,
) -> Result<()> {
    if cgroup.unit.is_none() {
        return cgroup.attach_unified(pid);
    }
    cgroup.start_unit(pid, resources, &decided.unit_properties)?;
    // What a unit has no property for.
    make_cgroup(cgroup, resources, facts)?;
    // systemd knows some of the v1 hierarchies only.
    cgroup.attach_everywhere(pid)
}

/// A source that cannot be opened, in the words of the specification's field.
pub(crate) fn open_error(error: kit::OpenError) -> Error {
    Error::Unsupported {
        field: error.field,
        reason: format!(
            "{}: {}{}{}",
            error.path.display(),
            crate::error::go_errno(error.errno),
            if error.detail.is_empty() { "" } else { ": " },
            error.detail
        ),
    }
}

/// The socket by which another process starts the container. Bound through the directory's descriptor: its
/// own path may be longer than a socket's name can be.
fn listen(dir: &StateDir) -> Result<OwnedFd> {
    let path = dir.start_socket();
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .on("make", "socket")?;
    let directory = hull_sys::path::open_dir(dir.path()).on("open", dir.path())?;
    let address = crate::start::socket_address(&directory).on("name", &path)?;
    rustix::net::bind(&socket, &address).on("bind", &path)?;
    rustix::net::listen(&socket, 1).on("listen on", &path)?;
    Ok(socket)
}

pub(crate) fn record(
    options: &CreateOptions<'_>,
    decided: &Decided,
    cgroup: &CgroupPaths,
) -> Record {
    let spec = options.spec;
    let namespaces = spec.linux.iter().flat_map(|l| &l.namespaces);
    let hooks = spec.hooks.as_ref();
    let of = |kind| hooks.map(|h| h.of(kind).to_vec()).unwrap_or_default();
    Record {
        oci_version: spec.oci_version.clone(),
        id: options.id.to_owned(),
        bundle: options.bundle.to_owned(),
        rootfs: spec
            .root
            .as_ref()
            .map(|r| r.path.clone())
            .unwrap_or_default(),
        pid: 0,
        start_time: 0,
        created: jiff::Timestamp::now().to_string(),
        owner: rustix::process::getuid().as_raw(),
        cgroup: cgroup.clone(),
        annotations: spec.annotations.clone(),
        namespaces: namespaces
            .clone()
            .fold(0, |flags, n| flags | flag_of(n.kind)),
        own_pid_namespace: namespaces
            .clone()
            .any(|n| n.kind == NamespaceType::Pid && n.path.is_none()),
        seccomp_flags: decided.filter.as_ref().map(|f| f.flags),
        resctrl: None,
        seccomp_listener: decided.listener.clone(),
        new_keyring: !options.no_new_keyring,
        poststart: of(HookKind::Poststart),
        poststop: of(HookKind::Poststop),
        outside: Outside::of(&decided.plan, spec.linux.as_ref(), &options.stdio),
    }
}

/// Clones init, into its cgroup where that is possible.
fn birth_of(
    plan: &InitPlan,
    cgroup: &CgroupPaths,
    kit: &Kit,
    ours: &OwnedFd,
    theirs: OwnedFd,
) -> Result<(Child, bool)> {
    let opened = spawn::open_joins(&plan.joins)?;
    let entered = |cgroup| Birth {
        flags: plan.clone_flags,
        joins: opened
            .iter()
            .zip(&plan.joins)
            .map(|(fd, join)| Entered {
                fd: fd.as_fd(),
                flag: join.flag,
                path: join.path.clone(),
            })
            .collect(),
        user: None,
        cgroup,
        oom_score_adj: None,
    };
    let user = plan
        .join_user
        .as_deref()
        .map(spawn::open_namespace)
        .transpose()?;
    let directory = cgroup.unified.as_ref().and_then(|path| open_cgroup(path));
    let mut birth = entered(directory.as_ref().map(AsFd::as_fd));
    if let (Some(fd), Some(path)) = (&user, &plan.join_user) {
        birth.user = Some(Entered {
            fd: fd.as_fd(),
            flag: hull_sys::clone::CLONE_NEWUSER,
            path: path.clone(),
        });
    }
    spawn::spawn_in_cgroup(&mut birth, plan, kit, ours, theirs)
}

pub(crate) fn open_cgroup(path: &Path) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// Kills init and reaps it.
fn end(init: &OwnedFd) -> Result<()> {
    match pidfd::send_signal(init.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(e) => return Err(e).on("kill", "init"),
    }
    match pidfd::wait(init.as_fd()) {
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(e) => Err(e).on("wait for", "init"),
    }
}

/// The caller's side of the conversation.
struct Parent<'a> {
    prepared: &'a mut Preparation,
    socket: &'a OwnedFd,
    child: &'a Child,
    console: Option<OwnedFd>,
}

impl Parent<'_> {
    /// Does what init waits for, until it is ready.
    fn answer(&mut self, born_unified: bool) -> Result<()> {
        let pid = self.child.pid;
        // An init that failed at once has left its reason, and closed: EPIPE here means "read it".
        let go = || match wire::go(self.socket.as_fd(), pid) {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(e) => Err(e).on("tell", "init"),
        };
        if let Some(maps) = &self.prepared.decided.plan.id_maps {
            idmap::write(pid, maps, self.prepared.facts.rootless)?;
            go()?;
        }
        if self.prepared.cgroup.unit.is_some() {
            self.start_unit()?;
        }
        let attached = match (&self.prepared.cgroup.unit, born_unified) {
            // systemd knows some of the v1 hierarchies only.
            (Some(_), _) => self.prepared.cgroup.attach_everywhere(pid),
            (None, true) => Ok(()),
            (None, false) => self.prepared.cgroup.attach_unified(pid),
        };
        attached
            .and_then(|()| {
                let group = self.prepared.record.resctrl.as_ref();
                group.map_or(Ok(()), |group| group.attach(pid))
            })
            .and_then(|()| move_links(&self.prepared.net_devices, pid))
            .or_else(|e| self.init_gone(e))?;
        go()?;
        let (start_time, _) = birth(pid)?.unwrap_or((0, true));
        self.prepared.record.pid = pid;
        self.prepared.record.start_time = start_time;
        self.prepared.dir.write(&self.prepared.record)?;
        loop {
            match wire::receive(self.socket).on("receive from", "init")? {
                FromInit::Ready => return Ok(()),
                FromInit::Console(fd) => self.console = Some(fd),
                FromInit::Listener(fd) => {
                    let (Some(listener), Some(socket)) =
                        (&self.prepared.decided.listener, &self.prepared.listener)
                    else {
                        return Err(Errno::PROTO).on("receive from", "init");
                    };
                    let state = self.prepared.record.state(Status::Creating);
                    listener.hand_over(socket, self.child, fd, state)?;
                    go()?;
                }
                FromInit::Hooks { step } => {
                    self.hooks(step)?;
                    go()?;
                }
                FromInit::Error(fault) => {
                    return Err(init_error(&self.prepared.decided.plan, fault));
                }
                FromInit::Closed => return Err(self.died()),
            }
        }
    }

    /// With systemd: the unit around init, then what a unit has no property for.
    fn start_unit(&self) -> Result<()> {
        let (pid, more) = (self.child.pid, &self.prepared.decided.unit_properties);
        if let Err(e) = self
            .prepared
            .cgroup
            .start_unit(pid, &self.prepared.resources, more)
        {
            return self.init_gone(e);
        }
        // Its failure stops the unit, and so ends init: that is not the reason then.
        make_cgroup(
            &self.prepared.cgroup,
            &self.prepared.resources,
            &self.prepared.facts,
        )?;
        Ok(())
    }

    /// When init is dead already, what it said matters more than that it could not be attached.
    fn init_gone(&self, error: Error) -> Result<()> {
        match pidfd::ended_within(self.child.pidfd.as_fd(), 0) {
            Ok(true) => Ok(()),
            _ => Err(error),
        }
    }

    fn died(&self) -> Error {
        let how = match pidfd::wait(self.child.pidfd.as_fd()) {
            Ok(pidfd::Exit::Code(code)) => format!("exit status {code}"),
            Ok(pidfd::Exit::Signal(libc::SIGKILL)) => {
                "killed (is the memory limit too low for a process to start?)".into()
            }
            Ok(pidfd::Exit::Signal(signal)) => format!("signal {signal}"),
            Err(e) => e.to_string(),
        };
        Error::InitDied {
            during: "create",
            how,
        }
    }

    fn hooks(&self, step: usize) -> Result<()> {
        let (Some(crate::plan::Step::HostHooks(kinds)), Some(hooks)) = (
            self.prepared.decided.plan.steps.get(step),
            &self.prepared.hooks,
        ) else {
            return Err(Errno::PROTO).on("receive from", "init");
        };
        let state = self.prepared.record.state(Status::Creating);
        kinds
            .iter()
            .try_for_each(|kind| hooks::run_all(*kind, hooks.of(*kind), &state))
    }
}

/// Moves network devices of the host into the namespace of process `pid`.
pub(crate) fn move_links(devices: &BTreeMap<String, NetDevice>, pid: i32) -> Result<()> {
    let mut netns = None;
    for (name, device) in devices {
        if netns.is_none() {
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            netns = Some(spawn::open_namespace(&path)?);
        }
        if let Some(fd) = &netns {
            let new_name = device.name.as_ref().unwrap_or(name);
            netdev::move_link(name, fd.as_fd(), new_name).on("move network device", name)?;
        }
    }
    Ok(())
}

/// Whole or not at all: somebody waits for the file to appear.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    // A device (`/dev/null`) or a pipe is written to, not replaced.
    if fs::symlink_metadata(path).is_ok_and(|m| m.mode() & libc::S_IFMT != libc::S_IFREG) {
        return fs::write(path, pid.to_string()).on("write", path);
    }
    fs::write(&new, pid.to_string()).on("write", &new)?;
    fs::rename(&new, path).on("rename", new)
}
