//! Reading a log: the last lines, from a time on, up to a time, and on as it grows. Blocking.
//!
//! The beginning is found without reading the whole: generations older than `since` are skipped by their times, within a file the
//! place is found by bisection (entries lie in the order of their times), and the last `n` lines are found from the end backwards.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::format::{Decoded, Entry, Format};
use super::{Error, generation};

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// Only so many of the last lines; none: all.
    pub tail: Option<usize>,
    /// Nothing before this moment.
    pub since: Option<Timestamp>,
    /// Nothing after this moment.
    pub until: Option<Timestamp>,
}

/// Generations looked for: no writer keeps more.
const GENERATIONS_MAX: u32 = 1000;
/// Read at once, in bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// An entry longer than this is damage: a piece of a line, escaped at its worst (6 bytes for one), with room for attributes.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Reads one container's log, and goes on where it stopped when the log has grown.
pub struct Reader {
    path: PathBuf,
    format: Format,
    options: ReadOptions,
    /// Older generations still to be read, oldest first.
    older: VecDeque<Source>,
    current: Source,
    buffer: Vec<u8>,
    /// The part of `buffer` that is not yet read.
    at: usize,
    ended: bool,
}

/// One generation, open: a later rename does not matter.
struct Source {
    content: Content,
    offset: u64,
}

enum Content {
    Plain(File),
    /// A compressed generation, whole: it is as large as one generation may be.
    Unpacked(Vec<u8>),
    /// Not there yet.
    Absent,
}

