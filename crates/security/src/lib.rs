//! What a container may do: capabilities, the seccomp filter, AppArmor and SELinux, and Docker's defaults for all of them.
//!
//! Everything here is a value or computes one, but for asking the running kernel what it has and loading an AppArmor profile.
//! Applying any of it to a process is the runtime's.
#![forbid(unsafe_code)]

pub mod apparmor;
pub mod caps;
pub mod defaults;
pub mod seccomp;
pub mod selinux;

pub use caps::Cap;
