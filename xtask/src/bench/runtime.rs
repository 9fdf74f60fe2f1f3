//! `./x bench runtime`: Hull's OCI runtime beside runc and crun on one bundle, and the kernel's floor for the same steps.
//!
//! All of it happens in a private mount namespace whose `/sys/fs/cgroup` shows the v1 hierarchies alone where the host has both
//! versions: crun refuses such a host, and so all runtimes see the same one.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hull_security::{caps, seccomp};
use hull_sys::clone::CLONE_NEWNS;
use hull_sys::mount;
use rustix::mount::{MountPropagationFlags, mount_change};
use serde_json::{Value, json};

use super::report::{Report, Row};
use super::runtime_floor::Floor;
use super::{median, timed};
use crate::apt::{self, need};
use crate::shell;

/// How much to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Samples of each operation.
    #[arg(long, default_value_t = 51)]
    samples: usize,
}

/// A runtime with runc's command line.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    /// What comes before runc's own arguments.
    first: &'static [&'static str],
    state: PathBuf,
}

impl Runtime {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(self.first)
            .arg("--root")
            .arg(&self.state)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// The name of the container that waits: also of its cgroup, so each its own.
    fn container(&self) -> String {
        format!("hull-bench-{}-{}", self.name, std::process::id())
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        // Its standard error is ours: a container that goes on running would hold a pipe open.
        shell::run(&mut self.command(args))
    }

    /// The most memory that the process held, in bytes. Asked of time(1), which is small: a process that was just forked counts what its
    /// parent holds.
    fn peak(&self, args: &[&str], work: &Path) -> Result<u64> {
        let file = work.join("peak");
        let inner = self.command(args);
        let mut command = Command::new("/usr/bin/time");
        command.args(["--quiet", "-f", "%M", "-o"]).arg(&file);
        command
            .arg(inner.get_program())
            .args(inner.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        shell::run(&mut command)?;
        let kib: u64 = std::fs::read_to_string(&file)?.trim().parse()?;
        Ok(kib << 10)
    }
}

/// Measures and prints a Markdown table.
pub fn run(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("runtimes need root here: run ./x bench runtime as root");
    }
    apt::install(&[
        need("runc", "runc"),
        need("crun", "crun"),
        need("busybox", "busybox-static"),
        need("/usr/bin/time", "time"),
    ])?;
    super::build()?;
    let work = tempfile::Builder::new()
        .prefix("hull-bench-")
        .tempdir_in("/dev/shm")?;
    let hierarchies = one_version()?;
    let runtimes = [
        (
            "hull",
            shell::target_dir().join("release/hull"),
            &["runtime"][..],
        ),
        ("runc", "runc".into(), &[]),
        ("crun", "crun".into(), &[]),
    ]
    .map(|(name, program, first)| Runtime {
        name,
        program,
        first,
        state: work.path().join("state").join(name),
    });
    let bundle = Bundle::make(work.path(), &runtimes[0])?;
    let floor = Floor::new(&bundle.root, hierarchies, &bundle.seccomp)?;
    let mut report = Report::new(&["runc", "crun"], "kernel floor");
    report.add(runs(&runtimes, &bundle, &floor, args.samples)?);
    let run = bundle.run();
    let mut memory = Row::new("peak memory of run");
    for runtime in &runtimes {
        memory = memory.bytes(runtime.name, runtime.peak(&run, work.path())?);
    }
    report.add(memory);
    let waiting = bundle.waiting.to_str().unwrap_or_default();
    let execs = runtimes
        .iter()
        .try_for_each(|runtime| {
            runtime.run(&["run", "-d", "--bundle", waiting, &runtime.container()])
        })
        .and_then(|()| execs(&runtimes, &floor, args.samples, work.path()));
    for runtime in &runtimes {
        // Also those that were never made.
        let _ = runtime.run(&["delete", "-f", &runtime.container()]);
    }
    let (times, memory) = execs?;
    report.add(times);
    report.add(memory);
    for program in ["runc", "crun"] {
        let version = shell::output(Command::new(program).arg("--version"))?;
        println!("{}", version.lines().next().unwrap_or_default());
    }
    println!("{}", report.markdown());
    Ok(())
}

fn runs(runtimes: &[Runtime], bundle: &Bundle, floor: &Floor, samples: usize) -> Result<Row> {
    let args = bundle.run();
    let once = |runtime: &Runtime| timed(|| runtime.run(&args)).map(|((), took)| took);
    interleaved("run", runtimes, samples, once, || floor.run())
}

