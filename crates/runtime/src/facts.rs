//! What the plan needs to know of the host, read once before planning.

use std::fs;

use crate::cgroup::Host as CgroupHost;
use crate::{Result, error::Context};

/// Facts about the host and the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Cgroup hierarchies.
    pub cgroup: CgroupHost,
    /// The kernel's highest capability number.
    pub last_cap: u32,
    /// The caller lacks root's rights over the host: other uid than 0, or inside a user namespace.
    pub rootless: bool,
    /// Effective uid of the caller.
    pub euid: u32,
    /// Effective gid of the caller.
    pub egid: u32,
    /// AppArmor confines new programs.
    pub apparmor: bool,
    /// SELinux does.
    pub selinux: bool,
}

impl HostFacts {
    /// Reads them.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn probe() -> Result<Self> {
        let last_cap = fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .on("read", "/proc/sys/kernel/cap_last_cap")?;
        let euid = rustix::process::geteuid().as_raw();
        Ok(Self {
            cgroup: CgroupHost::probe()?,
            last_cap: last_cap.trim().parse().unwrap_or(40),
            rootless: euid != 0 || in_user_namespace()?,
            euid,
            egid: rustix::process::getegid().as_raw(),
            apparmor: fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|s| s.first() == Some(&b'Y')),
            selinux: fs::metadata("/sys/fs/selinux/enforce").is_ok(),
        })
    }
}

/// Whether the caller's user namespace maps anything but all ids to themselves.
pub(crate) fn in_user_namespace() -> Result<bool> {
    let map = fs::read_to_string("/proc/self/uid_map").on("read", "/proc/self/uid_map")?;
    Ok(map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}
