//! The multiplexed stream of attach, exec and logs without a terminal: a header of eight bytes (stream, three zeros,
//! big-endian length), then the payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Media type of a multiplexed stream (API 1.42).
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Media type of a raw stream.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// The largest payload that a [`Decoder`] takes: more is a broken or hostile stream.
pub const PAYLOAD_MAX: usize = 64 << 20;

/// Which of a process's streams a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamKind {
    /// Input; never sent by a daemon.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the daemon, as text.
    SystemError = 3,
}

/// A payload and its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it belongs.
    pub kind: StreamKind,
    /// Its bytes.
    pub payload: Bytes,
}

/// A broken stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte of a header is none of the streams.
    #[error("Unrecognized input header: {0}")]
    Kind(u8),
    /// The header announces more than [`PAYLOAD_MAX`].
    #[error("stream frame of {0} bytes is too long")]
    TooLong(usize),
}

/// The header of a frame of `len` payload bytes.
pub fn header(kind: StreamKind, len: u32) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = kind as u8;
    header[4..].copy_from_slice(&len.to_be_bytes());
    header
}

/// A whole frame. Payloads of 4 GiB and above are not framed in one piece by anyone: they are cut here.
pub fn encode(kind: StreamKind, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + HEADER_LEN);
    for piece in payload.chunks(u32::MAX as usize) {
        out.put_slice(&header(kind, piece.len() as u32));
        out.put_slice(piece);
    }
    out.freeze()
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame, if it has arrived.
    ///
    /// # Errors
    /// A header that no daemon sends.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let kind = match header[0] {
            0 => StreamKind::Stdin,
            1 => StreamKind::Stdout,
            2 => StreamKind::Stderr,
            3 => StreamKind::SystemError,
            other => return Err(FrameError::Kind(other)),
        };
        let len = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if len > PAYLOAD_MAX {
            return Err(FrameError::TooLong(len));
        }
        if self.buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LEN);
        Ok(Some(Frame {
            kind,
            payload: self.buffer.split_to(len).freeze(),
        }))
    }

    /// Is a frame cut off in the middle?
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rejects_headers_that_no_daemon_sends() {
        let mut decoder = Decoder::default();
        decoder.push(&[9, 0, 0, 0, 0, 0, 0, 1, b'x']);
        assert_eq!(decoder.next_frame(), Err(FrameError::Kind(9)));
        let mut decoder = Decoder::default();
        decoder.push(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(
            decoder.next_frame(),
            Err(FrameError::TooLong(u32::MAX as usize))
        );
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20), cut in 1usize..17) {
            let mut wire = Vec::new();
            for payload in &payloads {
                match payload.is_empty() {
                    true => wire.extend_from_slice(&header(StreamKind::Stderr, 0)),
                    false => wire.extend_from_slice(&encode(StreamKind::Stderr, payload)),
                }
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    prop_assert_eq!(frame.kind, StreamKind::Stderr);
                    seen.push(frame.payload.to_vec());
                }
            }
            prop_assert!(!decoder.is_partial());
            prop_assert_eq!(seen, payloads);
        }
    }
}
