//! A buffered reader that hashes and counts what passes through it.

use std::io::{self, BufRead, Read};

use hull_oci::{Digest, Hasher};

/// Large enough that decompressors and the hash work on long runs (8 KiB cost 16 % of gunzip's speed).
const BUFFER_LEN: usize = 128 * 1024;

pub(super) struct Hashed<R> {
    inner: R,
    hasher: Option<Hasher>,
    known: Digest,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    total: u64,
    limit: u64,
}

/// Set as the source of the I/O error that stops a stream at its bound.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
pub(super) struct OverLimit(pub u64);

impl<R: Read> Hashed<R> {
    /// With `known` the digest is taken for granted.
    pub fn new(inner: R, limit: u64, known: Option<Digest>) -> Self {
        Hashed {
            inner,
            hasher: known.is_none().then(Hasher::default),
            known: known.unwrap_or_else(|| Digest::sha256_of(b"")),
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            start: 0,
            end: 0,
            total: 0,
            limit,
        }
    }

    /// Reads what is left, so that the digest covers the whole stream.
    pub fn drain(&mut self) -> io::Result<()> {
        loop {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }

    /// The digest and the length of everything read.
    pub fn finish(self) -> (Digest, u64) {
        (self.hasher.map_or(self.known, Hasher::finish), self.total)
    }

    fn refill(&mut self) -> io::Result<()> {
        self.start = 0;
        self.end = 0;
        let count = loop {
            match self.inner.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.buffer[..count]);
        }
        self.end = count;
        self.total += count as u64;
        if self.total > self.limit {
            return Err(io::Error::other(OverLimit(self.limit)));
        }
        Ok(())
    }
}

impl<R: Read> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(target.len());
        target[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
