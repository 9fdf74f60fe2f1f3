//! From a blocking writer to a stream of bytes, with a bound between them.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::streams::ByteStream;

/// Pieces that wait for a slow reader.
const QUEUED_MAX: usize = 8;
/// Bytes of one piece.
const PIECE_BYTES: usize = 128 << 10;

struct Pipe {
    sender: mpsc::Sender<Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader is gone"))
    }
}

/// Runs `write` on a blocking thread; what it writes is the stream, and its error the stream's last item. It is given up
/// when the stream is dropped.
pub(crate) fn bytes(
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
) -> ByteStream {
    let (sender, mut receiver) = mpsc::channel(QUEUED_MAX);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe {
            sender,
            buffer: BytesMut::with_capacity(PIECE_BYTES),
        };
        let done = write(&mut pipe)
            .and_then(|()| pipe.flush().map_err(|cause| Error::failed("send", cause)));
        if let Err(error) = done {
            let _ = pipe.sender.blocking_send(Err(error));
        }
    });
    Box::pin(futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx)
    }))
}
