//! `btrfs`: each tree a subvolume, made as a snapshot of its parent.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hull_oci::runtime::Mount;
use hull_sys::btrfs;

use super::Tree;
use super::options::{Options, shown_size};
use super::overlay::bind;
use super::trees::Kin;
use crate::fsutil::open_dir;
use crate::{Error, Result};

/// The subvolume's name in its snapshot's directory.
const FILES: &str = "fs";

pub(super) struct Btrfs {
    /// Smallest limit that is taken, in bytes (`btrfs.min_space`).
    limit_min: u64,
}

impl Btrfs {
    pub fn new(mut options: Options) -> Result<Self> {
        let limit_min = options.size("btrfs.min_space")?.unwrap_or(0);
        options.finish("btrfs")?;
        Ok(Btrfs { limit_min })
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    open_dir(path).map_err(Error::io("open", path))
}

impl Kin for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn plant(&self, dir: &Path, parent: Option<&Path>) -> Result<()> {
        let (files, name) = (dir.join(FILES), OsStr::new(FILES));
        if let Some(parent) = parent {
            let from = open(&parent.join(FILES))?;
            return btrfs::snapshot(open(dir)?.as_fd(), name, from.as_fd())
                .map_err(Error::io("create snapshot", &files));
        }
        btrfs::create(open(dir)?.as_fd(), name).map_err(Error::io("create subvolume", &files))?;
        fs::set_permissions(&files, Permissions::from_mode(0o755))
            .map_err(Error::io("set mode of", &files))
    }

    fn tree(&self, dir: &Path) -> Result<Tree> {
        Ok(dir.join(FILES).into())
    }

    fn mount(&self, dir: &Path, writable: bool) -> Result<Mount> {
        Ok(bind(&dir.join(FILES), if writable { "rw" } else { "ro" }))
    }

    fn uproot(&self, dir: &Path) -> Result<()> {
        if let Ok(fd) = open_dir(dir) {
            // What is no subvolume is removed as any directory.
            let _ = btrfs::destroy(fd.as_fd(), OsStr::new(FILES));
        }
        Ok(())
    }

    /// By a quota group, as Docker does: all that the tree refers to counts, the image's files too.
    fn limit(&self, dir: &Path, bytes: u64) -> Result<()> {
        if bytes < self.limit_min {
            let least = shown_size(self.limit_min);
            return Err(Error::NoLimit(format!(
                "size: btrfs: storage size cannot be less than '{least}'"
            )));
        }
        let files = dir.join(FILES);
        let tree = open(&files)?;
        btrfs::enable_quota(tree.as_fd()).map_err(Error::io("enable quotas on", &files))?;
        btrfs::limit_referenced(tree.as_fd(), bytes).map_err(Error::io("limit", &files))
    }

    fn status(&self) -> Vec<(String, String)> {
        vec![("Btrfs".to_owned(), String::new())]
    }

    fn inspect(&self, _dir: &Path) -> Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }
}
