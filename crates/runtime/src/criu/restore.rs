//! `restore`: images become a container again, in new cgroups and on the bundle's root file system.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hull_oci::runtime::{HookKind, NamespaceType, Spec, Status};
use hull_sys::clone::{CLONE_NEWNET, CLONE_NEWTIME};
use hull_sys::mount::{self, Attr};
use hull_sys::{netdev, ns, path, pidfd};
use rustix::fs::{CWD, Mode};
use rustix::mount::{UnmountFlags, unmount};

use super::outside::Outside;
use super::rpc::{Kind, Opts, Response};
use super::swrk::{Criu, Place, Swrk, with_log};
use super::{DESCRIPTORS, Directories, RestoreOptions, Restored, config_file, namespace_key};
use crate::cgroup::CgroupPaths;
use crate::create::{self, Decided};
use crate::error::Context;
use crate::options::Stdio;
use crate::plan::{InitPlan, MountStep, Step, What};
use crate::record::{Record, StateDir, birth};
use crate::undo::Undo;
use crate::{Error, HostFacts, Result, hooks, kit, seccomp, spawn, validate};

/// criu's log in the work directory: runc's name.
const LOG: &str = "restore.log";
/// Where the root is attached in criu's mount namespace, in the state directory.
const ROOT: &str = "criu-root";
/// Largest `descriptors.json` that is read.
const DESCRIPTORS_MAX: u64 = 64 << 10;

/// Makes a container from images; it runs when this returns.
///
/// criu runs in a mount namespace of its own, so that the root is mounted nowhere on the host. On failure everything
/// that was made is undone.
///
/// # Errors
/// [`Error::Invalid`] before anything is made; [`Error::NoCriu`], [`Error::OldCriu`]; [`Error::Criu`] with criu's answer
/// and the errors in its log; [`Error::Hook`].
pub fn restore(mut options: RestoreOptions<'_>) -> Result<Restored> {
    let create = &options.create;
    validate::spec(create.spec)?;
    super::needs_root("restore")?;
    let criu = Criu::find()?;
    let facts = HostFacts::probe()?;
    let prepared = create::decide(create, &facts)?;
    let directories = Directories::open(&options.criu, false)?;
    let streams = read_streams(options.criu.images)?;
    let mut undo = Undo::default();
    let dir = StateDir::create(create.state_root, create.id)?;
    {
        let dir = dir.clone();
        undo.push("state directory", move || dir.remove());
    }
    let resources = create::resources(create.spec);
    let cgroup = match prepared.cgroup.unit {
        // systemd makes it around criu.
        Some(_) => prepared.cgroup.clone(),
        None => create::make_cgroup(&prepared.cgroup, &resources, &facts)?,
    };
    {
        let cgroup = cgroup.clone();
        undo.push("cgroup", move || cgroup.remove());
    }
    if let Some(filter) = &prepared.filter {
        dir.write_filter(&seccomp::to_bytes(&filter.instructions))?;
    }
    let record = create::record(create, &prepared, &cgroup);
    let (mut opts, inherit) = opts(&options, &directories, &record, &streams)?;
    let place = Place {
        own_mounts: true,
        directories: directories.places(),
        stdio: stdio(std::mem::take(&mut options.create.stdio))?,
        inherit,
    };
    let point = dir.path().join(ROOT);
    // criu's children are born where it is.
    let swrk = start(&criu, place, &prepared, &cgroup, &point)?;
    create::enter_cgroup(&prepared, &cgroup, swrk.pid(), &resources, &facts)?;
    opts.root = Some(point.clone());
    opts.cgroup_roots = cgroup_roots(swrk.pid())?;
    let mut restoring = Restoring {
        spec: options.create.spec,
        record,
        dir: &dir,
        init: None,
        console: None,
    };
    let done = swrk.converse(Kind::Restore, Some(&opts), |response, passed| {
        restoring.notified(response, passed)
    });
    let done = done.and_then(|response| restoring.finish(&response, options.create.pid_file));
    if let Err(error) = done {
        restoring.end();
        return Err(with_log(error, options.criu.log_directory(), LOG));
    }
    // It was a mount point in a namespace that is gone.
    let _ = fs::remove_dir(&point);
    undo.disarm();
    drop(undo);
    let pid = restoring.record.pid;
    let pidfd = restoring.init.take().map_or_else(|| pidfd::open(pid), Ok);
    Ok(Restored {
        pid,
        pidfd: pidfd.on("open", format!("process {pid}"))?,
        console_master: restoring.console,
        cgroup,
    })
}

