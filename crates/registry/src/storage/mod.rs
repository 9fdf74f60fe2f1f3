//! The registry on disk. Nothing but files: what a crash leaves is swept by the garbage collection, never repaired.
//!
//! ```text
//! <root>/lock                                                  held by the one server of this root
//! <root>/blobs/<algorithm>/<hex>                               content, shared by all repositories
//! <root>/repositories/<name>/_blobs/<algorithm>/<hex>          empty: the repository has this blob
//! <root>/repositories/<name>/_manifests/<algorithm>/<hex>      its media type: the repository has this manifest
//! <root>/repositories/<name>/_tags/<tag>                       the digest that the tag points to
//! <root>/repositories/<name>/_referrers/<algorithm>/<hex>/<..> descriptor of a manifest whose subject that is
//! <root>/repositories/<name>/_uploads/<id>                     bytes of an upload that is not finished
//! ```
//! Everything is written beside its place, fsynced and renamed. Content is there before the link to it, a manifest's link
//! before the tag; removal goes the other way round. Methods block; async callers use `spawn_blocking`, except for
//! the few that only look at small files ([`Storage::manifest`], [`Storage::open_blob`], [`Storage::upload_status`]).

mod cache;
mod files;
mod gc;
mod list;
mod manifests;
mod uploads;

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use hull_oci::Digest;
use hull_store::content::Content;
use rustix::fs::FlockOperation;

use crate::error::{Error, Result};
use crate::name::{Name, Tag};

pub use cache::Cached;
pub use gc::{GcOptions, GcReport};
pub use list::{Page, Referrers};
pub use manifests::{Pushed, StoredManifest};
pub use uploads::{Upload, UploadStatus};

/// A link that was not touched for this long is touched when it is used: a blob's when a pusher asks for it, so that the
/// collection leaves it alone until the manifest arrives; a cached manifest's when it is pulled.
const TOUCH_AFTER: Duration = Duration::from_secs(600);

/// A registry's files.
#[derive(Debug)]
pub struct Storage {
    root: PathBuf,
    content: Content,
    gate: Gate,
    sessions: uploads::Sessions,
    cache: cache::Cache,
    _lock: File,
}

