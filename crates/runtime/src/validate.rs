//! Refuses configurations that cannot be meant, before anything is made: every problem with its field's path.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use hull_oci::runtime::{
    DeviceType, IdMapping, Linux, NamespaceType, Process, Resources, Scheduler, SchedulerPolicy,
    Spec,
};

use crate::{Error, Problem, Result, plan};

/// Longest path of the kernel.
const PATH_MAX: usize = 4096;
/// Most lines of an id map (user_namespaces(7)).
const MAPPINGS_MAX: usize = 340;
/// What one argument or environment entry may take (execve(2), MAX_ARG_STRLEN).
const ARGUMENT_MAX: usize = 131_072;
/// Most mounts, devices, hooks of a kind, namespaces.
const LIST_MAX: usize = 10_000;

#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

/// Checks a whole configuration.
///
/// # Errors
/// [`Error::Invalid`] with every problem found.
pub fn spec(spec: &Spec) -> Result<()> {
    let mut check = Checker::default();
    check.version(&spec.oci_version);
    match &spec.process {
        Some(process) => check.process(process, "process"),
        None => check.add("process", "required"),
    }
    check.root(spec);
    check.mounts(spec);
    check.names(spec);
    check.hooks(spec);
    let empty = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    check.linux(linux);
    let mut namespaces = linux.namespaces.iter();
    let new_user = namespaces.any(|n| n.kind == NamespaceType::User && n.path.is_none());
    if let Some(process) = spec.process.as_ref().filter(|_| new_user) {
        check.mapped_ids(process, linux);
    }
    check.done()
}

/// Checks a process for exec.
///
/// # Errors
/// As [`spec`].
pub fn process(process: &Process) -> Result<()> {
    let mut check = Checker::default();
    check.process(process, "process");
    check.done()
}

/// Checks limits for update.
///
/// # Errors
/// As [`spec`].
pub fn resources(resources: &Resources) -> Result<()> {
    let mut check = Checker::default();
    check.resources(resources);
    check.done()
}