impl Reader {
    /// Opens the log at `path` at the place where `options` begin. A log that is not there is empty.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn open(path: &Path, format: Format, options: ReadOptions) -> Result<Self, Error> {
        let mut reader = Self {
            path: path.to_path_buf(),
            format,
            options,
            older: VecDeque::new(),
            current: Source::open(path)?,
            buffer: Vec::new(),
            at: 0,
            ended: false,
        };
        reader.find_older()?;
        if let Some(since) = options.since {
            reader.skip_to(since)?;
        }
        if let Some(lines) = options.tail {
            reader.keep_last(lines)?;
        }
        Ok(reader)
    }

    /// The next entry, or `None` at the present end of the log: asked again later, there may be more.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&mut self) -> Result<Option<Entry<'_>>, Error> {
        // Decoded twice: the borrow of a returned entry would otherwise last over the loop.
        let used = loop {
            if self.ended {
                return Ok(None);
            }
            match self.format.decode(&self.buffer[self.at..]) {
                Decoded::Entry(entry, used) => {
                    if self.options.until.is_some_and(|until| entry.time > until) {
                        self.ended = true;
                        return Ok(None);
                    }
                    if self.options.since.is_none_or(|since| entry.time >= since) {
                        break used;
                    }
                    self.at += used;
                }
                Decoded::Damaged(used) => self.at += used,
                Decoded::Incomplete if self.buffer.len() - self.at > ENTRY_BYTES_MAX => {
                    self.at = self.buffer.len();
                }
                Decoded::Incomplete => {
                    if !self.fill()? {
                        return Ok(None);
                    }
                }
            }
        };
        let start = self.at;
        self.at += used;
        match self.format.decode(&self.buffer[start..]) {
            Decoded::Entry(entry, _) => Ok(Some(entry)),
            Decoded::Damaged(_) | Decoded::Incomplete => Ok(None),
        }
    }

    /// Nothing after this will be given: `until` was reached.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn find_older(&mut self) -> Result<(), Error> {
        for n in 1..GENERATIONS_MAX {
            let path = generation(&self.path, n);
            let source = match Source::open(&path)? {
                Source {
                    content: Content::Absent,
                    ..
                } => Source::open_packed(&path)?,
                source => source,
            };
            if matches!(source.content, Content::Absent) {
                break;
            }
            self.older.push_front(source);
        }
        Ok(())
    }

    /// More bytes into the buffer; false at the present end.
    fn fill(&mut self) -> Result<bool, Error> {
        self.buffer.drain(..self.at);
        self.at = 0;
        loop {
            if let Some(source) = self.older.front_mut() {
                if source.read(&mut self.buffer, &self.path)? {
                    return Ok(true);
                }
                // What a generation ends with is whole or damaged: the next one begins with an entry.
                self.buffer.clear();
                self.older.pop_front();
                continue;
            }
            if self.current.read(&mut self.buffer, &self.path)? {
                return Ok(true);
            }
            if !self.follow_rotation()? {
                return Ok(false);
            }
        }
    }

    /// Has the file been moved away or emptied since it was opened? Then go on in the new one.
    fn follow_rotation(&mut self) -> Result<bool, Error> {
        let Content::Plain(file) = &self.current.content else {
            self.current = Source::open(&self.path)?;
            return Ok(!matches!(self.current.content, Content::Absent));
        };
        let opened = file.metadata().map_err(self.reading())?;
        if opened.size() < self.current.offset {
            self.current.offset = 0;
            self.buffer.clear();
            return Ok(opened.size() > 0);
        }
        match std::fs::metadata(&self.path) {
            Ok(now) if now.ino() != opened.ino() || now.dev() != opened.dev() => {
                // Between the last read and the rename more may have been written to the old file.
                if opened.size() > self.current.offset {
                    return Ok(true);
                }
                self.buffer.clear();
                self.current = Source::open(&self.path)?;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.reading()(e)),
        }
    }

    fn reading(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Io {
            operation: "reading",
            path,
            source,
        }
    }

    /// Drops generations that end before `since`, and bisects the first that does not.
    fn skip_to(&mut self, since: Timestamp) -> Result<(), Error> {
        while let Some(next) = self.older.get(1).or(Some(&self.current)) {
            // The oldest generation is of no use when the one behind it begins before `since` too.
            let begins_before = first_time(next, self.format, 0)
                .map_err(self.reading())?
                .is_some_and(|(time, _)| time < since);
            if self.older.is_empty() || !begins_before {
                break;
            }
            self.older.pop_front();
        }
        let format = self.format;
        let reading = self.reading();
        let source = self.older.front_mut().unwrap_or(&mut self.current);
        let (mut low, mut high) = (0, source.size().unwrap_or(0));
        while high - low > BLOCK_BYTES as u64 {
            let middle = low + (high - low) / 2;
            match first_time(source, format, middle) {
                Ok(Some((time, at))) if time < since && at < high => low = at,
                Ok(_) => high = middle,
                Err(e) => return Err(reading(e)),
            }
        }
        source.offset = low;
        Ok(())
    }

    /// Moves the beginning to the last `lines` lines. A piece of a line without its end is not counted as one of its own.
    fn keep_last(&mut self, lines: usize) -> Result<(), Error> {
        if lines == 0 {
            self.older.clear();
            self.current.offset = self.current.size().map_err(self.reading())?;
            return Ok(());
        }
        let mut wanted = lines;
        let count = self.older.len() + 1;
        for back in 0..count {
            let format = self.format;
            let until = self.options.until;
            let reading = self.reading();
            let source = if back == 0 {
                &mut self.current
            } else {
                &mut self.older[count - 1 - back]
            };
            let found = last_lines(source, format, until, wanted).map_err(reading)?;
            if found.lines >= wanted {
                source.offset = found.offset;
                if back > 0 {
                    self.older.drain(..count - 1 - back);
                } else {
                    self.older.clear();
                }
                return Ok(());
            }
            wanted -= found.lines;
        }
        Ok(())
    }
}

struct Found {
    lines: usize,
    offset: u64,
}

/// Where the last `wanted` lines of `source` begin, looking backwards in growing windows, not before the source's own offset.
fn last_lines(
    source: &Source,
    format: Format,
    until: Option<Timestamp>,
    wanted: usize,
) -> io::Result<Found> {
    let end = source.size()?;
    let begin = source.offset.min(end);
    let mut window = BLOCK_BYTES as u64;
    loop {
        let start = end.saturating_sub(window).max(begin);
        let bytes = source.window(start, end)?;
        let mut at = if start == begin {
            0
        } else {
            synchronize(&bytes, format)
        };
        // Offsets at which lines begin; a line ends with an entry that ends in a line feed.
        let mut begins = VecDeque::new();
        let mut at_line_start = true;
        loop {
            match format.decode(&bytes[at..]) {
                Decoded::Entry(entry, used) => {
                    if until.is_some_and(|until| entry.time > until) {
                        break;
                    }
                    if at_line_start {
                        begins.push_back(start + at as u64);
                        if begins.len() > wanted {
                            begins.pop_front();
                        }
                    }
                    at_line_start = entry.line.ends_with(b"\n");
                    at += used;
                }
                Decoded::Damaged(used) => at += used,
                Decoded::Incomplete => break,
            }
        }
        if begins.len() >= wanted || start == begin {
            return Ok(Found {
                lines: begins.len(),
                offset: begins.front().copied().unwrap_or(end),
            });
        }
        window = window.saturating_mul(4);
    }
}

