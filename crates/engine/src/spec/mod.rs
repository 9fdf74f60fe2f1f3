//! From a container's record to the OCI specification: pure, and tested against golden files.
//!
//! What must be asked of the host (devices, users in the image, other containers' namespaces) is resolved before, by
//! `prepare`, and comes in as [`Inputs`].

mod devices;
mod mounts;
mod process;
mod resources;
mod security;
#[cfg(test)]
mod tests;
mod user;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hull_oci::runtime::{IdMapping, Linux, Namespace, NamespaceType, Root, Seccomp, Spec};

use crate::error::Result;
use crate::record::{ContainerRecord, NetworkMode};

pub(crate) use devices::{ResolvedDevices, check_rules as check_device_rules, resolve_devices};
pub(crate) use mounts::{ExtraMount, merge_tmpfs_options};
pub(crate) use process::{ExecInputs, check_ulimits, exec_process};
pub(crate) use resources::{block_device_numbers, linux_resources};
pub(crate) use security::{SeccompChoice, SecurityOptions};
pub(crate) use user::{Files as UserFiles, ResolvedUser, resolve as resolve_user};

/// What the host is like, read once.
#[derive(Debug, Clone)]
pub(crate) struct HostFacts {
    /// cgroup v2 alone.
    pub(crate) cgroup2: bool,
    /// `mount_setattr(2)` with AT_RECURSIVE: Linux 5.12.
    pub(crate) recursive_read_only: bool,
    pub(crate) hostname: String,
    pub(crate) kernel: hull_security::seccomp::Kernel,
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
    /// Of each processor that it has.
    pub(crate) masked_cpu_paths: Vec<String>,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum NamespaceSource {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// An existing one.
    Path(String),
}

/// The namespaces that can be chosen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespaces {
    pub(crate) network: NamespaceSource,
    pub(crate) pid: NamespaceSource,
    pub(crate) ipc: NamespaceSource,
    pub(crate) uts: NamespaceSource,
    pub(crate) cgroup: NamespaceSource,
    /// Where /dev/shm of a joined IPC namespace lies on the host.
    pub(crate) joined_shm: Option<String>,
}

/// Everything that the specification is made of.
pub(crate) struct Inputs<'a> {
    pub(crate) record: &'a ContainerRecord,
    pub(crate) host: &'a HostFacts,
    pub(crate) namespaces: Namespaces,
    pub(crate) user: ResolvedUser,
    /// hostname, hosts, resolv.conf on the host, by destination; volumes and binds with their sources resolved.
    pub(crate) mounts: Vec<ExtraMount>,
    pub(crate) devices: ResolvedDevices,
    pub(crate) security: SecurityOptions,
    pub(crate) capabilities: Vec<String>,
    pub(crate) seccomp: Option<Seccomp>,
    /// As the runtime wants it: a path, or `slice:prefix:name`.
    pub(crate) cgroups_path: String,
    /// Program that becomes process 1 (`--init`).
    pub(crate) init: Option<PathBuf>,
    /// `NAME=value` of linked containers.
    pub(crate) link_env: Vec<String>,
    pub(crate) default_shm_size: i64,
    /// The daemon's `--default-ulimit`s.
    pub(crate) default_ulimits: &'a [hull_api::host::Ulimit],
}

/// Builds the specification.
pub(crate) fn build(inputs: &Inputs<'_>) -> Result<Spec> {
    let record = inputs.record;
    let privileged = record.host.privileged;
    let own_uts = inputs.namespaces.uts == NamespaceSource::Private;
    let hostname = match (own_uts, record.network_mode()) {
        (false, _) => None,
        (true, _) => Some(hostname(record, inputs.host)),
    };
    let (mounts, rootfs_propagation) = mounts::build(inputs)?;
    let masked = match (
        &record.host.masked_paths,
        privileged || inputs.security.system_paths_unconfined,
    ) {
        (Some(paths), _) => paths.clone(),
        (None, true) => Vec::new(),
        (None, false) => hull_security::defaults::masked_paths(),
    };
    let read_only = match (
        &record.host.readonly_paths,
        privileged || inputs.security.system_paths_unconfined,
    ) {
        (Some(paths), _) => paths.clone(),
        (None, true) => Vec::new(),
        (None, false) => hull_security::defaults::readonly_paths(),
    };
    Ok(Spec {
        oci_version: hull_oci::runtime::VERSION.to_owned(),
        process: Some(process::build(inputs)?),
        root: Some(Root {
            path: "rootfs".to_owned(),
            readonly: record.host.readonly_rootfs,
        }),
        hostname,
        domainname: Some(record.config.domainname.clone())
            .filter(|name| own_uts && !name.is_empty()),
        mounts,
        hooks: None,
        annotations: record.host.annotations.clone(),
        linux: Some(Linux {
            uid_mappings: record.id_mappings.clone(),
            gid_mappings: record.gid_mappings.clone(),
            sysctl: sysctls(inputs),
            resources: Some(resources::build(inputs)?),
            cgroups_path: Some(inputs.cgroups_path.clone()),
            namespaces: namespaces(&inputs.namespaces, &record.id_mappings),
            devices: inputs.devices.nodes.clone(),
            seccomp: inputs.seccomp.clone(),
            rootfs_propagation,
            masked_paths: masked,
            readonly_paths: read_only,
            mount_label: Some(record.mount_label.clone()).filter(|label| !label.is_empty()),
            ..Linux::default()
        }),
    })
}

/// The host name inside: as asked, else the host's own on the host's network, else the short id.
pub(crate) fn hostname(record: &ContainerRecord, host: &HostFacts) -> String {
    if !record.config.hostname.is_empty() {
        return record.config.hostname.clone();
    }
    match record.network_mode() {
        NetworkMode::Host => host.hostname.clone(),
        NetworkMode::Bridge
        | NetworkMode::None
        | NetworkMode::Named(_)
        | NetworkMode::Container(_) => crate::id::short(&record.id).to_owned(),
    }
}

fn namespaces(chosen: &Namespaces, mappings: &[IdMapping]) -> Vec<Namespace> {
    let mut list = vec![Namespace::new(NamespaceType::Mount)];
    let choices = [
        (NamespaceType::Network, &chosen.network),
        (NamespaceType::Uts, &chosen.uts),
        (NamespaceType::Pid, &chosen.pid),
        (NamespaceType::Ipc, &chosen.ipc),
        (NamespaceType::Cgroup, &chosen.cgroup),
    ];
    for (kind, source) in choices {
        match source {
            NamespaceSource::Private => list.push(Namespace::new(kind)),
            NamespaceSource::Host => {}
            NamespaceSource::Path(path) => list.push(Namespace::join(kind, path.clone())),
        }
    }
    if !mappings.is_empty() {
        list.push(Namespace::new(NamespaceType::User));
    }
    list
}

/// What was asked, on Docker's defaults for a network namespace of its own.
fn sysctls(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let own_network = inputs.record.network_mode().is_private();
    let defaults =
        hull_security::defaults::sysctls(own_network, !inputs.record.id_mappings.is_empty());
    let mut sysctls: BTreeMap<String, String> = defaults
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    sysctls.extend(inputs.record.host.sysctls.clone());
    sysctls
}
