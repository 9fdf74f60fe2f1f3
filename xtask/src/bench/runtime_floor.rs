//! What the kernel alone costs for the steps of a runtime's `run` and `exec`: the same namespaces, cgroups, mounts, devices, filter and
//! exec, with nothing read, decided or written down. A program that ends at once stands for the runtime's own process.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hull_oci::runtime::Seccomp;
use hull_security::seccomp::{Arch, compile};
use hull_sys::caps::{self, CapSets};
use hull_sys::clone::{self, Child, CloneArgs, clone3};
use hull_sys::exec::{CStrings, execve};
use hull_sys::mount::{self, Attr, attr};
use hull_sys::seccomp::{SockFilter, set_filter};
use hull_sys::{ns, pidfd, process};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

/// Of the template of runc's `spec`, as far as this kernel has them.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
];
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];
const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// Device rules of cgroup v1 after everything is denied.
const ALLOWED: &[&str] = &[
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
];
/// The kernel's highest capability: CAP_CHECKPOINT_RESTORE.
const LAST_CAP: u32 = 40;

/// The steps' inputs, made once.
pub struct Floor {
    root: PathBuf,
    hierarchies: Vec<PathBuf>,
    filter: Vec<SockFilter>,
    flags: u64,
    argv: CStrings,
    env: CStrings,
}

impl Floor {
    /// `root` is bound as the container's root; `hierarchies` are the cgroup v1 directories.
    pub fn new(root: &Path, hierarchies: Vec<PathBuf>, profile: &Seccomp) -> Result<Self> {
        let Some(native) = Arch::native() else {
            bail!("no system call table for this architecture");
        };
        let program = compile(profile, native)?;
        Ok(Self {
            root: root.to_owned(),
            hierarchies,
            filter: program.instructions,
            flags: program.flags,
            argv: CStrings::new(["true"])?,
            env: CStrings::new::<&str>([])?,
        })
    }

    /// From nothing to the reaped program and the removed cgroups.
    pub fn run(&self) -> Result<Duration> {
        let start = Instant::now();
        Command::new(self.root.join("bin/true")).status()?;
        let name = format!("hull-floor-{}", std::process::id());
        let tasks = self.make_cgroups(&name)?;
        let flags = clone::CLONE_NEWNS
            | clone::CLONE_NEWUTS
            | clone::CLONE_NEWIPC
            | clone::CLONE_NEWPID
            | clone::CLONE_NEWNET;
        let child = clone3(&args(flags), || {
            status(
                self.enter(&tasks, &name)
                    .and_then(|()| self.become_program()),
            )
        })?;
        reap(&child)?;
        for hierarchy in &self.hierarchies {
            std::fs::remove_dir(hierarchy.join(&name))?;
        }
        Ok(start.elapsed())
    }

