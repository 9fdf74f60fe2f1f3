//! `vfs`: every snapshot is a complete copy. Slow and large, but it works on any file system; where that one has reflinks
//! (xfs, btrfs) the copies share their content.
//!
//! `<root>/<n>/fs` is the tree. A staged layer is in overlayfs's form until it is committed: then it is laid over a copy of
//! its parent.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Mount;
use hull_state::Db;
use hull_state::snapshots::Snapshot;

use super::overlay::bind;
use super::rows::{Rows, info};
use super::{DiffSource, Info, Kind, Snapshotter, Usage};
use crate::fsutil::{measure, remove_path};
use crate::layer::{Pending, copy_tree, merge, settle};
use crate::{Error, Result};

pub(super) struct Vfs {
    rows: Rows,
}

impl Vfs {
    pub fn open(root: &Path, db: Db) -> Result<Self> {
        Ok(Vfs {
            rows: Rows::open(db, "vfs", root)?,
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

    fn make(&self, parent: Option<&Path>) -> Result<PathBuf> {
        let dir = self.rows.temporary();
        let files = dir.join("fs");
        fs::create_dir_all(&files).map_err(Error::io("create", &files))?;
        fs::set_permissions(&files, Permissions::from_mode(0o755))
            .map_err(Error::io("set mode of", &files))?;
        if let Some(parent) = parent {
            copy_tree(parent, &files).inspect_err(|_| {
                // The sweep removes what cannot be removed now.
                let _ = remove_path(&dir);
            })?;
        }
        Ok(dir)
    }

    fn new_snapshot(&self, key: &str, parent: Option<&str>, kind: Kind) -> Result<Snapshot> {
        let below = parent
            .map(|parent| self.rows.get(parent))
            .transpose()?
            .map(|parent| self.files(&parent));
        let made = self.make(below.as_deref())?;
        self.rows.insert(key, parent, kind, &made).inspect_err(|_| {
            let _ = remove_path(&made);
        })
    }

    fn measured(&self, files: &Path) -> Result<Usage> {
        let (bytes, inodes) = measure(files).map_err(Error::io("measure", files))?;
        Ok(Usage { bytes, inodes })
    }
}

impl Snapshotter for Vfs {
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
        let merged = made.join("fs");
        remove_path(&files).map_err(Error::io("remove", &files))?;
        fs::rename(&merged, &files).map_err(Error::io("rename", &merged))?;
        remove_path(&made).map_err(Error::io("remove", &made))?;
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
        remove_path(&dir).map_err(Error::io("remove", &dir))
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
        Vec::new()
    }

    fn sweep(&self) -> Result<usize> {
        let (strays, gone) = self.rows.strays()?;
        for stray in &strays {
            remove_path(stray).map_err(Error::io("remove", stray))?;
        }
        Ok(strays.len() + gone)
    }
}
