//! Cgroups: where a container's are, how they are made, limited, frozen, killed and removed.
//!
//! Version 1, version 2 and the hybrid of both (v1 controllers beside a cgroup2 without any, as systemd left
//! it) sit behind [`CgroupPaths`], a value that is stored with the container. Files of limits are in `v1` and
//! `v2`, device rules in `devices`, readings in `stats`, units of systemd in `systemd`.

pub mod devices;
mod host;
mod oom;
mod stats;
pub(crate) mod systemd;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hull_oci::runtime::Resources;
use rustix::fs::{Mode as FileMode, OFlags};

use crate::error::Context;
use crate::options::CgroupManager;
use crate::{Error, Result};

pub use host::{HierarchyInfo, Host, Mode};
pub use oom::OomWatch;
pub use stats::{CpuStats, HugetlbStats, IoEntry, MemoryStats, PidsStats, Pressure, Stall, Stats};
pub use systemd::Unit;

/// How long a directory may stay busy with dying processes before removal gives up.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);
/// How long freezing may take.
const FREEZE_DEADLINE: Duration = Duration::from_secs(5);
/// How often making a directory begins again because another daemon has just removed the empty one above it.
const RACES_MAX: usize = 100;
/// Most processes that are listed.
const PIDS_MAX: usize = 1 << 20;
/// Deepest tree of cgroups that is walked.
const DEPTH_MAX: usize = 64;

