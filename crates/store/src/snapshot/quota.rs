//! Limits of overlay2's upper directories: a project quota for each (xfs with `pquota`, ext4 with `prjquota`).
//!
//! A snapshot's number gives its project, so that nothing needs to be remembered. overlayfs makes files in the work directory and
//! renames them into the upper one, which the kernel permits only within a project: the directory above both belongs to it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use hull_sys::quota;

use crate::{Error, Result};

/// The first of our projects: others that an administrator numbers by hand begin low.
const PROJECT_FIRST: u32 = 0x4855_0000;

/// What the kernel or the file system of `root` lacks, in words.
pub(super) fn missing(root: &Path) -> Option<String> {
    let found = File::open(root)
        .map_err(|error| error.to_string())
        .and_then(|dir| {
            quota::enforces_projects(dir.as_fd()).map_err(|error| match error {
                hull_sys::Errno::NOSYS => "the kernel has no quotas".to_owned(),
                error => error.to_string(),
            })
        });
    match found {
        Ok(true) => None,
        Ok(false) => Some("project quotas are not enforced there".to_owned()),
        Err(why) => Some(why),
    }
}

fn project(number: i64) -> Result<u32> {
    u32::try_from(number)
        .ok()
        .and_then(|number| PROJECT_FIRST.checked_add(number))
        .ok_or_else(|| Error::NoLimit("has no project number left".to_owned()))
}

/// Lets all that lies in the empty snapshot `dir` of this number take at most `bytes`.
pub(super) fn limit(dir: &Path, number: i64, bytes: u64) -> Result<()> {
    let project = project(number)?;
    for path in [dir.to_owned(), dir.join("fs"), dir.join("work")] {
        let opened = File::open(&path).map_err(Error::io("open", &path))?;
        quota::set_project(opened.as_fd(), project)
            .map_err(Error::io("set the project of", &path))?;
    }
    let opened = File::open(dir).map_err(Error::io("open", dir))?;
    quota::limit_project(opened.as_fd(), project, bytes).map_err(Error::io("limit", dir))
}

/// Takes a limit away, where there is one.
pub(super) fn lift(dir: &Path) -> Result<()> {
    let opened = File::open(dir).map_err(Error::io("open", dir))?;
    match quota::project(opened.as_fd()) {
        Ok(project) if project >= PROJECT_FIRST => {
            quota::limit_project(opened.as_fd(), project, 0).map_err(Error::io("unlimit", dir))
        }
        // No project, or a file system without projects.
        Ok(_) | Err(_) => Ok(()),
    }
}
