//! Attach connections: the streams of a container or an exec, perhaps before there is a shim to connect to.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hull_shim::protocol::{self, Attach, Hello};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use crate::error::{Error, Result, failed};

/// Longest answer to an attach hello, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Connects to a shim's socket for streams; returns once the shim has taken the connection, so that nothing that the
/// process writes from now on is missed.
pub(crate) async fn connect_attach(socket: &Path, attach: Attach) -> Result<UnixStream> {
    let operation = || format!("attach through {}", socket.display());
    let mut stream = UnixStream::connect(socket)
        .await
        .map_err(failed(operation()))?;
    stream
        .write_all(&protocol::encode(&Hello::Attach(attach)))
        .await
        .map_err(failed(operation()))?;
    // Byte by byte: what follows the answer's line is the stream itself.
    let mut line = Vec::with_capacity(32);
    loop {
        let byte = stream.read_u8().await.map_err(failed(operation()))?;
        if byte == b'\n' {
            break;
        }
        line.push(byte);
        if line.len() > ANSWER_BYTES_MAX {
            return Err(Error::internal(format!(
                "{}: the shim's answer does not end",
                operation()
            )));
        }
    }
    let answer: serde_json::Value = serde_json::from_slice(&line).map_err(failed(operation()))?;
    match answer.get("error") {
        None => Ok(stream),
        Some(error) => {
            let message = error
                .get("message")
                .and_then(|message| message.as_str())
                .unwrap_or("refused");
            Err(Error::internal(format!("{}: {message}", operation())))
        }
    }
}

/// An attach that waits for its container to start.
#[derive(Debug)]
pub(crate) struct Pending {
    /// What to ask of the shim.
    pub(crate) attach: Attach,
    reader: oneshot::Sender<OwnedReadHalf>,
    writer: oneshot::Sender<OwnedWriteHalf>,
    delivered: Delivered,
}

/// Answers, with an error, once an attached client has been given all output, or has gone.
pub(crate) type Delivered = oneshot::Receiver<()>;

impl Pending {
    /// Hands the connection over.
    pub(crate) fn resolve(self, stream: UnixStream) -> Delivered {
        let (reader, writer) = stream.into_split();
        let _ = self.reader.send(reader);
        let _ = self.writer.send(writer);
        self.delivered
    }

    /// Whether the client has gone away meanwhile.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reader.is_closed()
    }
}

/// The two ends of an attach that waits.
pub(crate) fn pending(attach: Attach) -> (Pending, AttachReader, AttachWriter) {
    let (read_sender, read_receiver) = oneshot::channel();
    let (write_sender, write_receiver) = oneshot::channel();
    let (end, delivered) = oneshot::channel();
    let pending = Pending {
        attach,
        reader: read_sender,
        writer: write_sender,
        delivered,
    };
    (
        pending,
        AttachReader {
            half: Half::Waiting(read_receiver),
            end: Some(end),
        },
        AttachWriter(Half::Waiting(write_receiver)),
    )
}

#[derive(Debug)]
enum Half<T> {
    Waiting(oneshot::Receiver<T>),
    Ready(T),
    Over,
}

impl<T> Half<T> {
    /// The half, once it is there; `None` when it never comes.
    fn poll_half(&mut self, cx: &mut Context<'_>) -> Poll<Option<&mut T>> {
        if let Half::Waiting(receiver) = self {
            *self = match ready!(Pin::new(receiver).poll(cx)) {
                Ok(half) => Half::Ready(half),
                Err(_) => Half::Over,
            };
        }
        Poll::Ready(match self {
            Half::Ready(half) => Some(half),
            Half::Over | Half::Waiting(_) => None,
        })
    }
}

/// Output of the process, framed unless it has a terminal. Ends when the container never starts.
#[derive(Debug)]
pub(crate) struct AttachReader {
    half: Half<OwnedReadHalf>,
    /// Dropped at the end of the output: whoever reads that has handed on all before it.
    end: Option<oneshot::Sender<()>>,
}

/// Input of the process; shutdown closes it.
#[derive(Debug)]
pub(crate) struct AttachWriter(Half<OwnedWriteHalf>);

impl AttachReader {
    pub(crate) fn ready(half: OwnedReadHalf) -> AttachReader {
        AttachReader {
            half: Half::Ready(half),
            end: None,
        }
    }
}

impl AttachWriter {
    pub(crate) fn ready(half: OwnedWriteHalf) -> AttachWriter {
        AttachWriter(Half::Ready(half))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the container did not start")
}

impl AsyncRead for AttachReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match ready!(self.half.poll_half(cx)) {
            Some(half) => ready!(Pin::new(half).poll_read(cx, buffer)),
            None => Ok(()),
        };
        if read.is_err() || buffer.filled().len() == before {
            self.end = None;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for AttachWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.0.poll_half(cx)) {
            Some(half) => Pin::new(half).poll_write(cx, bytes),
            None => Poll::Ready(Err(closed())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Half::Ready(half) => Pin::new(half).poll_flush(cx),
            Half::Waiting(_) | Half::Over => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.0.poll_half(cx)) {
            Some(half) => Pin::new(half).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
