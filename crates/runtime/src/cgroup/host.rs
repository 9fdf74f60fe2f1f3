//! The host's cgroup hierarchies, as far as this process sees them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::Context;

const ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Versions in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Version 1 only.
    V1,
    /// Controllers in version 1, and a cgroup2 beside them.
    Hybrid,
    /// Version 2 only.
    V2,
}

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HierarchyInfo {
    /// Directory name below `/sys/fs/cgroup`; empty for a cgroup2 that is mounted there itself.
    pub name: String,
    /// As in `/proc/self/cgroup`: `cpu,cpuacct`, `name=systemd`, or empty for cgroup2.
    pub controllers: String,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The caller's own cgroup in it, from its root.
    pub own: String,
    /// It is cgroup2.
    pub unified: bool,
}

impl HierarchyInfo {
    /// Data for mounting it anew; `None` for cgroup2.
    #[must_use]
    pub fn mount_data(&self) -> Option<String> {
        if self.unified {
            None
        } else if self.controllers.starts_with("name=") {
            Some(format!("none,{}", self.controllers))
        } else {
            Some(self.controllers.clone())
        }
    }

    /// Aliases of a hierarchy with several controllers, as `cpu` and `cpuacct` for `cpu,cpuacct`.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        let single = |c: &&str| *c != self.name && !c.contains('=');
        let names = self.controllers.split(',').filter(|c| !c.is_empty());
        names.filter(single).map(str::to_owned).collect()
    }
}

/// All hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    mode: Mode,
    hierarchies: Vec<HierarchyInfo>,
}

impl Host {
    /// Finds them at their usual places.
    ///
    /// # Errors
    /// When `/proc/self/cgroup` cannot be read.
    pub fn probe() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/cgroup").on("read", "/proc/self/cgroup")?;
        let is_cgroup2 =
            |path: &Path| rustix::fs::statfs(path).is_ok_and(|s| s.f_type == CGROUP2_SUPER_MAGIC);
        let whole = is_cgroup2(Path::new(ROOT));
        let exists = |path: &Path| path.join("cgroup.procs").exists();
        Ok(Self::parse(&text, whole, is_cgroup2, exists))
    }

    /// The pure part of [`Host::probe`].
    fn parse(
        text: &str,
        whole: bool,
        is_cgroup2: impl Fn(&Path) -> bool,
        exists: impl Fn(&Path) -> bool,
    ) -> Self {
        let mut hierarchies = Vec::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else {
                continue;
            };
            let unified = controllers.is_empty();
            let name = match controllers.strip_prefix("name=") {
                Some(name) => name,
                None if unified && !whole => "unified",
                None => controllers,
            };
            let mount = Path::new(ROOT).join(name);
            let there = if unified {
                is_cgroup2(&mount)
            } else {
                !whole && exists(&mount)
            };
            if there {
                hierarchies.push(HierarchyInfo {
                    name: name.to_owned(),
                    controllers: controllers.to_owned(),
                    mount,
                    own: own.to_owned(),
                    unified,
                });
            }
        }
        let has_unified = hierarchies.iter().any(|h| h.unified);
        let mode = match (whole, has_unified) {
            (true, _) => Mode::V2,
            (false, true) => Mode::Hybrid,
            (false, false) => Mode::V1,
        };
        Self { mode, hierarchies }
    }

    /// Versions in use.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The hierarchies that are mounted.
    #[must_use]
    pub fn hierarchies(&self) -> &[HierarchyInfo] {
        &self.hierarchies
    }

    /// A host with cgroup2 only, for plans in tests.
    #[cfg(test)]
    pub(crate) fn v2() -> Self {
        Self::parse("0::/user.slice\n", true, |_| true, |_| false)
    }

    /// A host with cgroup v1 and a cgroup2 beside, for plans in tests.
    #[cfg(test)]
    pub(crate) fn hybrid() -> Self {
        let text = "3:cpu,cpuacct:/\n2:name=systemd:/\n1:memory:/own\n0::/\n";
        Self::parse(text, false, |_| true, |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_told_apart() {
        let host = Host::hybrid();
        assert_eq!(host.mode(), Mode::Hybrid);
        let names: Vec<_> = host.hierarchies().iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names, ["cpu,cpuacct", "systemd", "memory", "unified"]);
        assert_eq!(host.hierarchies()[0].links(), ["cpu", "cpuacct"]);
        assert_eq!(
            host.hierarchies()[1].mount_data().as_deref(),
            Some("none,name=systemd")
        );
        assert!(host.hierarchies()[2].links().is_empty());
        let host = Host::v2();
        assert_eq!(host.mode(), Mode::V2);
        assert_eq!(host.hierarchies()[0].mount, Path::new("/sys/fs/cgroup/"));
    }
}