impl Checker {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.problems.push(Problem {
            field: field.into(),
            reason: reason.into(),
        });
    }

    fn done(self) -> Result<()> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self.problems))
        }
    }

    fn version(&mut self, version: &str) {
        let mut parts = version.split(['.', '-', '+']);
        let major = parts.next().and_then(|p| p.parse::<u32>().ok());
        let minor = parts.next().and_then(|p| p.parse::<u32>().ok());
        match (major, minor) {
            (Some(1), Some(_)) => {}
            (Some(0), Some(_)) | (None, _) | (_, None) => {
                self.add("ociVersion", format!("{version:?} is not a version 1"));
            }
            (Some(_), Some(_)) => {
                self.add("ociVersion", format!("unsupported version {version:?}"))
            }
        }
    }

    fn text(&mut self, field: &str, text: &str) {
        if text.contains('\0') {
            self.add(field, "contains a NUL byte");
        }
        if text.len() >= ARGUMENT_MAX {
            self.add(field, "too long");
        }
    }

    fn path(&mut self, field: &str, path: &str) {
        self.text(field, path);
        if path.len() >= PATH_MAX {
            self.add(field, "longer than a path can be");
        }
    }

    fn list(&mut self, field: &str, length: usize) {
        if length > LIST_MAX {
            self.add(field, format!("{length} entries are more than {LIST_MAX}"));
        }
    }

    fn process(&mut self, process: &Process, at: &str) {
        if process.args.is_empty() {
            self.add(format!("{at}.args"), "must not be empty");
        } else if process.args[0].is_empty() {
            self.add(format!("{at}.args[0]"), "must not be empty");
        }
        for (name, items) in [("args", &process.args), ("env", &process.env)] {
            self.list(&format!("{at}.{name}"), items.len());
            for (index, item) in items.iter().enumerate() {
                self.text(&format!("{at}.{name}[{index}]"), item);
            }
        }
        self.path(&format!("{at}.cwd"), &process.cwd);
        if process.cwd.is_empty() {
            self.add(format!("{at}.cwd"), "must not be empty");
        } else if !process.cwd.starts_with('/') {
            self.add(format!("{at}.cwd"), "must be an absolute path");
        }
        if process.user.umask.is_some_and(|mask| mask > 0o777) {
            self.add(format!("{at}.user.umask"), "above 0777");
        }
        self.list(
            &format!("{at}.user.additionalGids"),
            process.user.additional_gids.len(),
        );
        let mut seen = BTreeSet::new();
        for (index, limit) in process.rlimits.iter().enumerate() {
            let field = format!("{at}.rlimits[{index}]");
            if !seen.insert(limit.kind.as_str()) {
                self.add(
                    format!("{field}.type"),
                    format!("{} is given twice", limit.kind),
                );
            }
            if limit.soft > limit.hard {
                self.add(format!("{field}.soft"), "above hard");
            }
        }
        if process
            .oom_score_adj
            .is_some_and(|n| !(-1000..=1000).contains(&n))
        {
            self.add(format!("{at}.oomScoreAdj"), "must be from -1000 to 1000");
        }
        if let Some(scheduler) = &process.scheduler {
            self.scheduler(scheduler, at);
        }
        if process
            .io_priority
            .as_ref()
            .is_some_and(|p| !(0..=7).contains(&p.priority))
        {
            self.add(format!("{at}.ioPriority.priority"), "must be from 0 to 7");
        }
        if let Some(affinity) = &process.exec_cpu_affinity {
            let fields = [("initial", &affinity.initial), ("final", &affinity.final_)];
            for (name, list) in fields {
                if let Some(Err(reason)) = list.as_deref().map(plan::cpu_list) {
                    self.add(format!("{at}.execCPUAffinity.{name}"), reason);
                }
            }
        }
        if let Some(capabilities) = &process.capabilities {
            let ambient = &capabilities.ambient;
            let may = |name: &&String| {
                capabilities.permitted.contains(name) && capabilities.inheritable.contains(name)
            };
            // runc and crun accept them; the kernel could not raise them, and they leave them out.
            if let Some(name) = ambient.iter().find(|name| !may(name)) {
                tracing::debug!("ambient {name} is not permitted and inheritable");
            }
        }
    }

    fn scheduler(&mut self, scheduler: &Scheduler, at: &str) {
        let realtime = matches!(
            scheduler.policy,
            SchedulerPolicy::Fifo | SchedulerPolicy::Rr
        );
        let deadline = scheduler.policy == SchedulerPolicy::Deadline;
        if scheduler.priority != 0 && !realtime {
            self.add(
                format!("{at}.scheduler.priority"),
                "can only be given for SCHED_FIFO or SCHED_RR",
            );
        }
        if (scheduler.runtime | scheduler.deadline | scheduler.period) != 0 && !deadline {
            self.add(
                format!("{at}.scheduler.runtime"),
                "runtime, deadline and period can only be given for SCHED_DEADLINE",
            );
        }
        if !(-20..=19).contains(&scheduler.nice) {
            self.add(format!("{at}.scheduler.nice"), "must be from -20 to 19");
        }
    }

    fn root(&mut self, spec: &Spec) {
        if let Some(root) = &spec.root {
            self.path("root.path", &root.path);
            if root.path.is_empty() {
                self.add("root.path", "must not be empty");
            }
        }
    }

    fn mounts(&mut self, spec: &Spec) {
        self.list("mounts", spec.mounts.len());
        for (index, mount) in spec.mounts.iter().enumerate() {
            let field = format!("mounts[{index}].destination");
            self.path(&field, &mount.destination);
            let path = Path::new(&mount.destination);
            if mount.destination.is_empty() {
                self.add(field, "must not be empty");
            } else if !path.components().any(|c| matches!(c, Component::Normal(_))) {
                self.add(field, "must not be the root itself");
            }
            if let Some(source) = &mount.source {
                self.path(&format!("mounts[{index}].source"), source);
            }
            for option in &mount.options {
                self.text(&format!("mounts[{index}].options"), option);
            }
            self.mappings(&format!("mounts[{index}].uidMappings"), &mount.uid_mappings);
            self.mappings(&format!("mounts[{index}].gidMappings"), &mount.gid_mappings);
        }
    }

    fn names(&mut self, spec: &Spec) {
        let uts = spec.linux.iter().flat_map(|l| &l.namespaces);
        let has_uts = uts.clone().any(|n| n.kind == NamespaceType::Uts);
        for (field, name) in [
            ("hostname", &spec.hostname),
            ("domainname", &spec.domainname),
        ] {
            let Some(name) = name else {
                continue;
            };
            if !has_uts {
                self.add(field, "needs a uts namespace: it would change the host's");
            }
            if name.len() > 64 {
                self.add(field, "longer than 64 bytes");
            }
        }
    }

    fn hooks(&mut self, spec: &Spec) {
        let Some(hooks) = &spec.hooks else {
            return;
        };
        for kind in hull_oci::runtime::HookKind::ALL {
            self.list(&format!("hooks.{kind}"), hooks.of(*kind).len());
            for (index, hook) in hooks.of(*kind).iter().enumerate() {
                let field = format!("hooks.{kind}[{index}]");
                self.path(&format!("{field}.path"), &hook.path);
                if !hook.path.starts_with('/') {
                    self.add(format!("{field}.path"), "must be an absolute path");
                }
                if hook.timeout.is_some_and(|t| t <= 0) {
                    self.add(format!("{field}.timeout"), "must be above 0");
                }
            }
        }
    }

    fn linux(&mut self, linux: &Linux) {
        self.namespaces(linux);
        self.mappings("linux.uidMappings", &linux.uid_mappings);
        self.mappings("linux.gidMappings", &linux.gid_mappings);
        for (index, device) in linux.devices.iter().enumerate() {
            let field = format!("linux.devices[{index}]");
            self.path(&format!("{field}.path"), &device.path);
            if !device.path.starts_with('/') {
                self.add(format!("{field}.path"), "must be an absolute path");
            }
            if device.kind == DeviceType::All {
                self.add(format!("{field}.type"), "must be c, b, u or p");
            }
            for (name, number) in [("major", device.major), ("minor", device.minor)] {
                let fits = (0..=0xf_ffff).contains(&number);
                if device.kind != DeviceType::Fifo && !fits {
                    self.add(
                        format!("{field}.{name}"),
                        format!("{number} is no device number"),
                    );
                }
            }
        }
        self.sysctls(linux);
        for (field, paths) in [
            ("linux.maskedPaths", &linux.masked_paths),
            ("linux.readonlyPaths", &linux.readonly_paths),
        ] {
            self.list(field, paths.len());
            for (index, path) in paths.iter().enumerate() {
                self.path(&format!("{field}[{index}]"), path);
                if !path.starts_with('/') {
                    self.add(format!("{field}[{index}]"), "must be an absolute path");
                }
            }
        }
        if let Some(name) = &linux.rootfs_propagation {
            let plain = name.strip_prefix('r').unwrap_or(name);
            let known = ["shared", "slave", "private", "unbindable"];
            if !known.contains(&plain) {
                self.add(
                    "linux.rootfsPropagation",
                    format!("unknown propagation {name:?}"),
                );
            }
        }
        if let Some(resources) = &linux.resources {
            self.resources(resources);
        }
        let class = linux
            .intel_rdt
            .as_ref()
            .and_then(|rdt| rdt.clos_id.as_ref());
        if let Some(reason) = class.and_then(|name| crate::resctrl::bad_name(name)) {
            self.add("linux.intelRdt.closID", reason);
        }
        if let Some(path) = &linux.cgroups_path {
            self.path("linux.cgroupsPath", path);
        }
    }

    fn namespaces(&mut self, linux: &Linux) {
        let mut seen = BTreeSet::new();
        for (index, namespace) in linux.namespaces.iter().enumerate() {
            if !seen.insert(namespace.kind) {
                self.add(
                    format!("linux.namespaces[{index}].type"),
                    format!("{} is given twice", namespace.kind),
                );
            }
            if let Some(path) = &namespace.path {
                self.path(&format!("linux.namespaces[{index}].path"), path);
                if !path.starts_with('/') {
                    self.add(
                        format!("linux.namespaces[{index}].path"),
                        "must be an absolute path",
                    );
                }
            }
        }
        let find = |kind| linux.namespaces.iter().find(|n| n.kind == kind);
        let new_user = find(NamespaceType::User).is_some_and(|n| n.path.is_none());
        let mapped = !linux.uid_mappings.is_empty() && !linux.gid_mappings.is_empty();
        if new_user && !mapped {
            self.add(
                "linux.uidMappings",
                "a new user namespace needs uid and gid mappings",
            );
        }
        let any = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
        if any && find(NamespaceType::User).is_none() {
            self.add("linux.uidMappings", "mappings need a user namespace");
        }
        if !linux.time_offsets.is_empty()
            && find(NamespaceType::Time).is_none_or(|n| n.path.is_some())
        {
            self.add("linux.timeOffsets", "needs a new time namespace");
        }
        for clock in linux.time_offsets.keys() {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                self.add("linux.timeOffsets", format!("unknown clock {clock:?}"));
            }
        }
        if !linux.net_devices.is_empty() && find(NamespaceType::Network).is_none() {
            self.add("linux.netDevices", "needs a network namespace");
        }
        if find(NamespaceType::Mount).is_none() {
            let protects = !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
            if protects {
                self.add("linux.maskedPaths", "needs a mount namespace");
            }
        }
    }

    /// Ids that a new user namespace does not map cannot be taken on: found out before there is one.
    fn mapped_ids(&mut self, process: &Process, linux: &Linux) {
        let holds = |maps: &[IdMapping], id: u32| {
            // No map at all is told by itself.
            maps.is_empty()
                || maps
                    .iter()
                    .any(|m| id.checked_sub(m.container_id).is_some_and(|n| n < m.size))
        };
        let user = &process.user;
        if !holds(&linux.uid_mappings, user.uid) {
            self.add("process.user.uid", format!("{} is not mapped", user.uid));
        }
        if !holds(&linux.gid_mappings, user.gid) {
            self.add("process.user.gid", format!("{} is not mapped", user.gid));
        }
        for (index, gid) in user.additional_gids.iter().enumerate() {
            if !holds(&linux.gid_mappings, *gid) {
                let field = format!("process.user.additionalGids[{index}]");
                self.add(field, format!("{gid} is not mapped"));
            }
        }
    }

    fn mappings(&mut self, field: &str, mappings: &[IdMapping]) {
        if mappings.len() > MAPPINGS_MAX {
            self.add(field, format!("more than {MAPPINGS_MAX} lines"));
        }
        for (index, m) in mappings.iter().enumerate() {
            if m.size == 0 {
                self.add(format!("{field}[{index}].size"), "must be above 0");
            }
            let over = |first: u32| first.checked_add(m.size).is_none();
            if over(m.container_id) || over(m.host_id) {
                self.add(
                    format!("{field}[{index}].size"),
                    "reaches beyond the last id",
                );
            }
        }
    }

    /// Only what a namespace of the container holds: anything else would change the host.
    fn sysctls(&mut self, linux: &Linux) {
        let has = |kind| linux.namespaces.iter().any(|n| n.kind == kind);
        for key in linux.sysctl.keys() {
            let field = format!("linux.sysctl.{key}");
            let path = plan::sysctl_path(key);
            if path.split('/').any(|part| part.is_empty() || part == "..") {
                self.add(field, "is no name of a kernel parameter");
                continue;
            }
            let ipc = path.starts_with("fs/mqueue/") || IPC_SYSCTLS.contains(&path.as_str());
            let wanted = match path.as_str() {
                _ if ipc => NamespaceType::Ipc,
                "kernel/domainname" => NamespaceType::Uts,
                "kernel/hostname" => {
                    self.add(field, "is the specification's own hostname");
                    continue;
                }
                path if path.starts_with("net/") => NamespaceType::Network,
                path if path.starts_with("user/") => NamespaceType::User,
                _ => {
                    self.add(field, "is not in a separate kernel namespace");
                    continue;
                }
            };
            if !has(wanted) {
                self.add(
                    field,
                    format!("not allowed in the host's {wanted} namespace"),
                );
            }
        }
    }

    fn resources(&mut self, resources: &Resources) {
        for (index, rule) in resources.devices.iter().enumerate() {
            let field = format!("linux.resources.devices[{index}]");
            let access = rule.access.as_deref().unwrap_or("");
            if !access.chars().all(|c| "rwm".contains(c)) {
                self.add(
                    format!("{field}.access"),
                    format!("{access:?} is not made of r, w, m"),
                );
            }
            for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
                if number.is_some_and(|n| !(-1..=0xf_ffff).contains(&n)) {
                    self.add(format!("{field}.{name}"), "is no device number");
                }
            }
        }
        if let Some(memory) = &resources.memory {
            let fields = [
                ("limit", memory.limit),
                ("reservation", memory.reservation),
                ("swap", memory.swap),
                ("kernel", memory.kernel),
                ("kernelTCP", memory.kernel_tcp),
            ];
            for (name, value) in fields {
                if value.is_some_and(|n| n < -1) {
                    self.add(
                        format!("linux.resources.memory.{name}"),
                        "must not be below -1",
                    );
                }
            }
            if memory.swappiness.is_some_and(|n| n > 100) {
                self.add("linux.resources.memory.swappiness", "must be from 0 to 100");
            }
        }
        if let Some(cpu) = &resources.cpu {
            for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
                if let Some(Err(reason)) = list.as_deref().map(plan::cpu_list) {
                    self.add(format!("linux.resources.cpu.{name}"), reason);
                }
            }
            let microseconds = 1000..=1_000_000;
            if cpu
                .period
                .is_some_and(|n| n != 0 && !microseconds.contains(&n))
            {
                self.add(
                    "linux.resources.cpu.period",
                    "must be from 1000 to 1000000 microseconds",
                );
            }
            if cpu.idle.is_some_and(|n| !(0..=1).contains(&n)) {
                self.add("linux.resources.cpu.idle", "must be 0 or 1");
            }
        }
        for (index, limit) in resources.hugepage_limits.iter().enumerate() {
            if limit.page_size.contains(['/', '\0']) {
                self.add(
                    format!("linux.resources.hugepageLimits[{index}].pageSize"),
                    "is no page size",
                );
            }
        }
        for key in resources.unified.keys() {
            if key.is_empty() || key.contains(['/', '\0']) || key.starts_with('.') {
                self.add(
                    format!("linux.resources.unified.{key}"),
                    "is no file of a cgroup",
                );
            }
        }
    }
}

