//! The image stores that are compared: Hull, docker.io, podman, and containerd with ctr.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::engines::{Daemon, Netns, answers};
use crate::bench::memory;
use crate::shell;

/// What an operation took.
#[derive(Clone, Copy)]
pub struct Cost {
    pub wall: Duration,
    /// Of the daemon and of the command together.
    pub processor: Duration,
}

/// One image store.
pub trait Subject {
    fn name(&self) -> &'static str;
    /// Where everything of it lies.
    fn root(&self) -> &Path;
    /// Its command line, in the bench's network namespace, with what it always needs.
    fn command(&self, words: &[&str]) -> Command;
    /// In the environment of its daemon and all that this starts; none without a daemon.
    fn marker(&self) -> Option<&'static str>;
    /// Whether it saves and loads Docker archives.
    fn has_archives(&self) -> bool {
        true
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        shell::output(&mut self.command(words)).map(drop)
    }

    fn pull(&self, reference: &str) -> Result<()> {
        self.run(&["pull", "--quiet", reference])
    }

    fn push(&self, reference: &str) -> Result<()> {
        self.run(&["push", "--quiet", reference])
    }

    fn tag(&self, from: &str, to: &str) -> Result<()> {
        self.run(&["tag", from, to])
    }

    fn save(&self, reference: &str, file: &Path) -> Result<()> {
        self.run(&["save", "-o", text(file)?, reference])
    }

    fn load(&self, file: &Path) -> Result<()> {
        self.run(&["load", "--quiet", "-i", text(file)?])
    }

    /// Removes a name, and what only it held.
    fn remove(&self, reference: &str) -> Result<()> {
        self.run(&["rmi", reference])
    }

    /// Measures one operation.
    fn cost(&self, operation: &mut dyn FnMut() -> Result<()>) -> Result<Cost> {
        let before = self.ticks()?;
        let start = Instant::now();
        operation()?;
        let wall = start.elapsed();
        let ticks = self.ticks()?.saturating_sub(before);
        Ok(Cost {
            wall,
            processor: Duration::from_millis(ticks * 10),
        })
    }

    /// Processor time of the daemon and its children, and of the commands that were waited for, in hundredths of a second.
    fn ticks(&self) -> Result<u64> {
        let mut sum = ticks_of("self", &[15, 16])?;
        for pid in self.processes()? {
            // One that has ended since is in its parent's sum.
            sum += ticks_of(&pid.to_string(), &[13, 14, 15, 16]).unwrap_or(0);
        }
        Ok(sum)
    }

    fn processes(&self) -> Result<Vec<u32>> {
        match self.marker() {
            Some(marker) => memory::marked(marker),
            None => Ok(Vec::new()),
        }
    }

    /// The daemon's largest resident size so far, all its processes together.
    fn peak_memory(&self) -> Result<Option<u64>> {
        let mut sum = 0;
        for pid in self.processes()? {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let kib: u64 = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(0);
            sum += kib << 10;
        }
        Ok((sum > 0).then_some(sum))
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// The sum of some fields of `/proc/PID/stat`, counted from 0 as in proc(5) less one.
fn ticks_of(pid: &str, fields: &[usize]) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a line of /proc/PID/stat")?;
    let words: Vec<&str> = rest.split(' ').collect();
    // `rest` begins with the third field.
    let field = |&index: &usize| {
        words
            .get(index - 2)
            .and_then(|word| word.parse::<u64>().ok())
    };
    Ok(fields.iter().filter_map(field).sum())
}

/// All of them, started.
pub fn all(netns: &Netns, work: &Path) -> Result<Vec<Box<dyn Subject>>> {
    Ok(vec![
        Box::new(Hull::start(netns, &work.join("hull"))?),
        Box::new(Docker::start(netns, &work.join("docker"))?),
        Box::new(Podman {
            netns: netns.clone(),
            root: made(work.join("podman"))?,
        }),
        Box::new(Ctr::start(netns, &work.join("ctr"))?),
    ])
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A daemon with Docker's command line flags.
fn start_daemon(mut command: Command, root: &Path, marker: &str) -> Result<Daemon> {
    made(root.to_owned())?;
    let socket = root.join("sock");
    let (key, value) = marker.split_once('=').context("a marker")?;
    command
        .arg("-H")
        .arg(format!("unix://{}", socket.display()))
        .arg("--data-root")
        .arg(root.join("data"))
        .arg("--exec-root")
        .arg(root.join("run"))
        .arg("--pidfile")
        .arg(root.join("pid"))
        .args(["--bridge", "none", "--iptables=false"])
        .env(key, value);
    Daemon::start(command, root.join("log"), || answers(&socket))
}

struct Hull {
    program: PathBuf,
    netns: Netns,
    root: PathBuf,
    _daemon: Daemon,
}

impl Hull {
    fn start(netns: &Netns, root: &Path) -> Result<Self> {
        let program = shell::target_dir().join("release/hull");
        let mut command = netns.enter(&program);
        command.arg("daemon");
        Ok(Self {
            program,
            netns: netns.clone(),
            root: root.to_owned(),
            _daemon: start_daemon(command, root, "HULL_BENCH_IMAGES=hull")?,
        })
    }
}

impl Subject for Hull {
    fn name(&self) -> &'static str {
        "hull"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn marker(&self) -> Option<&'static str> {
        Some("HULL_BENCH_IMAGES=hull")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.netns.enter(&self.program);
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}/sock", self.root.display()),
            )
            .env("DOCKER_CONFIG", self.root.join("config"))
            .args(words);
        command
    }
}

