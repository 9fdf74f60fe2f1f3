//! Content: bytes by digest, written once.
//!
//! A blob is written to `partial/`, verified, fsynced, and renamed to `<algorithm>/<hex>`: whoever sees it there may
//! trust it. A writer that knows its digest beforehand leaves its partial file behind when it is dropped, and the next
//! writer of the same digest goes on from there (a cut or cancelled pull fetches only what is missing). A partial file
//! is locked by `flock(2)` while it is written. Which blobs are still wanted is the database's knowledge, not ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hull_oci::{Algorithm, Digest, Hasher};
use rustix::fs::FlockOperation;

use crate::{Error, Result};

/// Partial files untouched for this long are removed by [`Content::sweep_partial`]'s usual callers.
pub const PARTIAL_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

const REPLAY_BUFFER_LEN: usize = 128 * 1024;
/// How often a partial file is tried that somebody holds, and the pause between two tries: a sweep holds one for microseconds.
const LOCK_TRIES_MAX: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A directory of blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Content {
    root: Arc<Path>,
}

/// One blob as [`Content::walk`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest (of its name; not verified again).
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

impl Content {
    /// Opens the store at `dir`, making its directories.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let root: Arc<Path> = dir.as_ref().into();
        for name in ["sha256", "sha512", "partial"] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        Ok(Content { root })
    }

    /// Where a blob lies, whether it is there or not.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// The blob's length in bytes.
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::BlobNotFound(digest.clone()))
            }
            Err(error) => Err(Error::io("stat", path)(error)),
        }
    }

    /// Opens a blob for reading.
    pub fn get(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::BlobNotFound(digest.clone()))
            }
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    /// Reads a small document whole and verifies it; longer than `limit` bytes is an error.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let size = self.size(digest)?;
        if size > limit {
            return Err(Error::TooLarge {
                digest: digest.clone(),
                size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let file = self.get(digest)?;
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", self.path(digest)))?;
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(Error::DigestMismatch {
                expected: digest.clone(),
                actual,
            });
        }
        Ok(bytes)
    }

    /// Stores a small document; does nothing if it is there already.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256_of(bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        let mut writer = self.writer(None, Some(bytes.len() as u64))?;
        writer
            .write_all(bytes)
            .map_err(Error::io("write", &writer.path))?;
        writer.commit()
    }

    /// [`put`](Self::put) under a digest of the caller's choice of algorithm.
    pub fn put_as(&self, algorithm: Algorithm, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(algorithm, bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        // Not under its own name, which would make a second writer of the same bytes fail as busy.
        let name = format!("tmp-{:016x}", rand::random::<u64>());
        let path = self.root.join("partial").join(name);
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(Error::io("lock", &path))?;
        let written = file.write_all(bytes).map_err(Error::io("write", &path));
        let stored = written.and_then(|()| self.adopt(&path, &file, &digest));
        if stored.is_err() {
            // Nothing more can be done about a file that cannot be removed; the sweep tries again.
            let _ = fs::remove_file(&path);
        }
        stored.map(|()| digest)
    }

    /// Makes a file on the same file system a blob: syncs it and renames it. The caller has verified that its bytes have
    /// this digest and lets nobody write to it any more.
    pub fn adopt(&self, path: &Path, file: &File, digest: &Digest) -> Result<()> {
        file.sync_data().map_err(Error::io("sync", path))?;
        let dir = self.root.join(digest.algorithm().as_str());
        fs::rename(path, dir.join(digest.hex())).map_err(Error::io("rename", path))?;
        let dir_file = File::open(&dir).map_err(Error::io("open", &dir))?;
        dir_file.sync_all().map_err(Error::io("sync", &dir))
    }

    /// Starts a blob. With `expect` the digest is verified at commit, and partial bytes of an earlier attempt are thrown
    /// away. With `size` a longer stream fails at once and a shorter one at commit.
    pub fn writer(&self, expect: Option<Digest>, size: Option<u64>) -> Result<BlobWriter> {
        let mut writer = self.start(expect, size)?;
        if writer.replay_left > 0 {
            writer.restart()?;
        }
        Ok(writer)
    }

    /// Goes on with a blob whose digest is known: [`BlobWriter::replay`] must be read to its end first, then the bytes
    /// from [`BlobWriter::resume_offset`] on are written.
    pub fn resume(&self, expect: Digest, size: Option<u64>) -> Result<BlobWriter> {
        self.start(Some(expect), size)
    }

    fn start(&self, expect: Option<Digest>, size: Option<u64>) -> Result<BlobWriter> {
        let name = match &expect {
            Some(digest) => format!("{}-{}", digest.algorithm(), digest.hex()),
            None => format!("tmp-{:016x}", rand::random::<u64>()),
        };
        let path = self.root.join("partial").join(name);
        let Some((file, length)) = lock_partial(&path)? else {
            let digest = expect.unwrap_or_else(|| Digest::sha256_of(b""));
            return Err(Error::BlobBusy(digest));
        };
        let hasher = Hasher::new(expect.as_ref().map_or(Algorithm::Sha256, Digest::algorithm));
        let mut writer = BlobWriter {
            root: self.root.clone(),
            path,
            file,
            hasher,
            written: 0,
            replay_left: length,
            expect,
            size,
            done: false,
        };
        if size.is_some_and(|size| length > size) {
            writer.restart()?;
        }
        Ok(writer)
    }

    /// Removes a blob; one that is not there is no error. True when there was one.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", path)(error)),
        }
    }

    /// All blobs, in no particular order. Files whose names are no digests are passed over.
    pub fn walk(&self) -> Result<Vec<BlobInfo>> {
        let mut blobs = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.root.join(algorithm.as_str());
            for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
                let entry = entry.map_err(Error::io("list", &dir))?;
                let Some(digest) = entry
                    .file_name()
                    .to_str()
                    .and_then(|hex| Digest::new(algorithm, hex).ok())
                else {
                    continue;
                };
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                blobs.push(BlobInfo {
                    digest,
                    size: metadata.len(),
                    modified,
                });
            }
        }
        Ok(blobs)
    }

    /// The bytes of partial files, whether somebody writes them or not.
    pub fn partial_bytes(&self) -> Result<u64> {
        let dir = self.root.join("partial");
        let mut sum = 0;
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            // One that has got its name meanwhile is no partial file any more.
            if let Ok(metadata) = entry.and_then(|entry| entry.metadata()) {
                sum += metadata.len();
            }
        }
        Ok(sum)
    }

    /// Removes partial files that nobody holds: unnamed ones always, resumable ones when older than `age`. Returns the
    /// bytes freed.
    pub fn sweep_partial(&self, age: Duration) -> Result<u64> {
        let dir = self.root.join("partial");
        let mut freed = 0;
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            let path = entry.path();
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            // Locked now, so that nobody renames it; before that its writer may have, and another may have begun under its name.
            let Ok(metadata) = file.metadata() else {
                continue;
            };
            if !names(&path, &metadata) {
                continue;
            }
            let unnamed = entry.file_name().to_string_lossy().starts_with("tmp-");
            let old = metadata
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok())
                .is_some_and(|past| past >= age);
            if unnamed || old {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                freed += metadata.len();
            }
        }
        Ok(freed)
    }
}

