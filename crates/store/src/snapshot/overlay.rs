//! `overlay2`, `fuse-overlayfs` and `erofs`: one layer each by itself, joined when mounted.
//!
//! `<root>/<n>/fs` has the snapshot's own files, `<root>/<n>/work` belongs to the kernel. Layers are given as single
//! `lowerdir+=` options, which fsconfig(2) takes without a page's limit on their sum (Linux 6.5).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Mount;
use hull_state::Db;
use hull_state::snapshots::Snapshot;

use super::rows::{Chain, Rows, info};
use super::{DiffSource, Info, Kind, Snapshotter, Tree, Usage};
use super::{erofs, quota};
use crate::fsutil::{measure, remove_path};
use crate::layer::{Pending, settle};
use crate::{Error, Result};

/// Layers that one mount can join: overlayfs's own limit (`OVL_MAX_STACK`).
pub(super) const LOWERS_MAX: usize = 500;

/// What joins the layers, and what a committed one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Directories, joined by the kernel.
    Kernel,
    /// Directories, joined by the program fuse-overlayfs.
    Fuse,
    /// erofs images, joined by the kernel.
    Erofs,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Form::Kernel => "overlay2",
            Form::Fuse => "fuse-overlayfs",
            Form::Erofs => "erofs",
        }
    }

    fn fstype(self) -> &'static str {
        match self {
            Form::Kernel | Form::Erofs => "overlay",
            Form::Fuse => hull_sys::fuse::OVERLAY,
        }
    }
}

pub(super) struct Overlay {
    rows: Rows,
    form: Form,
    /// What a container's changes may take, if nothing else is said.
    size: Option<u64>,
}

impl Overlay {
    pub fn open(form: Form, size: Option<u64>, root: &Path, db: Db) -> Result<Self> {
        let rows = Rows::open(db, form.name(), root)?;
        fs::set_permissions(rows.root(), Permissions::from_mode(0o710))
            .map_err(Error::io("set mode of", rows.root()))?;
        Ok(Overlay { rows, form, size })
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
        let top = below
            .as_ref()
            .map(|chain| self.tree(&chain.own))
            .transpose()?;
        let made = self.make(kind == Kind::Active, top.as_deref())?;
        let own = self
            .rows
            .insert(key, parent, kind, &made)
            .inspect_err(|_| {
                // The sweep removes what cannot be removed now.
                let _ = remove_path(&made);
            })?;
        if let (Kind::Active, Some(bytes)) = (kind, self.size) {
            self.limit(key, bytes).inspect_err(|_| {
                let _ = self.remove(key);
            })?;
        }
        let parents = below.map_or_else(Vec::new, |Chain { own, parents }| {
            [vec![own], parents].concat()
        });
        Ok(self.mounts_of(&Chain { own, parents }))
    }

    /// What a mount of it names: its directory, or its image.
    fn layer(&self, snapshot: &Snapshot) -> PathBuf {
        let dir = self.rows.dir(snapshot);
        match (self.form, snapshot.kind) {
            (Form::Erofs, Kind::Committed) => dir.join(erofs::IMAGE),
            _ => dir.join("fs"),
        }
    }

    /// Its own files, to be walked.
    fn tree(&self, snapshot: &Snapshot) -> Result<Tree> {
        let layer = self.layer(snapshot);
        match (self.form, snapshot.kind) {
            (Form::Erofs, Kind::Committed) => erofs::mount(&layer),
            _ => Ok(layer.into()),
        }
    }

