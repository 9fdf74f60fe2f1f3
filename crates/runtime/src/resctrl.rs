//! `linux.intelRdt`: a container's class of service and monitoring group in resctrl
//! (Documentation/arch/x86/resctrl.rst, config-linux.md "IntelRdt").

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hull_oci::runtime::IntelRdt;

use crate::error::Context;
use crate::{Error, Result};

/// Where it is mounted by convention.
pub(crate) const ROOT: &str = "/sys/fs/resctrl";
const FIELD: &str = "linux.intelRdt";
/// Directories of the root that are no classes.
const RESERVED: [&str; 5] = ["info", "mon_data", "mon_groups", ".", ".."];

/// A container's groups, as its record keeps them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Group {
    /// The class's directory.
    class: PathBuf,
    /// It was made for this container, and goes with it.
    made: bool,
    /// The monitoring group below it.
    monitor: Option<PathBuf>,
}

/// What is wrong with a class's name, if anything.
pub(crate) fn bad_name(name: &str) -> Option<&'static str> {
    (name.contains('/') || RESERVED.contains(&name)).then_some("is no name of a class of service")
}

fn refused(reason: String) -> Error {
    Error::Unsupported {
        field: FIELD.into(),
        reason,
    }
}

/// The lines for `schemata`, in the order in which they are written: the later ones win.
fn lines(rdt: &IntelRdt) -> Vec<String> {
    // A bandwidth in the cache's field is dropped: it has its own.
    let cache = rdt.l3_cache_schema.iter().flat_map(|text| text.lines());
    let cache = cache.filter(|line| !line.trim_start().starts_with("MB:"));
    let bandwidth = rdt.mem_bw_schema.iter().flat_map(|text| text.lines());
    let given = cache
        .chain(bandwidth)
        .chain(rdt.schemata.iter().flat_map(|text| text.lines()));
    given
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// `L3:0=ff;1=f` in parts; masks without leading zeros, which the kernel prints.
fn parts(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (resource, list) = line.split_once(':')?;
    let entries = list.split(';').map(|entry| {
        let (domain, value) = entry.split_once('=')?;
        let value = value.trim();
        let short = value.trim_start_matches('0');
        Some((domain.trim(), if short.is_empty() { "0" } else { short }))
    });
    Some((resource.trim(), entries.collect::<Option<_>>()?))
}

/// Whether a class that exists has all that `wanted` asks for.
fn holds(existing: &str, wanted: &str) -> bool {
    let Some((resource, entries)) = parts(wanted) else {
        return false;
    };
    let mut found = existing.lines().filter_map(parts);
    let Some((_, has)) = found.find(|(name, _)| *name == resource) else {
        return false;
    };
    entries.iter().all(|(domain, value)| {
        has.iter()
            .any(|(d, v)| d == domain && v.eq_ignore_ascii_case(value))
    })
}

impl Group {
    /// Makes what the container needs below `root`; on failure nothing is left.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where resctrl is not mounted, has no class left, or has the class with other
    /// settings; the kernel's own reason for settings that it refuses.
    pub(crate) fn create(root: &Path, id: &str, rdt: &IntelRdt) -> Result<Self> {
        if !root.join("schemata").exists() {
            return Err(refused(format!(
                "resctrl is not mounted at {} (the processor may lack Intel RDT)",
                root.display()
            )));
        }
        let class = root.join(rdt.clos_id.as_deref().unwrap_or(id));
        let lines = lines(rdt);
        let exists = class.is_dir();
        match (&rdt.clos_id, exists) {
            (Some(name), false) if lines.is_empty() => {
                return Err(refused(format!(
                    "closID {name:?} does not exist, and no schemata say how to make it"
                )));
            }
            (Some(name), true) => agrees(&class, name, &lines)?,
            _ => {}
        }
        let mut group = Self {
            class,
            made: false,
            monitor: None,
        };
        let settled = group.settle(root, id, rdt, &lines, exists);
        if settled.is_err() {
            // The first error is the one that matters.
            let _ = group.remove();
        }
        settled.map(|()| group)
    }

    fn settle(
        &mut self,
        root: &Path,
        id: &str,
        rdt: &IntelRdt,
        lines: &[String],
        exists: bool,
    ) -> Result<()> {
        if !exists {
            make(root, &self.class)?;
            self.made = true;
        }
        if self.made || rdt.clos_id.is_none() {
            let file = self.class.join("schemata");
            for line in lines {
                // One at a time: the kernel says which it refuses.
                if let Err(e) = fs::write(&file, format!("{line}\n")) {
                    let why = last_status(root).unwrap_or_else(|| e.to_string());
                    return Err(refused(format!("{line:?} is refused: {why}")));
                }
            }
        }
        // Up to version 1.2 two switches, for cache and bandwidth; a group has both.
        if rdt.enable_monitoring || rdt.enable_cmt || rdt.enable_mbm {
            let path = self.class.join("mon_groups").join(id);
            make(root, &path)?;
            self.monitor = Some(path);
        }
        Ok(())
    }

    /// Puts a process in; those that it makes are born there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn attach(&self, pid: i32) -> Result<()> {
        for group in std::iter::once(&self.class).chain(&self.monitor) {
            let file = group.join("tasks");
            fs::write(&file, pid.to_string()).on("write", file)?;
        }
        Ok(())
    }

    /// Removes the monitoring group, and the class if it was made for this container.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn remove(&self) -> Result<()> {
        let class = Some(&self.class).filter(|_| self.made);
        for path in self.monitor.iter().chain(class) {
            match fs::remove_dir(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).on("remove", path);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn agrees(class: &Path, name: &str, lines: &[String]) -> Result<()> {
    let file = class.join("schemata");
    let existing = fs::read_to_string(&file).on("read", &file)?;
    match lines.iter().find(|line| !holds(&existing, line)) {
        Some(line) => Err(refused(format!(
            "closID {name:?} exists with other settings than {line:?}"
        ))),
        None => Ok(()),
    }
}

fn make(root: &Path, path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
            let why = last_status(root).unwrap_or_else(|| "no class or monitor is left".into());
            Err(refused(format!("make {}: {why}", path.display())))
        }
        other => other.on("make", path),
    }
}