fn execs(runtimes: &[Runtime], floor: &Floor, samples: usize, work: &Path) -> Result<(Row, Row)> {
    let hull = &runtimes[0];
    let state = hull
        .command(&["state", &hull.container()])
        .stdout(Stdio::piped())
        .output()?;
    let state: Value = serde_json::from_slice(&state.stdout)?;
    let pid = i32::try_from(state["pid"].as_i64().context("pid")?)?;
    let tasks = floor.tasks_of(pid)?;
    let once = |runtime: &Runtime| {
        let name = runtime.container();
        timed(|| runtime.run(&["exec", &name, "/bin/true"])).map(|((), took)| took)
    };
    let times = interleaved("exec true", runtimes, samples, once, || {
        floor.exec(pid, &tasks)
    })?;
    let mut memory = Row::new("peak memory of exec");
    for runtime in runtimes {
        let peak = runtime.peak(&["exec", &runtime.container(), "/bin/true"], work)?;
        memory = memory.bytes(runtime.name, peak);
    }
    Ok((times, memory))
}

/// Medians; the first sample of each warms caches and is not counted.
fn interleaved(
    name: &str,
    runtimes: &[Runtime],
    samples: usize,
    once: impl Fn(&Runtime) -> Result<Duration>,
    floor: impl Fn() -> Result<Duration>,
) -> Result<Row> {
    let mut times = vec![Vec::new(); runtimes.len() + 1];
    for sample in 0..=samples {
        for (index, times) in times.iter_mut().enumerate() {
            let took = match runtimes.get(index) {
                Some(runtime) => once(runtime)?,
                None => floor()?,
            };
            if sample > 0 {
                times.push(took);
            }
        }
    }
    let mut row = Row::new(name);
    let names = runtimes.iter().map(|runtime| runtime.name).chain(["floor"]);
    for (name, times) in names.zip(times) {
        row = row.time(name, median(times));
    }
    Ok(row)
}

/// Takes this process into a mount namespace of its own, with cgroup v1 alone if the host has both. The v1 directories, if any.
fn one_version() -> Result<Vec<PathBuf>> {
    hull_sys::ns::unshare(CLONE_NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let cgroups = Path::new("/sys/fs/cgroup");
    let of_process = std::fs::read_to_string("/proc/self/cgroup")?;
    let v1: Vec<&str> = of_process
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .map(|controllers| controllers.trim_start_matches("name="))
        .filter(|name| !name.is_empty() && cgroups.join(name).join("cgroup.procs").exists())
        .collect();
    if v1.is_empty() {
        return Ok(Vec::new());
    }
    let hierarchies = v1
        .iter()
        .map(|name| mount::clone_tree(rustix::fs::CWD, &cgroups.join(name), false))
        .collect::<Result<Vec<_>, _>>()?;
    let alone = mount::detached("tmpfs", Some("cgroup"), &["mode=755"])?;
    mount::attach(alone.as_fd(), None, cgroups)?;
    for (name, hierarchy) in v1.iter().zip(hierarchies) {
        std::fs::create_dir(cgroups.join(name))?;
        mount::attach(hierarchy.as_fd(), None, &cgroups.join(name))?;
    }
    Ok(v1.iter().map(|name| cgroups.join(name)).collect())
}

/// Two bundles of Debian's static busybox: one whose program ends at once, one whose program waits.
struct Bundle {
    root: PathBuf,
    ending: PathBuf,
    waiting: PathBuf,
    seccomp: hull_oci::runtime::Seccomp,
}

impl Bundle {
    /// runc's own template, with all namespaces and Docker's filter.
    fn make(work: &Path, hull: &Runtime) -> Result<Self> {
        let root = work.join("rootfs");
        for folder in ["bin", "dev", "proc", "sys"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        for name in ["true", "sleep"] {
            std::fs::copy("/bin/busybox", root.join("bin").join(name)).context("/bin/busybox")?;
        }
        let (ending, waiting) = (work.join("ending"), work.join("waiting"));
        std::fs::create_dir(&ending)?;
        std::fs::create_dir(&waiting)?;
        hull.run(&["spec", "--bundle", ending.to_str().unwrap_or_default()])?;
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(ending.join("config.json"))?)?;
        let defaults = caps::tweak(&[], &[], false)?;
        let filter = seccomp::default_profile(&defaults, seccomp::Kernel::running());
        // What the oldest of the runtimes knows.
        config["ociVersion"] = json!("1.0.2");
        config["process"]["terminal"] = json!(false);
        config["root"]["path"] = json!(root);
        config["linux"]["seccomp"] = serde_json::to_value(&filter)?;
        for (folder, program) in [
            (&ending, json!(["/bin/true"])),
            (&waiting, json!(["/bin/sleep", "1000"])),
        ] {
            config["process"]["args"] = program;
            std::fs::write(folder.join("config.json"), config.to_string())?;
        }
        Ok(Self {
            root,
            ending,
            waiting,
            seccomp: filter,
        })
    }

    fn run(&self) -> [&str; 4] {
        [
            "run",
            "--bundle",
            self.ending.to_str().unwrap_or_default(),
            "ends",
        ]
    }
}
