//! What can go wrong between us and a daemon.

use std::io;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the host.
    #[error(
        "Cannot connect to the Docker daemon at {host}. Is the docker daemon running?{}",
        hint(host)
    )]
    Connect {
        /// The host as the user knows it (`unix:///run/hull/hull.sock`).
        host: String,
        /// The refusal.
        source: io::Error,
    },
    /// The socket is there, but not for us.
    #[error(
        "permission denied while trying to connect to the Docker daemon socket at {host}: {source}"
    )]
    Permission {
        /// The host.
        host: String,
        /// The refusal.
        source: io::Error,
    },
    /// The daemon answered with status 400 or above.
    #[error("Error response from daemon: {message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// The daemon's sentence.
        message: String,
    },
    /// The host cannot be understood.
    #[error("{0}")]
    Host(String),
    /// A TLS file is missing or wrong, or the daemon's certificate is not trusted.
    #[error("{0}")]
    Tls(String),
    /// The `ssh` program could not be run.
    #[error("command [ssh {host}] could not be started: {source}")]
    Ssh {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("error during connect: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is not what the API says.
    #[error("invalid answer of the daemon: {0}")]
    Answer(String),
    /// Reading or writing a stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn hint(host: &str) -> &'static str {
    if host.starts_with("unix://") {
        " (start one with: hull daemon)"
    } else {
        ""
    }
}

impl Error {
    /// The HTTP status, where the daemon answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon says that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether nobody answered at all.
    pub fn is_connect(&self) -> bool {
        matches!(self, Error::Connect { .. })
    }

    /// The daemon's sentence alone, without `Error response from daemon: `.
    pub fn message(&self) -> String {
        match self {
            Error::Api { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}