/// A container's cgroups.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CgroupPaths {
    /// What the host has.
    pub mode: Mode,
    /// Who made them.
    pub manager: CgroupManager,
    /// v1 directories by hierarchy, as `cpu,cpuacct` or `systemd`.
    pub v1: BTreeMap<String, PathBuf>,
    /// The directory in cgroup2, if there is one.
    pub unified: Option<PathBuf>,
    /// systemd's unit, with [`CgroupManager::Systemd`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl CgroupPaths {
    /// Where the cgroups of container `id` will be. `path` is its `linux.cgroupsPath`: absolute below the roots,
    /// or relative to the caller's own cgroups; for systemd `slice:prefix:name`, of the caller's own systemd
    /// when `user`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it names no unit; when the user's systemd cannot be asked.
    pub fn locate(
        host: &Host,
        path: Option<&str>,
        id: &str,
        manager: CgroupManager,
        user: bool,
    ) -> Result<Self> {
        let (path, unit) = match manager {
            CgroupManager::Cgroupfs => (path.unwrap_or(id).to_owned(), None),
            CgroupManager::Systemd => {
                let unit = Unit::parse(path, id, user)?;
                let root = systemd::manager_root(user)?;
                (format!("{root}{}", unit.cgroup()?), Some(unit))
            }
        };
        let place = |h: &HierarchyInfo| {
            let inner = match path.strip_prefix('/') {
                Some(absolute) => absolute.to_owned(),
                None => format!("{}/{path}", h.own.trim_matches('/')),
            };
            h.mount.join(clean(&inner))
        };
        Ok(Self {
            mode: host.mode(),
            manager,
            unit,
            v1: host
                .hierarchies()
                .iter()
                .filter(|h| !h.unified)
                .map(|h| (h.name.clone(), place(h)))
                .collect(),
            unified: host.hierarchies().iter().find(|h| h.unified).map(place),
        })
    }

    /// The same cgroups, one path further down.
    #[must_use]
    pub fn below(&self, path: &Path) -> Self {
        let inner = clean(&path.to_string_lossy());
        let v1 = self
            .v1
            .iter()
            .map(|(name, at)| (name.clone(), at.join(&inner)));
        Self {
            v1: v1.collect(),
            unified: self.unified.as_ref().map(|at| at.join(&inner)),
            ..self.clone()
        }
    }

    /// The v1 directory of a controller, as `memory`.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Path> {
        let mut entries = self.v1.iter();
        let found = entries.find(|(hierarchy, _)| hierarchy.split(',').any(|c| c == name));
        found.map(|(_, path)| path.as_path())
    }

    /// All directories.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        self.v1.values().chain(&self.unified).map(PathBuf::as_path)
    }

    /// Makes the directories and sets the limits.
    ///
    /// # Errors
    /// [`Error::Limit`] with the field that the kernel refuses; what was made is removed again.
    pub fn create(&self, resources: &Resources) -> Result<()> {
        let made = self.make_directories().and_then(|()| self.apply(resources));
        if made.is_err() {
            // The first error is the one that matters.
            let _ = self.remove();
        }
        made
    }

    /// As [`CgroupPaths::create`], without device rules: what an unprivileged owner of a delegated tree may do.
    ///
    /// # Errors
    /// As [`CgroupPaths::create`].
    pub fn create_delegated(&self, resources: &Resources) -> Result<()> {
        let made = self.make_directories().and_then(|()| match self.mode {
            Mode::V2 => self
                .unified
                .as_deref()
                .map_or(Ok(()), |p| v2::apply(p, resources)),
            Mode::V1 | Mode::Hybrid => v1::apply(self, resources),
        });
        if made.is_err() {
            let _ = self.remove();
        }
        made
    }

    /// Has systemd make the unit around init, with the limits and `more` properties. The directories are there
    /// then; [`CgroupPaths::create`] sets what has no property. Nothing to do without a unit.
    ///
    /// # Errors
    /// When systemd refuses.
    pub(crate) fn start_unit(
        &self,
        pid: i32,
        resources: &Resources,
        more: &systemd::Properties,
    ) -> Result<()> {
        match &self.unit {
            Some(unit) => unit.start(pid, self.mode, resources, more),
            None => Ok(()),
        }
    }

    fn make_directories(&self) -> Result<()> {
        if self.mode == Mode::V2 {
            if let Some(path) = &self.unified {
                persist(|| v2::make(path))?;
            }
            return Ok(());
        }
        for (name, path) in &self.v1 {
            make_all(path)?;
            // From here on the directories above it stay: they are not empty.
            if name.split(',').any(|c| c == "cpuset") {
                v1::inherit_cpuset(path)?;
            }
        }
        self.unified.iter().try_for_each(|path| make_all(path))
    }

    /// Sets limits, and the device rules: everything is denied first.
    fn apply(&self, resources: &Resources) -> Result<()> {
        match self.mode {
            Mode::V2 => {
                let path = self
                    .unified
                    .as_deref()
                    .unwrap_or(Path::new("/sys/fs/cgroup"));
                v2::apply(path, resources)?;
                v2::devices(path, &devices::rules(&resources.devices))
            }
            Mode::V1 | Mode::Hybrid => {
                v1::apply(self, resources)?;
                v1::devices(self, &devices::rules(&resources.devices))
            }
        }
    }

    /// Changes limits of a running container; what is absent stays. Device rules only when there are any.
    ///
    /// # Errors
    /// [`Error::Limit`] with the field that the kernel refuses.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        if let Some(unit) = &self.unit {
            // systemd writes device rules of v1 as "nothing", then line by line: nobody may look meanwhile.
            let freezes =
                !resources.devices.is_empty() && self.mode != Mode::V2 && !self.is_frozen()?;
            if freezes {
                self.freeze(true)?;
            }
            let set = unit.set(self.mode, resources);
            let set = set.and_then(|()| self.update_files(resources));
            if freezes {
                self.freeze(false)?;
            }
            return set;
        }
        self.update_files(resources)
    }

    fn update_files(&self, resources: &Resources) -> Result<()> {
        match self.mode {
            Mode::V2 => {
                let path = self
                    .unified
                    .as_deref()
                    .unwrap_or(Path::new("/sys/fs/cgroup"));
                v2::apply(path, resources)?;
                if resources.devices.is_empty() {
                    return Ok(());
                }
                v2::devices(path, &devices::rules(&resources.devices))
            }
            Mode::V1 | Mode::Hybrid => {
                v1::apply(self, resources)?;
                if resources.devices.is_empty() {
                    return Ok(());
                }
                v1::devices(self, &devices::rules(&resources.devices))
            }
        }
    }

    /// Moves a process into the cgroup2 directory, when it could not be born there.
    ///
    /// # Errors
    /// `EBUSY` and the like.
    pub fn attach_unified(&self, pid: i32) -> Result<()> {
        let Some(path) = &self.unified else {
            return Ok(());
        };
        let file = path.join("cgroup.procs");
        fs::write(&file, pid.to_string()).on("write", file)
    }

    /// Moves a process into every directory, where it is not the process itself that does.
    ///
    /// # Errors
    /// `EBUSY`, `ENOSPC` (a full cpuset) and the like.
    pub(crate) fn attach_everywhere(&self, pid: i32) -> Result<()> {
        for path in self.v1.values() {
            let file = path.join("cgroup.procs");
            fs::write(&file, pid.to_string()).on("write", file)?;
        }
        self.attach_unified(pid)
    }

    /// The `tasks` files of the v1 directories, for a process of one thread that moves itself in by writing `0` to each.
    ///
    /// Moving another process, or a whole thread group, takes the kernel's `cgroup_threadgroup_rwsem` for writing, and the first to do so
    /// waits for an RCU grace period: 3 to 15 ms. A thread that moves itself alone does not (`cgroup_procs_write_start`, Linux 5.6). Who may
    /// write was decided when the file was opened, so the descriptors work in any user namespace.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub(crate) fn open_tasks(&self) -> Result<Vec<(PathBuf, OwnedFd)>> {
        let open = |directory: &PathBuf| {
            let file = directory.join("tasks");
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&file, flags, FileMode::empty()).on("open", &file)?;
            Ok((file, fd))
        };
        self.v1.values().map(open).collect()
    }

    /// A directory that has every process of the container: for freezing, killing and listing.
    fn main(&self) -> Option<&Path> {
        self.unified
            .as_deref()
            .or_else(|| self.controller("freezer"))
            .or_else(|| self.v1.values().next().map(PathBuf::as_path))
    }

    /// Processes, also those of cgroups below.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(path) = self.main() {
            collect(path, &mut pids, 0)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Freezes or thaws every process.
    ///
    /// # Errors
    /// When the kernel refuses, or it takes longer than five seconds.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        if let Some(path) = self.controller("freezer").filter(|_| self.mode != Mode::V2) {
            return v1::freeze(path, frozen, FREEZE_DEADLINE);
        }
        match &self.unified {
            Some(path) => v2::freeze(path, frozen, FREEZE_DEADLINE),
            None => Err(Error::Unsupported {
                field: "pause".into(),
                reason: "the host has no freezer cgroup".into(),
            }),
        }
    }

    /// Whether it is frozen.
    ///
    /// # Errors
    /// When the state cannot be read. A directory that is gone is not frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        let read = |path: PathBuf| match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other.on("read", path),
        };
        if let Some(path) = self.controller("freezer").filter(|_| self.mode != Mode::V2) {
            return Ok(read(path.join("freezer.state"))?.trim() == "FROZEN");
        }
        match &self.unified {
            Some(path) => Ok(read(path.join("cgroup.freeze"))?.trim() == "1"),
            None => Ok(false),
        }
    }

    /// Sends SIGKILL to every process: in one step by `cgroup.kill`, else one by one while frozen.
    ///
    /// # Errors
    /// When processes cannot be listed or signalled.
    pub fn kill_all(&self) -> Result<()> {
        let one_step = self.unified.as_ref().map(|path| path.join("cgroup.kill"));
        if let Some(file) = one_step.filter(|file| file.exists()) {
            let result = fs::write(&file, "1").on("write", file);
            // A v1 freezer holds signals back.
            if self.mode != Mode::V2 && self.is_frozen()? {
                self.freeze(false)?;
            }
            return result;
        }
        // No new process can slip away between the listing and the signals.
        let freezes = self.freeze(true).is_ok();
        let signalled = self.signal_all(libc::SIGKILL);
        if freezes {
            self.freeze(false)?;
        }
        signalled
    }

    /// Sends a signal to every process.
    ///
    /// # Errors
    /// When processes cannot be listed or signalled.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        use std::os::fd::AsFd;
        for pid in self.pids()? {
            let sent = hull_sys::pidfd::open(pid)
                .and_then(|fd| hull_sys::pidfd::send_signal(fd.as_fd(), signal));
            match sent {
                Ok(()) | Err(hull_sys::Errno::SRCH) => {}
                Err(e) => return Err(e).on("signal", format!("process {pid}")),
            }
        }
        Ok(())
    }

    /// How many processes the kernel killed for lack of memory.
    ///
    /// # Errors
    /// When the counter cannot be read; a directory that is gone counts 0.
    pub fn oom_kills(&self) -> Result<u64> {
        let (file, key) = match (self.mode, &self.unified) {
            (Mode::V2, Some(path)) => (path.join("memory.events"), "oom_kill "),
            _ => match self.controller("memory") {
                Some(path) => (path.join("memory.oom_control"), "oom_kill "),
                None => return Ok(0),
            },
        };
        let text = match fs::read_to_string(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.on("read", file)?,
        };
        let count = text.lines().find_map(|line| line.strip_prefix(key));
        Ok(count.and_then(|n| n.trim().parse().ok()).unwrap_or(0))
    }

    /// Reads everything that is measured.
    ///
    /// # Errors
    /// When a file that exists cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        match (self.mode, &self.unified) {
            (Mode::V2, Some(path)) => stats::v2(path),
            _ => stats::v1(self),
        }
    }

    /// Removes the directories and what the container made below them, waiting for dying processes.
    ///
    /// # Errors
    /// [`Error::Cleanup`] with every directory that stayed.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVE_DEADLINE;
        let stopped = self.unit.as_ref().map_or(Ok(()), Unit::stop);
        let removed = self
            .all()
            .filter_map(|path| remove_tree(path, deadline, 0).err());
        let errors: Vec<_> = stopped
            .err()
            .into_iter()
            .chain(removed)
            .map(|e| e.to_string())
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Error::Cleanup(errors))
        }
    }
}

