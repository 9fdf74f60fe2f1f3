//! The crate's one error type: operation, object, source.

use std::io;
use std::path::{Path, PathBuf};

use hull_oci::Digest;

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file system operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No blob of this digest.
    #[error("content {0} not found")]
    BlobNotFound(Digest),
    /// Another writer is at work on the same blob.
    #[error("content {0} is being written by somebody else")]
    BlobBusy(Digest),
    /// The bytes do not have the digest that was promised.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// More or fewer bytes than promised.
    #[error("size mismatch: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// Bytes promised.
        expected: u64,
        /// Bytes seen; when there were too many, the count at which reading stopped.
        actual: u64,
    },
    /// A document is longer than its reader accepts.
    #[error("content {digest} has {size} bytes, more than the {limit} accepted")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// What was accepted.
        limit: u64,
    },
    /// The layer's bytes cannot be read, decompressed or understood.
    #[error("layer is damaged: {what}")]
    BadLayer {
        /// What is wrong with it.
        what: String,
        /// The reader's error, if it was one.
        #[source]
        source: Option<io::Error>,
    },
    /// A member of a layer that is refused, with its path.
    #[error("layer entry {entry:?} refused: {why}")]
    Refused {
        /// The member's path as written in the archive.
        entry: String,
        /// Why.
        why: &'static str,
    },
    /// Unpacking a member failed.
    #[error("cannot {operation} layer entry {entry:?}")]
    Entry {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The member's path as written in the archive.
        entry: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A layer unpacks to more than its bound.
    #[error(
        "layer unpacks to more than {limit} {unit}, the limit: refused as a possible decompression bomb"
    )]
    Bomb {
        /// The bound.
        limit: u64,
        /// Of what: bytes or entries.
        unit: &'static str,
    },
    /// No snapshot of this key.
    #[error("snapshot {0} does not exist")]
    SnapshotNotFound(String),
    /// The key is taken.
    #[error("snapshot {0} already exists")]
    SnapshotExists(String),
    /// The snapshot is not in the state that the operation needs.
    #[error("cannot {operation} snapshot {key}: it is {state}")]
    SnapshotState {
        /// What was tried.
        operation: &'static str,
        /// On which snapshot.
        key: String,
        /// What it is.
        state: &'static str,
    },
    /// A storage driver that this host cannot run, or that does not exist.
    #[error("storage driver {driver:?} cannot be used: {why}")]
    Driver {
        /// The driver's name.
        driver: String,
        /// What is missing.
        why: String,
    },
    /// A size was asked for that this driver cannot hold a snapshot to.
    #[error("--storage-opt {0}")]
    NoLimit(String),
    /// A program that a storage driver works by has failed.
    #[error("{program} failed: {said}")]
    Program {
        /// The program, with its arguments.
        program: String,
        /// What it wrote to standard error, or why it could not be started.
        said: String,
    },
    /// The database refused.
    #[error("snapshot database")]
    State(#[from] hull_state::Error),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps an I/O error; made to be used as `.map_err(Error::io("open", path))`.
    pub(crate) fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Error::Io {
            operation,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    /// A damaged layer, without a deeper cause.
    pub(crate) fn bad_layer(what: impl Into<String>) -> Self {
        Error::BadLayer {
            what: what.into(),
            source: None,
        }
    }

    /// Whether the cause is a full disk or quota, which callers explain to the user.
    pub fn is_no_space(&self) -> bool {
        let source = match self {
            Error::Io { source, .. } | Error::Entry { source, .. } => Some(source),
            Error::BadLayer { source, .. } => source.as_ref(),
            _ => None,
        };
        source.is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        })
    }
}