/// Where the first whole entry of `bytes` begins, which may start in the midst of one.
fn synchronize(bytes: &[u8], format: Format) -> usize {
    match format {
        Format::JsonFile => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1),
        Format::Local => {
            // Two entries one behind the other do not come about by chance.
            (0..bytes.len())
                .find(|at| match format.decode(&bytes[*at..]) {
                    Decoded::Entry(_, used) => {
                        at + used == bytes.len()
                            || matches!(
                                format.decode(&bytes[at + used..]),
                                Decoded::Entry(..) | Decoded::Incomplete
                            )
                    }
                    Decoded::Damaged(_) | Decoded::Incomplete => false,
                })
                .unwrap_or(bytes.len())
        }
    }
}

/// Time and place of the first whole entry behind `offset`.
fn first_time(
    source: &Source,
    format: Format,
    offset: u64,
) -> io::Result<Option<(Timestamp, u64)>> {
    let end = source.size()?.min(offset + ENTRY_BYTES_MAX as u64);
    let bytes = source.window(offset, end)?;
    let mut at = if offset == 0 {
        0
    } else {
        synchronize(&bytes, format)
    };
    while at < bytes.len() {
        match format.decode(&bytes[at..]) {
            Decoded::Entry(entry, _) => return Ok(Some((entry.time, offset + at as u64))),
            Decoded::Damaged(used) => at += used,
            Decoded::Incomplete => break,
        }
    }
    Ok(None)
}

impl Source {
    fn open(path: &Path) -> Result<Self, Error> {
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

    fn open_packed(path: &Path) -> Result<Self, Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".gz");
        let packed = Self::open(Path::new(&name))?;
        let Content::Plain(file) = packed.content else {
            return Ok(packed);
        };
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::Io {
                operation: "decompressing",
                path: PathBuf::from(name),
                source,
            })?;
        Ok(Self {
            content: Content::Unpacked(bytes),
            offset: 0,
        })
    }

    fn size(&self) -> io::Result<u64> {
        match &self.content {
            Content::Plain(file) => Ok(file.metadata()?.len()),
            Content::Unpacked(bytes) => Ok(bytes.len() as u64),
            Content::Absent => Ok(0),
        }
    }

    /// Appends the next block to `buffer`; false at the end.
    fn read(&mut self, buffer: &mut Vec<u8>, path: &Path) -> Result<bool, Error> {
        let taken = match &self.content {
            Content::Absent => 0,
            Content::Unpacked(bytes) => {
                let at = usize::try_from(self.offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let end = bytes.len().min(at + BLOCK_BYTES);
                buffer.extend_from_slice(&bytes[at..end]);
                end - at
            }
            Content::Plain(file) => {
                let before = buffer.len();
                buffer.resize(before + BLOCK_BYTES, 0);
                let read = file.read_at(&mut buffer[before..], self.offset);
                buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
                read.map_err(|source| Error::Io {
                    operation: "reading",
                    path: path.to_path_buf(),
                    source,
                })?
            }
        };
        self.offset += taken as u64;
        Ok(taken > 0)
    }

    /// The bytes from `start` to `end`.
    fn window(&self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        match &self.content {
            Content::Absent => Ok(Vec::new()),
            Content::Unpacked(bytes) => {
                let start = usize::try_from(start)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                Ok(bytes[start..(start + length).min(bytes.len())].to_vec())
            }
            Content::Plain(file) => {
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
        }
    }
}
