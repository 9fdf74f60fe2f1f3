//! What a case that panicked, or a whole run that was killed, leaves in the kernel; and its removal.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hull_engine::EngineOptions;
use hull_testkit::process::eventually;

/// File below the root that tells a later run whose debris is there.
const RECORD: &str = "owner";

/// Names of what one engine makes; dropped, it removes whatever of it is still there.
#[derive(Debug)]
pub struct Debris {
    root: PathBuf,
    instance: String,
    cgroup_parent: String,
}

impl Debris {
    pub fn new(root: &Path, options: &EngineOptions) -> Debris {
        let debris = Debris {
            root: root.to_owned(),
            instance: options.instance.clone(),
            cgroup_parent: options.cgroup_parent.clone().unwrap(),
        };
        let text = format!(
            "{} {} {}",
            std::process::id(),
            debris.instance,
            debris.cgroup_parent
        );
        std::fs::write(root.join(RECORD), text).unwrap();
        debris
    }

    /// Removes what runs that were killed have left.
    pub fn sweep_dead(roots: &Path) {
        for root in entries(roots) {
            let text = std::fs::read_to_string(root.join(RECORD)).unwrap_or_default();
            let [pid, instance, cgroup_parent] = text.split(' ').collect::<Vec<_>>()[..] else {
                continue;
            };
            if instance.starts_with(super::fixture::PREFIX)
                && !Path::new("/proc").join(pid).exists()
            {
                drop(Debris {
                    root: root.clone(),
                    instance: instance.to_owned(),
                    cgroup_parent: cgroup_parent.to_owned(),
                });
                let _ = std::fs::remove_dir_all(&root);
            }
        }
    }

    /// Removes what an engine leaves when it ends: its bridge, its tables, and the parent of its containers' cgroups, which is otherwise
    /// shared.
    pub fn remove_kept(&self) {
        quietly("ip", &["link", "del", &format!("{}b", self.instance)]);
        for family in ["ip", "ip6", "inet", "bridge"] {
            for line in quietly("nft", &["list", "tables", family]).lines() {
                let table = line.split(' ').next_back().unwrap_or_default();
                if table.contains(&self.instance) {
                    quietly("nft", &["delete", "table", family, table]);
                }
            }
        }
        for hierarchy in entries("/sys/fs/cgroup") {
            let _ = std::fs::remove_dir(hierarchy.join(&self.cgroup_parent));
        }
    }

    /// Shims of this root: their folder is one of their words.
    fn shims(&self) -> Vec<i32> {
        let below = self.root.display().to_string();
        entries("/proc")
            .filter_map(|process| {
                let words = std::fs::read(process.join("cmdline")).ok()?;
                let words = String::from_utf8_lossy(&words).into_owned();
                let ours = words.starts_with("hull-shim") && words.contains(&below);
                ours.then(|| process.file_name()?.to_str()?.parse().ok())
                    .flatten()
            })
            .collect()
    }
}

/// Paths of what is in a folder; none where there is no such folder.
fn entries(folder: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path())
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split(' ').filter_map(|pid| pid.parse().ok()).collect()
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn quietly(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

impl Drop for Debris {
    fn drop(&mut self) {
        // The containers first: their shims tidy up after them.
        self.shims().into_iter().flat_map(children).for_each(kill);
        eventually(Duration::from_secs(2), || self.shims().is_empty());
        self.shims().into_iter().for_each(kill);
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for target in table.lines().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(target).starts_with(&self.root) {
                let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
        let alias = format!("hull:{}", self.instance);
        for link in entries("/sys/class/net") {
            let said = std::fs::read_to_string(link.join("ifalias")).unwrap_or_default();
            if let (true, Some(name)) = (said.trim() == alias, link.file_name()) {
                quietly("ip", &["link", "del", &name.to_string_lossy()]);
            }
        }
        for hierarchy in entries("/sys/fs/cgroup") {
            for group in entries(hierarchy.join(&self.cgroup_parent)) {
                let _ = std::fs::remove_dir(group);
            }
        }
        self.remove_kept();
    }
}