/// Whether a path still names the file that was opened by it.
fn names(path: &Path, opened: &fs::Metadata) -> bool {
    fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (opened.dev(), opened.ino()))
}

/// Opens a partial file and locks it; its length. Nothing while somebody else writes it. Between the two it may have become a blob,
/// or been swept: then it is made anew.
fn lock_partial(path: &Path) -> Result<Option<(File, u64)>> {
    for _ in 0..LOCK_TRIES_MAX {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Error::io("create", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let metadata = file.metadata().map_err(Error::io("stat", path))?;
                if names(path, &metadata) {
                    return Ok(Some((file, metadata.len())));
                }
            }
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(Error::io("lock", path)(error)),
        }
    }
    Ok(None)
}

/// A blob being written. Dropped without [`commit`](Self::commit), it leaves a resumable partial file if its digest was
/// known, and nothing otherwise.
#[derive(Debug)]
pub struct BlobWriter {
    root: Arc<Path>,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    written: u64,
    replay_left: u64,
    expect: Option<Digest>,
    size: Option<u64>,
    done: bool,
}

impl BlobWriter {
    /// How many bytes an earlier attempt left: where the download goes on.
    pub fn resume_offset(&self) -> u64 {
        self.written + self.replay_left
    }

    /// Bytes taken in so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Reads on in what an earlier attempt left, hashing it; 0 at its end, after which writing may begin.
    pub fn replay(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer
            .len()
            .min(usize::try_from(self.replay_left).unwrap_or(usize::MAX));
        let got = self.file.read(&mut buffer[..want])?;
        if got == 0 && want > 0 {
            self.replay_left = 0;
        }
        self.hasher.update(&buffer[..got]);
        self.written += got as u64;
        self.replay_left -= got as u64;
        Ok(got)
    }

