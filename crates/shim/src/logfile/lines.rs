//! Lines out of the bytes of a pipe. Pure.

use super::LINE_PIECE_BYTES_MAX;

/// Cuts one stream into lines, and lines that are too long into pieces of [`LINE_PIECE_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Lines {
    /// A line begun and not ended.
    begun: Vec<u8>,
}

impl Lines {
    /// Takes bytes as they were read, and gives `each` whole lines (with their line feed) and whole pieces (without) in their order.
    ///
    /// # Errors
    /// What `each` says, at once; the rest of these bytes is lost then.
    pub fn split<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.begun.is_empty() && line.len() <= LINE_PIECE_BYTES_MAX {
                each(line)?;
                continue;
            }
            self.begun.extend_from_slice(line);
            self.pieces(&mut each)?;
            if !self.begun.is_empty() {
                each(&self.begun)?;
                self.begun.clear();
            }
        }
        self.begun.extend_from_slice(bytes);
        self.pieces(&mut each)
    }

    /// The stream has ended: what was begun, which is a line without an end, or nothing.
    pub fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.begun)
    }

    /// Gives whole pieces of a line that grows too long, and leaves the rest.
    fn pieces<E>(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut at = 0;
        while self.begun.len() - at > LINE_PIECE_BYTES_MAX {
            each(&self.begun[at..at + LINE_PIECE_BYTES_MAX])?;
            at += LINE_PIECE_BYTES_MAX;
        }
        self.begun.drain(..at);
        Ok(())
    }
}