    /// The `tasks` files of the v1 cgroups that process `pid` is in.
    pub fn tasks_of(&self, pid: i32) -> Result<Vec<PathBuf>> {
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let file = |hierarchy: &PathBuf| {
            let name = hierarchy.file_name()?.to_str()?;
            let path = own.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                (controllers.trim_start_matches("name=") == name).then_some(path)
            })?;
            Some(hierarchy.join(path.trim_start_matches('/')).join("tasks"))
        };
        Ok(self.hierarchies.iter().filter_map(file).collect())
    }

    /// A further process in the container of `pid`, which is in the cgroups of `tasks`.
    pub fn exec(&self, pid: i32, tasks: &[PathBuf]) -> Result<Duration> {
        let start = Instant::now();
        Command::new(self.root.join("bin/true")).status()?;
        let target = pidfd::open(pid)?;
        let own = open(
            "/proc/self/ns/pid",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let tasks = open_all(tasks.iter().cloned())?;
        ns::setns(target.as_fd(), clone::CLONE_NEWPID)?;
        let child = clone3(&args(0), || {
            let inside = || -> Result<()> {
                join(&tasks)?;
                let rest = clone::CLONE_NEWNS
                    | clone::CLONE_NEWUTS
                    | clone::CLONE_NEWIPC
                    | clone::CLONE_NEWNET
                    | clone::CLONE_NEWCGROUP;
                ns::setns(target.as_fd(), rest)?;
                self.become_program()
            };
            status(inside())
        });
        ns::setns(own.as_fd(), clone::CLONE_NEWPID)?;
        reap(&child?)?;
        Ok(start.elapsed())
    }

    fn make_cgroups(&self, name: &str) -> Result<Vec<OwnedFd>> {
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.join(name);
            std::fs::create_dir(&directory)?;
            if hierarchy.ends_with("cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = std::fs::read(hierarchy.join(file))?;
                    std::fs::write(directory.join(file), value)?;
                }
            }
            if hierarchy.ends_with("devices") {
                std::fs::write(directory.join("devices.deny"), "a")?;
                let mut allow = std::fs::OpenOptions::new()
                    .write(true)
                    .open(directory.join("devices.allow"))?;
                for rule in ALLOWED {
                    allow.write_all(rule.as_bytes())?;
                }
            }
        }
        open_all(
            self.hierarchies
                .iter()
                .map(|hierarchy| hierarchy.join(name).join("tasks")),
        )
    }

    /// Everything up to the pivot.
    fn enter(&self, tasks: &[OwnedFd], name: &str) -> Result<()> {
        join(tasks)?;
        ns::unshare(clone::CLONE_NEWCGROUP)?;
        mount_change(
            "/",
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        )?;
        let root = mount::clone_tree(CWD, &self.root, true)?;
        mount::attach(root.as_fd(), None, &self.root)?;
        for (fs, at, options) in [
            ("proc", "proc", &[][..]),
            ("tmpfs", "dev", &["nosuid", "mode=755", "size=65536k"][..]),
            (
                "devpts",
                "dev/pts",
                &[
                    "nosuid",
                    "noexec",
                    "newinstance",
                    "ptmxmode=0666",
                    "mode=0620",
                    "gid=5",
                ][..],
            ),
            (
                "tmpfs",
                "dev/shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"][..],
            ),
            ("mqueue", "dev/mqueue", &["nosuid", "noexec", "nodev"][..]),
            ("sysfs", "sys", &["nosuid", "noexec", "nodev", "ro"][..]),
            (
                "tmpfs",
                "sys/fs/cgroup",
                &["nosuid", "noexec", "nodev", "mode=755"][..],
            ),
        ] {
            let target = self.root.join(at);
            if at.starts_with("dev/") {
                std::fs::create_dir(&target)?;
            }
            let made = mount::detached(fs, Some(fs), options)?;
            mount::attach(made.as_fd(), None, &target)?;
        }
        self.show_cgroups(name)?;
        self.devices()?;
        self.protect()?;
        std::env::set_current_dir(&self.root)?;
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::system::sethostname(b"floor")?)
    }

    fn show_cgroups(&self, name: &str) -> Result<()> {
        let shown = self.root.join("sys/fs/cgroup");
        for hierarchy in &self.hierarchies {
            let Some(folder) = hierarchy.file_name() else {
                continue;
            };
            std::fs::create_dir(shown.join(folder))?;
            // The container's own root is mounted already: /sys/fs/cgroup of the host is found through its own path.
            let bound = mount::clone_tree(CWD, &hierarchy.join(name), false)?;
            mount::set_attr(bound.as_fd(), &read_only())?;
            mount::attach(bound.as_fd(), None, &shown.join(folder))?;
        }
        Ok(())
    }

    fn devices(&self) -> Result<()> {
        let dev = self.root.join("dev");
        for (name, major, minor) in DEVICES {
            let device = rustix::fs::makedev(*major, *minor);
            let mode = Mode::from_raw_mode(0o666);
            mknodat(CWD, dev.join(name), FileType::CharacterDevice, mode, device)?;
        }
        for (target, name) in LINKS {
            std::os::unix::fs::symlink(target, dev.join(name))?;
        }
        Ok(())
    }

    fn protect(&self) -> Result<()> {
        let proc = self.root.join("proc");
        for name in MASKED {
            let path = proc.join(name);
            let Ok(found) = std::fs::metadata(&path) else {
                continue;
            };
            let cover = if found.is_dir() {
                mount::detached("tmpfs", Some("tmpfs"), &["ro"])?
            } else {
                mount::clone_tree(CWD, Path::new("/dev/null"), false)?
            };
            mount::attach(cover.as_fd(), None, &path)?;
        }
        for name in READ_ONLY {
            let path = proc.join(name);
            if !path.exists() {
                continue;
            }
            let bound = mount::clone_tree(CWD, &path, true)?;
            mount::set_attr(bound.as_fd(), &read_only())?;
            mount::attach(bound.as_fd(), None, &path)?;
        }
        let root = open(&self.root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(mount::set_attr(root.as_fd(), &read_only())?)
    }

    /// Privileges fall, the filter is loaded, the program runs.
    fn become_program(&self) -> Result<()> {
        // CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE: the template's.
        const KEEP: u64 = 1 << 5 | 1 << 10 | 1 << 29;
        caps::limit_bounding(KEEP, LAST_CAP)?;
        process::set_no_new_privs()?;
        set_filter(&self.filter, self.flags)?;
        caps::set(CapSets {
            effective: KEEP,
            permitted: KEEP,
            inheritable: 0,
        })?;
        Err(execve(c"/bin/true", &self.argv, &self.env).into())
    }
}

fn read_only() -> Attr<'static> {
    Attr {
        set: attr::RDONLY,
        ..Attr::default()
    }
}

fn args(flags: u64) -> CloneArgs<'static> {
    CloneArgs {
        flags,
        exit_signal: rustix::process::Signal::CHILD.as_raw() as u64,
        ..CloneArgs::default()
    }
}

fn open_all(tasks: impl Iterator<Item = PathBuf>) -> Result<Vec<OwnedFd>> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    tasks
        .map(|file| Ok(open(file, flags, Mode::empty())?))
        .collect()
}

fn join(tasks: &[OwnedFd]) -> Result<()> {
    for file in tasks {
        rustix::io::write(file, b"0")?;
    }
    Ok(())
}

/// For a child that comes back because a step failed.
fn status(result: Result<()>) -> i32 {
    if let Err(error) = result {
        eprintln!("floor: {error:#}");
    }
    126
}

fn reap(child: &Child) -> Result<()> {
    let ended = pidfd::wait(child.pidfd.as_fd())?;
    match ended.shell_code() {
        0 => Ok(()),
        code => bail!("the floor's process ended with {code}"),
    }
}
