//! The specification becomes a plan: pure, tested without a kernel.
//!
//! Order matters more than anything here. Everything in the container's file system is done before the pivot,
//! through descriptors below its root, while the host's procfs and `/dev/null` can still be trusted;
//! privileges fall last, and nothing but the filter, the capabilities and execve comes after start.

mod identity;
mod mounts;
mod process;
mod step;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use hull_oci::runtime::{HookKind, Linux, Mount, Namespace, NamespaceType, Process, Spec};
use hull_sys::clone;

use crate::cgroup::Mode as CgroupMode;
use crate::facts::HostFacts;
use crate::mount_options;
use crate::{Error, Problem, Result};

pub(crate) use identity::cpu_list;
pub use step::{
    Attrs, DeviceStep, Hierarchy, IdMaps, Idmap, InitPlan, Join, MountStep, Program, Propagation,
    RootSource, Source, Step, What,
};

/// What else the plan depends on.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// The container's name (of its keyring).
    pub id: String,
    /// The bundle: where the root is attached when it is made of mounts, and what relative paths start from.
    pub bundle: PathBuf,
    /// The root as mounts; empty for `root.path`.
    pub rootfs: Vec<Mount>,
    /// Move the root instead of pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 up that the program inherits.
    pub preserve_fds: u32,
    /// The container's own directory in each cgroup hierarchy, by hierarchy name, for bind mounts of them.
    pub cgroups: Vec<(String, PathBuf)>,
    /// Terminal size given by the caller.
    pub console_size: Option<(u16, u16)>,
    /// The streams are a new terminal.
    pub terminal: bool,
    /// The kernel's flags for the compiled filter; `None` without a filter.
    pub seccomp_flags: Option<u64>,
}

/// What [`plan`] collects on the way.
struct Builder<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    facts: &'a HostFacts,
    options: &'a PlanOptions,
    sources: Vec<Source>,
    steps: Vec<Step>,
    problems: Vec<Problem>,
}

/// Compiles a container's configuration.
///
/// # Errors
/// [`Error::Invalid`] with every field that cannot be honoured.
pub fn plan(spec: &Spec, facts: &HostFacts, options: &PlanOptions) -> Result<InitPlan> {
    let empty = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    let process = spec.process.as_ref().ok_or_else(|| {
        Error::Invalid(vec![Problem {
            field: "process".into(),
            reason: "required".into(),
        }])
    })?;
    let mut b = Builder {
        spec,
        linux,
        facts,
        options,
        sources: Vec::new(),
        steps: Vec::new(),
        problems: Vec::new(),
    };
    let new_user = b.makes(NamespaceType::User);
    let join_user = b.path_of(NamespaceType::User);
    let root = b.root_source();
    b.before_mounts(process);
    b.filesystem();
    b.moved_links();
    b.names_and_parameters();
    b.privileges(process);
    b.finish(process);
    if !b.problems.is_empty() {
        return Err(Error::Invalid(b.problems));
    }
    let id_maps = new_user.then(|| IdMaps {
        uids: linux.uid_mappings.clone(),
        gids: linux.gid_mappings.clone(),
    });
    Ok(InitPlan {
        clone_flags: b.clone_flags(),
        joins: b.joins(),
        join_user,
        id_maps,
        root,
        open_in_init: facts.rootless,
        program: process::program(process),
        sources: b.sources,
        steps: b.steps,
    })
}

/// Namespaces that are entered before the user namespace: they may belong to another one, the host's or a second container's, and from
/// inside nobody could enter them (docs/decisions/0004).
pub(crate) const BEFORE_USER: u64 = clone::CLONE_NEWNET | clone::CLONE_NEWIPC | clone::CLONE_NEWUTS;

/// Compiles an additional process of a running container, which enters `namespaces` (`CLONE_NEW*`) of its init.
///
/// # Errors
/// As [`plan`].
pub fn plan_exec(
    process: &Process,
    facts: &HostFacts,
    options: &PlanOptions,
    namespaces: u64,
) -> Result<InitPlan> {
    let (spec, linux) = (Spec::default(), Linux::default());
    let mut b = Builder {
        spec: &spec,
        linux: &linux,
        facts,
        options,
        sources: Vec::new(),
        steps: vec![Step::Undumpable, Step::Session],
        problems: Vec::new(),
    };
    b.join_cgroups();
    b.steps.push(Step::AwaitCgroup);
    b.early_writes(process);
    let mut rest = namespaces & !(clone::CLONE_NEWUSER | clone::CLONE_NEWPID);
    if namespaces & clone::CLONE_NEWUSER != 0 {
        rest &= !BEFORE_USER;
    }
    b.steps.push(Step::Enter(rest));
    if namespaces & clone::CLONE_NEWUSER != 0 {
        b.steps.push(Step::UserRoot);
    }
    b.keyring(process);
    if options.terminal {
        b.steps.push(Step::Console {
            size: console_size(process, options),
            bind: false,
        });
    }
    b.exec_affinity(process);
    b.privileges_of(process);
    b.finish(process);
    if !b.problems.is_empty() {
        return Err(Error::Invalid(b.problems));
    }
    Ok(InitPlan {
        clone_flags: 0,
        joins: Vec::new(),
        join_user: None,
        id_maps: None,
        root: None,
        open_in_init: false,
        program: process::program(process),
        sources: b.sources,
        steps: b.steps,
    })
}

