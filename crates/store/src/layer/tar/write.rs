//! The writer: ustar headers, with a pax header before those that need one. The same members give the same bytes.

use std::io::{self, Write};

use super::{BLOCK_LEN, Entry, Kind};

const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// Writes members one after another: [`Writer::member`], then exactly [`Entry::size`] bytes through [`Writer::data`].
pub struct Writer<W> {
    out: W,
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Writer {
            out,
            left: 0,
            padding: 0,
        }
    }

    /// Writes a member's headers. Sparse files are written in full length: give the holes as zeros.
    ///
    /// # Errors
    /// `InvalidInput` when the member before did not get its bytes; else the output's.
    pub fn member(&mut self, entry: &Entry) -> io::Result<()> {
        self.close_member()?;
        let mut records = Vec::new();
        let mut block = [0u8; BLOCK_LEN];
        let size = if entry.kind == Kind::File {
            entry.size
        } else {
            0
        };
        names(entry, &mut block, &mut records);
        octal(&mut block[100..108], u64::from(entry.mode & 0o7777));
        numeric(&mut block[108..116], entry.uid, b"uid", &mut records);
        numeric(&mut block[116..124], entry.gid, b"gid", &mut records);
        numeric(&mut block[124..136], size, b"size", &mut records);
        time(&mut block[136..148], entry.mtime, &mut records);
        block[156] = type_flag(entry.kind);
        octal(&mut block[329..337], u64::from(entry.dev_major));
        octal(&mut block[337..345], u64::from(entry.dev_minor));
        for (name, value) in &entry.xattrs {
            record(
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
                &mut records,
            );
        }
        if !records.is_empty() {
            self.pax(entry, &records)?;
        }
        seal(&mut block);
        self.out.write_all(&block)?;
        self.left = size;
        self.padding = pad(size);
        Ok(())
    }

    /// Writes the member's content, piece by piece.
    ///
    /// # Errors
    /// `InvalidInput` for more than was announced; else the output's.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "more content than announced")
        })?;
        self.out.write_all(bytes)
    }

    /// Ends the archive and gives the output back.
    ///
    /// # Errors
    /// As [`Writer::member`].
    pub fn finish(mut self) -> io::Result<W> {
        self.close_member()?;
        self.out.write_all(&ZEROS)?;
        self.out.write_all(&ZEROS)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn close_member(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "less content than announced",
            ));
        }
        self.out
            .write_all(&ZEROS[..std::mem::take(&mut self.padding)])
    }

    fn pax(&mut self, entry: &Entry, records: &[u8]) -> io::Result<()> {
        let mut block = [0u8; BLOCK_LEN];
        let base = entry
            .path
            .rsplit(|b| *b == b'/')
            .find(|part| !part.is_empty())
            .unwrap_or(b"x");
        let ascii: Vec<u8> = base
            .iter()
            .copied()
            .filter(|b| b.is_ascii_graphic())
            .take(80)
            .collect();
        let name = [b"PaxHeaders.0/", ascii.as_slice()].concat();
        block[..name.len()].copy_from_slice(&name);
        for range in [100..108, 108..116, 116..124, 136..148] {
            octal(&mut block[range], 0);
        }
        octal(&mut block[124..136], records.len() as u64);
        block[156] = b'x';
        seal(&mut block);
        self.out.write_all(&block)?;
        self.out.write_all(records)?;
        self.out.write_all(&ZEROS[..pad(records.len() as u64)])
    }
}

fn pad(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK_LEN as u64) as usize
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn names(entry: &Entry, block: &mut [u8; BLOCK_LEN], records: &mut Vec<u8>) {
    let path = &entry.path;
    if path.is_ascii() && path.len() <= 100 {
        block[..path.len()].copy_from_slice(path);
    } else if let Some((prefix, rest)) = split(path) {
        block[345..345 + prefix.len()].copy_from_slice(prefix);
        block[..rest.len()].copy_from_slice(rest);
    } else {
        record(b"path", path, records);
        let cut: Vec<u8> = path
            .iter()
            .copied()
            .filter(u8::is_ascii)
            .take(100)
            .collect();
        block[..cut.len()].copy_from_slice(&cut);
    }
    let link = &entry.link;
    if link.is_ascii() && link.len() <= 100 {
        block[157..157 + link.len()].copy_from_slice(link);
    } else {
        record(b"linkpath", link, records);
    }
}

/// A ustar prefix and name, when the path can be cut at a slash so that both fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() || path.len() > 256 {
        return None;
    }
    let before_last = path.len().checked_sub(1)?;
    let slash = path[..before_last.min(156)]
        .iter()
        .rposition(|b| *b == b'/')?;
    let (prefix, rest) = (&path[..slash], &path[slash + 1..]);
    (!prefix.is_empty() && rest.len() <= 100).then_some((prefix, rest))
}

