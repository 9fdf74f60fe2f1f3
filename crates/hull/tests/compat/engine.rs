//! The engine under test: a daemon on roots, a socket, a bridge and a network namespace of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hull_testkit::docker::DockerCli;
use hull_testkit::image::Image;
use hull_testkit::process::{self, Output, eventually};
use hull_testkit::{Leaks, TempRoot, binary, skips};

/// The image that every test has: busybox.
pub const BUSYBOX: &str = "busybox:latest";
/// How long a daemon may take to come up or to stop.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(30);

/// Which engine the tests judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Hull.
    Hull,
    /// Debian's dockerd.
    Docker,
}

/// From `HULL_COMPAT_ENGINE`.
pub fn kind() -> Kind {
    match std::env::var("HULL_COMPAT_ENGINE").as_deref() {
        Ok("docker") => Kind::Docker,
        _ => Kind::Hull,
    }
}

/// A running daemon and a client for it.
pub struct Engine {
    cli: DockerCli,
    daemon: Option<Child>,
    netns: String,
    root: TempRoot,
    args: Vec<String>,
    leaks: Option<Leaks>,
    /// Words before the daemon's own: a program that runs it.
    wrapper: Vec<String>,
}

impl Engine {
    /// Starts one with busybox loaded; `None`, and a counted skip, where that cannot be.
    pub fn start() -> Option<Engine> {
        let engine = Self::start_empty(&[])?;
        engine.load(&Image::busybox(BUSYBOX));
        Some(engine)
    }

    /// Starts one without images, with further flags for the daemon.
    pub fn start_empty(args: &[&str]) -> Option<Engine> {
        let mut engine = Self::prepare(args)?;
        engine.start_daemon();
        Some(engine)
    }

    /// All but the start of its daemon.
    pub fn prepare(args: &[&str]) -> Option<Engine> {
        if !skips::is_root() {
            hull_testkit::skip!("containers need root");
            return None;
        }
        let root = TempRoot::new("hullct");
        let name = root.name();
        let leaks = Leaks::watch(&[&name]);
        let socket = format!("unix://{}", root.join("e.sock").display());
        let cli = match std::env::var("HULL_COMPAT_CLI").as_deref() {
            Ok("hull") => DockerCli::with_program(binary::hull(), &socket),
            _ => {
                let Some(cli) = DockerCli::new(&socket) else {
                    hull_testkit::skip!("no docker command line is installed");
                    return None;
                };
                cli
            }
        };
        sh(&["ip", "netns", "add", &name]);
        let engine = Engine {
            cli,
            daemon: None,
            netns: name,
            root,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            leaks: Some(leaks),
            wrapper: Vec::new(),
        };
        engine.in_netns(&["ip", "link", "set", "lo", "up"]);
        engine.in_netns(&["ip", "link", "add", "br-test", "type", "bridge"]);
        engine.in_netns(&["ip", "address", "add", "10.211.0.1/24", "dev", "br-test"]);
        engine.in_netns(&["ip", "link", "set", "br-test", "up"]);
        Some(engine)
    }

