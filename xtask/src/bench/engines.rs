//! The engines that are compared, each on roots and in a network namespace of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::memory;
use crate::shell;

/// What all engines can do: Docker's command line.
pub trait Engine: Sync {
    /// For the table.
    fn name(&self) -> &'static str;
    /// Runs a command to its end.
    fn run(&self, args: &[&str]) -> Result<String>;
    /// The processes that belong to the engine: daemon, monitors and containers. Empty where there is no daemon.
    fn processes(&self) -> Result<Vec<u32>>;
    /// The command that removes running containers without waiting for them to stop.
    fn remove(&self) -> &'static [&'static str] {
        &["rm", "-f"]
    }
    /// The engine's name for a network.
    fn network<'n>(&self, name: &'n str) -> &'n str {
        name
    }
}

/// How long a daemon may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// In the environment of everything that an engine starts, so that its processes are found again.
const MARKER: &str = "HULL_BENCH_ENGINE";

/// A network namespace, removed when the last clone is dropped.
#[derive(Clone)]
pub struct Netns {
    name: Arc<NetnsName>,
}

struct NetnsName(String);

impl Netns {
    /// Makes one whose loopback is up.
    pub fn new(name: &str) -> Result<Self> {
        let name = format!("hullbench-{name}-{}", std::process::id());
        shell::output(Command::new("ip").args(["netns", "add", &name]))?;
        let netns = Self {
            name: Arc::new(NetnsName(name)),
        };
        shell::output(netns.enter("ip").args(["link", "set", "lo", "up"]))?;
        Ok(netns)
    }

    /// Runs `program` inside, by nsenter: `ip netns exec` would hide the cgroups.
    pub fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name.0))
            .arg("--")
            .arg(program);
        command
    }
}

impl Drop for NetnsName {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.0])
            .status();
    }
}

/// A daemon that is stopped on drop.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until `ready`.
    pub fn start(mut command: Command, log: PathBuf, ready: impl Fn() -> bool) -> Result<Self> {
        let file = std::fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        let mut daemon = Self { child, log };
        let end = Instant::now() + READY_TIMEOUT;
        while !ready() {
            let ended = daemon.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                bail!(
                    "the daemon is not ready ({ended:?}):\n{}",
                    std::fs::read_to_string(&daemon.log).unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(daemon)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let end = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.wait();
    }
}

/// Whether a daemon answers Docker's ping on this socket.
pub fn answers(socket: &Path) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
        return false;
    };
    let mut answer = [0; 12];
    stream
        .write_all(b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n")
        .and_then(|()| stream.read_exact(&mut answer))
        .is_ok_and(|()| answer.ends_with(b"200"))
}

/// Hull, as built in release mode.
pub struct Hull {
    program: PathBuf,
    socket: PathBuf,
    _daemon: Daemon,
    _netns: Netns,
}

impl Hull {
    /// Starts a daemon and waits until it answers.
    pub fn start(work: &Path) -> Result<Self> {
        let root = work.join("hull");
        std::fs::create_dir_all(&root)?;
        let netns = Netns::new("hull")?;
        let program = shell::target_dir().join("release/hull");
        let socket = root.join("hull.sock");
        let mut command = netns.enter(&program);
        command
            .arg("daemon")
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("run"))
            .arg("--pidfile")
            .arg(root.join("pid"))
            .args(["--bridge", "hullbench0", "--bip", "10.214.1.1/16"])
            .env(MARKER, "hull");
        let daemon = Daemon::start(command, root.join("log"), || answers(&socket))?;
        Ok(Self {
            program,
            socket,
            _daemon: daemon,
            _netns: netns,
        })
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Engine for Hull {
    fn name(&self) -> &'static str {
        "hull"
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        shell::output(
            Command::new(&self.program)
                .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
                .args(args),
        )
    }

    fn processes(&self) -> Result<Vec<u32>> {
        memory::marked(&format!("{MARKER}=hull"))
    }
}

