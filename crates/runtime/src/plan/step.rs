//! The steps of init: values without descriptors or pointers, so that a plan can be printed and compared.

use std::path::PathBuf;

use hull_oci::runtime::{DeviceType, Hook, HookKind, IdMapping};
use hull_sys::sched::SchedAttr;

/// Everything that the caller and init do for one process, decided beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitPlan {
    /// `CLONE_NEW*` with which init is born.
    pub clone_flags: u64,
    /// Namespaces that the caller enters around the clone and leaves again.
    pub joins: Vec<Join>,
    /// User namespace that init enters before anything else.
    pub join_user: Option<PathBuf>,
    /// The id maps that the caller writes for a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// The root file system; `None` for exec.
    pub root: Option<RootSource>,
    /// What is opened before the mounts are made, by index.
    pub sources: Vec<Source>,
    /// Whether init opens root and sources itself: rootless, where only its user namespace gives the right.
    pub open_in_init: bool,
    /// In order.
    pub steps: Vec<Step>,
    /// The program.
    pub program: Program,
}

/// A namespace to enter, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// `CLONE_NEW*`.
    pub flag: u64,
    /// The namespace's file.
    pub path: PathBuf,
}

/// Maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A directory.
    Directory(PathBuf),
    /// A filesystem made for this container.
    Filesystem {
        /// Its type.
        fstype: String,
        /// Its source.
        source: Option<String>,
        /// Its options.
        options: Vec<String>,
    },
}

/// Something on the host that is mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The field that names it.
    pub field: String,
    /// Where it is.
    pub path: PathBuf,
    /// With what is mounted below it.
    pub recursive: bool,
    /// Ids are mapped.
    pub idmap: Option<Idmap>,
    /// Attributes, applied before anybody sees the mount.
    pub attrs: Attrs,
    /// Skipped when it does not exist.
    pub optional: bool,
}

/// An idmapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idmap {
    /// The maps; those of the container's user namespace when absent.
    pub maps: Option<IdMaps>,
    /// The whole tree.
    pub recursive: bool,
}

/// Attribute changes of a mount.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attrs {
    /// On the top mount.
    pub set: u64,
    /// On the top mount.
    pub clear: u64,
    /// On the tree.
    pub rec_set: u64,
    /// On the tree.
    pub rec_clear: u64,
    /// In order.
    pub propagation: Vec<Propagation>,
}

/// One change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED`, ..
    pub flag: u64,
    /// The whole tree.
    pub recursive: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStep {
    /// Where, inside the root.
    pub destination: PathBuf,
    /// What.
    pub what: What,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A new filesystem.
    New {
        /// Its type.
        fstype: String,
        /// Its source.
        source: Option<String>,
        /// `key` or `key=value`.
        data: Vec<String>,
        /// Attributes.
        attrs: Attrs,
        /// Copy what it covers into it.
        copy_up: bool,
        /// Source bound instead where the kernel refuses a new one (sysfs of a foreign network namespace).
        fallback: Option<usize>,
    },
    /// A source opened beforehand.
    Bind {
        /// Index into [`InitPlan::sources`].
        source: usize,
    },
    /// The hierarchies of cgroup v1: a tmpfs with one mount each.
    CgroupV1 {
        /// Hierarchies.
        hierarchies: Vec<Hierarchy>,
        /// Attributes of each mount.
        attrs: Attrs,
    },
    /// Only change what is there.
    Remount {
        /// Attributes.
        attrs: Attrs,
    },
}

/// One hierarchy of cgroup v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Directory name below `/sys/fs/cgroup`.
    pub name: String,
    /// Mount data, as `cpu,cpuacct` or `none,name=systemd`; `None` for the cgroup2 of a hybrid host.
    pub data: Option<String>,
    /// Aliases, as symbolic links to `name`.
    pub links: Vec<String>,
    /// The container's own directory in it, bound where there is no cgroup namespace.
    pub source: Option<usize>,
}

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStep {
    /// Where, inside the root.
    pub path: PathBuf,
    /// Its kind.
    pub kind: DeviceType,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Index of the host's node, bound where mknod(2) is not allowed.
    pub bind: Option<usize>,
}

