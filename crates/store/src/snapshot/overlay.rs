//! `overlay2`: one directory per layer, joined by overlayfs. Also the layout of `fuse-overlayfs`.
//!
//! `<root>/<n>/fs` has the snapshot's own files, `<root>/<n>/work` belongs to the kernel. Layers are given as single
//! `lowerdir+=` options, which fsconfig(2) takes without a page's limit on their sum (Linux 6.5).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Mount;
use hull_state::Db;

use super::rows::{Chain, Rows, info};
use super::{DiffSource, Info, Kind, Snapshotter, Usage};
use crate::fsutil::{measure, remove_path};
use crate::layer::{Pending, settle};
use crate::{Error, Result};

/// Layers that one mount can join: overlayfs's own limit (`OVL_MAX_STACK`).
pub(super) const LOWERS_MAX: usize = 500;

pub(super) struct Overlay {
    rows: Rows,
    fstype: &'static str,
}

impl Overlay {
    pub fn open(name: &'static str, fstype: &'static str, root: &Path, db: Db) -> Result<Self> {
        let rows = Rows::open(db, name, root)?;
        fs::set_permissions(rows.root(), Permissions::from_mode(0o710))
            .map_err(Error::io("set mode of", rows.root()))?;
        Ok(Overlay { rows, fstype })
    }

    /// Makes the directories of a new snapshot. The top of a container's tree looks like its parent's.
    fn make(&self, work: bool, parent: Option<&Path>) -> Result<PathBuf> {
        let dir = self.rows.temporary();
        let files = dir.join("fs");
        fs::create_dir_all(&files).map_err(Error::io("create", &files))?;
        if work {
            let work = dir.join("work");
            fs::create_dir(&work).map_err(Error::io("create", &work))?;
        }
        let mode = match parent {
            Some(parent) => fs::metadata(parent)
                .map_err(Error::io("stat", parent))?
                .permissions(),
            None => Permissions::from_mode(0o755),
        };
        fs::set_permissions(&files, mode).map_err(Error::io("set mode of", &files))?;
        if let Some(parent) = parent {
            use std::os::unix::fs::MetadataExt;
            let owner = fs::metadata(parent).map_err(Error::io("stat", parent))?;
            std::os::unix::fs::chown(&files, Some(owner.uid()), Some(owner.gid()))
                .map_err(Error::io("set owner of", &files))?;
        }
        Ok(dir)
    }

    fn new_snapshot(&self, key: &str, parent: Option<&str>, kind: Kind) -> Result<Vec<Mount>> {
        let below = match parent {
            Some(parent) => {
                let chain = self.rows.chain(parent)?;
                if chain.parents.len() + 1 > LOWERS_MAX {
                    return Err(Error::SnapshotState {
                        operation: "mount",
                        key: parent.to_owned(),
                        state: "of more than 500 layers, which is overlayfs's limit",
                    });
                }
                Some(chain)
            }
            None => None,
        };
        let upper = below.as_ref().map(|chain| self.files(&chain.own));
        let made = self.make(kind == Kind::Active, upper.as_deref())?;
        let own = self
            .rows
            .insert(key, parent, kind, &made)
            .inspect_err(|_| {
                // The sweep removes what cannot be removed now.
                let _ = remove_path(&made);
            })?;
        let parents = below.map_or_else(Vec::new, |Chain { own, parents }| {
            [vec![own], parents].concat()
        });
        Ok(self.mounts_of(&Chain { own, parents }))
    }

    fn files(&self, snapshot: &hull_state::snapshots::Snapshot) -> PathBuf {
        self.rows.dir(snapshot).join("fs")
    }

    fn mounts_of(&self, chain: &Chain) -> Vec<Mount> {
        let own = self.files(&chain.own);
        let mut lowers: Vec<PathBuf> = chain
            .parents
            .iter()
            .map(|parent| self.files(parent))
            .collect();
        match chain.own.kind {
            Kind::Active => {
                let work = self.rows.dir(&chain.own).join("work");
                if lowers.is_empty() {
                    vec![bind(&own, "rw")]
                } else {
                    vec![self.join(&lowers, Some((&own, &work)))]
                }
            }
            Kind::Committed | Kind::View => {
                if chain.own.kind == Kind::Committed {
                    lowers.insert(0, own);
                }
                match lowers.as_slice() {
                    [] => vec![bind(&self.files(&chain.own), "ro")],
                    [one] => vec![bind(one, "ro")],
                    several => vec![self.join(several, None)],
                }
            }
        }
    }

