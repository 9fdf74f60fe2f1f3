//! Seccomp: Docker's default profile, Docker's profile files, and the compiler from the runtime spec's rules to a BPF filter.
//!
//! The way is `docker` (a profile with conditions) -> [`hull_oci::runtime::Seccomp`] (names) -> `policy` (numbers) -> `compile`
//! (a [`Program`]). Installing the program is the runtime's, through `hull_sys::seccomp::set_filter`.

mod arch;
pub mod bpf;
mod compile;
mod default;
mod docker;
mod evaluate;
mod policy;
pub mod syscalls;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use bpf::Program;
pub use default::default_profile;
pub use docker::{Kernel, from_docker_json};
pub use evaluate::evaluate;

use hull_oci::runtime as oci;

/// Compiles a profile for a machine of architecture `native`, whose own rules apply whether `architectures` names it or not.
///
/// See the module `policy` for the meaning of rules. Names of system calls that are not known are ignored, as runc does.
pub fn compile(profile: &oci::Seccomp, native: Arch) -> Result<Program, Error> {
    compile::program(&policy::Policy::new(profile, native)?)
}

/// Whether the filter hands calls to a listener, so that it has to be installed with `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub fn needs_listener(profile: &oci::Seccomp) -> bool {
    profile
        .syscalls
        .iter()
        .any(|syscall| syscall.action == oci::SeccompAction::Notify)
}

/// Why a profile was refused. Fields are named as in `config.json`, below `linux.seccomp`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule with an empty name.
    #[error("linux.seccomp.syscalls[{rule}].names: empty string is not a valid syscall")]
    EmptyName {
        /// Index of the rule.
        rule: usize,
    },
    /// A condition on an argument that system calls do not have.
    #[error(
        "linux.seccomp.syscalls[{rule}].args[{arg}].index: {index} is not an argument's index (0 to 5)"
    )]
    ArgumentIndex {
        /// Index of the rule.
        rule: usize,
        /// Index of the condition.
        arg: usize,
        /// What it says.
        index: u32,
    },
    /// An errno or trace message that does not fit.
    #[error("linux.seccomp.{field}: {value} is more than {most}")]
    Data {
        /// `defaultErrnoRet` or `syscalls[n].errnoRet`.
        field: String,
        /// What it says.
        value: u32,
        /// The greatest that is allowed.
        most: u32,
    },
    /// Everything to the listener, the listener's own setup included.
    #[error("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyByDefault,
    /// The runtime writes to the socket over which the listener gets its descriptor.
    #[error("linux.seccomp.syscalls[{rule}]: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite {
        /// Index of the rule.
        rule: usize,
    },
    /// The kernel takes at most 4096 instructions.
    #[error(
        "linux.seccomp: the filter would have {0} instructions, and the kernel takes at most 4096"
    )]
    TooLong(usize),
    /// A profile file that is not JSON, or not a profile.
    #[error("Decoding seccomp profile failed: {0}")]
    Json(#[source] serde_json::Error),
    /// A profile file that contradicts itself; Docker's sentences.
    #[error("{0}")]
    Contradiction(&'static str),
    /// `minKernel` that is not `<major>.<minor>`.
    #[error("invalid kernel version: \"{0}\": it should be two numbers, such as \"4.8\"")]
    KernelVersion(String),
}