fn console_size(process: &Process, options: &PlanOptions) -> Option<(u16, u16)> {
    let clip = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    options.console_size.or_else(|| {
        process
            .console_size
            .filter(|size| size.width != 0 || size.height != 0)
            .map(|size| (clip(size.width), clip(size.height)))
    })
}

/// The clone flag of a namespace type.
#[must_use]
pub fn flag_of(kind: NamespaceType) -> u64 {
    match kind {
        NamespaceType::Pid => clone::CLONE_NEWPID,
        NamespaceType::Network => clone::CLONE_NEWNET,
        NamespaceType::Mount => clone::CLONE_NEWNS,
        NamespaceType::Ipc => clone::CLONE_NEWIPC,
        NamespaceType::Uts => clone::CLONE_NEWUTS,
        NamespaceType::User => clone::CLONE_NEWUSER,
        NamespaceType::Cgroup => clone::CLONE_NEWCGROUP,
        NamespaceType::Time => clone::CLONE_NEWTIME,
    }
}

impl Builder<'_> {
    fn problem(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.problems.push(Problem {
            field: field.into(),
            reason: reason.into(),
        });
    }

    fn namespace(&self, kind: NamespaceType) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|n| n.kind == kind)
    }

    /// Whether the container gets a new namespace of this kind.
    fn makes(&self, kind: NamespaceType) -> bool {
        self.namespace(kind).is_some_and(|n| n.path.is_none())
    }

    fn path_of(&self, kind: NamespaceType) -> Option<PathBuf> {
        self.namespace(kind)?.path.as_ref().map(PathBuf::from)
    }

    /// The container lives in a user namespace that is not the caller's.
    fn has_user_namespace(&self) -> bool {
        self.namespace(NamespaceType::User).is_some()
    }

    fn has_mount_namespace(&self) -> bool {
        self.namespace(NamespaceType::Mount).is_some()
    }

    /// Cgroup and time namespaces are left to init: the first must be made after init was moved into its
    /// cgroup, the second takes its offsets before anyone enters it.
    fn clone_flags(&self) -> u64 {
        let later = clone::CLONE_NEWCGROUP | clone::CLONE_NEWTIME;
        let new = self.linux.namespaces.iter().filter(|n| n.path.is_none());
        new.fold(0, |flags, n| flags | flag_of(n.kind)) & !later
    }

    fn joins(&self) -> Vec<Join> {
        let by_caller =
            |n: &&Namespace| !matches!(n.kind, NamespaceType::User | NamespaceType::Mount);
        self.linux
            .namespaces
            .iter()
            .filter(by_caller)
            .filter_map(|n| {
                Some(Join {
                    flag: flag_of(n.kind),
                    path: PathBuf::from(n.path.as_ref()?),
                })
            })
            .collect()
    }

    fn root_source(&mut self) -> Option<RootSource> {
        if let [mount] = self.options.rootfs.as_slice() {
            let parsed = mount_options::parse(&mount.options);
            let kind = mount.kind.clone().unwrap_or_default();
            let mut options = mount.options.clone();
            self.label(&kind, &mut options);
            return Some(if parsed.bind.is_some() {
                RootSource::Directory(PathBuf::from(mount.source.as_deref().unwrap_or("")))
            } else {
                RootSource::Filesystem {
                    fstype: kind,
                    source: mount.source.clone(),
                    options,
                }
            });
        }
        if self.options.rootfs.len() > 1 {
            self.problem("rootfs", "more than one mount for the root file system");
        }
        match self.spec.root.as_ref() {
            Some(root) => Some(RootSource::Directory(self.options.bundle.join(&root.path))),
            None => {
                self.problem("root", "required");
                None
            }
        }
    }

    /// Where the root is attached in the container's mount namespace before the pivot.
    fn root_point(&self) -> PathBuf {
        match (self.options.rootfs.as_slice(), &self.spec.root) {
            ([], Some(root)) => self.options.bundle.join(&root.path),
            _ => self.options.bundle.clone(),
        }
    }

    /// First of all, so that what init uses from here on is the container's.
    fn join_cgroups(&mut self) {
        if self.facts.cgroup.mode() != CgroupMode::V2 {
            self.steps.push(Step::JoinCgroups);
        }
    }

    fn before_mounts(&mut self, process: &Process) {
        let new_user = self.makes(NamespaceType::User);
        let shared = self.namespaces_are_shared();
        self.join_cgroups();
        // Files of a process that is not dumpable belong to the host's root, also its uid_map.
        if shared && !new_user {
            self.steps.push(Step::Undumpable);
        }
        self.steps.push(Step::Session);
        if new_user {
            self.steps.push(Step::AwaitIdMap);
        }
        self.early_writes(process);
        if self.path_of(NamespaceType::User).is_some() {
            self.steps.push(Step::UserRoot);
        }
        if shared && new_user {
            self.steps.push(Step::Undumpable);
        }
        if let Some(path) = self.path_of(NamespaceType::Mount) {
            self.steps.push(Step::JoinMount(path));
        }
        self.keyring(process);
        if self.makes(NamespaceType::Network) {
            self.steps.push(Step::LoopbackUp);
        }
    }

    /// Network devices are moved in before the answer to [`Step::AwaitCgroup`], so they are there only after it.
    fn moved_links(&mut self) {
        if !self.linux.net_devices.is_empty() {
            let names = self.linux.net_devices.iter();
            let names = names.map(|(name, device)| device.name.as_ref().unwrap_or(name).clone());
            self.steps.push(Step::LinksUp(names.collect()));
        }
    }

    /// What is written to files of the host's procfs that belong to this process: before its user changes.
    fn early_writes(&mut self, process: &Process) {
        self.steps.push(Step::OpenProc);
        if let Some(score) = process.oom_score_adj {
            self.steps.push(Step::OomScoreAdj(score));
        }
        if self.makes(NamespaceType::Time) {
            let offsets = self.linux.time_offsets.iter();
            let lines = offsets.map(|(clock, o)| format!("{clock} {} {}\n", o.secs, o.nanosecs));
            self.steps.push(Step::TimeNamespace(lines.collect()));
        }
    }

    /// Others can reach init before its exec, through a PID or user namespace that is not new.
    fn namespaces_are_shared(&self) -> bool {
        !self.makes(NamespaceType::Pid) || self.path_of(NamespaceType::User).is_some()
    }

    /// Root, mounts, devices, pivot.
    fn filesystem(&mut self) {
        if !self.has_mount_namespace() {
            // Without a namespace of its own the container sees the host's mounts under its root.
            self.steps.push(Step::AwaitCgroup);
            self.cgroup_namespace();
            self.steps.push(Step::Chroot);
            return;
        }
        if self.makes(NamespaceType::Mount) {
            let propagation = self.host_propagation();
            self.steps.push(Step::HostPropagation(propagation));
        }
        if self.facts.rootless {
            self.steps.push(Step::OpenSources);
        }
        let shared = self.host_propagation().flag == libc::MS_SHARED;
        self.steps.push(Step::AttachRoot {
            point: self.root_point(),
            shared,
        });
        self.all_mounts();
        self.devices();
        self.console();
        self.hooks_before_pivot();
        self.protect();
        self.steps.push(Step::PivotRoot {
            by_move: self.options.no_pivot,
            shared,
        });
        if let Some(propagation) = self.root_propagation() {
            self.steps.push(Step::RootPropagation(propagation));
        }
    }

    fn cgroup_namespace(&mut self) {
        if self.makes(NamespaceType::Cgroup) {
            self.steps.push(Step::CgroupNamespace);
        }
    }

    fn hooks_before_pivot(&mut self) {
        let Some(hooks) = &self.spec.hooks else {
            return;
        };
        let kinds: Vec<_> = [HookKind::Prestart, HookKind::CreateRuntime]
            .into_iter()
            .filter(|kind| !hooks.of(*kind).is_empty())
            .collect();
        if !kinds.is_empty() {
            self.steps.push(Step::HostHooks(kinds));
        }
        if !hooks.create_container.is_empty() {
            self.steps.push(Step::ContainerHooks {
                kind: HookKind::CreateContainer,
                hooks: hooks.create_container.clone(),
            });
        }
    }

    fn console(&mut self) {
        if let Some(process) = self.spec.process.as_ref().filter(|_| self.options.terminal) {
            self.steps.push(Step::Console {
                size: console_size(process, self.options),
                bind: true,
            });
        }
    }

    /// Read-only and masked paths. Before the pivot, while the host's `/dev/null` can still be bound, and all
    /// through the root's descriptor.
    fn protect(&mut self) {
        self.late_remounts();
        if self.spec.root.as_ref().is_some_and(|root| root.readonly) {
            self.steps.push(Step::ReadonlyRoot);
        }
        for path in &self.linux.readonly_paths {
            self.steps.push(Step::ReadonlyPath(PathBuf::from(path)));
        }
        if !self.linux.masked_paths.is_empty() {
            let paths = self.linux.masked_paths.iter().map(PathBuf::from);
            self.steps.push(Step::MaskPaths(paths.collect()));
        }
    }

    fn names_and_parameters(&mut self) {
        if let Some(name) = &self.spec.hostname {
            self.steps.push(Step::Hostname(name.clone()));
        }
        if let Some(name) = &self.spec.domainname {
            self.steps.push(Step::Domainname(name.clone()));
        }
        for (key, value) in &self.linux.sysctl {
            self.steps.push(Step::Sysctl {
                path: sysctl_path(key),
                value: value.clone(),
            });
        }
    }
}

/// `net.ipv4.ip_forward` as a path. Either separator is allowed; the other one then is part of a name
/// (sysctl(8): `net.ipv4.conf.eth0/1.forwarding`).
pub(crate) fn sysctl_path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// Whether `path` is `base` or below it.
fn below(path: &str, base: &str) -> bool {
    Path::new(path).starts_with(base)
}
