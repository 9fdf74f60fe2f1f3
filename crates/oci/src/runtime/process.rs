//! The process section of the configuration (`config.md`, "Process").

use serde::{Deserialize, Serialize};

use crate::go;

/// The program to run, for `start` and for `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Give it a pseudo terminal.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub terminal: bool,
    /// The terminal's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Under which identity.
    #[serde(default, deserialize_with = "go::null")]
    pub user: User,
    /// The program and its arguments.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<String>,
    /// `NAME=value` entries.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// Capability sets; absent leaves them alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits, `setrlimit(2)`.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`, `prctl(2)`.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub no_new_privileges: bool,
    /// The AppArmor profile.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub apparmor_profile: Option<String>,
    /// `/proc/self/oom_score_adj`; absent leaves it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Scheduling, `sched_setattr(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The SELinux process label.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub selinux_label: Option<String>,
    /// I/O priority, `ioprio_set(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// CPU affinity of processes run by `exec`.
    #[serde(
        rename = "execCPUAffinity",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

/// An identity, in the container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The user.
    #[serde(default, deserialize_with = "go::null")]
    pub uid: u32,
    /// The group.
    #[serde(default, deserialize_with = "go::null")]
    pub gid: u32,
    /// The file mode creation mask; absent leaves it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub additional_gids: Vec<u32>,
}

/// The five capability sets of `capabilities(7)`, as `CAP_…` names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// The bounding set.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bounding: Vec<String>,
    /// The effective set.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub effective: Vec<String>,
    /// The inheritable set.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub inheritable: Vec<String>,
    /// The permitted set.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub permitted: Vec<String>,
    /// The ambient set.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ambient: Vec<String>,
}

/// One limit of `setrlimit(2)`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The ceiling; `u64::MAX` is infinity.
    pub hard: u64,
    /// The limit enforced.
    pub soft: u64,
}

/// Attributes of `sched_setattr(2)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// The nice value, for OTHER and BATCH.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub nice: i32,
    /// The static priority, for FIFO and RR.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub priority: i32,
    /// Flags.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub flags: Vec<SchedulerFlag>,
    /// Runtime for DEADLINE, ns.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub runtime: u64,
    /// Deadline for DEADLINE, ns.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub deadline: u64,
    /// Period for DEADLINE, ns.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub period: u64,
}

go::closed_enum! {
    /// A scheduling policy, `sched(7)`.
    pub enum SchedulerPolicy in "process.scheduler.policy" {
        /// Time sharing.
        Other = "SCHED_OTHER",
        /// Real time, first in first out.
        Fifo = "SCHED_FIFO",
        /// Real time, round robin.
        Rr = "SCHED_RR",
        /// Batch.
        Batch = "SCHED_BATCH",
        /// Reserved in the kernel, never implemented.
        Iso = "SCHED_ISO",
        /// Idle.
        Idle = "SCHED_IDLE",
        /// Sporadic tasks with deadlines.
        Deadline = "SCHED_DEADLINE",
    }
}

go::closed_enum! {
    /// A flag of `sched_setattr(2)`.
    pub enum SchedulerFlag in "process.scheduler.flags[]" {
        /// Children get the default policy.
        ResetOnFork = "SCHED_FLAG_RESET_ON_FORK",
        /// Reclaim unused bandwidth of others.
        Reclaim = "SCHED_FLAG_RECLAIM",
        /// Signal on overrun.
        DlOverrun = "SCHED_FLAG_DL_OVERRUN",
        /// Keep the policy.
        KeepPolicy = "SCHED_FLAG_KEEP_POLICY",
        /// Keep the parameters.
        KeepParams = "SCHED_FLAG_KEEP_PARAMS",
        /// Set the minimum utilization.
        UtilClampMin = "SCHED_FLAG_UTIL_CLAMP_MIN",
        /// Set the maximum utilization.
        UtilClampMax = "SCHED_FLAG_UTIL_CLAMP_MAX",
    }
}

/// I/O priority, `ioprio_set(2)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// The class.
    pub class: IoPriorityClass,
    /// 0 (highest) to 7 inside the class.
    #[serde(default, deserialize_with = "go::null")]
    pub priority: i32,
}

go::closed_enum! {
    /// A class of I/O priority.
    pub enum IoPriorityClass in "process.ioPriority.class" {
        /// Real time.
        Rt = "IOPRIO_CLASS_RT",
        /// Best effort.
        Be = "IOPRIO_CLASS_BE",
        /// Idle.
        Idle = "IOPRIO_CLASS_IDLE",
    }
}

/// CPU lists (`0-3,7`) for a process run by `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// Before it enters the container's cgroup.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub initial: Option<String>,
    /// After.
    #[serde(
        rename = "final",
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub final_: Option<String>,
}