/// Without `.`, `..` and double slashes: a cgroup path never leaves its root.
fn clean(path: &str) -> PathBuf {
    use std::path::Component;
    Path::new(path)
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect()
}

/// Removes the cgroup `path` (counted from the roots, as `hull`) from each hierarchy where it is empty: for a daemon that ends. Whoever
/// makes a container there at the same time makes it again ([`CgroupPaths::create`]).
///
/// # Errors
/// When the hierarchies cannot be found. A directory that is in use, or not there, is no error.
pub fn remove_empty(path: &str) -> Result<()> {
    for hierarchy in Host::probe()?.hierarchies() {
        // rmdir(2) refuses one with children or processes by itself: nothing is looked at before, so nothing can change in between.
        let _ = fs::remove_dir(hierarchy.mount.join(clean(path)));
    }
    Ok(())
}

fn make_all(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            persist(|| fs::create_dir_all(path).on("make cgroup", path))
        }
        other => other.on("make cgroup", path),
    }
}

/// Again, while a directory above goes away in between.
fn persist(make: impl Fn() -> Result<()>) -> Result<()> {
    let mut tries = 1;
    loop {
        match make() {
            Err(Error::Io { cause, .. })
                if cause.kind() == io::ErrorKind::NotFound && tries < RACES_MAX =>
            {
                tries += 1;
            }
            other => return other,
        }
    }
}

