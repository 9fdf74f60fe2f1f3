//! The runtime specification 1.3 for Linux: the bundle's `config.json`, a container's state, and what a runtime
//! reports that it can do. Sections for other systems are ignored when read.
//!
//! Names follow `specs-go/config.go` without its `Linux` prefix; numbers have Go's ranges.

mod features;
mod hooks;
mod linux;
mod process;
mod resources;
mod seccomp;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::go;

pub use features::{
    CgroupFeatures, Enabled, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures,
    MountExtensions, SeccompFeatures,
};
pub use hooks::{Hook, HookKind, Hooks};
pub use linux::{
    Device, DeviceType, IdMapping, IntelRdt, Linux, MemoryPolicy, MemoryPolicyFlag,
    MemoryPolicyMode, Namespace, NamespaceType, NetDevice, Personality, PersonalityDomain,
    TimeOffset,
};
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, IoPriorityClass, Process, Rlimit,
    Scheduler, SchedulerFlag, SchedulerPolicy, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceCgroup, HugepageLimit, InterfacePriority, Memory, NetworkClass, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Arch, Seccomp, SeccompAction, SeccompArg, SeccompFlag, SeccompOp, Syscall};

/// The version of the specification that these types describe.
pub const VERSION: &str = "1.3.0";

/// A container's configuration, `config.json` of a bundle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of the specification that this document follows.
    pub oci_version: String,
    /// The program. Mandatory for `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name inside the UTS namespace.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub hostname: Option<String>,
    /// The NIS domain name inside the UTS namespace.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub domainname: Option<String>,
    /// Mounts in the order in which they are made.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the life cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free metadata.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What is particular to Linux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Mounted read-only inside.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where, inside the container.
    pub destination: String,
    /// The file system's type; `bind` or absent for bind mounts.
    #[serde(
        rename = "type",
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub kind: Option<String>,
    /// A device, a path on the host, or a dummy.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub source: Option<String>,
    /// Options in `fstab(5)` form, with the specification's own.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub options: Vec<String>,
    /// User mappings of an ID-mapped mount.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uid_mappings: Vec<IdMapping>,
    /// Group mappings of an ID-mapped mount.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gid_mappings: Vec<IdMapping>,
}

go::closed_enum! {
    /// Where a container stands in its life (specification `runtime.md`, "State"), with runc's `paused`.
    pub enum Status in "state.status" {
        /// `create` is under way.
        Creating = "creating",
        /// Waits for `start`.
        Created = "created",
        /// The user's program runs.
        Running = "running",
        /// Frozen by the cgroup freezer (runc's addition).
        Paused = "paused",
        /// The program has ended.
        Stopped = "stopped",
    }
}

/// A container's state, as `state` prints it and hooks read it on stdin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification that this document follows.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Its phase.
    pub status: Status,
    /// The init process, in the reader's PID namespace; absent when stopped.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub pid: i32,
    /// The bundle's absolute path.
    pub bundle: String,
    /// The annotations of the configuration.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// What is sent to a seccomp listener together with the notify descriptor (`config-linux.md`, "The Container Process
/// State").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProcessState {
    /// The version of the specification that this document follows.
    pub oci_version: String,
    /// Names of the descriptors sent along, in order: `seccompFd`.
    #[serde(default, deserialize_with = "go::null")]
    pub fds: Vec<String>,
    /// The process that is filtered, in the runtime's PID namespace.
    pub pid: i32,
    /// `linux.seccomp.listenerMetadata`.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub metadata: Option<String>,
    /// The container's state.
    pub state: State,
}

impl ContainerProcessState {
    /// The name of the notify descriptor in [`ContainerProcessState::fds`].
    pub const SECCOMP_FD: &'static str = "seccompFd";
}
