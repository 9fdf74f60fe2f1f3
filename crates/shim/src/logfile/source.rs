//! One generation of a log, open: a later rename does not matter. A compressed one is decompressed as it is read, and never held whole.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use jiff::Timestamp;

use super::Error;
use super::format::{Decoded, Entry, Format};

/// Read at once, in bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// An entry longer than this is damage: a piece of a line, escaped at its worst (6 bytes for one), with room for attributes.
pub(super) const ENTRY_BYTES_MAX: usize = 1 << 20;

/// An open generation.
pub(super) struct Source {
    content: Content,
    /// Where reading goes on, in decompressed bytes.
    pub(super) offset: u64,
}

enum Content {
    Plain(File),
    Packed(Box<Packed>),
    /// Not there yet.
    Absent,
}

/// A compressed file, and how far it has been decompressed.
struct Packed {
    file: File,
    stream: Option<(GzDecoder<io::BufReader<File>>, u64)>,
}

impl Packed {
    /// Up to a block from `offset` on, appended to `buffer`: from the beginning again when that lies behind.
    fn read_at(&mut self, buffer: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        let (mut decoder, mut at) = match self.stream.take() {
            Some((decoder, at)) if at <= offset => (decoder, at),
            _ => {
                self.file.rewind()?;
                let file = io::BufReader::new(self.file.try_clone()?);
                (GzDecoder::new(file), 0)
            }
        };
        at += io::copy(&mut decoder.by_ref().take(offset - at), &mut io::sink())?;
        let count = decoder
            .by_ref()
            .take(BLOCK_BYTES as u64)
            .read_to_end(buffer)?;
        self.stream = Some((decoder, at + count as u64));
        Ok(count)
    }
}

impl Source {
    /// Opens `path`; one that is not there is empty.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let content = match File::open(path) {
            Ok(file) => Content::Plain(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Content::Absent,
            Err(source) => {
                return Err(Error::Io {
                    operation: "opening",
                    path: path.to_path_buf(),
                    source,
                });
            }
        };
        Ok(Self { content, offset: 0 })
    }

    /// Opens `path.gz`.
    pub(super) fn open_packed(path: &Path) -> Result<Self, Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".gz");
        let mut source = Self::open(&PathBuf::from(name))?;
        if let Content::Plain(file) = source.content {
            source.content = Content::Packed(Box::new(Packed { file, stream: None }));
        }
        Ok(source)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self.content, Content::Absent)
    }

    /// Of a file that is not compressed.
    pub(super) fn metadata(&self) -> Option<io::Result<std::fs::Metadata>> {
        match &self.content {
            Content::Plain(file) => Some(file.metadata()),
            Content::Packed(_) | Content::Absent => None,
        }
    }

    /// Appends the next block to `buffer`; false at the end.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let taken = match &mut self.content {
            Content::Absent => 0,
            Content::Packed(packed) => packed.read_at(buffer, self.offset)?,
            Content::Plain(file) => {
                let before = buffer.len();
                buffer.resize(before + BLOCK_BYTES, 0);
                let read = file.read_at(&mut buffer[before..], self.offset);
                buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
                read?
            }
        };
        self.offset += taken as u64;
        Ok(taken > 0)
    }

    /// The time of the first entry.
    pub(super) fn first_time(&mut self, format: Format) -> io::Result<Option<Timestamp>> {
        let bytes = match &mut self.content {
            Content::Absent => return Ok(None),
            Content::Plain(file) => window(file, 0, ENTRY_BYTES_MAX as u64)?,
            Content::Packed(packed) => {
                let mut bytes = Vec::new();
                packed.read_at(&mut bytes, 0)?;
                bytes
            }
        };
        Ok(first_entry(&bytes, 0, format).map(|(time, _)| time))
    }

    /// Moves the beginning towards the first entry that is not before `since`, never behind it: entries lie in the order of their times.
    /// A compressed generation knows no places; its reader passes over what is too old.
    pub(super) fn skip_to(&mut self, since: Timestamp, format: Format) -> io::Result<()> {
        let Content::Plain(file) = &self.content else {
            return Ok(());
        };
        let (mut low, mut high) = (0, file.metadata()?.len());
        while high - low > BLOCK_BYTES as u64 {
            let middle = low + (high - low) / 2;
            let bytes = window(file, middle, middle + ENTRY_BYTES_MAX as u64)?;
            let found = first_entry(&bytes, synchronize(&bytes, format), format);
            match found.map(|(time, at)| (time, middle + at as u64)) {
                Some((time, at)) if time < since && at < high => low = at,
                Some(_) | None => high = middle,
            }
        }
        self.offset = low;
        Ok(())
    }

    /// Moves the beginning to the last `wanted` lines that are not after `until`, not before where it is; how many there are.
    /// A piece of a line without its end is not counted as one of its own.
    pub(super) fn last_lines(
        &mut self,
        format: Format,
        until: Option<Timestamp>,
        wanted: usize,
    ) -> io::Result<usize> {
        let mut lines = match &mut self.content {
            Content::Absent => return Ok(0),
            Content::Packed(packed) => {
                let mut lines = Begins::new(format, until, wanted);
                let mut buffer = Vec::new();
                let mut at = self.offset;
                while !lines.over {
                    let read = packed.read_at(&mut buffer, at)?;
                    at += read as u64;
                    let used = lines.take(&buffer, at - buffer.len() as u64);
                    buffer.drain(..used);
                    if read == 0 || buffer.len() > ENTRY_BYTES_MAX {
                        break;
                    }
                }
                lines
            }
            Content::Plain(file) => last_lines_of(file, self.offset, format, until, wanted)?,
        };
        // Without one of these the whole of it is after `until`, which the reader finds at once.
        if let Some(first) = lines.offsets.pop_front() {
            self.offset = first;
            return Ok(lines.offsets.len() + 1);
        }
        Ok(0)
    }
}

