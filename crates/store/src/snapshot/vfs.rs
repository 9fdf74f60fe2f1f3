//! `vfs`: each tree a directory, copied from its parent. Slow and large, but it works on any file system, and shares content
//! where that one has reflinks.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hull_oci::runtime::Mount;

use super::Tree;
use super::overlay::bind;
use super::trees::Kin;
use crate::layer::copy_tree;
use crate::{Error, Result};

/// The tree's name in its snapshot's directory.
const FILES: &str = "fs";

pub(super) struct Vfs;

impl Kin for Vfs {
    fn name(&self) -> &'static str {
        "vfs"
    }

    fn plant(&self, dir: &Path, parent: Option<&Path>) -> Result<()> {
        let files = dir.join(FILES);
        fs::create_dir(&files).map_err(Error::io("create", &files))?;
        fs::set_permissions(&files, Permissions::from_mode(0o755))
            .map_err(Error::io("set mode of", &files))?;
        match parent {
            Some(parent) => copy_tree(&parent.join(FILES), &files),
            None => Ok(()),
        }
    }

    fn tree(&self, dir: &Path) -> Result<Tree> {
        Ok(dir.join(FILES).into())
    }

    fn mount(&self, dir: &Path, writable: bool) -> Result<Mount> {
        Ok(bind(&dir.join(FILES), if writable { "rw" } else { "ro" }))
    }

    fn uproot(&self, _dir: &Path) -> Result<()> {
        Ok(())
    }

    fn limit(&self, _dir: &Path, _bytes: u64) -> Result<()> {
        Err(Error::NoLimit("is not supported for vfs".to_owned()))
    }

    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn inspect(&self, _dir: &Path) -> Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }
}
