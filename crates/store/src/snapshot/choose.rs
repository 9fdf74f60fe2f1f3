//! Which driver a data root uses: the one asked for, else the one it already has snapshots of, else the first that works
//! here.

use std::path::Path;
use std::sync::Arc;

use hull_state::{Db, snapshots};
use rustix::fs::statfs;

use super::aufs::{self, Aufs};
use super::btrfs::Btrfs;
use super::options::Options;
use super::overlay::{Form, Overlay};
use super::thin::{self, Pool};
use super::trees::Trees;
use super::vfs::Vfs;
use super::zfs::{self, Zfs};
use super::{Snapshotter, commands, erofs, quota};
use crate::{Error, Result};

/// The drivers that are tried by themselves, in order: Docker's. The others are chosen by name only.
const AUTOMATIC: &[&str] = &["overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs"];

/// The drivers that can be asked for.
pub const DRIVERS: &[&str] = &[
    "overlay2",
    "fuse-overlayfs",
    "btrfs",
    "zfs",
    "vfs",
    "erofs",
    "devicemapper",
    "aufs",
];

const BTRFS: i64 = 0x9123_683e;
const EXT: i64 = 0xef53;
const XFS: i64 = 0x5846_5342;
const TMPFS: i64 = 0x0102_1994;
const OVERLAY: i64 = 0x794c_7630;
const ZFS: i64 = 0x2fc1_2fc1;

/// Opens the driver `driver` (or the one that suits) below `root` with its `--storage-opt`s, and sweeps what a crash left.
///
/// # Errors
/// [`Error::Driver`] for a name that does not exist, a driver that cannot work here (it says what is missing), or an option
/// that it does not know.
pub fn open(
    driver: Option<&str>,
    options: &[String],
    root: &Path,
    db: Db,
) -> Result<Arc<dyn Snapshotter>> {
    std::fs::create_dir_all(root).map_err(Error::io("create", root))?;
    let options = Options::parse(options)?;
    let in_use = db
        .read(snapshots::list)?
        .into_iter()
        .next()
        .map(|snapshot| snapshot.driver);
    let named = driver.map(str::to_owned).or(in_use);
    let chosen = match named {
        Some(name) => open_named(&name, options, root, db)?,
        None => open_first(options, root, db)?,
    };
    chosen.sweep()?;
    Ok(chosen)
}

fn open_first(options: Options, root: &Path, db: Db) -> Result<Arc<dyn Snapshotter>> {
    let mut reasons = Vec::new();
    for name in AUTOMATIC {
        match open_named(name, options.clone(), root, db.clone()) {
            Err(Error::Driver { why, .. }) => reasons.push(format!("{name}: {why}")),
            other => return other,
        }
    }
    Err(Error::Driver {
        driver: "(any)".to_owned(),
        why: reasons.join("; "),
    })
}

fn open_named(
    name: &str,
    mut options: Options,
    root: &Path,
    db: Db,
) -> Result<Arc<dyn Snapshotter>> {
    let unusable = |why: String| Error::Driver {
        driver: name.to_owned(),
        why,
    };
    let need = |missing: Option<String>| missing.map_or(Ok(()), |why| Err(unusable(why)));
    match name {
        "overlay2" | "overlay" => {
            need(overlay_missing(root))?;
            // Docker's check of old kernels: accepted, for there is none to override.
            options.boolean("overlay2", "overlay2.override_kernel_check")?;
            let size = options.size("overlay2.size")?;
            if let Some(why) = size.and_then(|_| quota::missing(root)) {
                return Err(unusable(format!(
                    "storage option overlay2.size is supported only for xfs with 'pquota' mount option, or ext4 with project quotas ({}: {why})",
                    root.display()
                )));
            }
            options.finish("overlay2")?;
            Ok(Arc::new(Overlay::open(Form::Kernel, size, root, db)?))
        }
        "fuse-overlayfs" => {
            options.finish(name)?;
            need(fuse_missing())?;
            Ok(Arc::new(Overlay::open(Form::Fuse, None, root, db)?))
        }
        "erofs" => {
            options.finish(name)?;
            need(overlay_missing(root))?;
            erofs::probe(root).map_err(unusable)?;
            Ok(Arc::new(Overlay::open(Form::Erofs, None, root, db)?))
        }
        "vfs" => {
            options.finish(name)?;
            Ok(Arc::new(Trees::open(Vfs, root, db)?))
        }
        "btrfs" => {
            need(
                (backing(root) != BTRFS)
                    .then(|| format!("{} does not lie on a btrfs file system", root.display())),
            )?;
            Ok(Arc::new(Trees::open(Btrfs::new(options)?, root, db)?))
        }
        "zfs" => {
            need(zfs::missing())?;
            Ok(Arc::new(Trees::open(Zfs::open(root, options)?, root, db)?))
        }
        "devicemapper" => {
            need(thin::missing())?;
            Ok(Arc::new(Trees::open(Pool::open(root, options)?, root, db)?))
        }
        "aufs" => {
            options.finish(name)?;
            need(aufs::missing())?;
            Ok(Arc::new(Trees::open(Aufs, root, db)?))
        }
        _ => Err(unusable(format!(
            "there is no such driver; choose one of {}",
            DRIVERS.join(", ")
        ))),
    }
}

/// Whether the kernel knows a file system now; one in a module that is not loaded is not known.
pub(super) fn kernel_has(filesystem: &str) -> bool {
    std::fs::read_to_string("/proc/filesystems")
        .unwrap_or_default()
        .split_whitespace()
        .any(|name| name == filesystem)
}

fn overlay_missing(root: &Path) -> Option<String> {
    if !kernel_has("overlay") {
        return Some("the kernel has no overlayfs (try: modprobe overlay)".to_owned());
    }
    (backing(root) == OVERLAY).then(|| {
        format!(
            "{} lies on overlayfs, which cannot be an upper layer",
            root.display()
        )
    })
}

fn fuse_missing() -> Option<String> {
    if !Path::new("/dev/fuse").exists() {
        return Some(
            "the kernel has no FUSE: there is no /dev/fuse (try: modprobe fuse)".to_owned(),
        );
    }
    commands::find(hull_sys::fuse::PROGRAM)
        .is_none()
        .then(|| "fuse-overlayfs is not installed (Debian's package fuse-overlayfs)".to_owned())
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
