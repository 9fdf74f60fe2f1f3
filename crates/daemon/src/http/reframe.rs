//! Output in the form that was asked for: dockerd frames an exec's output by what the *start* request says of a terminal,
//! whatever the exec was made with.

use std::io;

use bytes::BytesMut;
use futures_util::{Stream, stream};
use hull_api::frames::{self, StreamKind};
use hull_engine::streams::AttachStream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

/// Bytes read at once.
const CHUNK: usize = 32 << 10;

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Gives the output raw where `terminal`, else in frames, however the process writes it.
pub fn as_asked(attached: AttachStream, terminal: bool) -> AttachStream {
    let AttachStream {
        reader,
        writer,
        terminal: has,
    } = attached;
    let reader: Reader = match (has, terminal) {
        (true, false) => Box::new(StreamReader::new(Box::pin(framed(reader)))),
        (false, true) => Box::new(StreamReader::new(Box::pin(unframed(reader)))),
        (true, true) | (false, false) => reader,
    };
    AttachStream {
        reader,
        writer,
        terminal,
    }
}

/// A terminal's output as frames of standard output.
fn framed(reader: Reader) -> impl Stream<Item = io::Result<bytes::Bytes>> {
    stream::try_unfold(reader, |mut reader| async move {
        let mut piece = BytesMut::with_capacity(CHUNK);
        match reader.read_buf(&mut piece).await? {
            0 => Ok(None),
            _ => Ok(Some((frames::encode(StreamKind::Stdout, &piece), reader))),
        }
    })
}

/// The payloads of frames.
fn unframed(reader: Reader) -> impl Stream<Item = io::Result<bytes::Bytes>> {
    let decoder = frames::Decoder::default();
    stream::try_unfold((reader, decoder), |(mut reader, mut decoder)| async move {
        loop {
            if let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
                return Ok(Some((frame.payload, (reader, decoder))));
            }
            let mut piece = BytesMut::with_capacity(CHUNK);
            if reader.read_buf(&mut piece).await? == 0 {
                return Ok(None);
            }
            decoder.push(&piece);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(output: &'static [u8], has: bool, asked: bool) -> Vec<u8> {
        let attached = AttachStream {
            reader: Box::new(output),
            writer: Box::new(tokio::io::sink()),
            terminal: has,
        };
        let mut all = Vec::new();
        as_asked(attached, asked)
            .reader
            .read_to_end(&mut all)
            .await
            .unwrap();
        all
    }

    #[tokio::test]
    async fn the_start_request_decides() {
        let (raw, framed): (&[u8], &[u8]) = (b"hi", b"\x01\0\0\0\0\0\0\x02hi");
        assert_eq!(read(b"hi", true, true).await, raw);
        assert_eq!(read(b"hi", true, false).await, framed);
        assert_eq!(read(b"\x01\0\0\0\0\0\0\x02hi", false, true).await, raw);
        assert_eq!(read(b"\x01\0\0\0\0\0\0\x02hi", false, false).await, framed);
    }
}
