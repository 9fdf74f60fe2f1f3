//! The container made by another program with runc's command line (`--add-runtime`).
//!
//! The root file system gets a real mount in the bundle, because such a program wants a directory.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hull_oci::runtime::Resources;
use rustix::mount::UnmountFlags;

use super::{Config, TaskError};
use crate::protocol::{ExecCreate, InitFailure};
use crate::streams::Streams;

/// What a runtime may print before it is cut, in bytes.
const SAID_BYTES_MAX: u64 = 64 << 10;

pub struct External {
    config: Config,
    program: PathBuf,
    args: Vec<String>,
    mounted: bool,
}

impl External {
    pub(super) fn new(config: Config, program: PathBuf, args: Vec<String>) -> Self {
        Self {
            config,
            program,
            args,
            mounted: false,
        }
    }

    fn folder(&self) -> &Path {
        &self.config.shim.bundle
    }

    /// `PROGRAM ARGS --root ROOT COMMAND`.
    fn runtime(&self, command: &str) -> Command {
        let shim = &self.config.shim;
        let mut runtime = Command::new(&self.program);
        runtime
            .args(&self.args)
            .arg("--root")
            .arg(&shim.state_root)
            .args(["--log-format", "json", "--log"])
            .arg(self.log_path());
        if shim.cgroup_manager == crate::protocol::CgroupManager::Systemd {
            runtime.arg("--systemd-cgroup");
        }
        runtime.arg(command).stdin(Stdio::null());
        runtime
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("runtime.log")
    }

    fn error(&self, command: &str, said: String) -> TaskError {
        TaskError::Program {
            program: self.program.display().to_string(),
            command: command.to_owned(),
            said,
        }
    }

