//! The engine's one error: a closed set of kinds and the sentence that the user reads.

use std::error::Error as StdError;

/// The result of the engine's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it is; `daemon` maps it to a status in one match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The object does not exist.
    NotFound,
    /// The request makes no sense, whatever the state.
    InvalidParameter,
    /// The request does not fit the present state.
    Conflict,
    /// It is so already.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Refused by policy.
    Forbidden,
    /// Something that is needed does not answer now.
    Unavailable,
    /// This program, or this host, cannot do it.
    NotImplemented,
    /// The caller went away.
    Cancelled,
    /// A failure of the host or of this program.
    Internal,
}

/// A refused or failed request.
///
/// `message` is complete: causes are part of the sentence, as Docker prints them (`what: why: why`), and are not repeated
/// by `source`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What sort of failure it is.
    pub kind: Kind,
    /// The sentence that the user reads.
    pub message: String,
}

impl Error {
    /// An error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
        }
    }

    /// `NotFound`.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Kind::NotFound, message)
    }

    /// `InvalidParameter`.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Kind::InvalidParameter, message)
    }

    /// `Conflict`.
    pub fn conflict(message: impl Into<String>) -> Error {
        Error::new(Kind::Conflict, message)
    }

    /// `Internal`.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(Kind::Internal, message)
    }

    /// `NotImplemented`, naming what is missing.
    pub fn missing(what: &str) -> Error {
        Error::new(Kind::NotImplemented, format!("not implemented: {what}"))
    }

    /// `Internal` with an operation and its cause, sources included.
    pub fn failed(operation: impl std::fmt::Display, cause: impl StdError) -> Error {
        Error::internal(format!("{operation}: {}", chain(&cause)))
    }

    /// Whether the object's state alone speaks against it: it is gone, or somebody has come to use it.
    pub(crate) fn is_of_state(&self) -> bool {
        matches!(self.kind, Kind::NotFound | Kind::Conflict | Kind::Forbidden)
    }

    /// The same kind with a sentence before the message.
    pub fn context(mut self, before: impl std::fmt::Display) -> Error {
        self.message = format!("{before}: {}", self.message);
        self
    }
}

/// An error and its sources as one sentence, leaving out a source that the sentence before it ends with.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}

/// `Error::failed` in the shape `map_err` wants.
pub(crate) fn failed<E: StdError>(operation: impl std::fmt::Display) -> impl FnOnce(E) -> Error {
    move |cause| Error::failed(operation, cause)
}

impl From<hull_state::Error> for Error {
    fn from(error: hull_state::Error) -> Error {
        use hull_state::Error as E;
        match error {
            E::NotFound { noun, key } => Error::not_found(format!("No such {noun}: {key}")),
            E::Ambiguous { .. } => Error::invalid(error.to_string()),
            E::Taken { .. } => Error::conflict(error.to_string()),
            E::Open { .. } | E::Newer { .. } | E::Full { .. } | E::Sql { .. } => {
                Error::internal(chain(&error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("open /x")]
        struct Outer(#[source] std::io::Error);
        let error = Error::failed("start", Outer(std::io::Error::other("full")));
        assert_eq!(error.message, "start: open /x: full");
        #[derive(Debug, thiserror::Error)]
        #[error("open /x: {0}")]
        struct Embeds(#[source] std::io::Error);
        assert_eq!(
            Error::failed("start", Embeds(std::io::Error::other("full"))).message,
            "start: open /x: full"
        );
    }
}
