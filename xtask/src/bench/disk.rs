//! The disk that images are measured on: ext4 on a loop device whose file lies in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// A mounted file system, unmounted on drop.
pub struct Disk {
    mount: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// Makes one of `gib` GiB (sparse) below `dir`.
    pub fn new(dir: &Path, gib: u64) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("hull-bench-")
            .tempdir_in(dir)?;
        let image = folder.path().join("disk");
        std::fs::File::create(&image)?.set_len(gib << 30)?;
        // Nothing is set up in the background while something else is measured.
        shell::output(
            Command::new("mkfs.ext4")
                .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
                .args(["-N", "2000000"])
                .arg(&image),
        )?;
        let mount = folder.path().join("mount");
        std::fs::create_dir(&mount)?;
        shell::output(
            Command::new("mount")
                .args(["-o", "loop,discard,noatime"])
                .arg(&image)
                .arg(&mount),
        )?;
        Ok(Self {
            mount,
            _folder: folder,
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Mounts of the engines that lie on it may take a moment to go.
        for _ in 0..50 {
            let unmounted = Command::new("umount").arg(&self.mount).output();
            if unmounted.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

/// Bytes of the disk that a folder takes.
pub fn used(folder: &Path) -> Result<u64> {
    let text = shell::output(Command::new("du").arg("-sk").arg(folder))?;
    let kib: u64 = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(kib << 10)
}
