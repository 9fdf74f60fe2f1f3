//! What the services return where an answer is not one value.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use hull_api::container::WaitResponse;
use hull_api::progress::ProgressMessage;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Result;

/// Bytes as they come.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Values as they come.
pub type ItemStream<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Progress of a pull, push, load or import. A failure is the last item, as an error.
pub type ProgressStream = ItemStream<ProgressMessage>;

/// Answers when the container has ended.
pub type WaitFuture = Pin<Box<dyn Future<Output = Result<WaitResponse>> + Send>>;

/// The streams of a process.
pub struct AttachStream {
    /// Output: Docker's frames without a terminal, raw bytes with one.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Input; shutdown closes the process's standard input.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The process has a terminal.
    pub terminal: bool,
}

/// A container's log.
pub struct LogStream {
    /// The container has a terminal: `stream` is raw, else Docker's frames.
    pub terminal: bool,
    /// The output.
    pub stream: ByteStream,
}
