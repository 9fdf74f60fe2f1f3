//! The runtime under test, and one container of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hull_testkit::TempRoot;
use hull_testkit::bundle::Bundle;
use hull_testkit::process::{self, Output};
use serde_json::Value;

/// Whose runtime it is, for what one of them is known to lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    Hull,
    Runc,
    Crun,
    Other,
}

/// The runtime under test.
#[derive(Debug)]
pub struct Subject {
    program: PathBuf,
    first: &'static [&'static str],
    pub flavor: Flavor,
}

/// The one runtime of this run.
pub fn subject() -> &'static Subject {
    static SUBJECT: OnceLock<Subject> = OnceLock::new();
    SUBJECT.get_or_init(|| {
        let Some(path) = std::env::var_os("HULL_CONFORMANCE_RUNTIME") else {
            return Subject {
                program: hull_testkit::binary::hull().to_owned(),
                first: &["runtime"],
                flavor: Flavor::Hull,
            };
        };
        let path = PathBuf::from(path);
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let version = process::run(
            Command::new(&path).arg("--version"),
            Duration::from_secs(20),
        )
        .expect("run the subject with --version");
        let flavor = match version.stdout.split_whitespace().next() {
            Some("runc") if !version.stdout.contains("hull") => Flavor::Runc,
            Some("crun") => Flavor::Crun,
            _ if name.starts_with("hull") || version.stdout.contains("hull") => Flavor::Hull,
            _ => Flavor::Other,
        };
        let first: &[&str] = if name == "hull" { &["runtime"] } else { &[] };
        Subject {
            program: path,
            first,
            flavor,
        }
    })
}

/// Says that the case cannot run here; gives whether that is so.
macro_rules! cannot {
    ($condition:expr, $($reason:tt)+) => {
        if $condition {
            hull_testkit::skip!($($reason)+);
            return;
        }
    };
}
pub(crate) use cannot;

/// Whether the subject is one of these.
pub fn is(flavors: &[Flavor]) -> bool {
    flavors.contains(&subject().flavor)
}

/// Whether the machine has the unified hierarchy with controllers at /sys/fs/cgroup.
pub fn cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// How long any command of a runtime may take; emulated machines are slow.
const LIMIT: Duration = Duration::from_secs(60);

/// A bundle and the container made of it. Dropping it removes the container and checks that nothing of it remains.
#[derive(Debug)]
pub struct Case {
    pub bundle: Bundle,
    pub root: TempRoot,
    pub id: String,
}

impl Subject {
    /// The program's file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The word that makes the program a runtime, if it is more than that.
    pub fn subcommand(&self) -> String {
        self.first.concat()
    }
}

impl Case {
    /// A container that runs `args`. All its names carry its id, and its cgroup is `/<id>`.
    pub fn new(args: &[&str]) -> Case {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!(
            "hconf-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let root = TempRoot::new(&id);
        let mut bundle = Bundle::new(&root, "bundle", args);
        bundle.edit(|spec| spec["linux"]["cgroupsPath"] = format!("/{id}").into());
        root.folder("state");
        Case { bundle, root, id }
    }

    /// A container that runs a script of busybox's shell.
    pub fn script(script: &str) -> Case {
        Case::new(&["sh", "-c", script])
    }

    /// A container that does nothing until it is killed.
    pub fn idle() -> Case {
        Case::new(&["sleep", "1000"])
    }

    /// Changes the spec.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Case {
        self.bundle.edit(change);
        self
    }

    /// Adds a mount.
    pub fn mount(self, mount: Value) -> Case {
        self.edit(|spec| spec["mounts"].as_array_mut().expect("mounts").push(mount))
    }