/// The kernel's own words for the last refusal.
fn last_status(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("info/last_cmd_status")).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text != "ok")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with what resctrl's root has.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("schemata"), "MB:0=100\nL3:0=fffff\n").unwrap();
        root
    }

    fn rdt(json: serde_json::Value) -> IntelRdt {
        serde_json::from_value(json).unwrap()
    }

    fn class(root: &Path, name: &str, schemata: &str) -> PathBuf {
        let path = root.join(name);
        fs::create_dir_all(path.join("mon_groups")).unwrap();
        fs::write(path.join("schemata"), schemata).unwrap();
        path
    }

    #[test]
    fn a_container_of_its_own_class() {
        let root = tree();
        let asked = rdt(
            serde_json::json!({"l3CacheSchema": "L3:0=f\nMB:0=1", "memBwSchema": "MB:0=50",
            "schemata": ["L2:0=3"]}),
        );
        assert_eq!(lines(&asked), ["L3:0=f", "MB:0=50", "L2:0=3"]);
        let group = Group::create(root.path(), "c1", &asked).unwrap();
        assert!(group.made);
        // The kernel's file takes line by line; this one keeps the last.
        let schemata = fs::read_to_string(root.path().join("c1/schemata")).unwrap();
        assert_eq!(schemata, "L2:0=3\n");
        group.attach(42).unwrap();
        assert_eq!(
            fs::read_to_string(root.path().join("c1/tasks")).unwrap(),
            "42"
        );
        // What resctrl removes with its directory.
        fs::remove_file(root.path().join("c1/tasks")).unwrap();
        fs::remove_file(root.path().join("c1/schemata")).unwrap();
        group.remove().unwrap();
        assert!(!root.path().join("c1").exists());
        group.remove().unwrap();
    }

    #[test]
    fn a_class_that_exists_is_used_and_stays() {
        let root = tree();
        let path = class(root.path(), "gold", "MB:0= 50;1=100\nL3:0=000ff;1=000ff\n");
        let asked = rdt(
            serde_json::json!({"closID": "gold", "l3CacheSchema": "L3:1=FF",
            "schemata": ["MB:0=50"], "enableMonitoring": true}),
        );
        let group = Group::create(root.path(), "c1", &asked).unwrap();
        assert!(!group.made && path.join("mon_groups/c1").is_dir());
        assert!(
            fs::read_to_string(path.join("schemata"))
                .unwrap()
                .contains("L3:0=000ff")
        );
        group.remove().unwrap();
        assert!(path.is_dir() && !path.join("mon_groups/c1").exists());
        let other = rdt(serde_json::json!({"closID": "gold", "schemata": ["L3:0=f"]}));
        let error = Group::create(root.path(), "c1", &other)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "linux.intelRdt: closID \"gold\" exists with other settings than \"L3:0=f\""
        );
    }

    #[test]
    fn what_cannot_be_is_refused_and_leaves_nothing() {
        let root = tree();
        let error = |json| {
            let refused = Group::create(root.path(), "c1", &rdt(json)).unwrap_err();
            refused.to_string()
        };
        let unknown = error(serde_json::json!({"closID": "silver"}));
        assert!(unknown.contains("\"silver\" does not exist"), "{unknown}");
        // No mon_groups in a directory that is not resctrl's.
        error(
            serde_json::json!({"closID": "new", "schemata": ["L3:0=f"], "enableMonitoring": true}),
        );
        let absent = Group::create(&root.path().join("none"), "c1", &IntelRdt::default());
        assert!(
            absent
                .unwrap_err()
                .to_string()
                .contains("resctrl is not mounted at")
        );
        for bad in ["a/b", "..", "info", "mon_groups"] {
            assert!(bad_name(bad).is_some());
        }
        assert!(bad_name("gold").is_none());
    }
}
