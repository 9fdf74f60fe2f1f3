//! The reader: a cursor over members of a stream.

use std::io::{self, BufRead};

use super::header::{Block, Format, checksum_ok, format, number, text};
use super::pax::Extra;
use super::{BLOCK_LEN, Entry, Kind, PATH_LEN_MAX, PAX_LEN_MAX, sparse};
use crate::layer::hashed::OverLimit;
use crate::{Error, Result};

/// Reads members one after another; between two calls of [`Reader::next`] the member's stored bytes are read with
/// [`Reader::chunk`] and [`Reader::consume`].
pub struct Reader<R> {
    input: R,
    /// Stored bytes of this member that were not read yet.
    left: u64,
    /// Bytes that pad them to a block.
    padding: u64,
    ended: bool,
}

/// The file type letters that mean something.
enum Flag {
    Member(Kind),
    Sparse,
    Pax,
    GlobalPax,
    LongName,
    LongLink,
    Other,
}

fn flag(byte: u8) -> Flag {
    match byte {
        b'0' | 0 | b'7' => Flag::Member(Kind::File),
        b'1' => Flag::Member(Kind::HardLink),
        b'2' => Flag::Member(Kind::Symlink),
        b'3' => Flag::Member(Kind::CharDevice),
        b'4' => Flag::Member(Kind::BlockDevice),
        b'5' => Flag::Member(Kind::Directory),
        b'6' => Flag::Member(Kind::Fifo),
        b'S' => Flag::Sparse,
        b'x' => Flag::Pax,
        b'g' => Flag::GlobalPax,
        b'L' => Flag::LongName,
        b'K' => Flag::LongLink,
        _ => Flag::Other,
    }
}

/// What is wrong with a layer that was cut off; Go's words first.
pub(in crate::layer) const CUT: &str = "unexpected EOF (it ends in the middle)";

