//! Other people's engines run containers through this runtime: dockerd, containerd and Podman.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::Runtime;
use hull_testkit::docker::DockerCli;
use hull_testkit::process::{Output, eventually, run, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// A daemon that ends with the test.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command, socket: &Path) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = Self(child.spawn().unwrap());
        let there = || std::os::unix::net::UnixStream::connect(socket).is_ok();
        assert!(
            eventually(LIMIT, there),
            "{} does not listen",
            socket.display()
        );
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        use std::os::fd::AsFd;
        // Politely: dockerd stops the containerd that it started.
        if let Ok(fd) = hull_sys::pidfd::open(self.0.id() as i32) {
            let _ = hull_sys::pidfd::send_signal(fd.as_fd(), libc::SIGTERM);
        }
        if !matches!(wait(&mut self.0, Duration::from_secs(20)), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// A limit of the cgroup `path`, counted from the root: `v1` is `controller/file`, `v2` the file.
fn limit(path: &str, v1: &str, v2: &str) -> String {
    let root = Path::new("/sys/fs/cgroup");
    let (controller, file) = v1.split_once('/').unwrap();
    let old = root.join(controller).join(path).join(file);
    let file = if old.exists() {
        old
    } else {
        root.join(path).join(v2)
    };
    let text = std::fs::read_to_string(&file);
    let text = text.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.trim().to_owned()
}

fn pids_max(path: &str) -> String {
    limit(path, "pids/pids.max", "pids.max")
}

fn memory_max(path: &str) -> String {
    limit(path, "memory/memory.limit_in_bytes", "memory.max")
}

fn rootfs(rt: &Runtime) -> PathBuf {
    let path = rt.root.join("image");
    hull_testkit::image::busybox_rootfs(&path).unwrap();
    path
}

/// Mounts that a daemon leaves below its folders would keep the test's own folder from being removed.
fn unmount_below(path: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|p| Path::new(p).starts_with(path)) {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn dockerd() {
    let Some(rt) = Runtime::new() else { return };
    let Some(program) = hull_testkit::skips::program("dockerd") else {
        return hull_testkit::skip!("dockerd is not installed");
    };
    let socket = rt.root.join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let Some(docker) = DockerCli::new(&host) else {
        return hull_testkit::skip!("docker is not installed");
    };
    let path = |name: &str| rt.root.join(name).display().to_string();
    let daemon = Daemon::start(
        Command::new(program)
            .args([
                "--data-root",
                &path("data"),
                "--exec-root",
                &path("exec"),
                "--pidfile",
                &path("pid"),
            ])
            .args([
                "-H",
                &host,
                "--bridge=none",
                "--iptables=false",
                "--storage-driver=vfs",
            ])
            .args([
                "--add-runtime",
                &format!("hull={}", Runtime::program().display()),
            ])
            .args([
                "--default-runtime",
                "hull",
                "--cgroup-parent",
                &format!("/{}", rt.root.name()),
            ]),
        &socket,
    );
    let tar = path("image.tar");
    let image = rootfs(&rt);
    assert!(
        Command::new("tar")
            .arg("-C")
            .arg(&image)
            .args(["-cf", &tar, "."])
            .status()
            .unwrap()
            .success()
    );
    docker.ok(["import", &tar, "busybox"]);
    let run = |args: &[&str]| docker.run(["run", "--rm", "--network=none"].iter().chain(args));
    assert_eq!(run(&["busybox", "sh", "-c", "id -u; exit 3"]).code(), 3);
    let limits = [
        "-m",
        "32m",
        "--pids-limit",
        "20",
        "--cpus",
        "0.5",
        "--read-only",
        "--user",
        "1000:1000",
    ];
    let output = run(&[&limits[..], &["busybox", "id", "-u"]].concat());
    assert_eq!(output.ok(), "1000");
    let output = run(&["busybox", "nosuch"]);
    assert_eq!(output.code(), 127);
    assert!(
        output.stderr.contains("executable file not found in $PATH"),
        "{}",
        output.stderr
    );
    assert_eq!(run(&["busybox", "/etc/passwd"]).code(), 126);

    let id = docker.ok([
        "run",
        "-d",
        "--name",
        "cc",
        "--network=none",
        "--pids-limit=22",
        "busybox",
        "sleep",
        "1000",
    ]);
    let cgroup = format!("{}/{id}", rt.root.name());
    assert_eq!(pids_max(&cgroup), "22");
    assert_eq!(docker.ok(["exec", "-w", "/tmp", "cc", "pwd"]), "/tmp");
    assert_eq!(docker.ok(["exec", "-t", "cc", "tty"]), "/dev/pts/0");
    docker.ok(["pause", "cc"]);
    assert_eq!(
        docker.ok(["inspect", "-f", "{{.State.Status}}", "cc"]),
        "paused"
    );
    docker.ok(["unpause", "cc"]);
    docker.ok(["update", "--pids-limit", "33", "cc"]);
    assert_eq!(pids_max(&cgroup), "33");
    docker.ok(["rm", "-f", "cc"]);
    drop(daemon);
    unmount_below(rt.root.path());
}

#[test]
fn podman() {
    let Some(rt) = Runtime::new() else { return };
    let Some(program) = hull_testkit::skips::program("podman") else {
        return hull_testkit::skip!("podman is not installed");
    };
    let podman = |args: &[&str]| -> Output {
        let mut command = Command::new(&program);
        command
            .arg("--root")
            .arg(rt.root.join("storage"))
            .arg("--runroot")
            .arg(rt.root.join("run"));
        command.arg("--runtime").arg(Runtime::program());
        command.args([
            "--cgroup-manager=cgroupfs",
            "--storage-driver=vfs",
            "--events-backend=none",
        ]);
        command.args(args);
        run(&mut command, LIMIT).unwrap()
    };
    // Its default limits are above what this machine allows anybody.
    let create = |args: &[&str]| {
        let parent = format!("--cgroup-parent=/{}", rt.root.name());
        let fixed = [
            "run",
            "--network=none",
            "--ulimit=nofile=1000:1000",
            "--ulimit=nproc=1000:1000",
            &parent,
        ];
        podman(&[&fixed, args].concat())
    };
    let image = rootfs(&rt).display().to_string();
    let output = create(&["--rm", "--rootfs", &image, "sh", "-c", "id -u; exit 3"]);
    assert_eq!(output.code(), 3, "{}", output.stderr);
    let limits = ["-d", "--name=c", "-m=64m", "--pids-limit=22"];
    let created = create(&[&limits[..], &["--rootfs", &image, "sleep", "1000"]].concat());
    let cgroup = format!("{}/libpod-{}", rt.root.name(), created.ok());
    assert_eq!(memory_max(&cgroup), "67108864");
    assert_eq!(pids_max(&cgroup), "22");
    assert_eq!(podman(&["exec", "c", "id", "-u"]).ok(), "0");
    assert_eq!(podman(&["exec", "-t", "c", "tty"]).ok(), "/dev/pts/0");
    podman(&["pause", "c"]).ok();
    podman(&["unpause", "c"]).ok();
    podman(&["rm", "-f", "-t", "0", "c"]).ok();
    unmount_below(rt.root.path());
}

#[test]
fn containerd() {
    let Some(rt) = Runtime::new() else { return };
    let programs = ["containerd", "ctr"].map(hull_testkit::skips::program);
    let [Some(containerd), Some(ctr)] = programs else {
        return hull_testkit::skip!("containerd is not installed");
    };
    let path = |name: &str| rt.root.join(name).display().to_string();
    let socket = rt.root.join("c.sock");
    let config = rt.root.file("config.toml", format!("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[ttrpc]\naddress = \"{}\"\n", path("t.sock")));
    let daemon = Daemon::start(
        Command::new(containerd).arg("--config").arg(config).args([
            "--root",
            &path("root"),
            "--state",
            &path("st"),
            "--address",
            &path("c.sock"),
        ]),
        &socket,
    );
    let ctr = |args: &[&str]| -> Output {
        let mut command = Command::new(&ctr);
        command.args(["--address", &path("c.sock")]).args(args);
        run(&mut command, LIMIT).unwrap()
    };
    let program = Runtime::program().display().to_string();
    let image = rootfs(&rt).display().to_string();
    let id = rt.id("c");
    let fixed = ["run", "--runc-binary", &program, "--rootfs"];
    let output = ctr(&[
        &fixed[..],
        &["--rm", &image, &rt.id("one"), "sh", "-c", "id -u; exit 3"],
    ]
    .concat());
    assert_eq!(
        (output.code(), output.stdout.as_str()),
        (3, "0\n"),
        "{}",
        output.stderr
    );
    ctr(&[
        &fixed[..],
        &[
            "-d",
            "--memory-limit",
            "33554432",
            &image,
            &id,
            "sleep",
            "1000",
        ],
    ]
    .concat())
    .ok();
    assert_eq!(memory_max(&format!("default/{id}")), "33554432");
    assert_eq!(
        ctr(&["task", "exec", "--exec-id", "e", &id, "id", "-u"]).ok(),
        "0"
    );
    ctr(&["task", "pause", &id]).ok();
    ctr(&["task", "resume", &id]).ok();
    ctr(&["task", "kill", "-s", "KILL", &id]).ok();
    let gone = || ctr(&["task", "rm", &id]).code() == 0;
    assert!(eventually(Duration::from_secs(20), gone));
    ctr(&["container", "rm", &id]).ok();
    drop(daemon);
    unmount_below(rt.root.path());
}
