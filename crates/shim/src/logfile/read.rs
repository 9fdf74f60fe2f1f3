//! Reading a log: the last lines, from a time on, up to a time, and on as it grows. Blocking.
//!
//! The beginning is found without reading the whole: generations older than `since` are skipped by their times, within a file the
//! place is found by bisection (entries lie in the order of their times), and the last `n` lines are found from the end backwards.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::format::{Decoded, Entry, Format};
use super::source::{ENTRY_BYTES_MAX, Source};
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
    entry: Entry,
    ended: bool,
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
            entry: Entry::default(),
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
    pub fn read(&mut self) -> Result<Option<&Entry>, Error> {
        while !self.ended {
            match self.format.decode(&self.buffer[self.at..], &mut self.entry) {
                Decoded::Entry(used) => {
                    let (ReadOptions { since, until, .. }, time) = (self.options, self.entry.time);
                    if until.is_some_and(|until| time > until) {
                        self.ended = true;
                        break;
                    }
                    self.at += used;
                    if since.is_none_or(|since| time >= since) {
                        return Ok(Some(&self.entry));
                    }
                }
                Decoded::Damaged(used) => self.at += used,
                Decoded::Incomplete if self.buffer.len() - self.at > ENTRY_BYTES_MAX => {
                    self.at = self.buffer.len();
                }
                Decoded::Incomplete => {
                    if !self.fill()? {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Nothing after this will be given: `until` was reached.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn find_older(&mut self) -> Result<(), Error> {
        for n in 1..GENERATIONS_MAX {
            let path = generation(&self.path, n);
            let mut source = Source::open(&path)?;
            if source.is_absent() {
                source = Source::open_packed(&path)?;
            }
            if source.is_absent() {
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
                if source.read(&mut self.buffer).map_err(reading(&self.path))? {
                    return Ok(true);
                }
                // What a generation ends with is whole or damaged: the next one begins with an entry.
                self.buffer.clear();
                self.older.pop_front();
                continue;
            }
            let read = self.current.read(&mut self.buffer);
            if read.map_err(reading(&self.path))? {
                return Ok(true);
            }
            if !self.follow_rotation()? {
                return Ok(false);
            }
        }
    }

    /// Has the file been moved away or emptied since it was opened? Then go on in the new one.
    fn follow_rotation(&mut self) -> Result<bool, Error> {
        let Some(opened) = self.current.metadata() else {
            self.current = Source::open(&self.path)?;
            return Ok(!self.current.is_absent());
        };
        let opened = opened.map_err(reading(&self.path))?;
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
            Err(e) => Err(reading(&self.path)(e)),
        }
    }

    /// Drops generations that end before `since`, and bisects the first that does not.
    fn skip_to(&mut self, since: Timestamp) -> Result<(), Error> {
        let failed = reading(&self.path);
        let find = |reader: &mut Self| -> io::Result<()> {
            while let Some(next) = reader.older.get_mut(1).or(Some(&mut reader.current)) {
                // The oldest generation is of no use when the one behind it begins before `since` too.
                let begins_before = next
                    .first_time(reader.format)?
                    .is_some_and(|time| time < since);
                if reader.older.is_empty() || !begins_before {
                    break;
                }
                reader.older.pop_front();
            }
            let source = reader.older.front_mut().unwrap_or(&mut reader.current);
            source.skip_to(since, reader.format)
        };
        find(self).map_err(failed)
    }

    /// Moves the beginning to the last `lines` lines. A piece of a line without its end is not counted as one of its own.
    fn keep_last(&mut self, lines: usize) -> Result<(), Error> {
        if lines == 0 {
            self.older.clear();
            let end = self.current.metadata().transpose();
            let end = end.map_err(reading(&self.path))?;
            self.current.offset = end.map_or(0, |metadata| metadata.size());
            return Ok(());
        }
        let mut wanted = lines;
        let count = self.older.len() + 1;
        for back in 0..count {
            let source = if back == 0 {
                &mut self.current
            } else {
                &mut self.older[count - 1 - back]
            };
            let found = source
                .last_lines(self.format, self.options.until, wanted)
                .map_err(reading(&self.path))?;
            if found >= wanted {
                if back > 0 {
                    self.older.drain(..count - 1 - back);
                } else {
                    self.older.clear();
                }
                return Ok(());
            }
            wanted -= found;
        }
        Ok(())
    }
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::Io {
        operation: "reading",
        path,
        source,
    }
}