    fn mounts_of(&self, chain: &Chain) -> Vec<Mount> {
        let own = self.layer(&chain.own);
        let mut lowers: Vec<PathBuf> = chain
            .parents
            .iter()
            .map(|parent| self.layer(parent))
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
            Kind::View => {
                // overlayfs wants two; the empty one hides a single layer's whiteouts, as any other does.
                if lowers.len() < 2 {
                    lowers.push(own);
                }
                vec![self.join(&lowers, None)]
            }
            Kind::Committed => {
                lowers.insert(0, own);
                match lowers.as_slice() {
                    [one] => vec![self.alone(one)],
                    several => vec![self.join(several, None)],
                }
            }
        }
    }

    /// One committed layer by itself, read-only.
    fn alone(&self, layer: &Path) -> Mount {
        match self.form {
            Form::Kernel | Form::Fuse => bind(layer, "ro"),
            Form::Erofs => Mount {
                kind: Some("erofs".to_owned()),
                source: Some(layer.display().to_string()),
                options: vec!["ro".to_owned()],
                ..Mount::default()
            },
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
        if self.form != Form::Fuse {
            // An upper directory must be a layer by itself, whatever the kernel's defaults are: no redirects to follow,
            // no metadata-only copies, no index that ties it to its lowers' inodes.
            options.extend(["index=off", "redirect_dir=off", "metacopy=off"].map(str::to_owned));
        }
        Mount {
            kind: Some(self.form.fstype().to_owned()),
            source: Some("overlay".to_owned()),
            options,
            ..Mount::default()
        }
    }

    fn lowers(&self, chain: &Chain) -> Result<Vec<Tree>> {
        chain
            .parents
            .iter()
            .map(|parent| self.tree(parent))
            .collect()
    }

    fn measured(&self, key: &str) -> Result<Usage> {
        let files = self.upper_dir(key)?;
        let (bytes, inodes) = measure(&files).map_err(Error::io("measure", &files))?;
        Ok(Usage { bytes, inodes })
    }

    /// Gives an active snapshot the form of a committed one and its row; `parent` as in [`Rows::commit`].
    fn seal(&self, name: &str, own: &Snapshot, parent: Option<Option<&str>>) -> Result<()> {
        let usage = self.measured(&own.key)?;
        if self.form != Form::Erofs {
            return self.rows.commit(name, &own.key, parent, usage);
        }
        let dir = self.rows.dir(own);
        let files = dir.join("fs");
        erofs::build(&files, &dir.join(erofs::IMAGE))?;
        self.rows.commit(name, &own.key, parent, usage)?;
        // What a crash leaves here goes with the snapshot.
        for left in [files, dir.join("work")] {
            remove_path(&left).map_err(Error::io("remove", &left))?;
        }
        Ok(())
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
        Ok(self.layer(&own))
    }

    fn commit_layer(
        &self,
        name: &str,
        key: &str,
        parent: Option<&str>,
        pending: &Pending,
    ) -> Result<()> {
        let own = self.rows.active(key)?;
        if let Some(parent) = parent
            && !pending.is_empty()
        {
            let chain = self.rows.chain(parent)?;
            let lowers = [vec![self.tree(&chain.own)?], self.lowers(&chain)?].concat();
            settle(&self.layer(&own), pending, &lowers)?;
        } else {
            settle(&self.layer(&own), pending, &[])?;
        }
        self.seal(name, &own, Some(parent))
    }

    fn commit(&self, name: &str, key: &str) -> Result<()> {
        let own = self.rows.active(key)?;
        quota::lift(&self.rows.dir(&own))?;
        self.seal(name, &own, None)
    }

    fn remove(&self, key: &str) -> Result<()> {
        let dir = self.rows.remove(key)?;
        // The number is never used again, so that a limit which stays limits nothing.
        let _ = quota::lift(&dir);
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

    fn limit(&self, key: &str, bytes: u64) -> Result<()> {
        let own = self.rows.active(key)?;
        match self.form {
            Form::Kernel if quota::missing(self.rows.root()).is_none() => {
                quota::limit(&self.rows.dir(&own), own.n, bytes)
            }
            // Docker's sentence.
            Form::Kernel => Err(Error::NoLimit(
                "is supported only for overlay over xfs with 'pquota' mount option".to_owned(),
            )),
            Form::Fuse | Form::Erofs => Err(Error::NoLimit(format!(
                "is not supported for {}",
                self.form.name()
            ))),
        }
    }

    fn upper_dir(&self, key: &str) -> Result<Tree> {
        self.tree(&self.rows.get(key)?)
    }

    fn diff_source(&self, key: &str) -> Result<DiffSource> {
        let chain = self.rows.chain(key)?;
        Ok(DiffSource::Upper {
            upper: self.tree(&chain.own)?,
            lowers: self.lowers(&chain)?,
        })
    }

    fn inspect_data(&self, key: &str) -> Result<Vec<(&'static str, String)>> {
        let chain = self.rows.chain(key)?;
        let mut data = Vec::new();
        if !chain.parents.is_empty() {
            let joined: Vec<_> = chain
                .parents
                .iter()
                .map(|parent| self.layer(parent).display().to_string())
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
        if self.form == Form::Fuse {
            return Vec::new();
        }
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