/// Looks backwards in growing windows.
fn last_lines_of(
    file: &File,
    offset: u64,
    format: Format,
    until: Option<Timestamp>,
    wanted: usize,
) -> io::Result<Begins> {
    let end = file.metadata()?.len();
    let begin = offset.min(end);
    let mut length = BLOCK_BYTES as u64;
    loop {
        let start = end.saturating_sub(length).max(begin);
        let bytes = window(file, start, end)?;
        let skipped = match start == begin {
            true => 0,
            false => synchronize(&bytes, format),
        };
        let mut lines = Begins::new(format, until, wanted);
        lines.take(&bytes[skipped..], start + skipped as u64);
        if lines.offsets.len() >= wanted || start == begin {
            return Ok(lines);
        }
        length = length.saturating_mul(4);
    }
}

/// Where the last lines begin; a line ends with an entry that ends in a line feed.
struct Begins {
    format: Format,
    until: Option<Timestamp>,
    wanted: usize,
    offsets: VecDeque<u64>,
    at_line_start: bool,
    /// What follows is after `until`.
    over: bool,
    entry: Entry,
}

impl Begins {
    fn new(format: Format, until: Option<Timestamp>, wanted: usize) -> Self {
        Self {
            format,
            until,
            wanted,
            offsets: VecDeque::new(),
            at_line_start: true,
            over: false,
            entry: Entry::default(),
        }
    }

    /// Takes whole entries of `bytes`, which lie at `offset`; how many bytes they are.
    fn take(&mut self, bytes: &[u8], offset: u64) -> usize {
        let mut at = 0;
        loop {
            match self.format.decode(&bytes[at..], &mut self.entry) {
                Decoded::Entry(used) => {
                    if self.until.is_some_and(|until| self.entry.time > until) {
                        self.over = true;
                        return at;
                    }
                    if self.at_line_start {
                        self.offsets.push_back(offset + at as u64);
                        if self.offsets.len() > self.wanted {
                            self.offsets.pop_front();
                        }
                    }
                    self.at_line_start = self.entry.line.ends_with(b"\n");
                    at += used;
                }
                Decoded::Damaged(used) => at += used,
                Decoded::Incomplete => return at,
            }
        }
    }
}

/// Where the first whole entry of `bytes` begins, which may start in the midst of one.
fn synchronize(bytes: &[u8], format: Format) -> usize {
    match format {
        Format::JsonFile => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1),
        Format::Local => {
            let mut entry = Entry::default();
            // Two entries one behind the other do not come about by chance.
            (0..bytes.len())
                .find(|at| match format.decode(&bytes[*at..], &mut entry) {
                    Decoded::Entry(used) => {
                        at + used == bytes.len()
                            || matches!(
                                format.decode(&bytes[at + used..], &mut entry),
                                Decoded::Entry(_) | Decoded::Incomplete
                            )
                    }
                    Decoded::Damaged(_) | Decoded::Incomplete => false,
                })
                .unwrap_or(bytes.len())
        }
    }
}

/// Time and place of the first whole entry of `bytes` from `at` on.
fn first_entry(bytes: &[u8], mut at: usize, format: Format) -> Option<(Timestamp, usize)> {
    let mut entry = Entry::default();
    while at < bytes.len() {
        match format.decode(&bytes[at..], &mut entry) {
            Decoded::Entry(_) => return Some((entry.time, at)),
            Decoded::Damaged(used) => at += used,
            Decoded::Incomplete => break,
        }
    }
    None
}

/// The bytes from `start` to `end`, or to the file's end.
fn window(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let end = end.min(file.metadata()?.len());
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    let mut bytes = vec![0; length];
    let mut read = 0;
    while read < length {
        match file.read_at(&mut bytes[read..], start + read as u64)? {
            0 => break,
            n => read += n,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}