/// What the standard streams were at the checkpoint.
fn read_streams(images: &Path) -> Result<Vec<String>> {
    let path = images.join(DESCRIPTORS);
    let mut text = Vec::new();
    let file = fs::File::open(&path).on("open", &path)?;
    file.take(DESCRIPTORS_MAX)
        .read_to_end(&mut text)
        .on("read", &path)?;
    // runc writes null for none.
    let list: Option<Vec<String>> = crate::error::parse(path, &text)?;
    Ok(list.unwrap_or_default())
}

fn stdio(stdio: Stdio) -> Result<Option<[OwnedFd; 3]>> {
    Ok(match stdio {
        Stdio::Fds {
            stdin,
            stdout,
            stderr,
        } => Some([stdin, stdout, stderr]),
        Stdio::Inherit => None,
        Stdio::Terminal { .. } => {
            // The terminal comes out of the images; ours has nothing to do with it.
            let open = || {
                fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/null")
            };
            let null = || open().map(OwnedFd::from).on("open", "/dev/null");
            Some([null()?, null()?, null()?])
        }
    })
}

fn opts(
    options: &RestoreOptions<'_>,
    directories: &Directories,
    record: &Record,
    streams: &[String],
) -> Result<(Opts, Vec<OwnedFd>)> {
    let mut opts = Opts {
        evasive_devices: true,
        rst_sibling: true,
        config_file: config_file(&record.annotations),
        lsm_profile: options.lsm_profile.clone(),
        lsm_mount_context: options.lsm_mount_context.clone(),
        ext_mounts: record.outside.mounts.clone(),
        ..directories.opts(&options.criu, LOG)
    };
    if !record.outside.masked.is_empty() {
        let null = || PathBuf::from("/dev/null");
        opts.ext_mounts.push((null(), null()));
    }
    for (number, name) in (0..).zip(streams.iter().take(3)) {
        if name.contains("pipe:") {
            opts.inherit.push((name.clone(), number));
        }
    }
    let inherited = namespaces(&record.outside, &mut opts)?;
    Ok((opts, inherited))
}

/// Network and PID namespaces are handed over open; the others criu enters by name.
fn namespaces(outside: &Outside, opts: &mut Opts) -> Result<Vec<OwnedFd>> {
    let mut inherited = Vec::new();
    for (kind, path) in &outside.namespaces {
        match kind.as_str() {
            "net" | "pid" => {
                let fd = spawn::open_namespace(path)?;
                opts.inherit
                    .push((namespace_key(kind).into(), fd.as_raw_fd()));
                inherited.push(fd);
            }
            "cgroup" => {
                return Err(Error::Unsupported {
                    field: "linux.namespaces".into(),
                    reason: "criu cannot restore into an existing cgroup namespace".into(),
                });
            }
            _ => opts.join_ns.push((kind.clone(), path.clone())),
        }
    }
    Ok(inherited)
}

/// Starts criu with the container's root at `point`, in its own mount namespace and the container's v1 cgroups.
fn start(
    criu: &Criu,
    place: Place,
    prepared: &Decided,
    cgroup: &CgroupPaths,
    point: &Path,
) -> Result<Swrk> {
    let plan = &prepared.plan;
    let tasks = create::open_tasks(cgroup)?;
    let source = plan.root.as_ref().ok_or(rustix::io::Errno::NOENT);
    let source = source.on("open", "root file system")?;
    let root = kit::open_root(source).map_err(create::open_error)?;
    fs::create_dir(point).on("make", point)?;
    Swrk::start(criu, place, || {
        let failed = |what: &Path, e: hull_sys::Errno| format!("{}: {e}", what.display());
        let slave = Attr {
            propagation: libc::MS_SLAVE,
            recursive: true,
            ..Attr::default()
        };
        for (file, tasks) in &tasks {
            rustix::io::write(tasks, b"0").map_err(|e| failed(file, e))?;
        }
        let host = path::open_dir(Path::new("/")).map_err(|e| failed(Path::new("/"), e))?;
        mount::set_attr(host.as_fd(), &slave).map_err(|e| failed(Path::new("/"), e))?;
        mount::attach(root.as_fd(), None, point).map_err(|e| failed(point, e))?;
        mount_points(root.as_fd(), plan).map_err(|(path, e)| failed(&path, e))
    })
}

