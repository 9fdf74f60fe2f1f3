//! Why a plugin could not be used, in dockerd's words where it has some.

use std::time::Duration;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a plugin could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such plugin.
    #[error("plugin {0:?} not found")]
    NotFound(String),
    /// Its name leads out of the directories, or nothing can have it.
    #[error("invalid plugin name {0:?}")]
    Name(String),
    /// The file with its address cannot be read, or its address cannot be used.
    #[error("legacy plugin: {path}: {why}")]
    Specification {
        /// The `.spec` or `.json` file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// It does something else.
    #[error(
        "legacy plugin: Plugin does not implement the requested driver: plugin={name:?}, requested implementation={interface:?}"
    )]
    NotImplemented {
        /// The plugin.
        name: String,
        /// What it was to be.
        interface: String,
    },
    /// It could not be connected to: nothing has reached it.
    #[error("Post \"http://plugin.moby.localhost/{method}\": dial {address}: connect: {source}")]
    Connect {
        /// The call.
        method: String,
        /// `unix` or `tcp` and the address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection ended before the answer did.
    #[error("Post \"http://plugin.moby.localhost/{method}\": {why}")]
    Broken {
        /// The call.
        method: String,
        /// How.
        why: String,
    },
    /// It took too long.
    #[error(
        "Post \"http://plugin.moby.localhost/{method}\": context deadline exceeded (no answer in {} s)",
        limit.as_secs()
    )]
    Late {
        /// The call.
        method: String,
        /// How long it had.
        limit: Duration,
    },
    /// A status other than 200.
    #[error("{method}: {said}")]
    Status {
        /// The call.
        method: String,
        /// The answer's `Err`, or all of it.
        said: String,
    },
    /// The answer is not what the protocol has.
    #[error("{method}: the plugin's answer makes no sense: {why}")]
    Rubbish {
        /// The call.
        method: String,
        /// What is wrong with it.
        why: String,
    },
    /// The plugin's own words, for why it did not do what it was asked.
    #[error("{0}")]
    Said(String),
}

impl Error {
    /// Nothing has reached the plugin.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        matches!(self, Error::Connect { .. })
    }

    /// The plugin has answered, and its answer was no: nothing has been done.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Said(_) | Error::Status { .. })
    }

    pub(crate) fn late(method: &str, limit: Duration) -> Error {
        Error::Late {
            method: method.to_owned(),
            limit,
        }
    }

    pub(crate) fn rubbish(method: &str, why: impl std::fmt::Display) -> Error {
        Error::Rubbish {
            method: method.to_owned(),
            why: why.to_string(),
        }
    }
}