/// One step of init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Not dumpable before exec (CVE-2016-9962).
    Undumpable,
    /// A session of its own.
    Session,
    /// Wait for the maps of the new user namespace and become its root.
    AwaitIdMap,
    /// Become root of the user namespace that was joined.
    UserRoot,
    /// Open root and sources, where init must do it.
    OpenSources,
    /// Enter the namespaces of the container's init (`CLONE_NEW*`), for exec.
    Enter(u64),
    /// Enter an existing mount namespace.
    JoinMount(PathBuf),
    /// Open what lies on the host's procfs and is written late (CVE-2019-16884, CVE-2025-52881: never on the
    /// container's).
    OpenProc,
    /// Keyring of its own, with an SELinux label.
    Keyring {
        /// Its name.
        name: String,
        /// SELinux label for it.
        label: Option<String>,
    },
    /// `lo` up.
    LoopbackUp,
    /// Network devices that the caller moved in: up, by name.
    LinksUp(Vec<String>),
    /// A time namespace with these lines of `timens_offsets`.
    TimeNamespace(String),
    /// Propagation of the whole tree that was inherited from the host.
    HostPropagation(Propagation),
    /// Attach the root at a directory of the host, to be pivoted to.
    AttachRoot {
        /// The directory.
        point: PathBuf,
        /// The host's mounts are left shared.
        shared: bool,
    },
    /// Move into the v1 cgroups that the caller has opened.
    JoinCgroups,
    /// Wait until the caller has done its part: cgroup2, where init could not be born there, and network devices.
    AwaitCgroup,
    /// A cgroup namespace.
    CgroupNamespace,
    /// A mount.
    Mount(MountStep),
    /// Device nodes, and the links of `/dev`.
    Devices {
        /// Nodes.
        nodes: Vec<DeviceStep>,
        /// Links: `/dev/fd`, .., `/dev/ptmx`.
        links: bool,
    },
    /// A terminal on the container's devpts, its master sent to the caller.
    Console {
        /// Columns and rows.
        size: Option<(u16, u16)>,
        /// Bind it to `/dev/console`.
        bind: bool,
    },
    /// The caller runs these hooks.
    HostHooks(Vec<HookKind>),
    /// Init runs these hooks in the container's namespaces.
    ContainerHooks {
        /// Which.
        kind: HookKind,
        /// Their definitions.
        hooks: Vec<Hook>,
    },
    /// Make the attached root the root.
    PivotRoot {
        /// By moving the mount, where pivot_root(2) is refused.
        by_move: bool,
        /// The host's mounts are shared: unmounting them here must not reach the host.
        shared: bool,
    },
    /// chroot(2) only: there is no mount namespace of its own.
    Chroot,
    /// Propagation of the container's root.
    RootPropagation(Propagation),
    /// Attributes that wait until the mount's contents were made (`/dev`).
    Remount {
        /// Where.
        path: PathBuf,
        /// What.
        attrs: Attrs,
    },
    /// The root read-only.
    ReadonlyRoot,
    /// Kernel parameter.
    Sysctl {
        /// Path below `/proc/sys`.
        path: String,
        /// Its value.
        value: String,
    },
    /// Read-only path.
    ReadonlyPath(PathBuf),
    /// Unreadable paths.
    MaskPaths(Vec<PathBuf>),
    /// Host name.
    Hostname(String),
    /// NIS domain name.
    Domainname(String),
    /// OOM score adjustment.
    OomScoreAdj(i32),
    /// Resource limit.
    Rlimit {
        /// Name, for errors.
        name: String,
        /// `RLIMIT_*`.
        resource: u32,
        /// Soft.
        soft: u64,
        /// Hard.
        hard: u64,
    },
    /// Execution domain.
    Personality(u64),
    /// NUMA policy.
    MemoryPolicy {
        /// Mode and flags.
        mode: u32,
        /// Nodes.
        nodes: Vec<u32>,
    },
    /// Scheduler.
    Scheduler(SchedAttr),
    /// I/O priority.
    IoPriority {
        /// 1 real-time, 2 best effort, 3 idle.
        class: u32,
        /// 0 to 7.
        level: u32,
    },
    /// CPUs on which it runs from now on.
    CpuAffinity(Vec<u32>),
    /// The label of the next exec.
    ExecLabel {
        /// File below `/proc/self/attr`.
        file: &'static str,
        /// What is written.
        label: String,
    },
    /// `no_new_privs`.
    NoNewPrivileges,
    /// Standard streams onto 0, 1, 2, owned by the user.
    Stdio {
        /// Their new owner.
        uid: u32,
        /// Set the controlling terminal.
        terminal: bool,
    },
    /// Bounding set, from this kernel's highest capability down.
    Bounding {
        /// What stays.
        keep: u64,
        /// The kernel's highest.
        last: u32,
    },
    /// User, groups, umask, with the capabilities kept for now.
    User {
        /// uid.
        uid: u32,
        /// gid.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
        /// umask.
        umask: Option<u32>,
    },
    /// Working directory, which must lie below the root.
    Cwd(PathBuf),
    /// Find the program in the container.
    FindProgram,
    /// Everything from this descriptor up is closed by the exec.
    CloseOnExec(u32),
    /// Tell the caller that everything is ready, and wait for start.
    AwaitStart,
    /// Load the filter.
    Seccomp {
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u64,
    },
    /// Capabilities of the program.
    Capabilities {
        /// Effective.
        effective: u64,
        /// Permitted.
        permitted: u64,
        /// Inheritable.
        inheritable: u64,
        /// Ambient.
        ambient: u64,
    },
    /// execve(2).
    Exec,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Whether `HOME` has to be looked up, for this uid.
    pub home_for: Option<u32>,
}

