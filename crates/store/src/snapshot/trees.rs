//! Drivers whose snapshots are complete trees: `vfs` and `btrfs`.
//!
//! `<root>/<n>/fs` is the tree: with vfs a directory, copied from its parent (slow and large, but it works on any file
//! system, and shares content where that one has reflinks); with btrfs a subvolume, made as a snapshot of its parent. A
//! staged layer is in overlayfs's form until it is committed: then it is laid over a tree made from its parent.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Mount;
use hull_state::Db;
use hull_state::snapshots::Snapshot;
use hull_sys::btrfs;
use rustix::fs::{CWD, RenameFlags};

use super::overlay::bind;
use super::rows::{Rows, info};
use super::{DiffSource, Info, Kind, Snapshotter, Usage};
use crate::fsutil::{measure, open_dir, remove_path};
use crate::layer::{Pending, copy_tree, merge, settle};
use crate::{Error, Result};

/// How a tree comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kin {
    /// Directories, copied.
    Copies,
    /// btrfs subvolumes.
    Subvolumes,
}

pub(super) struct Trees {
    rows: Rows,
    kin: Kin,
}

impl Trees {
    pub fn open(kin: Kin, root: &Path, db: Db) -> Result<Self> {
        let name = match kin {
            Kin::Copies => "vfs",
            Kin::Subvolumes => "btrfs",
        };
        Ok(Trees {
            rows: Rows::open(db, name, root)?,
            kin,
        })
    }

    fn files(&self, snapshot: &Snapshot) -> PathBuf {
        self.rows.dir(snapshot).join("fs")
    }

    fn parent_files(&self, snapshot: &Snapshot) -> Result<Option<PathBuf>> {
        let parent = snapshot
            .parent
            .as_deref()
            .map(|parent| self.rows.get(parent))
            .transpose()?;
        Ok(parent.map(|parent| self.files(&parent)))
    }

    /// A new tree in a directory of its own, equal to the parent's.
    fn make(&self, parent: Option<&Path>) -> Result<PathBuf> {
        let dir = self.rows.temporary();
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        self.plant(&dir, parent).inspect_err(|_| {
            // The sweep removes what cannot be removed now.
            let _ = self.discard(&dir);
        })?;
        Ok(dir)
    }

    fn plant(&self, dir: &Path, parent: Option<&Path>) -> Result<()> {
        let files = dir.join("fs");
        let open = |path: &Path| open_dir(path).map_err(Error::io("open", path));
        let name = OsStr::new("fs");
        match (self.kin, parent) {
            (Kin::Copies, _) => fs::create_dir(&files).map_err(Error::io("create", &files))?,
            (Kin::Subvolumes, None) => {
                btrfs::create(open(dir)?.as_fd(), name)
                    .map_err(Error::io("create subvolume", &files))?;
            }
            (Kin::Subvolumes, Some(parent)) => {
                return btrfs::snapshot(open(dir)?.as_fd(), name, open(parent)?.as_fd())
                    .map_err(Error::io("create snapshot", &files));
            }
        }
        fs::set_permissions(&files, Permissions::from_mode(0o755))
            .map_err(Error::io("set mode of", &files))?;
        match parent {
            Some(parent) => copy_tree(parent, &files),
            None => Ok(()),
        }
    }

    /// Removes a snapshot's directory, subvolume and all.
    fn discard(&self, dir: &Path) -> Result<()> {
        if self.kin == Kin::Subvolumes
            && let Ok(fd) = open_dir(dir)
        {
            // Whatever is no subvolume is removed as any directory.
            let _ = btrfs::destroy(fd.as_fd(), OsStr::new("fs"));
        }
        remove_path(dir).map_err(Error::io("remove", dir))
    }