    /// Runs a command to its end; what it says, or the last error in its log, is in the error.
    fn finish(&self, name: &str, command: &mut Command) -> Result<(), TaskError> {
        let _ = std::fs::remove_file(self.log_path());
        let status = command
            .status()
            .map_err(TaskError::io(format!("running {}", self.program.display())))?;
        if status.success() {
            return Ok(());
        }
        let mut log = String::new();
        if let Ok(file) = std::fs::File::open(self.log_path()) {
            let _ = file.take(SAID_BYTES_MAX).read_to_string(&mut log);
        }
        let said = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["level"] == "error")
            .filter_map(|line| line["msg"].as_str().map(str::to_owned))
            .next_back()
            .unwrap_or_else(|| status.to_string());
        Err(self.error(name, said))
    }

    pub(super) fn command(&self, name: &str, args: &[&str]) -> Result<(), TaskError> {
        let mut command = self.runtime(name);
        command.args(args).arg(&self.config.shim.id);
        self.finish(name, &mut command)
    }

    pub(super) fn create(&mut self) -> Result<(i32, Streams), TaskError> {
        self.mount()?;
        let shim = &self.config.shim;
        let pid_file = self.folder().join("init.pid");
        let mut command = self.runtime("create");
        command.arg("--bundle").arg(&shim.bundle);
        command.arg("--pid-file").arg(&pid_file);
        let streams = self.run_with_streams(
            "create",
            command,
            shim.terminal,
            shim.open_stdin,
            false,
            &[&shim.id],
        )?;
        Ok((read_pid(&pid_file)?, streams))
    }

    pub(super) fn start(&mut self) -> Result<(), TaskError> {
        self.command("start", &[])
    }

    pub(super) fn restore(&mut self, images: &Path) -> Result<(i32, Streams), TaskError> {
        self.mount()?;
        let shim = &self.config.shim;
        let pid_file = self.folder().join("init.pid");
        let mut command = self.runtime("restore");
        command.args(["--detach", "--file-locks", "--image-path"]);
        command.arg(images).arg("--bundle").arg(&shim.bundle);
        command.arg("--pid-file").arg(&pid_file);
        let streams = self.run_with_streams(
            "restore",
            command,
            shim.terminal,
            shim.open_stdin,
            false,
            &[&shim.id],
        )?;
        Ok((read_pid(&pid_file)?, streams))
    }

    pub(super) fn checkpoint(&self, images: &Path, leave_running: bool) -> Result<(), TaskError> {
        let mut command = self.runtime("checkpoint");
        command
            .args(["--file-locks", "--image-path"])
            .arg(images)
            .args(leave_running.then_some("--leave-running"))
            .arg(&self.config.shim.id);
        self.finish("checkpoint", &mut command)
    }

    pub(super) fn exec(&mut self, exec: &ExecCreate) -> Result<(i32, Streams), TaskError> {
        let process_file = self.folder().join(format!("exec-{}.json", exec.exec));
        let pid_file = self.folder().join(format!("exec-{}.pid", exec.exec));
        let process = serde_json::to_vec(&exec.process).map_err(|source| TaskError::Config {
            path: process_file.clone(),
            source,
        })?;
        std::fs::write(&process_file, process)
            .map_err(TaskError::io(format!("writing {}", process_file.display())))?;
        let mut command = self.runtime("exec");
        command.arg("--detach").arg("--process").arg(&process_file);
        command.arg("--pid-file").arg(&pid_file);
        let id = self.config.shim.id.clone();
        let ran = self.run_with_streams(
            "exec",
            command,
            exec.process.terminal,
            exec.open_stdin,
            exec.detached,
            &[&id],
        );
        let result = ran.and_then(|streams| Ok((read_pid(&pid_file)?, streams)));
        let _ = std::fs::remove_file(process_file);
        let _ = std::fs::remove_file(pid_file);
        result
    }

    /// Runs `command` with the process's streams as its own, or with a console socket.
    fn run_with_streams(
        &self,
        name: &str,
        mut command: Command,
        terminal: bool,
        open_stdin: bool,
        dropped: bool,
        last: &[&str],
    ) -> Result<Streams, TaskError> {
        if terminal {
            let socket = self.folder().join("console.sock");
            let _ = std::fs::remove_file(&socket);
            let listener =
                UnixListener::bind(&socket).map_err(TaskError::io("making the console socket"))?;
            command.arg("--console-socket").arg(&socket).args(last);
            let ran = self.finish(name, &mut command);
            let master = ran.and_then(|()| receive_master(&listener));
            let _ = std::fs::remove_file(&socket);
            return Streams::terminal(master?, open_stdin)
                .map_err(TaskError::io("taking over the terminal"));
        }
        let (streams, ends) = Streams::pipes(open_stdin, dropped)
            .map_err(TaskError::io("making the streams' pipes"))?;
        command
            .args(last)
            .stdin(ends.stdin)
            .stdout(ends.stdout)
            .stderr(ends.stderr);
        self.finish(name, &mut command)?;
        Ok(streams)
    }

    pub(super) fn update(&self, resources: &Resources) -> Result<(), TaskError> {
        let text = serde_json::to_vec(resources).map_err(|source| TaskError::Config {
            path: PathBuf::from("resources"),
            source,
        })?;
        let mut command = self.runtime("update");
        command
            .args(["--resources", "-"])
            .arg(&self.config.shim.id)
            .stdin(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(TaskError::io(format!("running {}", self.program.display())))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(&text)
                .map_err(TaskError::io("handing over the resources"))?;
        }
        let status = child
            .wait()
            .map_err(TaskError::io("waiting for the runtime"))?;
        if status.success() {
            return Ok(());
        }
        Err(self.error("update", status.to_string()))
    }

    pub(super) fn pids(&self) -> Result<Vec<i32>, TaskError> {
        let output = self
            .runtime("ps")
            .args(["--format", "json"])
            .arg(&self.config.shim.id)
            .output()
            .map_err(TaskError::io(format!("running {}", self.program.display())))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|e| self.error("ps", format!("printed no list of processes: {e}")))
    }

    pub(super) fn remove(&mut self) -> Result<(), TaskError> {
        let deleted = self.command("delete", &["--force"]);
        if self.mounted {
            let target = self.folder().join("rootfs");
            rustix::mount::unmount(&target, UnmountFlags::DETACH)
                .map_err(|e| TaskError::io(format!("unmounting {}", target.display()))(e.into()))?;
            self.mounted = false;
        }
        deleted
    }

    fn mount(&mut self) -> Result<(), TaskError> {
        let Some(mount) = self.config.shim.rootfs.first() else {
            return Ok(());
        };
        let target = self.folder().join("rootfs");
        std::fs::create_dir_all(&target)
            .map_err(TaskError::io(format!("making {}", target.display())))?;
        let failed = |e: String| TaskError::Io {
            operation: format!("mounting {}", target.display()),
            source: std::io::Error::other(e),
        };
        let fs = mount.kind.as_deref().unwrap_or("overlay");
        let source = mount.source.as_deref().unwrap_or(fs);
        let made = match fs {
            "bind" => hull_sys::mount::clone_tree(rustix::fs::CWD, Path::new(source), false)
                .map_err(|e| failed(e.to_string()))?,
            _ => hull_sys::mount::detached(fs, Some(source), &mount.options)
                .map_err(|e| failed(crate::chain(&e)))?,
        };
        hull_sys::mount::attach(made.as_fd(), None, &target).map_err(|e| failed(e.to_string()))?;
        self.mounted = true;
        Ok(())
    }
}

fn read_pid(path: &Path) -> Result<i32, TaskError> {
    let text = std::fs::read_to_string(path)
        .map_err(TaskError::io(format!("reading {}", path.display())))?;
    text.trim()
        .parse()
        .map_err(|e| TaskError::io(format!("reading {}", path.display()))(std::io::Error::other(e)))
}

/// The terminal's master, which the runtime has sent before it ended.
fn receive_master(listener: &UnixListener) -> Result<OwnedFd, TaskError> {
    let receive = || -> std::io::Result<OwnedFd> {
        listener.set_nonblocking(true)?;
        let (socket, _) = listener.accept()?;
        socket.set_nonblocking(false)?;
        let mut name = [0; 256];
        let (_, fds) = hull_sys::fdpass::recv(socket.as_fd(), &mut name)?;
        fds.into_iter()
            .next()
            .ok_or_else(|| std::io::Error::other("the message had no descriptor"))
    };
    receive().map_err(TaskError::io("receiving the terminal from the runtime"))
}

/// What runc and crun say of a program that cannot be run, as data.
pub(super) fn init_failure(said: &str) -> Option<InitFailure> {
    let lower = said.to_ascii_lowercase();
    let errno = if lower.contains("executable file not found") || lower.contains("no such file") {
        rustix::io::Errno::NOENT
    } else if lower.contains("permission denied") {
        rustix::io::Errno::ACCESS
    } else if lower.contains("exec format error") {
        rustix::io::Errno::NOEXEC
    } else {
        return None;
    };
    Some(InitFailure {
        step: "exec".into(),
        path: None,
        errno: errno.raw_os_error(),
    })
}