/// Makes the mount points that lie on the root: a root that is not the one of the checkpoint may lack them. Those on
/// file systems that the images hold come with these.
fn mount_points(
    root: BorrowedFd<'_>,
    plan: &InitPlan,
) -> std::result::Result<(), (PathBuf, hull_sys::Errno)> {
    let mode = Mode::from_raw_mode(0o755);
    let mounts = plan.steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => Some(mount),
        _ => None,
    });
    let mounts: Vec<&MountStep> = mounts.collect();
    let mut attached = Vec::new();
    for (index, step) in mounts.iter().enumerate() {
        let at = |e| (step.destination.clone(), e);
        if mounts[..index].iter().any(|m| holds(m, &step.destination)) {
            continue;
        }
        match &step.what {
            What::New { .. } => {
                path::mkdir_all_in_root(root, &step.destination, mode).map_err(at)?;
            }
            What::Bind { source } => {
                let source = &plan.sources[*source].path;
                let target = if source.is_dir() {
                    path::mkdir_all_in_root(root, &step.destination, mode)
                } else {
                    path::create_file_in_root(root, &step.destination, mode)
                };
                let target = target.map_err(at)?;
                let deeper = |m: &&MountStep| below(&m.destination, &step.destination);
                if mounts[index + 1..].iter().any(deeper) {
                    let tree = mount::clone_tree(CWD, source, false).map_err(at)?;
                    mount::attach_to(tree.as_fd(), target.as_fd()).map_err(at)?;
                    attached.push(tree);
                }
            }
            What::CgroupV1 { .. } | What::Remount { .. } => {}
        }
    }
    for tree in attached.iter().rev() {
        let name = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
        unmount(&name, UnmountFlags::DETACH).map_err(|e| (name, e))?;
    }
    Ok(())
}

/// Whether the contents of `path` come with the images, because it lies on a file system that the container made.
fn holds(mount: &MountStep, path: &Path) -> bool {
    let made = matches!(mount.what, What::New { .. } | What::CgroupV1 { .. });
    made && below(path, &mount.destination)
}

fn below(path: &Path, directory: &Path) -> bool {
    path != directory && path.starts_with(directory)
}

/// The cgroups of a process, for criu to put the container's in their place: controllers and path.
fn cgroup_roots(pid: i32) -> Result<Vec<(String, String)>> {
    let file = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&file).on("read", &file)?;
    Ok(parse_cgroups(&text))
}

/// `4:cpu,cpuacct:/a` gives each controller; `1:name=systemd:/a` and `0::/a` are named as criu names them.
fn parse_cgroups(text: &str) -> Vec<(String, String)> {
    let mut roots = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            let each = controllers.split(',');
            roots.extend(each.map(|controller| (controller.to_owned(), path.to_owned())));
        }
    }
    roots
}

/// The caller's side while criu restores.
struct Restoring<'a> {
    spec: &'a Spec,
    record: Record,
    dir: &'a StateDir,
    init: Option<OwnedFd>,
    console: Option<OwnedFd>,
}

