//! What callers pass in and get back: create, exec and their handles.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hull_oci::runtime::{Mount, Process, Spec};

use crate::cgroup::CgroupPaths;
use crate::start::InitHandle;

/// Who makes the cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// The runtime, by mkdir.
    #[default]
    Cgroupfs,
    /// systemd, by a transient scope.
    Systemd,
}

/// What becomes of the program's standard streams.
#[derive(Debug, Default)]
pub enum Stdio {
    /// They are the caller's own 0, 1 and 2.
    #[default]
    Inherit,
    /// These three.
    Fds {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A new pseudoterminal of the container's devpts, whose master is handed back.
    Terminal {
        /// Columns and rows; `process.consoleSize` when absent.
        size: Option<(u16, u16)>,
    },
}

/// How the waiting init will be told to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartBy {
    /// By [`InitHandle::start`] of this very process; init ends if the caller does before that.
    #[default]
    Handle,
    /// By [`crate::start`] of any process, through a socket in the state directory (runc's `create`, `start`).
    Socket,
}

/// Input of [`crate::create`].
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// The container's name: letters, digits, `_`, `+`, `-`, `.`.
    pub id: &'a str,
    /// The bundle's directory, absolute.
    pub bundle: &'a Path,
    /// The configuration.
    pub spec: &'a Spec,
    /// Directory that holds one directory of state per container.
    pub state_root: &'a Path,
    /// The root file system as mounts (one; `destination` empty), made detached and attached in the container's
    /// own mount namespace only. Empty: the directory `spec.root.path`.
    pub rootfs: &'a [Mount],
    /// The standard streams.
    pub stdio: Stdio,
    /// Who makes the cgroups.
    pub cgroup_manager: CgroupManager,
    /// File that receives the pid.
    pub pid_file: Option<&'a Path>,
    /// Move the root instead of pivot_root(2), for a host that runs from an initramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 up the program inherits.
    pub preserve_fds: u32,
    /// Who starts it.
    pub start_by: StartBy,
}

/// Output of [`crate::create`].
#[derive(Debug)]
pub struct Created {
    /// Init's pid as the caller sees it.
    pub pid: i32,
    /// Init's pidfd. Init is the caller's child: the caller reaps it.
    pub pidfd: OwnedFd,
    /// The terminal's master, for [`Stdio::Terminal`].
    pub console_master: Option<OwnedFd>,
    /// Where its cgroups are.
    pub cgroup: CgroupPaths,
    /// Lets init go on.
    pub init: InitHandle,
}

/// Input of [`crate::exec`].
#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// As [`CreateOptions::state_root`].
    pub state_root: &'a Path,
    /// The container's name.
    pub id: &'a str,
    /// The process.
    pub process: &'a Process,
    /// The standard streams.
    pub stdio: Stdio,
    /// File that receives the pid.
    pub pid_file: Option<&'a Path>,
    /// How many descriptors from 3 up the program inherits.
    pub preserve_fds: u32,
    /// A cgroup below the container's own.
    pub sub_cgroup: Option<PathBuf>,
    /// Also in a paused container.
    pub ignore_paused: bool,
}

/// Output of [`crate::exec`].
#[derive(Debug)]
pub struct Execed {
    /// Its pid as the caller sees it.
    pub pid: i32,
    /// Its pidfd. It is the caller's child: the caller reaps it.
    pub pidfd: OwnedFd,
    /// The terminal's master, for [`Stdio::Terminal`].
    pub console_master: Option<OwnedFd>,
}
