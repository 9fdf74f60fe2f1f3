//! Bodies of responses, and reading bodies of requests.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::conn::{self, Files};
use super::pace::Pace;
use crate::error::{Error, Result};

/// How much of a file is read at once where it cannot be sent by the kernel.
const READ_LEN: usize = 128 << 10;

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// Nothing, or bytes at hand.
    Bytes(Bytes),
    /// A part of a file, sent by the kernel.
    SendFile(SendFile),
    /// A part of a file, read in pieces.
    ReadFile(ReadFile),
    /// Pieces that come from elsewhere, this many bytes altogether.
    Channel(mpsc::Receiver<io::Result<Bytes>>, u64),
}

/// A part of a file, sent by the kernel.
#[derive(Debug)]
pub struct SendFile {
    files: Files,
    file: Option<File>,
    offset: u64,
    left: u64,
}

/// A part of a file, read in pieces by a blocking thread.
#[derive(Debug)]
pub struct ReadFile {
    file: Arc<File>,
    offset: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Body::Bytes(Bytes::new())
    }

    /// `len` bytes of `file` from `offset` on; by sendfile(2) where the connection can (`files`).
    pub fn file(file: File, offset: u64, len: u64, files: Option<Files>) -> Self {
        match files {
            Some(files) => Body::SendFile(SendFile {
                files,
                file: Some(file),
                offset,
                left: len,
            }),
            None => Body::ReadFile(ReadFile {
                file: Arc::new(file),
                offset,
                left: len,
                reading: None,
            }),
        }
    }

    fn left(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::SendFile(file) => file.left,
            Body::ReadFile(file) => file.left,
            Body::Channel(_, left) => *left,
        }
    }
}

impl SendFile {
    fn next(&mut self) -> Bytes {
        if let Some(file) = self.file.take() {
            self.files.announce(file, self.offset, self.left);
        }
        let bytes = conn::placeholder(self.left);
        self.left -= bytes.len() as u64;
        bytes
    }
}

impl ReadFile {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let (file, offset) = (&self.file, self.offset);
        let len = usize::try_from(self.left).unwrap_or(READ_LEN).min(READ_LEN);
        let reading = self.reading.get_or_insert_with(|| {
            let file = file.clone();
            tokio::task::spawn_blocking(move || {
                let mut buffer = BytesMut::zeroed(len);
                file.read_exact_at(&mut buffer, offset)?;
                Ok(buffer.freeze())
            })
        });
        let bytes = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other)??;
        self.reading = None;
        self.offset += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        Poll::Ready(Ok(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        let next = match this {
            Body::Bytes(bytes) => Ok(std::mem::take(bytes)),
            Body::SendFile(file) => Ok(file.next()),
            Body::ReadFile(file) => ready!(file.poll_next(cx)),
            Body::Channel(receiver, left) => match ready!(receiver.poll_recv(cx)) {
                None => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(Ok(bytes)) => {
                    *left = left.saturating_sub(bytes.len() as u64);
                    Ok(bytes)
                }
                Some(Err(error)) => Err(error),
            },
        };
        Poll::Ready(Some(next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

/// A request's body, from a client that may be only so slow.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    pace: Pace,
}

impl RequestBody {
    /// Wraps what hyper gives.
    pub fn new(incoming: Incoming, pace: Pace) -> Self {
        RequestBody { incoming, pace }
    }

    /// The next piece; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let started = Instant::now();
            let frame = tokio::time::timeout(self.pace.left(), self.incoming.frame())
                .await
                .map_err(|_| Error::TooSlow(self.pace.patience().as_secs()))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::BodyCut(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.pace.moved(started.elapsed(), bytes.len());
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The length, if the client has said it.
    pub fn announced(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// All of it, when it is at most `limit` bytes.
    pub async fn read_all(mut self, limit: usize) -> Result<Bytes> {
        if self.announced().is_some_and(|len| len > limit as u64) {
            return Err(Error::ManifestTooLarge(limit));
        }
        let mut all = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if all.len() + bytes.len() > limit {
                return Err(Error::ManifestTooLarge(limit));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }
}