fn collect(path: &Path, pids: &mut Vec<i32>, depth: usize) -> Result<()> {
    let file = path.join("cgroup.procs");
    let text = match fs::read_to_string(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A threaded cgroup lists threads only; the domain above it lists the processes.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
        other => other.on("read", file)?,
    };
    let found = text
        .lines()
        .filter_map(|line| line.trim().parse::<i32>().ok());
    pids.extend(found.take(PIDS_MAX));
    for child in children(path, depth)? {
        collect(&child, pids, depth + 1)?;
    }
    Ok(())
}

fn children(path: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    // A directory's link count is 2 plus its subdirectories: most have none.
    let count = rustix::fs::stat(path).map(|s| s.st_nlink);
    if count.is_ok_and(|n| n <= 2) || depth >= DEPTH_MAX {
        return Ok(Vec::new());
    }
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("list", path)?,
    };
    let directories = entries.filter_map(std::result::Result::ok);
    let directories = directories.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    Ok(directories.map(|e| e.path()).collect())
}

fn remove_tree(path: &Path, deadline: Instant, depth: usize) -> Result<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                for child in children(path, depth)? {
                    remove_tree(&child, deadline, depth + 1)?;
                }
                if Instant::now() >= deadline {
                    return Err(e).on("remove cgroup", path);
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(e) => return Err(e).on("remove cgroup", path),
        }
    }
}

/// Writes a limit, naming the field of the specification on failure.
fn put(directory: &Path, file: &str, value: &str, field: &'static str) -> Result<()> {
    let file = directory.join(file);
    fs::write(&file, value).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            Error::Unsupported {
                field: field.into(),
                reason: format!("this kernel has no {}", file.display()),
            }
        } else {
            Error::Limit {
                field,
                file,
                value: value.to_owned(),
                cause: source,
            }
        }
    })
}