/// Debian's docker.io: dockerd with the containerd that it starts.
pub struct Docker {
    socket: PathBuf,
    config: PathBuf,
    _daemon: Daemon,
    _netns: Netns,
}

impl Docker {
    /// Starts a daemon and waits until it answers.
    pub fn start(work: &Path) -> Result<Self> {
        let root = work.join("docker");
        std::fs::create_dir_all(&root)?;
        let netns = Netns::new("docker")?;
        shell::output(
            netns
                .enter("ip")
                .args(["link", "add", "hullbenchd0", "type", "bridge"]),
        )?;
        shell::output(netns.enter("ip").args([
            "addr",
            "add",
            "10.214.0.1/16",
            "dev",
            "hullbenchd0",
        ]))?;
        shell::output(netns.enter("ip").args(["link", "set", "hullbenchd0", "up"]))?;
        let socket = root.join("docker.sock");
        let mut command = netns.enter("dockerd");
        command
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("run"))
            .arg("--pidfile")
            .arg(root.join("pid"))
            .args(["--bridge", "hullbenchd0"])
            .env(MARKER, "docker");
        let daemon = Daemon::start(command, root.join("log"), || answers(&socket))?;
        Ok(Self {
            socket,
            config: root.join("config"),
            _daemon: daemon,
            _netns: netns,
        })
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        shell::output(
            Command::new("docker")
                .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
                .env("DOCKER_CONFIG", &self.config)
                .args(args),
        )
    }

    fn processes(&self) -> Result<Vec<u32>> {
        memory::marked(&format!("{MARKER}=docker"))
    }
}

/// Debian's podman, on runc: crun refuses a host that has both cgroup versions.
pub struct Podman {
    root: PathBuf,
    config: PathBuf,
    netns: Netns,
}

/// Where podman makes its containers' cgroups.
const PODMAN_CGROUP: &str = "libpod_parent";

impl Podman {
    /// Prepares its folders; it has no daemon.
    pub fn new(work: &Path) -> Result<Self> {
        let root = work.join("podman");
        std::fs::create_dir_all(&root)?;
        let config = root.join("containers.conf");
        // Its own defaults are more than a caller without CAP_SYS_RESOURCE may set.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let most = limit.maximum.unwrap_or(1 << 20);
        std::fs::write(
            &config,
            format!(
                "[containers]\ndefault_ulimits = [\"nofile=1024:{most}\", \"nproc=4096:4096\"]\n\
                 [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n"
            ),
        )?;
        Ok(Self {
            root,
            config,
            netns: Netns::new("podman")?,
        })
    }
}

impl Engine for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        shell::output(
            self.netns
                .enter("podman")
                .arg("--root")
                .arg(self.root.join("data"))
                .arg("--runroot")
                .arg(self.root.join("run"))
                .arg("--tmpdir")
                .arg(self.root.join("tmp"))
                .args(args)
                .env("CONTAINERS_CONF", &self.config)
                .env(MARKER, "podman"),
        )
    }

    fn processes(&self) -> Result<Vec<u32>> {
        memory::marked(&format!("{MARKER}=podman"))
    }

    fn remove(&self) -> &'static [&'static str] {
        &["rm", "-f", "-t", "0"]
    }

    fn network<'n>(&self, name: &'n str) -> &'n str {
        if name == "bridge" { "podman" } else { name }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "-f", "-a", "-t", "0"]);
        // It keeps its storage mounted onto itself, and the parents of its cgroups; those in use stay.
        let _ = rustix::mount::unmount(
            self.root.join("data/overlay"),
            rustix::mount::UnmountFlags::DETACH,
        );
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = std::fs::remove_dir(hierarchy.path().join(PODMAN_CGROUP));
        }
    }
}

/// A root file system with nothing but Debian's static busybox, as a tar.
pub fn busybox_tar(work: &Path) -> Result<PathBuf> {
    let root = work.join("busybox");
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).context("/bin/busybox")?;
    for name in ["sh", "true", "sleep", "cat", "echo", "ls"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let tar = work.join("busybox.tar");
    shell::output(
        Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg("."),
    )?;
    Ok(tar)
}