/// Kernel parameters of the IPC namespace besides `fs.mqueue.*`.
const IPC_SYSCTLS: &[&str] = &[
    "kernel/auto_msgmni",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/msg_next_id",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shm_next_id",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Vec<String> {
        let parsed: Spec = serde_json::from_str(json).unwrap();
        match spec(&parsed) {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(problems)) => problems.into_iter().map(|p| p.field).collect(),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn problems_name_their_fields() {
        let json = r#"{"ociVersion":"1.2.0","root":{"path":""},"hostname":"x",
            "process":{"args":[],"cwd":"rel","rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}]},
            "mounts":[{"destination":"/"},{"destination":"/.."}],
            "linux":{"sysctl":{"kernel.panic":"1","net.ipv4.ip_forward":"1"},
              "namespaces":[{"type":"pid"},{"type":"pid"},{"type":"user"}],
              "resources":{"unified":{"../x":"1"},"memory":{"limit":-5}}}}"#;
        assert_eq!(
            fields(json),
            [
                "process.args",
                "process.cwd",
                "process.rlimits[0].soft",
                "root.path",
                "mounts[0].destination",
                "mounts[1].destination",
                "hostname",
                "linux.namespaces[1].type",
                "linux.uidMappings",
                "linux.sysctl.kernel.panic",
                "linux.sysctl.net.ipv4.ip_forward",
                "linux.resources.memory.limit",
                "linux.resources.unified.../x",
            ]
        );
    }

    #[test]
    fn a_plain_one_passes() {
        let json = r#"{"ociVersion":"1.0.2-dev","root":{"path":"rootfs"},
            "process":{"args":["sh"],"cwd":"/"}}"#;
        assert_eq!(fields(json), [""; 0]);
    }

    #[test]
    fn versions_other_than_one_are_refused() {
        for bad in ["0.9.0", "2.0.0", "", "x"] {
            let json = format!(
                r#"{{"ociVersion":"{bad}","root":{{"path":"r"}},"process":{{"args":["a"],"cwd":"/"}}}}"#
            );
            assert_eq!(fields(&json), ["ociVersion"], "{bad}");
        }
    }
}