    /// Throws away what was written so far, for a registry that cannot go on in the middle.
    pub fn restart(&mut self) -> Result<()> {
        use std::io::Seek;
        self.file
            .set_len(0)
            .map_err(Error::io("truncate", &self.path))?;
        self.file
            .rewind()
            .map_err(Error::io("rewind", &self.path))?;
        self.hasher = Hasher::new(
            self.expect
                .as_ref()
                .map_or(Algorithm::Sha256, Digest::algorithm),
        );
        self.written = 0;
        self.replay_left = 0;
        Ok(())
    }

    /// Verifies size and digest, makes the bytes durable, and gives the blob its name. Bytes that do not verify are
    /// removed: nothing could be built on them.
    pub fn commit(self) -> Result<Digest> {
        self.seal()?.publish()
    }

    /// The first half of [`commit`](Self::commit): all but the name. For who learns the digest only here, and must hold it
    /// before the blob is there: a collection that has just found the same digest unwanted would remove it.
    pub fn seal(mut self) -> Result<SealedBlob> {
        let mut buffer = vec![
            0;
            if self.replay_left > 0 {
                REPLAY_BUFFER_LEN
            } else {
                0
            }
        ];
        while self.replay_left > 0 {
            self.replay(&mut buffer)
                .map_err(Error::io("read", &self.path))?;
        }
        let hasher = std::mem::take(&mut self.hasher);
        if let Some(expected) = self.size.filter(|size| *size != self.written) {
            return Err(Error::SizeMismatch {
                expected,
                actual: self.written,
            });
        }
        let actual = hasher.finish();
        if let Some(expected) = self.expect.take_if(|expected| *expected != actual) {
            return Err(Error::DigestMismatch { expected, actual });
        }
        self.file
            .sync_data()
            .map_err(Error::io("sync", &self.path))?;
        Ok(SealedBlob {
            writer: self,
            digest: actual,
        })
    }
}

/// A blob that is whole and durable, and has no name yet. Dropped, it goes as its writer would.
#[derive(Debug)]
pub struct SealedBlob {
    writer: BlobWriter,
    digest: Digest,
}

impl SealedBlob {
    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Gives the blob its name.
    pub fn publish(mut self) -> Result<Digest> {
        let dir = self.writer.root.join(self.digest.algorithm().as_str());
        let target = dir.join(self.digest.hex());
        let path = &self.writer.path;
        fs::rename(path, &target).map_err(Error::io("rename", path))?;
        self.writer.done = true;
        let dir_file = File::open(&dir).map_err(Error::io("open", &dir))?;
        dir_file.sync_all().map_err(Error::io("sync", &dir))?;
        Ok(self.digest)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        debug_assert_eq!(self.replay_left, 0, "written before the replay was read");
        let after = self.written + bytes.len() as u64;
        if let Some(size) = self.size.filter(|size| after > *size) {
            let error = Error::SizeMismatch {
                expected: size,
                actual: after,
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let resumable = self.expect.is_some() && self.resume_offset() > 0;
        if !self.done && !resumable {
            // Nothing more can be done about a file that cannot be removed; the sweep tries again.
            let _ = fs::remove_file(&self.path);
        }
    }
}
