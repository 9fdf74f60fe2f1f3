//! A plain TCP connection that sends files by sendfile(2) below hyper.
//!
//! hyper writes bodies as bytes. So that a blob need not be copied through this process, its body consists of slices of
//! [`PLACEHOLDER`], a static that nobody else has slices of, and the connection, when it is asked to write such a slice,
//! sends as many bytes of the file that was announced with them. hyper counts and orders the bytes as always. It passes slices
//! on as they are only while the connection says that it writes vectored; should it ever copy them, the address
//! would not match and zeros would go out: `tests/server/blobs.rs` holds that they do not.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::pace::Pace;

/// Most bytes in one sendfile(2), so that one connection does not hold a worker thread for long.
const PLACEHOLDER_LEN: usize = 512 << 10;

static PLACEHOLDER: [u8; PLACEHOLDER_LEN] = [0; PLACEHOLDER_LEN];

/// Most slices handed to one sendmsg(2).
const SLICES_MAX: usize = 16;

/// A slice that stands for `len` bytes of the file announced last; at most what one call sends.
pub fn placeholder(len: u64) -> Bytes {
    let len = usize::try_from(len)
        .unwrap_or(usize::MAX)
        .min(PLACEHOLDER_LEN);
    Bytes::from_static(&PLACEHOLDER[..len])
}

fn is_placeholder(slice: &[u8]) -> bool {
    let start = PLACEHOLDER.as_ptr().addr();
    !slice.is_empty() && (start..start + PLACEHOLDER_LEN).contains(&slice.as_ptr().addr())
}

/// Files that are to be sent on a connection, in the order of their responses.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<Mutex<VecDeque<Segment>>>);

#[derive(Debug)]
struct Segment {
    file: File,
    offset: u64,
    left: u64,
}

impl Files {
    /// Announces that the next placeholders stand for `len` bytes of `file` from `offset` on.
    pub fn announce(&self, file: File, offset: u64, len: u64) {
        let segment = Segment {
            file,
            offset,
            left: len,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(segment);
    }
}

/// The connection. Writes to a client that takes too little fail.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    files: Files,
    stall: Stall,
}

impl Conn {
    /// Wraps an accepted stream.
    pub fn new(stream: TcpStream, pace: Pace) -> Self {
        Conn {
            stream,
            files: Files::default(),
            stall: Stall { pace, since: None },
        }
    }

    /// Where bodies announce their files.
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    fn poll_send_file(&self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let mut files = self.files.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(segment) = files.front_mut() else {
                return Poll::Ready(Err(io::Error::other("a placeholder without a file")));
            };
            let want = usize::try_from(segment.left)
                .unwrap_or(usize::MAX)
                .min(want);
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(
                    &self.stream,
                    &segment.file,
                    Some(&mut segment.offset),
                    want,
                )?)
            });
            match sent {
                Ok(0) => {
                    let cut = io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the file is shorter than it was",
                    );
                    return Poll::Ready(Err(cut));
                }
                Ok(sent) => {
                    segment.left -= sent as u64;
                    if segment.left == 0 {
                        files.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends what stands before a placeholder, telling TCP that more follows, so that head and body share a packet.
    fn poll_send_more(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                let mut control = SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(
                    &self.stream,
                    slices,
                    &mut control,
                    flags,
                )?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = slices.iter().position(|slice| !slice.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        let slices = &slices[first..];
        if is_placeholder(&slices[0]) {
            return self.poll_send_file(cx, slices[0].len());
        }
        match slices.iter().position(|slice| is_placeholder(slice)) {
            Some(end) => self.poll_send_more(cx, &slices[..end.min(SLICES_MAX)]),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Waiting for a request or for a body has its own deadlines, which know what is waited for.
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.poll_send(cx, slices);
        self.stall.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Fails a write that has been waiting for the client too long.
#[derive(Debug)]
struct Stall {
    pace: Pace,
    /// Since when the write waits, and the end of the patience.
    since: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Stall {
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(moved) = &result {
            if let Some((since, _)) = self.since.take() {
                let bytes = moved.as_ref().map_or(0, |bytes| *bytes);
                self.pace.moved(since.elapsed(), bytes);
            }
            return result;
        }
        let left = self.pace.left();
        let (_, sleep) = self
            .since
            .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}
