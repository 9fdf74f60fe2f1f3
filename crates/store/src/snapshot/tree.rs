//! A snapshot's files as a directory that can be walked, though it may be mounted nowhere.

use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory, and the detached mount that it is the root of, if it is one: the path holds as long as a clone of this does.
#[derive(Debug, Clone)]
pub struct Tree {
    path: PathBuf,
    _mount: Option<Arc<OwnedFd>>,
}

impl Tree {
    /// The root of a detached mount.
    pub(crate) fn mounted(mount: OwnedFd) -> Tree {
        Tree {
            path: PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd())),
            _mount: Some(Arc::new(mount)),
        }
    }
}

impl From<PathBuf> for Tree {
    fn from(path: PathBuf) -> Tree {
        Tree { path, _mount: None }
    }
}

impl Deref for Tree {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Tree {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