    /// Further flags for the daemon, from its next start on.
    pub fn push_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// Has the daemon run by another program.
    pub fn wrap(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts a daemon that must end by itself with an error; what it said.
    pub fn refused_daemon(&mut self) -> String {
        let mut daemon = self.spawn_daemon();
        let ended = process::wait(&mut daemon, DAEMON_TIMEOUT).expect("wait for the daemon");
        let _ = daemon.kill();
        let _ = daemon.wait();
        assert!(
            ended.is_some_and(|status| !status.success()),
            "it runs: {}",
            self.daemon_log()
        );
        self.daemon_log()
    }

    /// Takes down the surroundings of an engine whose daemon never ran.
    pub fn abandon(mut self) {
        self.args.clear();
        self.wrapper.clear();
    }

    /// Starts the daemon, which is not running, and waits until it answers.
    pub fn start_daemon(&mut self) {
        self.daemon = Some(self.spawn_daemon());
        let up = eventually(DAEMON_TIMEOUT, || {
            self.cli.run(["version"]).status.success()
        });
        assert!(up, "the daemon did not come up:\n{}", self.daemon_log());
    }

    fn spawn_daemon(&self) -> Child {
        let program = match kind() {
            Kind::Hull => binary::hull().to_owned(),
            Kind::Docker => skips::program("dockerd").expect("dockerd is installed"),
        };
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.root.join("daemon.log"))
            .expect("open the daemon's log");
        let mut words = self.wrapper.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = self.enter(first);
                command.args(words).arg(program);
                command
            }
            None => self.enter(program),
        };
        if kind() == Kind::Hull {
            command.arg("daemon");
        }
        command
            .args(["--bridge", "br-test"])
            .arg("-H")
            .arg(format!("unix://{}", self.root.join("e.sock").display()))
            .arg("--data-root")
            .arg(self.root.join("data"))
            .arg("--exec-root")
            .arg(self.root.join("run"))
            .arg("--pidfile")
            .arg(self.root.join("pid"))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log);
        command.spawn().expect("start the daemon")
    }

    /// Ends the daemon at once, as a crash would.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("kill the daemon");
        daemon.wait().expect("reap the daemon");
    }

    /// Ends the daemon as an administrator would.
    pub fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        let pid = rustix::process::Pid::from_child(&daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let stopped = process::wait(&mut daemon, DAEMON_TIMEOUT).expect("wait for the daemon");
        if stopped.is_none() {
            let _ = daemon.kill();
            let _ = daemon.wait();
            panic!("the daemon did not stop:\n{}", self.daemon_log());
        }
    }

    /// Has the daemon read its configuration again, and waits until its log has `said` once more.
    #[track_caller]
    pub fn reload_daemon(&self, said: &str) {
        let before = self.daemon_log().matches(said).count();
        let daemon = self.daemon.as_ref().expect("the daemon runs");
        let pid = rustix::process::Pid::from_child(daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("signal it");
        let came = eventually(DAEMON_TIMEOUT, || {
            self.daemon_log().matches(said).count() > before
        });
        assert!(came, "no {said:?} in the log:\n{}", self.daemon_log());
    }

    /// The process that runs the daemon, while it runs.
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// What the daemon has written.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.root.join("daemon.log")).unwrap_or_default()
    }

    /// The folder that holds everything of this test.
    pub fn root(&self) -> &TempRoot {
        &self.root
    }

    /// The client.
    pub fn cli(&self) -> &DockerCli {
        &self.cli
    }

    /// Loads an image from a docker archive.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        let path = self.root.join("load.tar");
        image
            .write_docker_archive(&path)
            .expect("write the archive");
        self.ok(&["load", "-q", "-i", &path.display().to_string()]);
        std::fs::remove_file(path).expect("remove the archive");
    }

    /// Runs the client; whatever comes of it.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.cli.run(args)
    }

    /// Runs the client, which must succeed; its output, trimmed at its end.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?} ended with {}\nstdout: {}\nstderr: {}\ndaemon: {}",
            output.status,
            output.stdout,
            output.stderr,
            self.daemon_log()
        );
        output.stdout.trim_end().to_owned()
    }

    /// Runs the client, which must fail with `code` and say `message` on its standard error.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: i32, message: &str) {
        let output = self.run(args);
        assert!(
            output.code() == code && output.stderr.contains(message),
            "{args:?} ended with {}, expected {code} and {message:?}\nstdout: {}\nstderr: {}\ndaemon: {}",
            output.code(),
            output.stdout,
            output.stderr,
            self.daemon_log()
        );
    }

    /// `docker inspect --format`.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&["inspect", "--format", format, name])
    }

    /// Waits until `docker inspect --format` gives `wanted`.
    #[track_caller]
    pub fn await_inspect(&self, name: &str, format: &str, wanted: &str) {
        let mut last = String::new();
        let came = eventually(Duration::from_secs(20), || {
            last = self.inspect(name, format);
            last == wanted
        });
        assert!(came, "{name} {format} is {last:?} and not {wanted:?}");
    }

    /// A command that runs in the engine's network namespace.
    pub fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Not `ip netns exec`: that remounts /sys and hides the cgroups.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.netns))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a program of the host in the engine's network namespace, which must succeed.
    #[track_caller]
    pub fn in_netns(&self, args: &[&str]) -> String {
        let mut command = self.enter(args[0]);
        command.args(&args[1..]);
        process::run(&mut command, Duration::from_secs(30))
            .expect("run nsenter")
            .ok()
            .to_owned()
    }

    /// What `http://ADDRESS/` answers within ten seconds, asked from the engine's network namespace.
    #[track_caller]
    pub fn fetch(&self, address: &str) -> String {
        let mut said = String::new();
        let got = eventually(Duration::from_secs(10), || {
            let mut command = self.enter("busybox");
            command.args(["wget", "-q", "-O", "-", &format!("http://{address}/")]);
            let output = process::run(&mut command, Duration::from_secs(10)).expect("run wget");
            said = format!("{}{}", output.stdout, output.stderr);
            output.status.success()
        });
        assert!(got, "nothing fetched from {address}: {said}");
        said
    }

    /// A second network namespace, connected with the engine's by a link: 10.212.0.1 there is the engine, 10.212.0.2 the neighbour.
    pub fn neighbour(&self) -> Neighbour<'_> {
        let name = format!("{}n", self.netns);
        sh(&["ip", "netns", "add", &name]);
        let neighbour = Neighbour { engine: self, name };
        self.in_netns(&[
            "ip",
            "link",
            "add",
            "out0",
            "type",
            "veth",
            "peer",
            "name",
            "in0",
            "netns",
            &neighbour.name,
        ]);
        self.in_netns(&["ip", "address", "add", "10.212.0.1/24", "dev", "out0"]);
        self.in_netns(&["ip", "link", "set", "out0", "up"]);
        for args in [
            &["ip", "address", "add", "10.212.0.2/24", "dev", "in0"][..],
            &["ip", "link", "set", "in0", "up"],
            &["ip", "link", "set", "lo", "up"],
        ] {
            neighbour.run(args);
        }
        neighbour
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.daemon_log());
        }
        if self.daemon.is_none() {
            self.start_daemon();
        }
        let containers = self.cli.run(["ps", "-aq"]).stdout;
        for id in containers.split_whitespace() {
            self.cli.run(["rm", "-f", "-v", id]);
        }
        self.cli.run(["network", "prune", "-f"]);
        let failing = std::thread::panicking();
        if failing {
            if let Some(mut daemon) = self.daemon.take() {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        } else {
            self.stop_daemon();
        }
        sh(&["ip", "netns", "delete", &self.netns]);
        // dockerd leaves mounts of its own; only ours is judged.
        if let Some(leaks) = self.leaks.take()
            && !failing
            && kind() == Kind::Hull
        {
            leaks.assert_none();
        }
    }
}

/// Another host on the engine's network.
pub struct Neighbour<'e> {
    engine: &'e Engine,
    name: String,
}

impl Neighbour<'_> {
    /// Runs a program there.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg("--")
            .args(args);
        process::run(&mut command, Duration::from_secs(20)).expect("run nsenter")
    }

    /// The engine's address as seen from here.
    pub const ENGINE: &'static str = "10.212.0.1";
    /// The address of here.
    pub const SELF: &'static str = "10.212.0.2";
}

impl Drop for Neighbour<'_> {
    fn drop(&mut self) {
        let _ = self.engine;
        sh(&["ip", "netns", "delete", &self.name]);
    }
}

fn sh(args: &[&str]) {
    let mut command = Command::new(args[0]);
    command.args(&args[1..]);
    let output = process::run(&mut command, Duration::from_secs(30)).expect("run a command");
    assert!(
        output.status.success() || std::thread::panicking(),
        "{args:?}: {}",
        output.stderr
    );
}

/// A folder of the host, made for a test.
pub fn folder(engine: &Engine, name: &str) -> PathBuf {
    engine.root().folder(name)
}
