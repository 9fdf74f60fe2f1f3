//! What the runtime remembers of a container: `<state root>/<id>/state.json`, the compiled filter beside it,
//! and the socket by which a created container is started.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::{Hook, State, Status};

use crate::cgroup::CgroupPaths;
use crate::criu::Outside;
use crate::error::Context;
use crate::resctrl::Group;
use crate::seccomp::Listener;
use crate::{Error, Result};

/// Longest name of a container.
const ID_MAX: usize = 1024;
/// Largest state file that is read.
const STATE_MAX: u64 = 16 << 20;
/// The compiled seccomp filter, for exec.
const FILTER: &str = "filter.bpf";
/// The socket on which a created container waits.
const START: &str = "start.sock";

/// A container's record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// Version of the specification.
    pub oci_version: String,
    /// Name.
    pub id: String,
    /// Bundle, absolute.
    pub bundle: PathBuf,
    /// Root file system, as the bundle names it.
    pub rootfs: String,
    /// Init.
    pub pid: i32,
    /// When init was born, in the kernel's ticks since boot: tells it from a later process of the same pid.
    pub start_time: u64,
    /// When the container was created, RFC 3339.
    pub created: String,
    /// Who created it.
    pub owner: u32,
    /// Cgroups; none for a rootless container without delegation.
    pub cgroup: CgroupPaths,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Namespaces of init that differ from the runtime's, as `CLONE_NEW*`.
    pub namespaces: u64,
    /// It has a PID namespace of its own: when init ends, all its processes do.
    pub own_pid_namespace: bool,
    /// Its groups in resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resctrl: Option<Group>,
    /// `SECCOMP_FILTER_FLAG_*` of the filter, if there is one.
    pub seccomp_flags: Option<u64>,
    /// Who answers its notified calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seccomp_listener: Option<Listener>,
    /// Its processes get session keyrings of their own.
    pub new_keyring: bool,
    /// Hooks after start.
    pub poststart: Vec<Hook>,
    /// Hooks after deletion.
    pub poststop: Vec<Hook>,
    /// What it has of the host, for a checkpoint.
    #[serde(default)]
    pub outside: Outside,
}

/// A container's directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The directory of container `id`, which need not exist.
    pub(crate) fn new(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        Ok(Self {
            path: root.join(id),
        })
    }

    /// Makes it; the name is taken when it exists.
    pub(crate) fn create(root: &Path, id: &str) -> Result<Self> {
        let dir = Self::new(root, id)?;
        let make = |path: &Path, all: bool| {
            fs::DirBuilder::new()
                .recursive(all)
                .mode(0o700)
                .create(path)
        };
        match make(&dir.path, false) {
            Ok(()) => Ok(dir),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(Error::Exists(id.into())),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                make(root, true).on("make", root)?;
                make(&dir.path, false).on("make", &dir.path)?;
                Ok(dir)
            }
            Err(e) => Err(e).on("make", &dir.path),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let file = self.path.join("state.json");
        let text = serde_json::to_vec(record).map_err(|e| Error::Io {
            operation: "encode",
            object: file.clone(),
            cause: e.into(),
        })?;
        // Whole or not at all, for those who list containers meanwhile.
        let new = self.path.join("state.json.new");
        fs::write(&new, text).on("write", &new)?;
        fs::rename(&new, &file).on("rename", &new)
    }

    pub(crate) fn read(&self, id: &str) -> Result<Record> {
        use std::io::Read;
        let file = self.path.join("state.json");
        let mut text = Vec::new();
        match fs::File::open(&file) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(Error::NotFound(id.into())),
            other => other
                .on("open", &file)?
                .take(STATE_MAX)
                .read_to_end(&mut text),
        }
        .on("read", &file)?;
        crate::error::parse(file, &text)
    }

    pub(crate) fn write_filter(&self, filter: &[u8]) -> Result<()> {
        let file = self.path.join(FILTER);
        fs::write(&file, filter).on("write", file)
    }

    pub(crate) fn read_filter(&self) -> Result<Vec<u8>> {
        let file = self.path.join(FILTER);
        fs::read(&file).on("read", file)
    }

    pub(crate) fn start_socket(&self) -> PathBuf {
        self.path.join(START)
    }

    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.on("remove", &self.path),
        }
    }
}

/// Names are directory names: runc's characters, and nothing that is a path.
fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > ID_MAX || id == "." || id == ".." || !id.chars().all(allowed) {
        return Err(Error::BadId(id.into()));
    }
    Ok(())
}

/// When process `pid` was born, and whether it is dead already (a zombie); `None` when it is gone.
///
/// Field 22 of `/proc/PID/stat`, counted from behind the name, which may contain anything.
pub(crate) fn birth(pid: i32) -> Result<Option<(u64, bool)>> {
    let path = format!("/proc/{pid}/stat");
    let text = match fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        other => other.on("read", &path)?,
    };
    let text = String::from_utf8_lossy(&text);
    let fields = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace());
    let parsed = fields.and_then(|mut fields| {
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        Some((start, matches!(state, "Z" | "X" | "x")))
    });
    match parsed {
        Some(birth) => Ok(Some(birth)),
        None => Err(io::Error::from(ErrorKind::InvalidData)).on("read", path),
    }
}

impl Record {
    /// Whether init is alive, and is the process that was created.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn alive(&self) -> Result<bool> {
        let born = birth(self.pid)?;
        Ok(matches!(born, Some((start, false)) if start == self.start_time))
    }

    /// The phase, from what the kernel says now.
    ///
    /// # Errors
    /// When `/proc` or the freezer cannot be read.
    pub(crate) fn status(&self, dir: &StateDir) -> Result<Status> {
        if !self.alive()? {
            return Ok(Status::Stopped);
        }
        if dir.start_socket().exists() {
            return Ok(Status::Created);
        }
        if self.cgroup.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(Status::Running)
    }

    /// The state as `state` prints it and hooks get it.
    pub(crate) fn state(&self, status: Status) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: self.annotations.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        for good in ["a", "A-b_c.d+e", "0123"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0"] {
            check_id(bad).unwrap_err();
        }
    }

    #[test]
    fn this_process_was_born_and_lives() {
        let pid = std::process::id() as i32;
        let (start, dead) = birth(pid).unwrap().unwrap();
        assert!(start > 0 && !dead);
        assert_eq!(birth(i32::MAX).unwrap(), None);
    }

    #[test]
    fn a_name_is_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("deep/er");
        let dir = StateDir::create(&root, "x").unwrap();
        assert!(matches!(
            StateDir::create(&root, "x"),
            Err(Error::Exists(_))
        ));
        assert!(matches!(dir.read("x"), Err(Error::NotFound(_))));
        dir.remove().unwrap();
        dir.remove().unwrap();
    }
}