/// Writes `value` as octal digits and a NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
}

fn numeric(field: &mut [u8], value: u64, key: &[u8], records: &mut Vec<u8>) {
    let fits = value < 1 << (3 * (field.len() - 1));
    octal(field, if fits { value } else { 0 });
    if !fits {
        record(key, value.to_string().as_bytes(), records);
    }
}

fn time(field: &mut [u8], (seconds, nanos): (i64, u32), records: &mut Vec<u8>) {
    let whole = u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds < 1 << 33);
    octal(field, whole.unwrap_or(0));
    if whole.is_some() && nanos == 0 {
        return;
    }
    let (sign, seconds, nanos) = match (seconds, nanos) {
        (..0, 0) => ("-", seconds.unsigned_abs(), 0),
        (..0, nanos) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (_, nanos) => ("", seconds.unsigned_abs(), nanos),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    record(b"mtime", text.as_bytes(), records);
}

/// Adds one `length key=value\n` record; the length counts its own digits.
fn record(key: &[u8], value: &[u8], records: &mut Vec<u8>) {
    let body = key.len() + value.len() + 3;
    let mut length = body + body.to_string().len();
    if length.to_string().len() != body.to_string().len() {
        length = body + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Writes magic and checksum.
fn seal(block: &mut [u8; BLOCK_LEN]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::tar::Reader;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = (Entry, Vec<u8>)> {
        let kind = prop_oneof![
            Just(Kind::File),
            Just(Kind::Directory),
            Just(Kind::Symlink),
            Just(Kind::HardLink),
            Just(Kind::CharDevice),
            Just(Kind::Fifo)
        ];
        let name = || proptest::collection::vec(1u8..=255, 1..300);
        let xattrs = proptest::collection::vec(
            (
                "[a-z.]{1,20}",
                proptest::collection::vec(any::<u8>(), 0..90),
            ),
            0..3,
        );
        let meta = (
            0u32..0o10000,
            0u64..1 << 40,
            0u64..1 << 40,
            -5_000_000_000i64..20_000_000_000,
            0u32..1_000_000_000,
        );
        (
            kind,
            name(),
            name(),
            meta,
            xattrs,
            proptest::collection::vec(any::<u8>(), 0..1500),
        )
            .prop_map(
                |(kind, path, link, (mode, uid, gid, seconds, nanos), xattrs, content)| {
                    let content = if kind == Kind::File {
                        content
                    } else {
                        Vec::new()
                    };
                    let mut path = path;
                    while kind == Kind::File && path.last() == Some(&b'/') {
                        path.pop();
                        path.push(b'x');
                    }
                    let has_link = matches!(kind, Kind::Symlink | Kind::HardLink);
                    let entry = Entry {
                        kind,
                        path,
                        link: if has_link { link } else { Vec::new() },
                        mode,
                        uid,
                        gid,
                        size: content.len() as u64,
                        mtime: (seconds, nanos),
                        dev_major: if kind == Kind::CharDevice { 7 } else { 0 },
                        dev_minor: if kind == Kind::CharDevice { mode } else { 0 },
                        xattrs: xattrs
                            .into_iter()
                            .map(|(name, value)| (name.into_bytes(), value))
                            .collect(),
                        sparse: None,
                    };
                    (entry, content)
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(members in proptest::collection::vec(entries(), 0..6)) {
            let mut writer = Writer::new(Vec::new());
            for (entry, content) in &members {
                writer.member(entry).unwrap();
                writer.data(content).unwrap();
            }
            let bytes = writer.finish().unwrap();
            let mut reader = Reader::new(bytes.as_slice());
            let mut read = Entry::default();
            for (entry, content) in &members {
                prop_assert!(reader.next(&mut read).unwrap());
                prop_assert_eq!(&read, entry);
                let mut got = Vec::new();
                while let chunk = reader.chunk().unwrap() && !chunk.is_empty() {
                    got.extend_from_slice(chunk);
                    let count = chunk.len();
                    reader.consume(count);
                }
                prop_assert_eq!(&got, content);
            }
            prop_assert!(!reader.next(&mut read).unwrap());
        }

        #[test]
        fn damage_is_an_error_or_an_end_and_never_a_panic(members in proptest::collection::vec(entries(), 1..3), at: proptest::sample::Index, byte: u8) {
            let mut writer = Writer::new(Vec::new());
            for (entry, content) in &members {
                writer.member(entry).unwrap();
                writer.data(content).unwrap();
            }
            let mut bytes = writer.finish().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let mut reader = Reader::new(bytes.as_slice());
            let mut read = Entry::default();
            while matches!(reader.next(&mut read), Ok(true)) {}
        }
    }
}
