//! Everything that can go wrong, and how the distribution specification says it: one status, one code, one sentence.

use std::io;
use std::path::{Path, PathBuf};

use http::StatusCode;
use hull_oci::Digest;
use hull_oci::distribution::{ErrorBody, ErrorInfo, code};
use hull_oci::image::DocumentError;
use serde_json::json;

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository name does not fit the grammar.
    #[error("invalid repository name")]
    NameInvalid(String),
    /// No such repository.
    #[error("repository name not known to registry")]
    NameUnknown(String),
    /// No manifest of that tag or digest.
    #[error("manifest unknown")]
    ManifestUnknown(String),
    /// The body is no manifest that may be stored.
    #[error("manifest invalid")]
    ManifestInvalid(#[source] DocumentError),
    /// The manifest refers to content that the repository lacks.
    #[error("manifest references content unknown to the repository")]
    ManifestBlobUnknown(Vec<Digest>),
    /// The body is longer than a manifest may be, in bytes.
    #[error("manifest is larger than the limit of {0} bytes")]
    ManifestTooLarge(usize),
    /// No blob of that digest in the repository.
    #[error("blob unknown to registry")]
    BlobUnknown(Digest),
    /// No upload of that id.
    #[error("blob upload unknown to registry")]
    UploadUnknown(String),
    /// Another request is writing to the same upload.
    #[error("blob upload is in use by another request")]
    UploadBusy,
    /// The request does not fit the upload protocol.
    #[error("blob upload invalid: {0}")]
    UploadInvalid(&'static str),
    /// The client went away, or sent less than it announced.
    #[error("request body ended early: {0}")]
    BodyCut(String),
    /// Nothing, or too little, came from the client for the given number of seconds.
    #[error("nothing, or too little, was received for {0} seconds")]
    TooSlow(u64),
    /// A digest that does not parse.
    #[error("provided digest is invalid: {0}")]
    DigestMalformed(hull_oci::digest::DigestError),
    /// Content that does not have the digest that was promised.
    #[error("provided digest did not match uploaded content")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What was received.
        actual: Digest,
    },
    /// A tag that does not fit the grammar.
    #[error("manifest tag did not match the grammar")]
    TagInvalid(String),
    /// The length did not match the headers.
    #[error("provided length did not match content length")]
    SizeInvalid,
    /// A chunk that does not start where the upload ends.
    #[error("chunk is out of order: the upload has {offset} bytes")]
    ChunkOutOfOrder {
        /// How many bytes the upload has.
        offset: u64,
        /// Where to go on.
        location: String,
    },
    /// A `Range` that lies outside of the blob, whose length in bytes is given.
    #[error("requested range is outside of the content's {0} bytes")]
    RangeUnsatisfiable(u64),
    /// `n` is no number.
    #[error("invalid number of results requested")]
    PageInvalid(String),
    /// Who asks must say who they are; holds the challenge.
    #[error("authentication required")]
    Unauthorized(String),
    /// Who asks may not do this.
    #[error("requested access to the resource is denied")]
    Denied,
    /// The server is not configured to do this.
    #[error("the operation is unsupported: {0}")]
    Unsupported(&'static str),
    /// No such route.
    #[error("page not found")]
    NotFound,
    /// The route has no such method; holds what it has.
    #[error("method not allowed")]
    MethodNotAllowed(&'static str),
    /// The upstream registry of a pull-through cache failed.
    #[error("upstream registry: {0}")]
    Upstream(String),
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
    /// The content store failed.
    #[error("content store")]
    Store(#[from] hull_store::Error),
    /// A worker thread was lost.
    #[error("internal task failed")]
    Task(#[from] tokio::task::JoinError),
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

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Error::NameUnknown(_)
            | Error::ManifestUnknown(_)
            | Error::BlobUnknown(_)
            | Error::UploadUnknown(_)
            | Error::NotFound => StatusCode::NOT_FOUND,
            Error::NameInvalid(_)
            | Error::ManifestInvalid(_)
            | Error::UploadInvalid(_)
            | Error::BodyCut(_)
            | Error::DigestMalformed(_)
            | Error::DigestMismatch { .. }
            | Error::TagInvalid(_)
            | Error::SizeInvalid
            | Error::PageInvalid(_) => StatusCode::BAD_REQUEST,
            // Docker's registry answers 404 here, the specification's table both.
            Error::ManifestBlobUnknown(_) => StatusCode::NOT_FOUND,
            Error::ManifestTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::UploadBusy => StatusCode::CONFLICT,
            Error::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Error::ChunkOutOfOrder { .. } | Error::RangeUnsatisfiable(_) => {
                StatusCode::RANGE_NOT_SATISFIABLE
            }
            Error::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Error::Denied => StatusCode::FORBIDDEN,
            Error::Unsupported(_) | Error::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Error::Upstream(_) => StatusCode::BAD_GATEWAY,
            Error::Io { .. } | Error::Store(_) if self.is_no_space() => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Error::Io { .. } | Error::Store(_) | Error::Task(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The code of the error body.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NameInvalid(_) => code::NAME_INVALID,
            Error::NameUnknown(_) => code::NAME_UNKNOWN,
            Error::ManifestUnknown(_) => code::MANIFEST_UNKNOWN,
            Error::ManifestInvalid(_) => code::MANIFEST_INVALID,
            Error::ManifestBlobUnknown(_) => code::MANIFEST_BLOB_UNKNOWN,
            Error::ManifestTooLarge(_) | Error::SizeInvalid => code::SIZE_INVALID,
            Error::BlobUnknown(_) => code::BLOB_UNKNOWN,
            Error::UploadUnknown(_) => code::BLOB_UPLOAD_UNKNOWN,
            Error::UploadBusy | Error::UploadInvalid(_) | Error::BodyCut(_) | Error::TooSlow(_) => {
                code::BLOB_UPLOAD_INVALID
            }
            Error::DigestMalformed(_) | Error::DigestMismatch { .. } => code::DIGEST_INVALID,
            Error::TagInvalid(_) => code::TAG_INVALID,
            Error::ChunkOutOfOrder { .. } | Error::RangeUnsatisfiable(_) => code::RANGE_INVALID,
            Error::PageInvalid(_) => code::PAGINATION_NUMBER_INVALID,
            Error::Unauthorized(_) => code::UNAUTHORIZED,
            Error::Denied => code::DENIED,
            Error::Unsupported(_) | Error::MethodNotAllowed(_) => code::UNSUPPORTED,
            Error::Upstream(_) => code::UNAVAILABLE,
            Error::Io { .. } | Error::Store(_) if self.is_no_space() => code::UNAVAILABLE,
            Error::NotFound | Error::Io { .. } | Error::Store(_) | Error::Task(_) => code::UNKNOWN,
        }
    }

    /// The error body, without what only the server's log should show.
    pub fn body(&self) -> ErrorBody {
        let message = match self {
            Error::Io { .. } | Error::Store(_) if self.is_no_space() => {
                "no space left on the registry's disk".to_owned()
            }
            // Paths of the server are nobody's business.
            Error::Io { .. } | Error::Store(_) | Error::Task(_) => "internal error".to_owned(),
            Error::ManifestInvalid(source) => format!("{self}: {source}"),
            _ => self.to_string(),
        };
        let detail = match self {
            Error::NameInvalid(name) | Error::NameUnknown(name) => Some(json!({ "name": name })),
            Error::ManifestUnknown(reference) => Some(json!({ "reference": reference })),
            Error::ManifestBlobUnknown(digests) => Some(json!(
                digests
                    .iter()
                    .map(|digest| json!({ "digest": digest }))
                    .collect::<Vec<_>>()
            )),
            Error::BlobUnknown(digest) => Some(json!({ "digest": digest })),
            Error::DigestMismatch { expected, actual } => {
                Some(json!({ "expected": expected, "actual": actual }))
            }
            Error::TagInvalid(tag) => Some(json!({ "tag": tag })),
            Error::PageInvalid(n) => Some(json!({ "n": n })),
            _ => None,
        };
        ErrorBody {
            errors: vec![ErrorInfo {
                code: self.code().to_owned(),
                message,
                detail,
            }],
        }
    }

    /// Whether the disk or a quota is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Error::Store(error) => error.is_no_space(),
            _ => false,
        }
    }
}
