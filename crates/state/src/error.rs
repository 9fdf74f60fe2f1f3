//! What can go wrong in the database.

use std::path::PathBuf;

/// The result of every function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or prepared.
    #[error("opening the state database {path}")]
    Open {
        /// The database's file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The file was written by a later version of this program: going back would lose what it recorded.
    #[error(
        "the state database {path} has schema {found}, this program knows only up to {known}: use the newer program, or another data root"
    )]
    Newer {
        /// The database's file.
        path: PathBuf,
        /// The schema version in the file.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// The disk has no room for what was to be written (SQLITE_FULL): the kernel's word for it, which users know.
    #[error("state database: {operation}: no space left on device")]
    Full {
        /// What was being done.
        operation: &'static str,
    },
    /// A statement failed.
    #[error("state database: {operation}")]
    Sql {
        /// What was being done.
        operation: &'static str,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// No such row.
    #[error("no such {noun}: {key}")]
    NotFound {
        /// `container`, `image`, ...
        noun: &'static str,
        /// What was looked for.
        key: String,
    },
    /// An id prefix that fits several rows.
    #[error("multiple IDs found with provided prefix: {prefix}")]
    Ambiguous {
        /// `container`, `image`, ...
        noun: &'static str,
        /// What was looked for.
        prefix: String,
    },
    /// A unique key that is taken.
    #[error("{noun} {key} is already in use by {holder}")]
    Taken {
        /// `container name`, `network`, ...
        noun: &'static str,
        /// The key.
        key: String,
        /// The id of the row that has it.
        holder: String,
    },
}

impl Error {
    /// Whether it says that a row is absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    pub(crate) fn sql(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::Full { operation },
            _ => Error::Sql { operation, source },
        }
    }

    pub(crate) fn not_found(noun: &'static str, key: &str) -> Error {
        Error::NotFound {
            noun,
            key: key.to_owned(),
        }
    }
}
