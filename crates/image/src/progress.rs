//! Progress of long operations, in Docker's words.

use tokio::sync::mpsc;

/// One line of progress. Lines of the same `id` replace one another on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// A layer's short id (12 digits), or the tag for the first line; `None` for a line of its own.
    pub id: Option<String>,
    /// `Pulling fs layer`, `Waiting`, `Downloading`, `Verifying Checksum`, `Download complete`, `Extracting`,
    /// `Pull complete`, `Already exists`, `Preparing`, `Pushing`, `Pushed`, `Layer already exists`, `Loading layer`, ..
    pub status: String,
    /// Bytes done, for the states that count.
    pub current: Option<u64>,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}

/// The sending end of a bounded queue of [`Progress`]. Changes of state wait for room; counters are dropped when the
/// reader is slow. A reader that is gone is no error.
#[derive(Debug, Clone)]
pub struct ProgressSink {
    sender: Option<mpsc::Sender<Progress>>,
}

impl ProgressSink {
    /// A sink and the queue it fills, of `capacity` lines.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Progress>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (
            ProgressSink {
                sender: Some(sender),
            },
            receiver,
        )
    }

    /// A sink that tells nobody.
    pub fn none() -> Self {
        ProgressSink { sender: None }
    }

    /// A change of state, from async code.
    pub async fn state(&self, id: Option<&str>, status: impl Into<String>) {
        if let Some(sender) = &self.sender {
            let progress = Progress {
                id: id.map(str::to_owned),
                status: status.into(),
                current: None,
                total: None,
            };
            // The receiver is gone when the client is: the operation goes on or is cancelled by its caller.
            let _ = sender.send(progress).await;
        }
    }

    /// A change of state, from blocking code outside the async runtime's threads.
    pub fn state_blocking(&self, id: Option<&str>, status: impl Into<String>) {
        if let Some(sender) = &self.sender {
            let progress = Progress {
                id: id.map(str::to_owned),
                status: status.into(),
                current: None,
                total: None,
            };
            let _ = sender.blocking_send(progress);
        }
    }

    /// A counter; lost when the queue is full.
    pub fn count(&self, id: &str, status: &str, current: u64, total: Option<u64>) {
        if let Some(sender) = &self.sender {
            let progress = Progress {
                id: Some(id.to_owned()),
                status: status.to_owned(),
                current: Some(current),
                total,
            };
            let _ = sender.try_send(progress);
        }
    }
}
