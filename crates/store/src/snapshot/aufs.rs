//! `aufs`: each snapshot a directory of its own changes, joined with those of its parents by the kernel (aufs(5)).
//!
//! `<root>/<n>/fs` has the changes in aufs's own form, `<root>/<n>/parents` the numbers of the layers below, uppermost first. A
//! staged layer is laid over the joined tree, so that aufs itself writes its whiteouts, and nothing here needs to know their
//! form. aufs was never part of Linux, and no kernel of ours has it: what is asked of it is tested as text, the mount is not.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Mount;

use super::Tree;
use super::choose::kernel_has;
use super::trees::Kin;
use crate::{Error, Result};

const DRIVER: &str = "aufs";
const FILES: &str = "fs";
const PARENTS: &str = "parents";
/// The table of inode numbers; it is unlinked as soon as it is open, and must not lie on a branch (Docker's place for it).
const XINO: &str = "xino=/dev/shm/aufs.xino";

/// What the kernel lacks for this driver.
pub(super) fn missing() -> Option<String> {
    (!kernel_has(DRIVER))
        .then(|| "the kernel has no aufs (it was never part of Linux); use overlay2".to_owned())
}

pub(super) struct Aufs;

/// The layers below, uppermost first.
fn parents(dir: &Path) -> Result<Vec<PathBuf>> {
    let path = dir.join(PARENTS);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let root = dir.parent().unwrap_or(dir);
    Ok(text
        .lines()
        .map(|name| root.join(name).join(FILES))
        .collect())
}

/// The mount of a snapshot. The branches come one by one, for fsconfig(2) takes 256 bytes at once. `ro+wh` lets whiteouts on a
/// read-only branch hide what lies below.
fn plan(dir: &Path, writable: bool) -> Result<Mount> {
    let own = dir.join(FILES);
    let mode = if writable { "rw" } else { "ro+wh" };
    let mut options = vec![format!("br={}={mode}", own.display())];
    let below = parents(dir)?;
    options.extend(
        below
            .iter()
            .map(|one| format!("append={}=ro+wh", one.display())),
    );
    options.push(XINO.to_owned());
    options.push(if writable { "rw" } else { "ro" }.to_owned());
    Ok(Mount {
        kind: Some(DRIVER.to_owned()),
        source: Some("none".to_owned()),
        options,
        ..Mount::default()
    })
}

impl Kin for Aufs {
    fn name(&self) -> &'static str {
        DRIVER
    }

    fn plant(&self, dir: &Path, parent: Option<&Path>) -> Result<()> {
        let files = dir.join(FILES);
        fs::create_dir(&files).map_err(Error::io("create", &files))?;
        fs::set_permissions(&files, Permissions::from_mode(0o755))
            .map_err(Error::io("set mode of", &files))?;
        let mut below = String::new();
        if let Some(parent) = parent {
            let list = parent.join(PARENTS);
            let number = parent.file_name().unwrap_or_default().to_string_lossy();
            let rest = fs::read_to_string(&list).map_err(Error::io("read", &list))?;
            below = format!("{number}\n{rest}");
        }
        let path = dir.join(PARENTS);
        fs::write(&path, below).map_err(Error::io("write", path))
    }

    fn tree(&self, dir: &Path) -> Result<Tree> {
        let mount = plan(dir, true)?;
        hull_sys::mount::detached(DRIVER, mount.source.as_deref(), &mount.options)
            .map(Tree::mounted)
            .map_err(|error| Error::Io {
                operation: "mount",
                path: dir.to_owned(),
                source: std::io::Error::other(error.to_string()),
            })
    }

    fn mount(&self, dir: &Path, writable: bool) -> Result<Mount> {
        plan(dir, writable)
    }

    fn uproot(&self, _dir: &Path) -> Result<()> {
        Ok(())
    }

    fn limit(&self, _dir: &Path, _bytes: u64) -> Result<()> {
        Err(Error::NoLimit("is not supported for aufs".to_owned()))
    }

    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn inspect(&self, _dir: &Path) -> Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_in_order() {
        let root = hull_testkit::TempRoot::new("store");
        let made = |name: &str, parent: Option<&str>| {
            let dir = root.path().join(name);
            fs::create_dir(&dir).unwrap();
            let parent = parent.map(|name| root.path().join(name));
            Aufs.plant(&dir, parent.as_deref()).unwrap();
            dir
        };
        made("1", None);
        made("2", Some("1"));
        let top = made("3", Some("2"));
        let shown = |writable| {
            let mount = Aufs.mount(&top, writable).unwrap();
            assert_eq!(mount.kind.as_deref(), Some("aufs"));
            let text = mount.options.join("\n");
            text.replace(&root.path().display().to_string(), "R")
        };
        let rest = "append=R/2/fs=ro+wh\nappend=R/1/fs=ro+wh\nxino=/dev/shm/aufs.xino";
        assert_eq!(shown(true), format!("br=R/3/fs=rw\n{rest}\nrw"));
        assert_eq!(shown(false), format!("br=R/3/fs=ro+wh\n{rest}\nro"));
    }

    #[test]
    fn a_parent_that_is_damaged_is_no_parent() {
        let root = hull_testkit::TempRoot::new("store");
        let (below, above) = (root.path().join("1"), root.path().join("2"));
        fs::create_dir(&below).unwrap();
        fs::create_dir(&above).unwrap();
        assert!(Aufs.plant(&above, Some(&below)).is_err());
    }
}
