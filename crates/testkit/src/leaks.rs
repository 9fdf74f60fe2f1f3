//! A guard that finds what a test left behind in the kernel.
//!
//! The machine is shared, so only things that carry the test's own prefix in their name count.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What existed before the test; [`Leaks::assert_none`] compares.
#[derive(Debug)]
pub struct Leaks {
    prefixes: Vec<String>,
    before: BTreeSet<String>,
}

impl Leaks {
    /// Remembers the mounts, pinned namespaces, links, cgroups, nftables tables and processes with one of `prefixes` in their name.
    pub fn watch(prefixes: &[&str]) -> Leaks {
        let prefixes: Vec<String> = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        let before = snapshot(&prefixes);
        Leaks { prefixes, before }
    }

    /// What exists now and did not before, one line each.
    pub fn found(&self) -> Vec<String> {
        snapshot(&self.prefixes)
            .difference(&self.before)
            .cloned()
            .collect()
    }

    /// Panics with a list when anything remains after a grace of five seconds (the kernel removes links and cgroups late).
    #[track_caller]
    pub fn assert_none(&self) {
        let clean = crate::process::eventually(Duration::from_secs(5), || self.found().is_empty());
        assert!(clean, "left behind:\n  {}", self.found().join("\n  "));
    }
}

fn snapshot(prefixes: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let ours = |text: &str| prefixes.iter().any(|prefix| text.contains(prefix.as_str()));
    for line in fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
    {
        if ours(line) {
            // Without the ids, which change when a mount is moved, and without the options.
            let fields: Vec<&str> = line.split(' ').collect();
            found.insert(format!(
                "mount {} of {}",
                fields.get(4).unwrap_or(&""),
                fields.get(3).unwrap_or(&"")
            ));
        }
    }
    for name in names(Path::new("/sys/class/net"))
        .into_iter()
        .filter(|name| ours(name))
    {
        found.insert(format!("link {name}"));
    }
    cgroups(Path::new("/sys/fs/cgroup"), 0, &ours, &mut found);
    processes(&ours, &mut found);
    nft_tables(&ours, &mut found);
    found
}

/// Processes with the prefix in their command line, except this one and those above it.
fn processes(ours: &impl Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    let mut own = BTreeSet::new();
    let mut pid = std::process::id();
    while pid > 1 && own.insert(pid) {
        pid = parent(pid).unwrap_or(0);
    }
    for name in names(Path::new("/proc")) {
        let Ok(pid) = name.parse::<u32>() else {
            continue;
        };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if !own.contains(&pid) && ours(&command) {
            found.insert(format!("process {pid}: {}", command.trim_end()));
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim()
        .parse()
        .ok()
}

/// Cgroup directories of every hierarchy; deep enough for a container under a parent under a process's own cgroup.
fn cgroups(
    folder: &Path,
    depth: usize,
    ours: &impl Fn(&str) -> bool,
    found: &mut BTreeSet<String>,
) {
    if depth > 6 {
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        let path = entry.path();
        if ours(&entry.file_name().to_string_lossy()) {
            found.insert(format!("cgroup {}", path.display()));
        }
        cgroups(&path, depth + 1, ours, found);
    }
}

fn nft_tables(ours: &impl Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    let Some(nft) = crate::skips::program("nft") else {
        return;
    };
    let Ok(output) = std::process::Command::new(nft)
        .args(["list", "tables"])
        .output()
    else {
        return;
    };
    for line in String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| ours(line))
    {
        found.insert(format!("nftables {line}"));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .map(|entries| entries.flatten().collect::<Vec<_>>())
        .unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_left_behind_is_seen() {
        let name = format!("hull-leaks-{}", std::process::id());
        let leaks = Leaks::watch(&[&name]);
        assert_eq!(leaks.found(), Vec::<String>::new());
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line", &name])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh");
        assert!(
            crate::process::eventually(Duration::from_secs(5), || leaks.found().len() == 1),
            "{:?}",
            leaks.found()
        );
        drop(child.stdin.take());
        child.wait().expect("sh ends with its input");
        leaks.assert_none();
    }
}