    fn new_snapshot(&self, key: &str, parent: Option<&str>, kind: Kind) -> Result<Snapshot> {
        let below = parent
            .map(|parent| self.rows.get(parent))
            .transpose()?
            .map(|parent| self.files(&parent));
        let made = self.make(below.as_deref())?;
        self.rows.insert(key, parent, kind, &made).inspect_err(|_| {
            let _ = self.discard(&made);
        })
    }

    fn measured(&self, files: &Path) -> Result<Usage> {
        let (bytes, inodes) = measure(files).map_err(Error::io("measure", files))?;
        Ok(Usage { bytes, inodes })
    }
}

impl Snapshotter for Trees {
    fn name(&self) -> &'static str {
        self.rows.driver()
    }

    fn prepare(&self, key: &str, parent: Option<&str>) -> Result<Vec<Mount>> {
        self.new_snapshot(key, parent, Kind::Active)?;
        self.mounts(key)
    }

    fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>> {
        self.new_snapshot(key, Some(parent), Kind::View)?;
        self.mounts(key)
    }

    fn stage(&self, key: &str) -> Result<PathBuf> {
        self.new_snapshot(key, None, Kind::Active)
            .map(|own| self.files(&own))
    }

    fn commit_layer(
        &self,
        name: &str,
        key: &str,
        parent: Option<&str>,
        pending: &Pending,
    ) -> Result<()> {
        let own = self.rows.active(key)?;
        let files = self.files(&own);
        let below = parent
            .map(|parent| self.rows.get(parent))
            .transpose()?
            .map(|parent| self.files(&parent));
        settle(&files, pending, below.as_slice())?;
        // Even without a parent the overlay form must go: whiteouts of nothing, opaque marks.
        let made = self.make(below.as_deref())?;
        merge(&files, &made.join("fs"))?;
        // The merged tree takes the place of the staged one, which goes with the directory that it is moved to.
        swap(&files, &made.join("fs"))?;
        self.discard(&made)?;
        let usage = self.measured(&files)?;
        self.rows.commit(name, key, Some(parent), usage)
    }

    fn commit(&self, name: &str, key: &str) -> Result<()> {
        let own = self.rows.active(key)?;
        let usage = self.measured(&self.files(&own))?;
        self.rows.commit(name, key, None, usage)
    }

    fn remove(&self, key: &str) -> Result<()> {
        let dir = self.rows.remove(key)?;
        self.discard(&dir)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let own = self.rows.get(key)?;
        Ok(vec![bind(
            &self.files(&own),
            if own.kind == Kind::Active { "rw" } else { "ro" },
        )])
    }

    fn stat(&self, key: &str) -> Result<Info> {
        self.rows.get(key).map(info)
    }

    fn usage(&self, key: &str) -> Result<Usage> {
        let own = self.rows.get(key)?;
        match (own.kind, own.size, own.inodes) {
            (Kind::Committed, Some(bytes), Some(inodes)) => Ok(Usage { bytes, inodes }),
            _ => self.measured(&self.files(&own)),
        }
    }

    fn walk(&self) -> Result<Vec<Info>> {
        self.rows.walk()
    }

    fn upper_dir(&self, key: &str) -> Result<PathBuf> {
        Ok(self.files(&self.rows.get(key)?))
    }

    fn diff_source(&self, key: &str) -> Result<DiffSource> {
        let own = self.rows.get(key)?;
        Ok(DiffSource::Trees {
            lower: self.parent_files(&own)?,
            upper: self.files(&own),
        })
    }

    fn inspect_data(&self, _key: &str) -> Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }

    fn status(&self) -> Vec<(String, String)> {
        match self.kin {
            Kin::Copies => Vec::new(),
            Kin::Subvolumes => vec![("Btrfs".to_owned(), String::new())],
        }
    }

    fn sweep(&self) -> Result<usize> {
        let (strays, gone) = self.rows.strays()?;
        for stray in &strays {
            self.discard(stray)?;
        }
        Ok(strays.len() + gone)
    }
}

/// Exchanges two directories in one step.
fn swap(one: &Path, other: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(Error::io("exchange", one))
}
