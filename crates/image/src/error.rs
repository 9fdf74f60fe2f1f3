//! The crate's error: a closed set of kinds for the engine, Docker's sentences for people.

use hull_oci::Reference;

/// What an error means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No such image, tag, digest.
    NotFound,
    /// Wrong or missing credentials.
    Unauthorized,
    /// The request or the input cannot be taken.
    InvalidParameter,
    /// A registry cannot be reached, or refuses for now.
    Unavailable,
    /// Something else uses it.
    Conflict,
    /// Refused by policy.
    Forbidden,
    /// Our own failure.
    Internal,
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. `Display` is the sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image of this name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Nothing to push under this name. Docker's sentence.
    #[error("{0}")]
    NoSuchTag(String),
    /// An id prefix that several images share.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousId(String),
    /// Not a reference.
    #[error(transparent)]
    Reference(#[from] hull_oci::reference::ReferenceError),
    /// The registry does not let us, or hides that there is nothing.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {reason}"
    )]
    PullDenied {
        /// The repository, in familiar form.
        name: String,
        /// The registry's words.
        reason: String,
    },
    /// The registry does not let us push.
    #[error("{reason}")]
    PushDenied {
        /// The registry's words.
        reason: String,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {0} not found: manifest unknown: {1}")]
    ManifestUnknown(String, String),
    /// No such repository.
    #[error("repository {name} not found: {reason}")]
    RepositoryUnknown {
        /// The repository, in familiar form.
        name: String,
        /// The registry's words.
        reason: String,
    },
    /// The index has nothing for the platform.
    #[error("no matching manifest for {platform} in the manifest list entries: {reference}")]
    NoPlatform {
        /// The platform asked for.
        platform: String,
        /// The image.
        reference: String,
    },
    /// A local image of another platform than asked for.
    #[error(
        "image with reference {reference} was found but its platform ({actual}) does not match the specified platform ({wanted})"
    )]
    PlatformMismatch {
        /// The image.
        reference: String,
        /// Its platform.
        actual: String,
        /// What was asked for.
        wanted: String,
    },
    /// Wrong credentials.
    #[error("Get \"{url}\": {reason}")]
    Unauthorized {
        /// The address asked.
        url: String,
        /// The registry's words.
        reason: String,
    },
    /// A request to a registry failed on the way.
    #[error("{method} \"{url}\": {reason}")]
    Request {
        /// `Get`, `Head`, ..; as Go prints it.
        method: &'static str,
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The registry answered with an error.
    #[error("error from registry {host}: {reason}")]
    Registry {
        /// The registry.
        host: String,
        /// The status code.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// The registry said 429.
    #[error("toomanyrequests: {reason}")]
    RateLimited {
        /// The registry's words, with when it may be asked again.
        reason: String,
        /// Seconds until then, where the registry gives them.
        retry_after_s: Option<u64>,
    },
    /// Input that cannot be taken: a manifest, a config, an archive, an option.
    #[error("{0}")]
    Invalid(String),
    /// The signature policy does not let it in.
    #[error("image {reference} is refused by the signature policy {policy}: {reason}")]
    Policy {
        /// The image, in familiar form.
        reference: String,
        /// The policy's file.
        policy: String,
        /// Why.
        reason: String,
    },
    /// Something else uses it. Docker's sentence.
    #[error("{0}")]
    Conflict(String),
    /// A layer that lies unpacked, while no archive of it is left that could be given away.
    #[error(
        "layer {layer} of image {image} is unpacked here, but its archive is not: pull or load the image again"
    )]
    LayerAbsent {
        /// Digest of the blob.
        layer: String,
        /// The image's short id.
        image: String,
    },
    /// A layer or blob failed; says which.
    #[error("{0}")]
    Layer(String, #[source] hull_store::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] hull_store::Error),
    /// The database failed.
    #[error(transparent)]
    State(#[from] hull_state::Error),
    /// A stream given by the caller failed.
    #[error("cannot {operation}")]
    Stream {
        /// What was tried, as a verb and its object.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The sentence for the user with its causes, joined by colons as Docker does.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        use hull_store::Error as Store;
        match self {
            Error::NoSuchImage(_)
            | Error::NoSuchTag(_)
            | Error::PullDenied { .. }
            | Error::ManifestUnknown(..)
            | Error::RepositoryUnknown { .. }
            | Error::NoPlatform { .. }
            | Error::PlatformMismatch { .. }
            | Error::LayerAbsent { .. } => Kind::NotFound,
            Error::Unauthorized { .. } | Error::PushDenied { .. } => Kind::Unauthorized,
            Error::AmbiguousId(_) | Error::Reference(_) | Error::Invalid(_) => {
                Kind::InvalidParameter
            }
            Error::Request { .. } | Error::Registry { .. } | Error::RateLimited { .. } => {
                Kind::Unavailable
            }
            Error::Policy { .. } => Kind::Forbidden,
            Error::Conflict(_) => Kind::Conflict,
            Error::Layer(_, source) | Error::Store(source) => match source {
                Store::DigestMismatch { .. }
                | Store::SizeMismatch { .. }
                | Store::TooLarge { .. }
                | Store::BadLayer { .. }
                | Store::Refused { .. }
                | Store::Bomb { .. }
                | Store::NoLimit(_) => Kind::InvalidParameter,
                Store::Io { .. }
                | Store::Entry { .. }
                | Store::BlobNotFound(_)
                | Store::BlobBusy(_)
                | Store::SnapshotNotFound(_)
                | Store::SnapshotExists(_)
                | Store::SnapshotState { .. }
                | Store::Driver { .. }
                | Store::Program { .. }
                | Store::State(_) => Kind::Internal,
            },
            Error::State(_) | Error::Stream { .. } => Kind::Internal,
        }
    }

    pub(crate) fn no_such_image(reference: &Reference) -> Self {
        Error::NoSuchImage(reference.familiar())
    }
}