impl Step {
    /// The name by which errors call the step.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Undumpable => "undumpable",
            Self::Session => "session",
            Self::AwaitIdMap => "user namespace",
            Self::UserRoot => "user namespace root",
            Self::OpenSources => "open",
            Self::Enter(_) => "enter namespaces",
            Self::JoinMount(_) => "join mount namespace",
            Self::OpenProc => "open procfs",
            Self::Keyring { .. } => "session keyring",
            Self::LoopbackUp => "loopback",
            Self::LinksUp(_) => "network device",
            Self::TimeNamespace(_) => "time namespace",
            Self::HostPropagation(_) => "mount propagation",
            Self::AttachRoot { .. } => "attach root",
            Self::JoinCgroups | Self::AwaitCgroup => "cgroup",
            Self::CgroupNamespace => "cgroup namespace",
            Self::Mount(_) => "mount",
            Self::Devices { .. } => "device",
            Self::Console { .. } => "console",
            Self::HostHooks(_) | Self::ContainerHooks { .. } => "hook",
            Self::PivotRoot { .. } => "pivot_root",
            Self::Chroot => "chroot",
            Self::RootPropagation(_) => "root propagation",
            Self::Remount { .. } => "remount",
            Self::ReadonlyRoot => "read-only root",
            Self::Sysctl { .. } => "sysctl",
            Self::ReadonlyPath(_) => "read-only path",
            Self::MaskPaths(_) => "mask path",
            Self::Hostname(_) => "hostname",
            Self::Domainname(_) => "domainname",
            Self::OomScoreAdj(_) => "oom score",
            Self::Rlimit { .. } => "rlimit",
            Self::Personality(_) => "personality",
            Self::MemoryPolicy { .. } => "memory policy",
            Self::Scheduler(_) => "scheduler",
            Self::IoPriority { .. } => "io priority",
            Self::CpuAffinity(_) => "cpu affinity",
            Self::ExecLabel { .. } => "security label",
            Self::NoNewPrivileges => "no_new_privs",
            Self::Stdio { .. } => "stdio",
            Self::Bounding { .. } => "bounding set",
            Self::User { .. } => "user",
            Self::Cwd(_) => crate::InitError::CWD,
            Self::FindProgram | Self::Exec => crate::InitError::EXEC,
            Self::CloseOnExec(_) => "close descriptors",
            Self::AwaitStart => "await start",
            Self::Seccomp { .. } => "seccomp",
            Self::Capabilities { .. } => "capabilities",
        }
    }
}
