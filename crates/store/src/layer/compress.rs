//! Decompression of streams, by promise or by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

use hull_oci::image::{Compression, sniff};

const BUFFER_LEN: usize = 64 * 1024;

/// zstd frames that need a larger window are refused: 2^27 = 128 MiB, what the zstd program itself takes without being asked
/// (ZSTD_WINDOWLOG_LIMIT_DEFAULT), so that `--long` layers can be pulled. Levels below `--ultra` need 2^23 at most.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Memory that an xz stream may ask for, in bytes: `xz -9` needs 65 MiB.
const XZ_MEMORY_MAX: u64 = 80 << 20;

/// Decompresses a stream whose form is known. Concatenated gzip members, zstd frames and bzip2 streams are one stream.
///
/// # Errors
/// When the decoder cannot be set up; damage shows as `InvalidData`, `InvalidInput` or `UnexpectedEof` while reading.
pub fn decompress(
    reader: impl Read + Send + 'static,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    decoder(BufReader::with_capacity(BUFFER_LEN, reader), compression)
}

/// Decompresses a stream by its first bytes. Also says which form it found.
///
/// # Errors
/// As [`decompress`], and those of reading the first bytes.
pub fn decompress_detect(
    reader: impl Read + Send + 'static,
) -> io::Result<(Compression, Box<dyn Read + Send>)> {
    let mut reader = Peeked::new(reader)?;
    let compression = sniff(reader.fill_buf()?);
    Ok((compression, decoder(reader, compression)?))
}

fn decoder(
    reader: impl BufRead + Send + 'static,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_auto_decoder(
                XZ_MEMORY_MAX,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
    })
}

/// A buffered reader that has read at least [`Peeked::HEAD_LEN`] bytes, or all there are, before it is used.
struct Peeked<R> {
    head: io::Cursor<Vec<u8>>,
    rest: BufReader<R>,
}

impl<R: Read> Peeked<R> {
    const HEAD_LEN: u64 = 8;

    fn new(mut inner: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(Self::HEAD_LEN as usize);
        (&mut inner).take(Self::HEAD_LEN).read_to_end(&mut head)?;
        Ok(Peeked {
            head: io::Cursor::new(head),
            rest: BufReader::with_capacity(BUFFER_LEN, inner),
        })
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self.head.read(target)? {
            0 => self.rest.read(target),
            count => Ok(count),
        }
    }
}

impl<R: Read> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.head.position() < self.head.get_ref().len() as u64 {
            return self.head.fill_buf();
        }
        self.rest.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if self.head.position() < self.head.get_ref().len() as u64 {
            self.head.consume(count);
        } else {
            self.rest.consume(count);
        }
    }
}
