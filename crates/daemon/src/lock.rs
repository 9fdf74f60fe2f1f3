//! One daemon for one pidfile and one data root: files locked for the life of the process.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// A locked file; a pidfile is removed at the end.
pub(crate) struct Lock {
    file: File,
    remove: Option<PathBuf>,
}

impl Lock {
    /// Writes this process's number into the pidfile.
    ///
    /// # Errors
    /// In dockerd's words where another daemon holds it.
    pub(crate) fn pidfile(path: &str) -> Result<Self> {
        let mut lock = Self::open(path)?;
        let mut text = String::new();
        lock.file
            .read_to_string(&mut text)
            .with_context(|| format!("read pidfile {path}"))?;
        let old: Option<u32> = text.trim().parse().ok();
        let taken = lock.try_lock().is_err();
        // A real dockerd does not lock its pidfile.
        let dockerd = old.filter(|pid| comm(*pid).as_deref() == Some("dockerd"));
        if let (true, _) | (false, Some(_)) = (taken, dockerd) {
            let pid = old.map_or("unknown".to_owned(), |pid| pid.to_string());
            bail!(
                "failed to start daemon, ensure docker is not running or delete {path}: process with PID {pid} is still running"
            );
        }
        lock.file
            .set_len(0)
            .with_context(|| format!("write pidfile {path}"))?;
        rustix::fs::seek(&lock.file, rustix::fs::SeekFrom::Start(0))
            .with_context(|| format!("write pidfile {path}"))?;
        write!(lock.file, "{}", std::process::id())
            .with_context(|| format!("write pidfile {path}"))?;
        lock.remove = Some(path.into());
        Ok(lock)
    }

    /// Locks a file, or fails naming it.
    pub(crate) fn exclusive(path: &str) -> Result<Self> {
        let lock = Self::open(path)?;
        if lock.try_lock().is_err() {
            bail!("failed to start daemon: {path} is locked: another daemon uses this data root");
        }
        Ok(lock)
    }

    fn open(path: &str) -> Result<Self> {
        if let Some(parent) = Path::new(path).parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("make the directory of {path}"))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("open {path}"))?;
        Ok(Self { file, remove: None })
    }

    fn try_lock(&self) -> rustix::io::Result<()> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.remove {
            // Left behind it is only a stale number: the lock is what counts.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn comm(pid: u32) -> Option<String> {
    let mut text = String::new();
    File::open(format!("/proc/{pid}/comm"))
        .ok()?
        .read_to_string(&mut text)
        .ok()?;
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_a_stale_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/hull.pid").display().to_string();
        let held = Lock::pidfile(&path).unwrap();
        let refused = Lock::pidfile(&path).err().unwrap().to_string();
        assert!(
            refused.contains(&format!(
                "process with PID {} is still running",
                std::process::id()
            )),
            "{refused}"
        );
        drop(held);
        assert!(!Path::new(&path).exists());
        std::fs::write(&path, "1").unwrap();
        Lock::pidfile(&path).unwrap();
    }
}