impl Restoring<'_> {
    fn notified(&mut self, response: &Response, passed: Vec<OwnedFd>) -> Result<()> {
        match response.script.as_str() {
            "setup-namespaces" => self.namespaces_made(response.script_pid),
            "post-restore" => self.restored(response.script_pid),
            "orphan-pts-master" => {
                self.console = passed.into_iter().next();
                Ok(())
            }
            // `pre-restore`, `network-unlock`, `post-setup-namespaces`, `pre-resume`, `post-resume`.
            _ => Ok(()),
        }
    }

    /// Init is there, and its namespaces are empty.
    fn namespaces_made(&mut self, pid: i32) -> Result<()> {
        self.init = Some(pidfd::open(pid).on("open", format!("process {pid}"))?);
        let linux = self.spec.linux.as_ref();
        let mut own = linux.iter().flat_map(|l| &l.namespaces);
        if own.any(|n| n.kind == NamespaceType::Network && n.path.is_none()) {
            loopback_up(pid)?;
        }
        if let Some(linux) = linux {
            create::move_links(&linux.net_devices, pid)?;
        }
        let Some(hooks) = &self.spec.hooks else {
            return Ok(());
        };
        self.record.pid = pid;
        let state = self.record.state(Status::Creating);
        [HookKind::Prestart, HookKind::CreateRuntime]
            .into_iter()
            .try_for_each(|kind| hooks::run_all(kind, hooks.of(kind), &state))
    }

    /// Everything is in place, and nothing runs yet.
    fn restored(&mut self, pid: i32) -> Result<()> {
        let (start_time, _) = birth(pid)?.unwrap_or((0, true));
        self.record.pid = pid;
        self.record.start_time = start_time;
        // criu keeps the monotonic clock by a time namespace.
        if differs(pid, "time")? {
            self.record.namespaces |= CLONE_NEWTIME;
        }
        self.dir.write(&self.record)
    }

    fn finish(&mut self, response: &Response, pid_file: Option<&Path>) -> Result<()> {
        let restored = response.restored_pid == Some(self.record.pid) && self.record.pid != 0;
        if !restored {
            return Err(Error::Criu {
                reason: "it restored another process than it said".into(),
            });
        }
        match pid_file {
            Some(path) => create::write_pid_file(path, self.record.pid),
            None => Ok(()),
        }
    }

    /// Ends what criu left of init, which is a child of this process.
    fn end(&self) {
        if let Some(init) = &self.init {
            let _ = pidfd::send_signal(init.as_fd(), libc::SIGKILL);
            let _ = pidfd::wait(init.as_fd());
        }
    }
}

fn differs(pid: i32, kind: &str) -> Result<bool> {
    let link = |of: &str| {
        let path = format!("/proc/{of}/ns/{kind}");
        fs::read_link(&path).on("read", path)
    };
    match link("self") {
        // A kernel without namespaces of this kind.
        Err(_) => Ok(false),
        Ok(own) => Ok(link(&pid.to_string())? != own),
    }
}

/// criu makes a network namespace anew with its loopback down.
fn loopback_up(pid: i32) -> Result<()> {
    let own = spawn::open_namespace(Path::new("/proc/self/ns/net"))?;
    let theirs = spawn::open_namespace(Path::new(&format!("/proc/{pid}/ns/net")))?;
    ns::setns(theirs.as_fd(), CLONE_NEWNET).on("enter", "network namespace")?;
    let result = netdev::loopback_up().on("set up", "lo");
    ns::setns(own.as_fd(), CLONE_NEWNET).on("return to", "network namespace")?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_a_process_are_named_as_criu_does() {
        let text = "4:cpu,cpuacct:/a:b\n1:name=systemd:/c\n0::/\nnonsense\n";
        let of = |c: &str, p: &str| (c.to_owned(), p.to_owned());
        assert_eq!(
            parse_cgroups(text),
            [
                of("cpu", "/a:b"),
                of("cpuacct", "/a:b"),
                of("name=systemd", "/c"),
                of("", "/")
            ]
        );
    }

    #[test]
    fn what_lies_on_the_container_s_own_file_systems_is_held() {
        let mount = |destination: &str, what| MountStep {
            destination: destination.into(),
            what,
        };
        let dev = mount(
            "/dev",
            What::New {
                fstype: "tmpfs".into(),
                source: None,
                data: Vec::new(),
                attrs: Default::default(),
                copy_up: false,
                fallback: None,
            },
        );
        assert!(holds(&dev, Path::new("/dev/pts")));
        assert!(!holds(&dev, Path::new("/dev")));
        assert!(!holds(&dev, Path::new("/devices")));
        let data = mount("/data", What::Bind { source: 0 });
        assert!(!holds(&data, Path::new("/data/x")));
    }
}
