//! Starting a shim.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hull_oci::runtime::Spec;
use hull_shim::protocol::ShimConfig;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::client::{ShimClient, ShimEvent};
use crate::error::{Result, failed};

/// Starts shims: `<program> shim` in the container's folder.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// Folder of all shims' folders.
    root: PathBuf,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// This program: an upgrade that replaces the file on disk does not change what is started. Each shim executes a
    /// read-only clone of it, so that nothing in a container can write to the file behind /proc/self/exe
    /// (CVE-2019-5736).
    This(OwnedFd),
    Path(PathBuf),
}

impl Launcher {
    pub(crate) fn new(exec_root: &Path, program: Option<PathBuf>) -> Result<Launcher> {
        let root = exec_root.join("shims");
        std::fs::create_dir_all(&root).map_err(failed(format!("make {}", root.display())))?;
        let program = match program {
            Some(path) => Program::Path(path),
            None => Program::This(
                hull_sys::selfexe::executable().map_err(failed("open this program for shims"))?,
            ),
        };
        Ok(Launcher { root, program })
    }

    /// The folder of a container's shim, which is also its OCI bundle.
    pub(crate) fn dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Where a shim listens, by a path that is short whatever the roots are: a socket's address has 108 bytes.
    pub(crate) fn socket(&self, id: &str) -> Result<Socket> {
        let dir = self.dir(id);
        let fd =
            hull_sys::path::open_dir(&dir).map_err(failed(format!("open {}", dir.display())))?;
        Ok(Socket {
            path: PathBuf::from(format!("/proc/self/fd/{}/sock", fd.as_raw_fd())),
            _dir: fd,
        })
    }

    /// Ids of all shims' folders.
    pub(crate) fn known(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.root)
            .map_err(failed(format!("read {}", self.root.display())))?;
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect())
    }

    /// Writes the bundle: `config.json` and `shim.json`. A folder that a crash left is emptied first.
    pub(crate) fn write_bundle(&self, config: &ShimConfig, spec: &Spec) -> Result<()> {
        let dir = self.dir(&config.id);
        let made = match std::fs::create_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                std::fs::remove_dir_all(&dir).and_then(|()| std::fs::create_dir(&dir))
            }
            other => other,
        };
        made.map_err(failed(format!("make {}", dir.display())))?;
        write_json(&dir.join("config.json"), spec)?;
        write_json(&dir.join("shim.json"), config)
    }

    /// Removes the folder. Fine when absent.
    pub(crate) fn remove_dir(&self, id: &str) -> Result<()> {
        let dir = self.dir(id);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(format!("remove {}", dir.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// Starts the shim of a written bundle; its events go to `events`. The process is reaped when it ends.
    pub(crate) fn spawn(&self, id: &str, events: mpsc::Sender<ShimEvent>) -> Result<ShimClient> {
        let dir = self.dir(id);
        let operation = || format!("start the shim of {id}");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed(operation()))?;
        ours.set_nonblocking(true).map_err(failed(operation()))?;
        let log = std::fs::File::create(dir.join("stderr")).map_err(failed(operation()))?;
        // Closed once the shim runs: an open clone could be made writable again.
        let clone = match &self.program {
            Program::This(exe) => {
                Some(hull_sys::selfexe::read_only_clone(exe.as_fd()).map_err(failed(operation()))?)
            }
            Program::Path(_) => None,
        };
        let program = match (&self.program, &clone) {
            (Program::Path(path), _) => path.clone(),
            (Program::This(exe), clone) => {
                let fd = clone.as_ref().unwrap_or(exe);
                PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            }
        };
        // The folder is an argument and not the working directory: with the latter the standard library forks, which copies this
        // process's page tables, instead of posix_spawn(3).
        let mut child = tokio::process::Command::new(program)
            .arg0("hull-shim")
            .arg("shim")
            .arg(&dir)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            // Without glibc's per-thread cache: the shim has one thread, and freed pieces would pin the pages that it gives back
            // after the start.
            .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .kill_on_drop(false)
            .spawn()
            .map_err(failed(operation()))?;
        tokio::spawn(async move {
            let _ = child.wait().await;
        });
        let stream = UnixStream::from_std(ours).map_err(failed(operation()))?;
        Ok(ShimClient::new(stream, events))
    }

    /// Connects to a shim that an earlier daemon started.
    pub(crate) async fn reconnect(
        &self,
        id: &str,
        events: mpsc::Sender<ShimEvent>,
    ) -> Result<ShimClient> {
        let socket = self.socket(id)?;
        let stream = UnixStream::connect(socket.path())
            .await
            .map_err(failed(format!("connect to the shim of {id}")))?;
        Ok(ShimClient::new(stream, events))
    }

    /// The exit record that a shim left, if it did.
    pub(crate) fn exit_record(&self, id: &str) -> Option<hull_shim::protocol::Exit> {
        let text = std::fs::read(self.dir(id).join("exit.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// What a shim that died wrote to its standard error, the last of it: for the error that the user sees.
    pub(crate) fn last_words(&self, id: &str) -> String {
        const BYTES_MAX: usize = 2048;
        let text = std::fs::read(self.dir(id).join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(BYTES_MAX)..])
            .trim()
            .to_owned()
    }
}

/// The address of a shim's socket; good as long as this lives.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    _dir: OwnedFd,
}

impl Socket {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(failed(format!("encode {}", path.display())))?;
    std::fs::write(path, text).map_err(failed(format!("write {}", path.display())))
}
