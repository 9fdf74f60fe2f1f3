//! How a command fails: what is told, and the exit code.

use hull_client::Error as ClientError;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Told on stderr, with this exit code.
    #[error("{message}")]
    Told {
        /// Exit code.
        status: i32,
        /// The whole text, without a newline at its end.
        message: String,
    },
    /// Nothing is told: the container's own exit code, or one already explained.
    #[error("exit code {0}")]
    Silent(i32),
    /// The daemon or the connection to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Our own stdin, stdout or a local file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Failure {
    /// A message with exit code 1, as most commands fail.
    pub fn new(message: impl Into<String>) -> Self {
        Failure::Told {
            status: 1,
            message: message.into(),
        }
    }

    /// A message with another exit code.
    pub fn with_status(status: i32, message: impl Into<String>) -> Self {
        Failure::Told {
            status,
            message: message.into(),
        }
    }

    /// The exit code.
    pub fn status(&self) -> i32 {
        match self {
            Failure::Told { status, .. } | Failure::Silent(status) => *status,
            // As a program that SIGPIPE ended: `hull ps | head -1` is no failure to talk about.
            Failure::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 141,
            Failure::Client(_) | Failure::Io(_) => 1,
        }
    }

    /// What to tell on stderr, if anything.
    pub fn told(&self) -> Option<String> {
        match self {
            Failure::Silent(_) => None,
            Failure::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe => None,
            Failure::Told { message, .. } => Some(message.clone()),
            Failure::Client(error) => Some(error.to_string()),
            Failure::Io(error) => Some(error.to_string()),
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::new(message)
    }
}

/// What a command gives: its exit code.
pub type Outcome = Result<i32, Failure>;

/// Collects the failures of a command that goes on with its other arguments, as `docker rm a b c` does.
#[derive(Debug, Default)]
pub struct Failures(Vec<String>);

impl Failures {
    /// Notes a failure.
    pub fn push(&mut self, failure: impl std::fmt::Display) {
        self.0.push(failure.to_string());
    }

    /// Fails with all messages, one per line, if there are any.
    pub fn outcome(self) -> Outcome {
        if self.0.is_empty() {
            Ok(0)
        } else {
            Err(Failure::new(self.0.join("\n")))
        }
    }
}
