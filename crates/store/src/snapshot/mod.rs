//! Snapshots: directories that can be mounted and have a parent, kept by a storage driver.
//!
//! # Life of a snapshot
//!
//! ```text
//! prepare(key, parent) -> active ──commit(name, key)──> committed ──remove──> gone
//! stage(key)           -> active ──commit_layer(..)───> committed
//! view(key, parent)    -> view   ──remove(key)────────> gone
//! ```
//! - A parent is always committed, and a committed snapshot never changes.
//! - `prepare` and `view` of a key that exists fail with [`Error::SnapshotExists`](crate::Error::SnapshotExists).
//! - `remove` of a snapshot with children fails; remove the children first.
//! - A layer's key is its chain id, a container's its id.
//! - `stage` gives an empty directory for one layer, without a parent: several layers of an image are unpacked at once
//!   and committed in order, each on the one before.
//! - Crash law: directories before the row, the row removed before the directories. [`open`] sweeps what a crash left.
//!
//! Example, an image of two layers and a container: `stage("pull-1-0")` and `stage("pull-1-1")`, unpack both,
//! `commit_layer(chain0, "pull-1-0", None, ..)`, `commit_layer(chain1, "pull-1-1", Some(chain0), ..)`,
//! `prepare(container, Some(chain1))`, run, `remove(container)`.

mod aufs;
mod btrfs;
mod choose;
mod commands;
mod erofs;
mod options;
mod overlay;
mod quota;
mod rows;
mod thin;
mod tree;
mod trees;
mod vfs;
mod zfs;

use std::path::PathBuf;

use hull_oci::runtime::Mount;

pub use choose::{DRIVERS, open};
pub use options::parse_size;
pub use tree::Tree;

use crate::Result;
use crate::layer::Pending;

/// What may be done with a snapshot.
pub use hull_state::snapshots::Kind;

/// One snapshot, as [`Snapshotter::stat`] and [`Snapshotter::walk`] show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its key.
    pub key: String,
    /// Its parent's key.
    pub parent: Option<String>,
    /// Active, view or committed.
    pub kind: Kind,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// What a snapshot takes of the disk by itself, without its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of its files' contents (a hard link counts once).
    pub bytes: u64,
    /// Files of any kind.
    pub inodes: u64,
}

/// Where a snapshot's changes against its parent can be read, for [`crate::layer::diff`] and friends.
#[derive(Debug, Clone)]
pub enum DiffSource {
    /// Only the changes, in overlayfs's form, and the directories below, uppermost first.
    Upper {
        /// The changes.
        upper: Tree,
        /// The layers below.
        lowers: Vec<Tree>,
    },
    /// Two complete trees.
    Trees {
        /// The parent's tree; `None` when the snapshot has none.
        lower: Option<Tree>,
        /// The snapshot's tree.
        upper: Tree,
    },
}

/// A storage driver. All methods block; none holds a lock while it works on files.
pub trait Snapshotter: Send + Sync {
    /// The driver's name, as `docker info` shows it.
    fn name(&self) -> &'static str;

    /// Makes a writable snapshot on `parent` and returns how to mount it. Each mount's destination is empty.
    fn prepare(&self, key: &str, parent: Option<&str>) -> Result<Vec<Mount>>;

    /// Makes a read-only look at `parent`.
    fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>>;

    /// Makes an empty active snapshot to unpack one layer into; returns its directory.
    fn stage(&self, key: &str) -> Result<PathBuf>;

    /// Commits a staged layer as `name` on `parent`, after settling what needed the layers below.
    fn commit_layer(
        &self,
        name: &str,
        key: &str,
        parent: Option<&str>,
        pending: &Pending,
    ) -> Result<()>;

    /// Commits an active snapshot made by [`prepare`](Self::prepare) as `name`; nobody may write to it any more.
    fn commit(&self, name: &str, key: &str) -> Result<()>;

    /// Removes a snapshot that has no children. One that is not there is an error.
    fn remove(&self, key: &str) -> Result<()>;

    /// How to mount a snapshot: writable if active, else read-only.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>>;

    /// Its row.
    fn stat(&self, key: &str) -> Result<Info>;

    /// What it takes of the disk. Measured each time for an active one.
    fn usage(&self, key: &str) -> Result<Usage>;

    /// All snapshots of this driver, oldest first.
    fn walk(&self) -> Result<Vec<Info>>;

    /// Lets an active snapshot hold at most `bytes`: with complete trees what comes from the parent counts, as in Docker.
    /// Asked before it is first mounted.
    ///
    /// # Errors
    /// [`Error::NoLimit`](crate::Error::NoLimit) where the driver or the file system below it has none, in Docker's words.
    fn limit(&self, key: &str, bytes: u64) -> Result<()>;

    /// The snapshot's own files: for overlay drivers its changes, for others its whole tree.
    fn upper_dir(&self, key: &str) -> Result<Tree>;

    /// Where its changes can be read.
    fn diff_source(&self, key: &str) -> Result<DiffSource>;

    /// `GraphDriver.Data` of `docker inspect`.
    fn inspect_data(&self, key: &str) -> Result<Vec<(&'static str, String)>>;

    /// `DriverStatus` of `docker info`.
    fn status(&self) -> Vec<(String, String)>;

    /// Removes directories without a row and rows without a directory, as a crash leaves them. Returns how many. Only for
    /// the start, when nothing is in progress: a snapshot that is being made has no row yet.
    fn sweep(&self) -> Result<usize>;
}