/// What an error of the input means for the layer.
pub(in crate::layer) fn damaged(error: io::Error) -> Error {
    if let Some(over) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<OverLimit>())
    {
        return Error::Bomb {
            limit: over.0,
            unit: "bytes",
        };
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::bad_layer(CUT),
        _ => Error::BadLayer {
            what: "reading it failed".to_owned(),
            source: Some(error),
        },
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`, which should have a buffer of 64 KiB or more.
    pub fn new(input: R) -> Self {
        Reader {
            input,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Moves to the next member and fills `entry`; false at the archive's end. What was not read of the member before is
    /// skipped.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        self.skip_member()?;
        let mut extra = Extra::default();
        let mut long_name: Option<Vec<u8>> = None;
        let mut long_link: Option<Vec<u8>> = None;
        loop {
            let Some(block) = self.header()? else {
                let dangling = long_name.is_some() || long_link.is_some() || extra.path.is_some();
                return if dangling {
                    Err(Error::bad_layer("extension header without a member"))
                } else {
                    Ok(false)
                };
            };
            let size = number(&block[124..136]).and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| Error::bad_layer("malformed size in a header"))?;
            match flag(block[156]) {
                Flag::Pax => {
                    extra = Extra::default();
                    let records = self.document(size, PAX_LEN_MAX)?;
                    extra.parse(&records).map_err(Error::bad_layer)?;
                }
                Flag::LongName => long_name = Some(self.long_text(size)?),
                Flag::LongLink => long_link = Some(self.long_text(size)?),
                Flag::GlobalPax | Flag::Other => {
                    self.start_data(size);
                    self.skip_member()?;
                }
                Flag::Member(kind) => {
                    self.fill(entry, &block, kind)?;
                    replace(&mut entry.path, long_name);
                    replace(&mut entry.link, long_link);
                    extra.apply(entry);
                    self.finish(entry, extra, size)?;
                    return Ok(true);
                }
                Flag::Sparse => {
                    self.fill(entry, &block, Kind::File)?;
                    replace(&mut entry.path, long_name);
                    extra.apply(entry);
                    self.old_sparse(entry, &block, extra.size.unwrap_or(size))?;
                    return Ok(true);
                }
            }
        }
    }

    /// The next stored bytes of the member; empty at its end. Take them with [`Reader::consume`].
    pub fn chunk(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let buffer = self.input.fill_buf().map_err(damaged)?;
        if buffer.is_empty() {
            return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| buffer.len().min(left));
        Ok(&buffer[..length])
    }

    /// Takes `count` bytes of what [`Reader::chunk`] gave.
    pub fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.left -= count as u64;
    }

    /// The input, to read what follows the archive's end.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn start_data(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK_LEN as u64;
    }

    fn skip_member(&mut self) -> Result<()> {
        let mut skip = self.left + std::mem::take(&mut self.padding);
        self.left = 0;
        while skip > 0 {
            let available = self.input.fill_buf().map_err(damaged)?.len();
            if available == 0 {
                return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
            }
            let count = usize::try_from(skip).map_or(available, |skip| skip.min(available));
            self.input.consume(count);
            skip -= count as u64;
        }
        Ok(())
    }

    /// The next block, `None` where the input ends.
    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK_LEN];
        let mut filled = 0;
        while filled < BLOCK_LEN {
            match io::Read::read(&mut self.input, &mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(damaged(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(damaged(error)),
            }
        }
        Ok(Some(block))
    }

    /// The next header, `None` at two zero blocks or where the input ends.
    fn header(&mut self) -> Result<Option<Block>> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block == [0; BLOCK_LEN] {
            self.ended = true;
            return match self.block()? {
                Some(second) if second != [0; BLOCK_LEN] => {
                    Err(Error::bad_layer("data after the end marker"))
                }
                Some(_) | None => Ok(None),
            };
        }
        if !checksum_ok(&block) {
            return Err(Error::bad_layer(
                "header checksum is wrong: not a tar archive, or damaged",
            ));
        }
        Ok(Some(block))
    }

    /// An extension's data, whole.
    fn document(&mut self, size: u64, limit: u64) -> Result<Vec<u8>> {
        if size > limit {
            return Err(Error::bad_layer(format!(
                "extension header of {size} bytes, more than {limit}"
            )));
        }
        self.start_data(size);
        let mut data = Vec::with_capacity(size.min(64 << 10) as usize);
        while self.left > 0 {
            let chunk = self.chunk()?;
            let count = chunk.len();
            data.extend_from_slice(chunk);
            self.consume(count);
        }
        self.skip_member()?;
        Ok(data)
    }

    fn long_text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut data = self.document(size, PATH_LEN_MAX as u64 + 1)?;
        data.truncate(text(&data).len());
        Ok(data)
    }

    fn fill(&self, entry: &mut Entry, block: &Block, kind: Kind) -> Result<()> {
        entry.clear();
        let field = |range: std::ops::Range<usize>| {
            number(&block[range]).ok_or_else(|| Error::bad_layer("malformed number in a header"))
        };
        let unsigned = |value: i64| {
            u64::try_from(value).map_err(|_| Error::bad_layer("negative number in a header"))
        };
        entry.kind = kind;
        entry.mode = (field(100..108)? & 0o7777) as u32;
        entry.uid = unsigned(field(108..116)?)?;
        entry.gid = unsigned(field(116..124)?)?;
        entry.mtime = (field(136..148)?, 0);
        entry.link.extend_from_slice(text(&block[157..257]));
        let format = format(block);
        if format != Format::V7 && matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            let device = |value: i64| {
                u32::try_from(value).map_err(|_| Error::bad_layer("device number too large"))
            };
            entry.dev_major = device(field(329..337)?)?;
            entry.dev_minor = device(field(337..345)?)?;
        }
        if format == Format::Ustar && block[345] != 0 {
            entry.path.extend_from_slice(text(&block[345..500]));
            entry.path.push(b'/');
        }
        entry.path.extend_from_slice(text(&block[..100]));
        Ok(())
    }

    /// Settles size, directory-by-slash and pax sparse maps, and starts the data.
    fn finish(&mut self, entry: &mut Entry, mut extra: Extra, header_size: u64) -> Result<()> {
        let stored = extra.size.unwrap_or(header_size);
        if entry.kind == Kind::File && entry.path.ends_with(b"/") && extra.sparse.name.is_none() {
            entry.kind = Kind::Directory;
        }
        if entry.kind != Kind::File {
            // Go: header-only kinds have no data, whatever their size field says.
            self.start_data(0);
            return Ok(());
        }
        self.start_data(stored);
        entry.size = stored;
        let bad = || Error::bad_layer("malformed sparse map");
        let version = (extra.sparse.major, extra.sparse.minor);
        let map = match version {
            (Some(1), Some(0)) => Some(self.leading_map()?),
            (None | Some(0), _) => sparse::pax_map(&extra.sparse).ok_or_else(bad)?,
            _ => return Err(Error::bad_layer("unknown sparse format")),
        };
        if let Some(map) = map {
            replace(&mut entry.path, extra.sparse.name.take());
            self.set_map(entry, map, extra.sparse.real_size.ok_or_else(bad)?)?;
        }
        Ok(())
    }

    fn leading_map(&mut self) -> Result<sparse::Map> {
        let mut map = sparse::LeadingMap::default();
        loop {
            if self.left < BLOCK_LEN as u64 {
                return Err(Error::bad_layer("malformed sparse map"));
            }
            let block = self
                .block()?
                .ok_or_else(|| damaged(io::ErrorKind::UnexpectedEof.into()))?;
            self.left -= BLOCK_LEN as u64;
            match map.feed(&block) {
                Ok(Some(map)) => return Ok(map),
                Ok(None) => {}
                Err(()) => return Err(Error::bad_layer("malformed sparse map")),
            }
        }
    }

    fn old_sparse(&mut self, entry: &mut Entry, block: &Block, stored: u64) -> Result<()> {
        let bad = || Error::bad_layer("malformed sparse map");
        let (mut map, mut more, real_size) = sparse::gnu_header(block).ok_or_else(bad)?;
        while more {
            let block = self
                .block()?
                .ok_or_else(|| damaged(io::ErrorKind::UnexpectedEof.into()))?;
            more = sparse::gnu_extension(&block, &mut map).ok_or_else(bad)?;
        }
        self.start_data(stored);
        self.set_map(entry, map, real_size)
    }

    fn set_map(&mut self, entry: &mut Entry, map: sparse::Map, real_size: u64) -> Result<()> {
        if !sparse::is_sound(&map, real_size, self.left) {
            return Err(Error::bad_layer("malformed sparse map"));
        }
        entry.size = real_size;
        entry.sparse = Some(map);
        Ok(())
    }
}

fn replace(target: &mut Vec<u8>, with: Option<Vec<u8>>) {
    if let Some(value) = with {
        *target = value;
    }
}