    /// The runtime with this case's state directory.
    pub fn runtime<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&subject().program);
        command
            .args(subject().first)
            .arg("--root")
            .arg(self.root.join("state"))
            .args(args);
        command.current_dir(self.bundle.path());
        command
    }

    /// Runs the runtime to its end.
    ///
    /// Output goes to files: what a container leaves behind keeps a pipe open, and a runtime is not to be waited for on its account.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.runtime(args);
        self.finish(&mut command)
    }

    #[track_caller]
    fn finish(&self, command: &mut Command) -> Output {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (
            self.root.join(format!("stdout-{number}")),
            self.root.join(format!("stderr-{number}")),
        );
        let file = |path: &Path| fs::File::create(path).expect("make an output file");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&err))
            .spawn()
            .expect("start the runtime");
        let status = process::wait(&mut child, LIMIT).expect("wait for the runtime");
        let text =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let Some(status) = status else {
            child.kill().expect("kill the runtime");
            child.wait().expect("reap the runtime");
            panic!(
                "{command:?} hangs; stdout: {}; stderr: {}",
                text(&out),
                text(&err)
            );
        };
        Output {
            status,
            stdout: text(&out),
            stderr: text(&err),
        }
    }

    /// `run`, to the end of the container.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.call([
            "run",
            "--bundle",
            &self.bundle.path().to_string_lossy(),
            &self.id,
        ])
    }

    /// `run` that has to succeed; what the container printed.
    #[track_caller]
    pub fn output(&self) -> String {
        self.run().ok().to_owned()
    }

    /// `create`.
    #[track_caller]
    pub fn try_create(&self) -> Output {
        self.call([
            "create",
            "--bundle",
            &self.bundle.path().to_string_lossy(),
            &self.id,
        ])
    }

    /// `create` that has to succeed.
    #[track_caller]
    pub fn create(&self) -> &Case {
        self.try_create().ok();
        self
    }

    /// `start` that has to succeed.
    #[track_caller]
    pub fn start(&self) -> &Case {
        self.call(["start", &self.id]).ok();
        self
    }

    /// `create` and `start`.
    #[track_caller]
    pub fn up(&self) -> &Case {
        self.create().start()
    }

    /// `run` in the background, with its standard output as a file.
    pub fn spawn(&self) -> Child {
        let mut command = self.runtime([
            "run",
            "--bundle",
            &self.bundle.path().to_string_lossy(),
            &self.id,
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the runtime")
    }

    /// `state` that has to succeed.
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(self.call(["state", &self.id]).ok()).expect("state prints JSON")
    }

    /// The status in `state`, or nothing when there is no such container.
    pub fn status(&self) -> Option<String> {
        let output = self.call(["state", &self.id]);
        let state: Value = serde_json::from_str(&output.stdout).ok()?;
        output
            .status
            .success()
            .then(|| state["status"].as_str().unwrap_or_default().to_owned())
    }

    /// The process id on the host.
    #[track_caller]
    pub fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().expect("state has a pid")
    }

    /// Waits for a status.
    #[track_caller]
    pub fn await_status(&self, status: &str) {
        let came = process::eventually(Duration::from_secs(20), || {
            self.status().as_deref() == Some(status)
        });
        assert!(
            came,
            "the container did not become {status} but {:?}",
            self.status()
        );
    }

    /// `exec` with a command line.
    #[track_caller]
    pub fn exec(&self, options: &[&str], args: &[&str]) -> Output {
        let mut words = vec!["exec"];
        words.extend(options);
        words.push(&self.id);
        words.extend(args);
        self.call(words)
    }

    /// Kills the container and waits until it counts as stopped.
    #[track_caller]
    pub fn stop(&self) {
        self.call(["kill", &self.id, "KILL"]).ok();
        self.await_status("stopped");
    }

    /// A file that the container's root file system will have.
    pub fn file(&self, path: &str, content: &str) -> PathBuf {
        let path = self.bundle.rootfs(path);
        fs::write(&path, content).expect("write into the root file system");
        path
    }

    /// An executable file in the root file system. Another process writes it: see `busybox_rootfs` in the testkit.
    pub fn program(&self, path: &str, content: &str) -> PathBuf {
        write_program(&self.bundle.rootfs(path), content)
    }

    /// Whether anything is left of the container in the kernel.
    fn remains(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut found: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(&self.id))
            .map(|line| format!("mount {line}"))
            .collect();
        for folder in cgroup_folders(&self.id) {
            found.push(format!("cgroup {}", folder.display()));
        }
        found
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The first failure counts; this one only cleans.
            let _ = self
                .runtime(["delete", "--force", &self.id])
                .stdin(Stdio::null())
                .output();
            return;
        }
        if self.status().is_some() {
            self.call(["delete", "--force", &self.id]).ok();
        }
        assert_eq!(
            self.status(),
            None,
            "the container is still known after delete"
        );
        if is(&[Flavor::Crun]) {
            // crun 1.8 leaves the cgroup of a creation that failed.
            for folder in cgroup_folders(&self.id) {
                let _ = fs::remove_dir(folder);
            }
        }
        let clean = process::eventually(Duration::from_secs(5), || self.remains().is_empty());
        assert!(clean, "left behind:\n  {}", self.remains().join("\n  "));
    }
}

/// Writes an executable file by another process.
pub fn write_program(path: &Path, content: &str) -> PathBuf {
    let mut command = Command::new("/bin/busybox");
    command
        .args(["sh", "-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path);
    process::run_with_input(&mut command, content.as_bytes(), LIMIT)
        .expect("write a program")
        .ok();
    path.to_owned()
}

/// The cgroup directories of this name directly below a hierarchy.
pub fn cgroup_folders(id: &str) -> Vec<PathBuf> {
    let mut hierarchies = vec![PathBuf::from("/sys/fs/cgroup")];
    hierarchies.extend(
        fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    hierarchies
        .into_iter()
        .map(|hierarchy| hierarchy.join(id))
        .filter(|path| path.is_dir())
        .collect()
}

/// A file of the container's cgroup: `v1` as `controller/file`, `v2` as a file.
#[track_caller]
pub fn cgroup_file(case: &Case, v1: &str, v2: &str) -> String {
    let path = if cgroup_v2() {
        Path::new("/sys/fs/cgroup").join(&case.id).join(v2)
    } else {
        let (controller, file) = v1.split_once('/').expect("controller/file");
        Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(&case.id)
            .join(file)
    };
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    text.trim().to_owned()
}
