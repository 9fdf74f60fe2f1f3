//! Which driver a data root uses: the one asked for, else the one it already has snapshots of, else the first that works
//! here.

use std::path::Path;
use std::sync::Arc;

use hull_state::{Db, snapshots};
use rustix::fs::statfs;

use super::Snapshotter;
use super::overlay::Overlay;
use super::trees::{Kin, Trees};
use crate::{Error, Result};

/// The drivers that can be asked for, in order of choice.
pub const DRIVERS: &[&str] = &["overlay2", "btrfs", "vfs"];

const BTRFS: i64 = 0x9123_683e;
const EXT: i64 = 0xef53;
const XFS: i64 = 0x5846_5342;
const TMPFS: i64 = 0x0102_1994;
const OVERLAY: i64 = 0x794c_7630;
const ZFS: i64 = 0x2fc1_2fc1;

/// Opens the driver `driver` (or the one that suits) below `root`, and sweeps what a crash left.
///
/// # Errors
/// [`Error::Driver`] for a name that does not exist, or a driver that cannot work here: it says what is missing.
pub fn open(driver: Option<&str>, root: &Path, db: Db) -> Result<Arc<dyn Snapshotter>> {
    std::fs::create_dir_all(root).map_err(Error::io("create", root))?;
    let in_use = db
        .read(snapshots::list)?
        .into_iter()
        .next()
        .map(|snapshot| snapshot.driver);
    let chosen: Arc<dyn Snapshotter> = match (driver, in_use) {
        (Some(name), _) => open_named(name, root, db)?,
        (None, Some(name)) => open_named(&name, root, db)?,
        (None, None) => open_first(root, db)?,
    };
    chosen.sweep()?;
    Ok(chosen)
}

fn open_first(root: &Path, db: Db) -> Result<Arc<dyn Snapshotter>> {
    let mut reasons = Vec::new();
    for name in DRIVERS {
        match open_named(name, root, db.clone()) {
            Err(Error::Driver { why, .. }) => reasons.push(format!("{name}: {why}")),
            other => return other,
        }
    }
    Err(Error::Driver {
        driver: "(any)".to_owned(),
        why: reasons.join("; "),
    })
}

fn open_named(name: &str, root: &Path, db: Db) -> Result<Arc<dyn Snapshotter>> {
    let unusable = |why: String| Error::Driver {
        driver: name.to_owned(),
        why,
    };
    match name {
        "overlay2" | "overlay" => {
            check_overlay(root).map_err(unusable)?;
            Ok(Arc::new(Overlay::open("overlay2", "overlay", root, db)?))
        }
        "vfs" => Ok(Arc::new(Trees::open(Kin::Copies, root, db)?)),
        "btrfs" => match backing(root) {
            BTRFS => Ok(Arc::new(Trees::open(Kin::Subvolumes, root, db)?)),
            _ => Err(unusable(format!(
                "{} does not lie on a btrfs file system",
                root.display()
            ))),
        },
        "fuse-overlayfs" => Err(unusable(
            "it is not made here yet; as root use overlay2".to_owned(),
        )),
        "zfs" => Err(unusable(absent(
            "zfs",
            "the kernel has no zfs (its module is not part of Linux)",
        ))),
        "aufs" => Err(unusable(absent(
            "aufs",
            "the kernel has no aufs (it was never part of Linux); use overlay2",
        ))),
        "devicemapper" => Err(unusable(
            "Docker gave it up in version 25, and so do we; use overlay2".to_owned(),
        )),
        _ => Err(unusable(format!(
            "there is no such driver; choose one of {}",
            DRIVERS.join(", ")
        ))),
    }
}

fn check_overlay(root: &Path) -> std::result::Result<(), String> {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|name| name == "overlay") {
        return Err("the kernel has no overlayfs (try: modprobe overlay)".to_owned());
    }
    match backing(root) {
        OVERLAY => Err(format!(
            "{} lies on overlayfs, which cannot be an upper layer",
            root.display()
        )),
        _ => Ok(()),
    }
}

/// Why a driver that needs a file system of the kernel cannot be used.
fn absent(filesystem: &str, without: &str) -> String {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if filesystems
        .split_whitespace()
        .any(|name| name == filesystem)
    {
        return "this program has no such driver yet, though the kernel could; use overlay2"
            .to_owned();
    }
    without.to_owned()
}

fn backing(path: &Path) -> i64 {
    statfs(path).map_or(0, |stat| stat.f_type)
}

/// The backing file system's name as `docker info` prints it.
pub(super) fn backing_name(path: &Path) -> &'static str {
    match backing(path) {
        BTRFS => "btrfs",
        EXT => "extfs",
        XFS => "xfs",
        TMPFS => "tmpfs",
        OVERLAY => "overlayfs",
        ZFS => "zfs",
        _ => "<unknown>",
    }
}
