//! The Linux section of the configuration (`config-linux.md`), without resources and seccomp.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Resources, Seccomp};
use crate::go;

/// What is particular to Linux.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// User mappings of the user namespace.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uid_mappings: Vec<IdMapping>,
    /// Group mappings of the user namespace.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters, dotted names.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub sysctl: BTreeMap<String, String>,
    /// Limits held by cgroups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The cgroup, as a path or as systemd's `slice:prefix:name`.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub cgroups_path: Option<String>,
    /// Namespaces to make or to join. A type that is not listed is the runtime's own.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub namespaces: Vec<Namespace>,
    /// Devices to make.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub devices: Vec<Device>,
    /// Network devices to move into the container, by their name on the host.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// The system call filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Mount propagation of the root: `shared`, `slave`, `private`, `unbindable`, each also with `r` before.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub rootfs_propagation: Option<String>,
    /// Paths made unreadable.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub readonly_paths: Vec<String>,
    /// The SELinux label of mounts.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub mount_label: Option<String>,
    /// Intel Resource Director Technology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA memory policy, `set_mempolicy(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain, `personality(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// Offsets of the time namespace, by clock: `monotonic`, `boottime`.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

/// One line of `/proc/<pid>/uid_map`, `user_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first ID inside.
    #[serde(rename = "containerID", default, deserialize_with = "go::null")]
    pub container_id: u32,
    /// The first ID outside.
    #[serde(rename = "hostID", default, deserialize_with = "go::null")]
    pub host_id: u32,
    /// How many.
    #[serde(default, deserialize_with = "go::null")]
    pub size: u32,
}

/// A namespace to make, or with `path` to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Which.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// An existing one to join, absolute.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub path: Option<String>,
}

impl Namespace {
    /// A new namespace.
    pub fn new(kind: NamespaceType) -> Self {
        Namespace { kind, path: None }
    }

    /// An existing namespace.
    pub fn join(kind: NamespaceType, path: impl Into<String>) -> Self {
        Namespace {
            kind,
            path: Some(path.into()),
        }
    }
}

go::closed_enum! {
    /// A kind of namespace, `namespaces(7)`.
    pub enum NamespaceType in "linux.namespaces[].type" {
        /// Process IDs.
        Pid = "pid",
        /// Network.
        Network = "network",
        /// Mounts.
        Mount = "mount",
        /// System V IPC and POSIX message queues.
        Ipc = "ipc",
        /// Host and domain name.
        Uts = "uts",
        /// User and group IDs, capabilities.
        User = "user",
        /// Cgroup root.
        Cgroup = "cgroup",
        /// Monotonic and boot-time clocks.
        Time = "time",
    }
}

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Where, inside the container.
    pub path: String,
    /// The kind of node.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// Major number; no meaning for a FIFO.
    #[serde(default, deserialize_with = "go::null")]
    pub major: i64,
    /// Minor number; no meaning for a FIFO.
    #[serde(default, deserialize_with = "go::null")]
    pub minor: i64,
    /// Permission bits; 0666 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// The owner; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

go::closed_enum! {
    /// A kind of device node, `mknod(1)`; `a` (all) is for cgroup rules only.
    pub enum DeviceType in "device type" {
        /// All: only in `linux.resources.devices`.
        All = "a",
        /// Character device.
        Char = "c",
        /// Block device.
        Block = "b",
        /// Unbuffered character device: as `c`.
        Unbuffered = "u",
        /// FIFO.
        Fifo = "p",
    }
}

/// A network device to move into the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetDevice {
    /// The name inside; the same when absent.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub name: Option<String>,
}

/// Intel Resource Director Technology, `resctrl`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// The class of service.
    #[serde(
        rename = "closID",
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub clos_id: Option<String>,
    /// Lines for the `schemata` file.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub schemata: Vec<String>,
    /// A line for the L3 cache.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub l3_cache_schema: Option<String>,
    /// A line for the memory bandwidth.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub mem_bw_schema: Option<String>,
    /// Make a monitoring group.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub enable_monitoring: bool,
    /// Up to version 1.2: cache monitoring.
    #[serde(
        rename = "enableCMT",
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub enable_cmt: bool,
    /// Up to version 1.2: bandwidth monitoring.
    #[serde(
        rename = "enableMBM",
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub enable_mbm: bool,
}

/// NUMA memory policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// The mode.
    pub mode: MemoryPolicyMode,
    /// A node list, `0-3,7`.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub nodes: String,
    /// Flags.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub flags: Vec<MemoryPolicyFlag>,
}

go::closed_enum! {
    /// A mode of `set_mempolicy(2)`.
    pub enum MemoryPolicyMode in "linux.memoryPolicy.mode" {
        /// The system's default.
        Default = "MPOL_DEFAULT",
        /// Only these nodes.
        Bind = "MPOL_BIND",
        /// In turn.
        Interleave = "MPOL_INTERLEAVE",
        /// In turn, by weight.
        WeightedInterleave = "MPOL_WEIGHTED_INTERLEAVE",
        /// One node first.
        Preferred = "MPOL_PREFERRED",
        /// Several nodes first.
        PreferredMany = "MPOL_PREFERRED_MANY",
        /// The local node first.
        Local = "MPOL_LOCAL",
    }
}

go::closed_enum! {
    /// A flag of `set_mempolicy(2)`.
    pub enum MemoryPolicyFlag in "linux.memoryPolicy.flags[]" {
        /// NUMA balancing.
        NumaBalancing = "MPOL_F_NUMA_BALANCING",
        /// Nodes are relative to the cpuset.
        RelativeNodes = "MPOL_F_RELATIVE_NODES",
        /// Nodes are absolute.
        StaticNodes = "MPOL_F_STATIC_NODES",
    }
}

/// Execution domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personality {
    /// The domain.
    pub domain: PersonalityDomain,
    /// Flags; the specification defines none.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub flags: Vec<String>,
}

go::closed_enum! {
    /// A domain of `personality(2)`.
    pub enum PersonalityDomain in "linux.personality.domain" {
        /// `PER_LINUX`.
        Linux = "LINUX",
        /// `PER_LINUX32`.
        Linux32 = "LINUX32",
    }
}

/// The offset of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub secs: i64,
    /// Nanoseconds.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub nanosecs: u32,
}
