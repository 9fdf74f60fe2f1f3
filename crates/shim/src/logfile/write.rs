//! Writing a log: lines out of the bytes of a pipe, entries into the file, generations when it is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::format::{Format, Stream, time_text};
use super::lines::Lines;
use super::{Error, generation};

/// When a log file is full, and how many generations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Size at which a new file is begun, in bytes; none: never.
    pub size_bytes_max: Option<u64>,
    /// Files kept, the one being written included; at least 1.
    pub files_max: u32,
    /// Compress older generations with gzip.
    pub compress: bool,
}

/// Bytes to be written in one call: a batch of entries.
const BATCH_BYTES: usize = 256 << 10;

/// Writes one container's log.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    format: Format,
    rotation: Rotation,
    attributes_json: Option<String>,
    batch: Vec<u8>,
    /// Of standard output and of standard error.
    lines: [Lines; 2],
}

impl Writer {
    /// Opens the log at `path`, and goes on behind what is there.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(
        path: &Path,
        format: Format,
        rotation: Rotation,
        attributes_json: Option<String>,
    ) -> Result<Self, Error> {
        let file = open(path)?;
        let size_bytes = file
            .metadata()
            .map_err(io_error("reading the size of", path))?
            .len();
        Ok(Self {
            path: path.to_path_buf(),
            file,
            size_bytes,
            format,
            rotation,
            attributes_json,
            batch: Vec::new(),
            lines: [Lines::default(), Lines::default()],
        })
    }

    /// Takes bytes as they were read from the process. Whole lines, and pieces of [`super::LINE_PIECE_BYTES_MAX`] of longer ones,
    /// are written at once; all lines of one call have the same time.
    ///
    /// # Errors
    /// When the file cannot be written; the entries of this call may be lost, later calls can succeed.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Error> {
        let now = Timestamp::now();
        let text = time_text(now);
        // What a batch of short lines takes, at once: growing step by step copies it several times.
        self.batch.reserve(bytes.len() * 2);
        let mut lines = std::mem::take(&mut self.lines[index(stream)]);
        let split = lines.split(bytes, |line| self.entry(stream, (now, &text), line));
        self.lines[index(stream)] = lines;
        split?;
        self.flush()
    }

    /// The stream has ended: what was begun is a line without an end.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end(&mut self, stream: Stream) -> Result<(), Error> {
        let begun = self.lines[index(stream)].end();
        if begun.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        self.entry(stream, (now, &time_text(now)), &begun)?;
        self.flush()
    }

    fn entry(&mut self, stream: Stream, time: (Timestamp, &str), line: &[u8]) -> Result<(), Error> {
        let attributes = self.attributes_json.as_deref();
        self.format
            .encode(&mut self.batch, stream, time, attributes, line);
        let full = self
            .rotation
            .size_bytes_max
            .is_some_and(|max| self.size_bytes + self.batch.len() as u64 >= max);
        if full || self.batch.len() >= BATCH_BYTES {
            self.flush()?;
        }
        if full {
            self.rotate()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.file.write_all(&self.batch);
        self.size_bytes += self.batch.len() as u64;
        self.batch.clear();
        if self.batch.capacity() > BATCH_BYTES / 8 {
            // An idle shim keeps no large buffer: its memory is counted for each container.
            self.batch = Vec::new();
        }
        written.map_err(io_error("writing", &self.path))
    }

    /// Moves each generation up by one and begins a new file. The oldest goes first, so a crash loses no more than it.
    fn rotate(&mut self) -> Result<(), Error> {
        let oldest = self.rotation.files_max.saturating_sub(1);
        if oldest == 0 {
            self.file
                .set_len(0)
                .map_err(io_error("emptying", &self.path))?;
            self.size_bytes = 0;
            return Ok(());
        }
        for n in (0..oldest).rev() {
            for suffix in ["", ".gz"] {
                let from = with_suffix(&generation(&self.path, n), suffix);
                let to = with_suffix(&generation(&self.path, n + 1), suffix);
                match std::fs::rename(&from, &to) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(io_error("renaming", &from)(e));
                    }
                    _ => {}
                }
            }
        }
        self.file = open(&self.path)?;
        self.size_bytes = 0;
        if self.rotation.compress {
            compress(&generation(&self.path, 1))?;
        }
        Ok(())
    }
}

/// Replaces `path` by `path.gz`, which appears whole or not at all.
fn compress(path: &Path) -> Result<(), Error> {
    let part = with_suffix(path, ".gz.part");
    let whole = with_suffix(path, ".gz");
    let squeeze = || -> io::Result<()> {
        let out = File::create(&part)?;
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish()?;
        std::fs::rename(&part, &whole)?;
        std::fs::remove_file(path)
    };
    squeeze().map_err(io_error("compressing", path))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn open(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(io_error("opening", path))
}

fn io_error<'p>(operation: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Error + 'p {
    move |source| Error::Io {
        operation,
        path: path.to_path_buf(),
        source,
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Rotation {
    /// From the log options `max-size` (bytes, or with k, m, g), `max-file` and `compress`, over `default`.
    ///
    /// # Errors
    /// When a value is not one.
    pub fn from_options(
        options: &std::collections::BTreeMap<String, String>,
        default: Self,
    ) -> Result<Self, Error> {
        let mut rotation = default;
        if let Some(value) = options.get("max-size") {
            rotation.size_bytes_max = parse_size(value)?;
        }
        if let Some(value) = options.get("max-file") {
            rotation.files_max =
                value
                    .parse()
                    .ok()
                    .filter(|n| *n >= 1)
                    .ok_or_else(|| Error::Option {
                        option: "max-file",
                        value: value.clone(),
                        reason: "not a number of at least 1",
                    })?;
        }
        if let Some(value) = options.get("compress") {
            rotation.compress = value.parse().map_err(|_| Error::Option {
                option: "compress",
                value: value.clone(),
                reason: "neither true nor false",
            })?;
        }
        Ok(rotation)
    }
}

/// `10m` as bytes; `-1` is no limit, as in Docker.
///
/// # Errors
/// When it is no size.
pub fn parse_size(value: &str) -> Result<Option<u64>, Error> {
    if value == "-1" {
        return Ok(None);
    }
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match digits.as_bytes().last() {
        Some(b'k') => (&digits[..digits.len() - 1], 10),
        Some(b'm') => (&digits[..digits.len() - 1], 20),
        Some(b'g') => (&digits[..digits.len() - 1], 30),
        Some(b't') => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    digits
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|n| *n > 0)
        .map(Some)
        .ok_or_else(|| Error::Option {
            option: "max-size",
            value: value.to_owned(),
            reason: "not a size such as 10m",
        })
}
