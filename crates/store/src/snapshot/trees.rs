//! Drivers whose snapshots are complete trees: `vfs`, `btrfs`, `zfs`, `devicemapper`.
//!
//! What they share is here: the life of a snapshot, and that a staged layer is a plain directory in overlayfs's form until
//! it is committed, when it is laid over a tree made from its parent. How a tree comes and goes is the [`Kin`]'s.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Mount;
use hull_state::Db;
use hull_state::snapshots::Snapshot;

use super::rows::{Rows, info};
use super::{DiffSource, Info, Kind, Snapshotter, Tree, Usage};
use crate::fsutil::{measure, remove_path};
use crate::layer::{Pending, merge, settle};
use crate::{Error, Result};

/// A staged layer's directory in its snapshot's.
const STAGE: &str = "stage";

/// How the trees of one driver come and go. `dir` is a snapshot's own directory, which may be renamed in between.
pub(super) trait Kin: Send + Sync {
    /// The driver's name.
    fn name(&self) -> &'static str;

    /// Makes the tree of `dir`: equal to that of `parent`, or empty.
    fn plant(&self, dir: &Path, parent: Option<&Path>) -> Result<()>;

    /// The tree, to be read and written by this process.
    fn tree(&self, dir: &Path) -> Result<Tree>;

    /// How a container mounts it.
    fn mount(&self, dir: &Path, writable: bool) -> Result<Mount>;

    /// Removes the tree, as far as it is more than files in `dir`; one that is not there is no error.
    fn uproot(&self, dir: &Path) -> Result<()>;

    /// Lets the tree grow to at most `bytes`.
    fn limit(&self, dir: &Path, bytes: u64) -> Result<()>;

    /// For `docker info`.
    fn status(&self) -> Vec<(String, String)>;

    /// For `docker inspect`.
    fn inspect(&self, dir: &Path) -> Result<Vec<(&'static str, String)>>;
}

pub(super) struct Trees<K> {
    rows: Rows,
    kin: K,
}

impl<K: Kin> Trees<K> {
    pub fn open(kin: K, root: &Path, db: Db) -> Result<Self> {
        Ok(Trees {
            rows: Rows::open(db, kin.name(), root)?,
            kin,
        })
    }

    fn dir_of(&self, key: &str) -> Result<PathBuf> {
        Ok(self.rows.dir(&self.rows.get(key)?))
    }

    /// A staged layer's directory, or a snapshot's tree.
    fn files(&self, snapshot: &Snapshot) -> Result<Tree> {
        let dir = self.rows.dir(snapshot);
        let stage = dir.join(STAGE);
        if snapshot.kind == Kind::Active && stage.is_dir() {
            return Ok(stage.into());
        }
        self.kin.tree(&dir)
    }

    fn discard(&self, dir: &Path) -> Result<()> {
        self.kin.uproot(dir)?;
        remove_path(dir).map_err(Error::io("remove", dir))
    }

    fn new_snapshot(&self, key: &str, parent: Option<&str>, kind: Kind) -> Result<Snapshot> {
        let below = parent.map(|parent| self.dir_of(parent)).transpose()?;
        self.insert(key, parent, kind, |dir| {
            self.kin.plant(dir, below.as_deref())
        })
    }

    /// Makes a directory, fills it, and gives it a row; on failure it goes again.
    fn insert(
        &self,
        key: &str,
        parent: Option<&str>,
        kind: Kind,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Snapshot> {
        let made = self.rows.temporary();
        fs::create_dir_all(&made).map_err(Error::io("create", &made))?;
        fill(&made)
            .and_then(|()| self.rows.insert(key, parent, kind, &made))
            .inspect_err(|_| {
                // The sweep removes what cannot be removed now.
                let _ = self.discard(&made);
            })
    }

    fn measured(&self, tree: &Tree) -> Result<Usage> {
        let (bytes, inodes) = measure(tree).map_err(Error::io("measure", tree))?;
        Ok(Usage { bytes, inodes })
    }
}

impl<K: Kin> Snapshotter for Trees<K> {
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
        let own = self.insert(key, None, Kind::Active, |dir| {
            let stage = dir.join(STAGE);
            fs::create_dir(&stage).map_err(Error::io("create", &stage))?;
            fs::set_permissions(&stage, Permissions::from_mode(0o755))
                .map_err(Error::io("set mode of", &stage))
        })?;
        Ok(self.rows.dir(&own).join(STAGE))
    }

    fn commit_layer(
        &self,
        name: &str,
        key: &str,
        parent: Option<&str>,
        pending: &Pending,
    ) -> Result<()> {
        let own = self.rows.active(key)?;
        let dir = self.rows.dir(&own);
        let stage = dir.join(STAGE);
        let below = parent.map(|parent| self.dir_of(parent)).transpose()?;
        let tree = below.as_deref().map(|dir| self.kin.tree(dir)).transpose()?;
        settle(&stage, pending, tree.as_slice())?;
        drop(tree);
        // Even without a parent the overlay form must go: whiteouts of nothing, opaque marks.
        self.kin.plant(&dir, below.as_deref())?;
        let tree = self.kin.tree(&dir)?;
        merge(&stage, &tree)?;
        let usage = self.measured(&tree)?;
        drop(tree);
        remove_path(&stage).map_err(Error::io("remove", &stage))?;
        self.rows.commit(name, key, Some(parent), usage)
    }

    fn commit(&self, name: &str, key: &str) -> Result<()> {
        let own = self.rows.active(key)?;
        let usage = self.measured(&self.files(&own)?)?;
        self.rows.commit(name, key, None, usage)
    }

    fn remove(&self, key: &str) -> Result<()> {
        let dir = self.rows.remove(key)?;
        self.discard(&dir)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let own = self.rows.get(key)?;
        let mount = self
            .kin
            .mount(&self.rows.dir(&own), own.kind == Kind::Active)?;
        Ok(vec![mount])
    }

    fn stat(&self, key: &str) -> Result<Info> {
        self.rows.get(key).map(info)
    }

    fn usage(&self, key: &str) -> Result<Usage> {
        let own = self.rows.get(key)?;
        match (own.kind, own.size, own.inodes) {
            (Kind::Committed, Some(bytes), Some(inodes)) => Ok(Usage { bytes, inodes }),
            _ => self.measured(&self.files(&own)?),
        }
    }

    fn walk(&self) -> Result<Vec<Info>> {
        self.rows.walk()
    }

    fn limit(&self, key: &str, bytes: u64) -> Result<()> {
        self.kin.limit(&self.dir_of(key)?, bytes)
    }

    fn upper_dir(&self, key: &str) -> Result<Tree> {
        self.files(&self.rows.get(key)?)
    }

    fn diff_source(&self, key: &str) -> Result<DiffSource> {
        let own = self.rows.get(key)?;
        let parent = own.parent.as_deref();
        Ok(DiffSource::Trees {
            lower: parent
                .map(|parent| self.kin.tree(&self.dir_of(parent)?))
                .transpose()?,
            upper: self.files(&own)?,
        })
    }

    fn inspect_data(&self, key: &str) -> Result<Vec<(&'static str, String)>> {
        self.kin.inspect(&self.dir_of(key)?)
    }

    fn status(&self) -> Vec<(String, String)> {
        self.kin.status()
    }

    fn sweep(&self) -> Result<usize> {
        let (strays, gone) = self.rows.strays()?;
        for stray in &strays {
            self.discard(stray)?;
        }
        Ok(strays.len() + gone)
    }
}
