//! OCI runtime: spec to plan to init; rootfs, cgroups, exec, hooks, checkpoint.
//!
//! A container is created in two halves. [`plan::plan`] turns the specification into an [`plan::InitPlan`], a
//! value; [`create`] makes cgroups, opens what the plan names, clones init and answers it, and init
//! (module `init`) interprets the plan up to execve(2). State lies in one directory per container.
//!
//! [`create`] and [`exec`] clone the calling process, so **their callers are single-threaded**: the shim, or the
//! program with runc's command line ([`cli_main`]).
#![forbid(unsafe_code)]

pub mod cgroup;
mod cli;
mod create;
mod criu;
mod dbus;
mod error;
mod exec;
mod facts;
mod features;
mod hooks;
mod idmap;
mod init;
mod kit;
mod lifecycle;
mod mount_options;
mod options;
pub mod plan;
mod record;
mod resctrl;
mod seccomp;
mod spawn;
mod start;
mod undo;
pub mod validate;
mod wire;

pub use cli::cli_main;
pub use create::{Preparation, create, prepare};
pub use criu::{
    CheckpointOptions, CriuOptions, ManageCgroups, Outside, RestoreOptions, Restored, checkpoint,
    restore,
};
pub use error::{Error, InitError, Problem, Result};
pub use exec::exec;
pub use facts::HostFacts;
pub use features::features;
pub use lifecycle::{delete, kill, list, pause, ps, resume, state, update};
pub use options::{CgroupManager, CreateOptions, Created, ExecOptions, Execed, StartBy, Stdio};
pub use record::Record;
pub use start::{InitHandle, start};