    fn join(&self, lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Mount {
        let mut options: Vec<String> = lowers
            .iter()
            .map(|lower| format!("lowerdir+={}", lower.display()))
            .collect();
        if let Some((upper, work)) = upper {
            options.push(format!("upperdir={}", upper.display()));
            options.push(format!("workdir={}", work.display()));
        } else {
            options.push("ro".to_owned());
        }
        if self.fstype == "overlay" {
            // An upper directory must be a layer by itself, whatever the kernel's defaults are: no redirects to follow,
            // no metadata-only copies, no index that ties it to its lowers' inodes.
            options.extend(["index=off", "redirect_dir=off", "metacopy=off"].map(str::to_owned));
        }
        Mount {
            kind: Some(self.fstype.to_owned()),
            source: Some("overlay".to_owned()),
            options,
            ..Mount::default()
        }
    }

    fn lowers(&self, chain: &Chain) -> Vec<PathBuf> {
        chain
            .parents
            .iter()
            .map(|parent| self.files(parent))
            .collect()
    }

    fn measured(&self, key: &str) -> Result<Usage> {
        let files = self.upper_dir(key)?;
        let (bytes, inodes) = measure(&files).map_err(Error::io("measure", &files))?;
        Ok(Usage { bytes, inodes })
    }
}

/// A bind mount of a whole tree.
pub(super) fn bind(source: &Path, mode: &str) -> Mount {
    Mount {
        kind: Some("bind".to_owned()),
        source: Some(source.display().to_string()),
        options: vec!["bind".to_owned(), mode.to_owned()],
        ..Mount::default()
    }
}

impl Snapshotter for Overlay {
    fn name(&self) -> &'static str {
        self.rows.driver()
    }

    fn prepare(&self, key: &str, parent: Option<&str>) -> Result<Vec<Mount>> {
        self.new_snapshot(key, parent, Kind::Active)
    }

    fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>> {
        self.new_snapshot(key, Some(parent), Kind::View)
    }

    fn stage(&self, key: &str) -> Result<PathBuf> {
        let made = self.make(false, None)?;
        let own = self
            .rows
            .insert(key, None, Kind::Active, &made)
            .inspect_err(|_| {
                let _ = remove_path(&made);
            })?;
        Ok(self.files(&own))
    }

    fn commit_layer(
        &self,
        name: &str,
        key: &str,
        parent: Option<&str>,
        pending: &Pending,
    ) -> Result<()> {
        let own = self.rows.active(key)?;
        let lowers = match parent {
            Some(parent) => {
                let chain = self.rows.chain(parent)?;
                [vec![self.files(&chain.own)], self.lowers(&chain)].concat()
            }
            None => Vec::new(),
        };
        settle(&self.files(&own), pending, &lowers)?;
        let usage = self.measured(key)?;
        self.rows.commit(name, key, Some(parent), usage)
    }

    fn commit(&self, name: &str, key: &str) -> Result<()> {
        self.rows.active(key)?;
        let usage = self.measured(key)?;
        self.rows.commit(name, key, None, usage)
    }

    fn remove(&self, key: &str) -> Result<()> {
        let dir = self.rows.remove(key)?;
        remove_path(&dir).map_err(Error::io("remove", &dir))
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        Ok(self.mounts_of(&self.rows.chain(key)?))
    }

    fn stat(&self, key: &str) -> Result<Info> {
        self.rows.get(key).map(info)
    }

    fn usage(&self, key: &str) -> Result<Usage> {
        let own = self.rows.get(key)?;
        match (own.kind, own.size, own.inodes) {
            (Kind::Committed, Some(bytes), Some(inodes)) => Ok(Usage { bytes, inodes }),
            _ => self.measured(key),
        }
    }

    fn walk(&self) -> Result<Vec<Info>> {
        self.rows.walk()
    }

    fn upper_dir(&self, key: &str) -> Result<PathBuf> {
        Ok(self.files(&self.rows.get(key)?))
    }

    fn diff_source(&self, key: &str) -> Result<DiffSource> {
        let chain = self.rows.chain(key)?;
        Ok(DiffSource::Upper {
            upper: self.files(&chain.own),
            lowers: self.lowers(&chain),
        })
    }

    fn inspect_data(&self, key: &str) -> Result<Vec<(&'static str, String)>> {
        let chain = self.rows.chain(key)?;
        let mut data = Vec::new();
        let lowers = self.lowers(&chain);
        if !lowers.is_empty() {
            let joined: Vec<_> = lowers
                .iter()
                .map(|lower| lower.display().to_string())
                .collect();
            data.push(("LowerDir", joined.join(":")));
        }
        let dir = self.rows.dir(&chain.own);
        data.push(("MergedDir", dir.join("merged").display().to_string()));
        data.push(("UpperDir", dir.join("fs").display().to_string()));
        data.push(("WorkDir", dir.join("work").display().to_string()));
        Ok(data)
    }

    fn status(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![
            pair(
                "Backing Filesystem",
                super::choose::backing_name(self.rows.root()),
            ),
            pair("Supports d_type", "true"),
            pair("Using metacopy", "false"),
            pair("Native Overlay Diff", "true"),
            pair("userxattr", "false"),
        ]
    }

    fn sweep(&self) -> Result<usize> {
        let (strays, gone) = self.rows.strays()?;
        for stray in &strays {
            remove_path(stray).map_err(Error::io("remove", stray))?;
        }
        Ok(strays.len() + gone)
    }
}