struct Docker {
    netns: Netns,
    root: PathBuf,
    _daemon: Daemon,
}

impl Docker {
    fn start(netns: &Netns, root: &Path) -> Result<Self> {
        let daemon = start_daemon(netns.enter("dockerd"), root, "HULL_BENCH_IMAGES=docker")?;
        Ok(Self {
            netns: netns.clone(),
            root: root.to_owned(),
            _daemon: daemon,
        })
    }
}

impl Subject for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn marker(&self) -> Option<&'static str> {
        Some("HULL_BENCH_IMAGES=docker")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.netns.enter("docker");
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}/sock", self.root.display()),
            )
            .env("DOCKER_CONFIG", self.root.join("config"))
            .args(words);
        command
    }
}

struct Podman {
    netns: Netns,
    root: PathBuf,
}

impl Subject for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn marker(&self) -> Option<&'static str> {
        None
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.netns.enter("podman");
        command
            .arg("--root")
            .arg(self.root.join("data"))
            .arg("--runroot")
            .arg(self.root.join("run"))
            .arg("--tmpdir")
            .arg(self.root.join("tmp"))
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
            .args(words)
            .env("TMPDIR", &self.root);
        command
    }

    fn pull(&self, reference: &str) -> Result<()> {
        self.run(&["pull", "--quiet", "--tls-verify=false", reference])
    }

    fn push(&self, reference: &str) -> Result<()> {
        self.run(&["push", "--quiet", "--tls-verify=false", reference])
    }

    fn remove(&self, reference: &str) -> Result<()> {
        self.run(&["rmi", "--force", reference])
    }
}

/// containerd with its own client. What is pulled is unpacked too.
struct Ctr {
    netns: Netns,
    root: PathBuf,
    _daemon: Daemon,
}

impl Ctr {
    fn start(netns: &Netns, root: &Path) -> Result<Self> {
        made(root.to_owned())?;
        let socket = root.join("sock");
        let config = root.join("config.toml");
        let plugins = r#"disabled_plugins = ["io.containerd.grpc.v1.cri"]"#;
        std::fs::write(&config, format!("version = 2\n{plugins}\n"))?;
        let mut command = netns.enter("containerd");
        command
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(root.join("data"))
            .arg("--state")
            .arg(root.join("run"))
            .arg("--address")
            .arg(&socket)
            .env("HULL_BENCH_IMAGES", "ctr");
        let ready = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        Ok(Self {
            netns: netns.clone(),
            root: root.to_owned(),
            _daemon: Daemon::start(command, root.join("log"), ready)?,
        })
    }
}

impl Subject for Ctr {
    fn name(&self) -> &'static str {
        "ctr"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn marker(&self) -> Option<&'static str> {
        Some("HULL_BENCH_IMAGES=ctr")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.netns.enter("ctr");
        command
            .arg("--address")
            .arg(self.root.join("sock"))
            .args(["--namespace", "bench", "images"])
            .args(words);
        command
    }

    fn has_archives(&self) -> bool {
        false
    }

    fn pull(&self, reference: &str) -> Result<()> {
        self.run(&["pull", "--plain-http", reference])
    }

    fn push(&self, reference: &str) -> Result<()> {
        self.run(&["push", "--plain-http", reference])
    }

    fn remove(&self, reference: &str) -> Result<()> {
        self.run(&["rm", "--sync", reference])
    }
}

/// Debian's docker-registry in the bench's network namespace.
pub struct Registry {
    root: PathBuf,
    _daemon: Daemon,
}

impl Registry {
    /// Starts one on `port` of loopback, with its files at `root`.
    pub fn start(netns: &Netns, root: &Path, port: u16) -> Result<Self> {
        made(root.to_owned())?;
        let config = root.join("config.yml");
        let data = root.join("data");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
                data.display()
            ),
        )?;
        let mut command = netns.enter("docker-registry");
        command.arg("serve").arg(&config);
        let probe = netns.clone();
        let url = format!("http://127.0.0.1:{port}/v2/");
        let ready = move || {
            let mut curl = probe.enter("curl");
            shell::output(curl.args(["--silent", "--fail", &url])).is_ok()
        };
        Ok(Self {
            root: root.to_owned(),
            _daemon: Daemon::start(command, root.join("log"), ready)?,
        })
    }

    /// The requests answered so far, by its access log.
    pub fn requests(&self) -> Result<usize> {
        // The log is written before the answer's end is sent, but by another thread.
        std::thread::sleep(Duration::from_millis(100));
        let log = std::fs::read_to_string(self.root.join("log"))?;
        Ok(log
            .lines()
            .filter(|line| line.contains("HTTP/1.1\" "))
            .count())
    }

    /// The files of all compressed layers.
    pub fn blobs(&self) -> Result<Vec<PathBuf>> {
        let list = shell::output(Command::new("find").arg(&self.root).args([
            "-path",
            "*/blobs/*",
            "-name",
            "data",
            "-size",
            "+64k",
        ]))?;
        let blobs: Vec<PathBuf> = list.lines().map(PathBuf::from).collect();
        if blobs.is_empty() {
            bail!("the registry has no layers");
        }
        Ok(blobs)
    }
}