impl Storage {
    /// Opens (or makes) the registry at `root`. Fails when another server has it.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root.join("repositories")).map_err(Error::io("create", root))?;
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(Error::io("lock (is another server using it?)", &lock_path))?;
        let content = Content::open(root.join("blobs"))?;
        // Now, when nobody writes: what a crash left cannot be told from what is just begun.
        content.sweep_partial(hull_store::content::PARTIAL_AGE_MAX)?;
        Ok(Storage {
            root: root.to_owned(),
            content,
            gate: Gate::default(),
            sessions: uploads::Sessions::default(),
            cache: cache::Cache::default(),
            _lock: lock,
        })
    }

    /// The blobs, without their repositories.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Whether the files can be reached.
    pub fn check(&self) -> Result<()> {
        let path = self.root.join("repositories");
        fs::metadata(&path)
            .map(|_| ())
            .map_err(Error::io("stat", path))
    }

    fn repository(&self, name: &Name) -> PathBuf {
        self.root.join("repositories").join(name.as_str())
    }

    fn blob_link(&self, name: &Name, digest: &Digest) -> PathBuf {
        link(self.repository(name), "_blobs", digest)
    }

    fn manifest_link(&self, name: &Name, digest: &Digest) -> PathBuf {
        link(self.repository(name), "_manifests", digest)
    }

    fn tag_path(&self, name: &Name, tag: &Tag) -> PathBuf {
        self.repository(name).join("_tags").join(tag.as_str())
    }

    fn referrers_dir(&self, name: &Name, subject: &Digest) -> PathBuf {
        link(self.repository(name), "_referrers", subject)
    }

    /// Whether anything was ever pushed there.
    pub fn has_repository(&self, name: &Name) -> bool {
        let path = self.repository(name);
        path.join("_manifests").is_dir() || path.join("_blobs").is_dir()
    }

    /// The length of a blob of a repository. Keeps a blob that nothing refers to yet from being collected for another
    /// while, because a pusher that finds it here will not send it.
    pub fn blob_size(&self, name: &Name, digest: &Digest) -> Result<u64> {
        let path = self.blob_link(name, digest);
        let unknown = || Error::BlobUnknown(digest.clone());
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if files::is_missing(&error) => return Err(unknown()),
            Err(error) => return Err(Error::io("stat", path)(error)),
        };
        if is_to_be_touched(&metadata) {
            let _entered = self.gate.enter([digest.clone()]);
            touch(&path);
        }
        self.content.size(digest).map_err(|error| match error {
            hull_store::Error::BlobNotFound(_) => unknown(),
            error => error.into(),
        })
    }

    /// Notes that a cached manifest was asked for, so that it stays in the cache.
    pub fn use_manifest(&self, name: &Name, digest: &Digest) {
        let path = self.manifest_link(name, digest);
        if fs::metadata(&path).is_ok_and(|metadata| is_to_be_touched(&metadata)) {
            touch(&path);
        }
    }

    /// Opens a blob of a repository; the file and its length.
    pub fn open_blob(&self, name: &Name, digest: &Digest) -> Result<(File, u64)> {
        let unknown = || Error::BlobUnknown(digest.clone());
        let path = self.blob_link(name, digest);
        if let Err(error) = rustix::fs::access(&path, rustix::fs::Access::EXISTS) {
            let error = error.into();
            return if files::is_missing(&error) {
                Err(unknown())
            } else {
                Err(Error::io("stat", path)(error))
            };
        }
        let file = self.content.get(digest).map_err(|error| match error {
            hull_store::Error::BlobNotFound(_) => unknown(),
            error => error.into(),
        })?;
        let len = file
            .metadata()
            .map_err(Error::io("stat", self.content.path(digest)))?
            .len();
        Ok((file, len))
    }

    /// Makes a blob that another repository has (`from`; any, without it) one of this repository. False when it is not
    /// there.
    pub fn mount(&self, name: &Name, from: Option<&Name>, digest: &Digest) -> Result<bool> {
        let _entered = self.gate.enter([digest.clone()]);
        if let Some(from) = from
            && !self.blob_link(from, digest).exists()
        {
            return Ok(false);
        }
        if !self.content.has(digest) {
            return Ok(false);
        }
        files::write(&self.blob_link(name, digest), b"")?;
        Ok(true)
    }

    /// Removes a blob from a repository; its bytes go with the next collection, if no other repository has them.
    pub fn delete_blob(&self, name: &Name, digest: &Digest) -> Result<()> {
        let removed = files::remove(&self.blob_link(name, digest))?;
        removed
            .then_some(())
            .ok_or_else(|| Error::BlobUnknown(digest.clone()))
    }
}

fn is_to_be_touched(metadata: &fs::Metadata) -> bool {
    let age = metadata
        .modified()
        .ok()
        .and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > TOUCH_AFTER)
}

/// Makes a file young. It may be gone, or the disk read-only: then nothing is collected either.
fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

fn link(mut path: PathBuf, kind: &str, digest: &Digest) -> PathBuf {
    path.push(kind);
    path.push(digest.algorithm().as_str());
    path.push(digest.hex());
    path
}

/// Keeps collection and pushes apart. A push that makes or relies on links enters with the digests that it needs; they are
/// pinned until the collection that may be running is over. The collection excludes pushes only for the moments in which
/// it removes something, and removes nothing that is pinned.
#[derive(Debug, Default)]
struct Gate {
    lock: RwLock<()>,
    pins: Mutex<Option<HashSet<Digest>>>,
}

impl Gate {
    fn enter(&self, digests: impl IntoIterator<Item = Digest>) -> RwLockReadGuard<'_, ()> {
        let entered = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pins) = lock(&self.pins).as_mut() {
            pins.extend(digests);
        }
        entered
    }

    /// Whoever entered before has finished and is seen by the marking that follows; who enters later is pinned.
    fn start_pinning(&self) {
        let _alone = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        *lock(&self.pins) = Some(HashSet::new());
    }

    fn stop_pinning(&self) {
        *lock(&self.pins) = None;
    }

    /// Runs `remove` while no push is inside, unless the digest is pinned.
    fn unless_pinned<T>(
        &self,
        digest: &Digest,
        remove: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        let _alone = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        if lock(&self.pins)
            .as_ref()
            .is_some_and(|pins| pins.contains(digest))
        {
            return Ok(None);
        }
        remove().map(Some)
    }
}

/// A poisoned lock means that a thread panicked; what it guards here is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
