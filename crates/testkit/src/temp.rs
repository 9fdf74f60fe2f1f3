//! Directories that vanish with the test, on a file system that overlay accepts as an upper layer.

use std::path::{Path, PathBuf};

/// A fresh directory, removed when dropped; its name starts with the prefix that a test gives to everything it makes.
#[derive(Debug)]
pub struct TempRoot {
    folder: tempfile::TempDir,
}

impl TempRoot {
    /// Makes one under `HULL_TEST_TMP`, or /dev/shm where that is a directory (tmpfs: fast, and no overlay itself), or the usual place.
    pub fn new(prefix: &str) -> TempRoot {
        let base = std::env::var_os("HULL_TEST_TMP")
            .map(PathBuf::from)
            .unwrap_or_else(|| {
                let shm = Path::new("/dev/shm");
                if shm.is_dir() {
                    shm.to_owned()
                } else {
                    std::env::temp_dir()
                }
            });
        Self::under(&base, prefix)
    }

    /// Makes one on the root disk's usual temporary place, for tests that must not run on tmpfs.
    pub fn on_disk(prefix: &str) -> TempRoot {
        Self::under(&std::env::temp_dir(), prefix)
    }

    fn under(base: &Path, prefix: &str) -> TempRoot {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .tempdir_in(base)
            .unwrap_or_else(|error| {
                panic!("make a temporary directory in {}: {error}", base.display())
            });
        TempRoot { folder }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a directory in it and gives its path.
    pub fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        path
    }

    /// Writes a file in it and gives its path.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content)
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        path
    }

    /// The directory's own name: unique on the machine, and so usable in the names of other things.
    pub fn name(&self) -> String {
        self.path()
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}
