//! The two formats, entry by entry. Pure.
//!
//! `json-file` is Docker's: `{"log":"text\n","stream":"stdout","attrs":{..},"time":"2026-01-02T03:04:05.000000006Z"}` and a line's end,
//! escaped as Go's encoder does (`<`, `>`, `&`, U+2028 and U+2029 too, invalid UTF-8 as U+FFFD).
//! `local` is ours: little-endian length (u32, of what follows, itself repeated behind the entry so that a file can be read backwards),
//! stream (u8), nanoseconds since 1970 (i64), the bytes as they came.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Which output of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As in Docker's frames and in the `local` format.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// Head of Docker's frame for `length` bytes: stream, three zeros, length in big-endian.
    #[must_use]
    pub fn frame_head(self, length: usize) -> [u8; 8] {
        let mut head = [self.number(), 0, 0, 0, 0, 0, 0, 0];
        head[4..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        head
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How entries lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Docker's JSON lines.
    JsonFile,
    /// Binary, smaller and quicker.
    Local,
}

/// One entry as read. The same is filled again and again, so that reading a long log allocates nothing for a line.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which output.
    pub stream: Stream,
    /// When it was read from the process.
    pub time: Timestamp,
    /// The bytes, with the line's end if the line ended.
    pub line: Vec<u8>,
    /// The attributes that log options selected, as JSON text (`{"k":"v"}`).
    pub attributes: Option<String>,
    /// `time` as it stood in the file: the lines of one batch have the same, which is parsed once.
    time_text: Vec<u8>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            stream: Stream::Stdout,
            time: Timestamp::UNIX_EPOCH,
            line: Vec::new(),
            attributes: None,
            time_text: Vec::new(),
        }
    }
}

/// Go's RFC3339Nano in UTC: trailing zeros of the fraction are dropped.
#[must_use]
pub fn time_text(time: Timestamp) -> String {
    let mut text = String::with_capacity(32);
    // Writing to a String does not fail.
    let _ = DateTimePrinter::new().print_timestamp(&time, &mut text);
    text
}

impl Format {
    /// Appends one entry to `out`. `time` is the same moment twice, so that a batch of lines formats it once.
    pub fn encode(
        self,
        out: &mut Vec<u8>,
        stream: Stream,
        (time, time_text): (Timestamp, &str),
        attributes_json: Option<&str>,
        line: &[u8],
    ) {
        match self {
            Self::JsonFile => {
                out.extend_from_slice(b"{\"log\":\"");
                escape(out, line);
                out.extend_from_slice(b"\",\"stream\":\"");
                out.extend_from_slice(stream.name().as_bytes());
                if let Some(attributes) = attributes_json {
                    out.extend_from_slice(b"\",\"attrs\":");
                    out.extend_from_slice(attributes.as_bytes());
                    out.extend_from_slice(b",\"time\":\"");
                } else {
                    out.extend_from_slice(b"\",\"time\":\"");
                }
                out.extend_from_slice(time_text.as_bytes());
                out.extend_from_slice(b"\"}\n");
            }
            Self::Local => {
                let length = u32::try_from(line.len() + LOCAL_HEAD).unwrap_or(u32::MAX);
                let nanos = i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.push(stream.number());
                out.extend_from_slice(&nanos.to_le_bytes());
                out.extend_from_slice(line);
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
    }

    /// Reads the entry at the beginning of `bytes` into `entry`; `Incomplete` when more bytes are needed.
    /// A damaged entry is skipped where its end can be found; `entry` holds nothing of use then.
    pub fn decode(self, bytes: &[u8], entry: &mut Entry) -> Decoded {
        match self {
            Self::JsonFile => {
                let Some(end) = memchr::memchr(b'\n', bytes) else {
                    return Decoded::Incomplete;
                };
                match decode_json(&bytes[..end], entry) {
                    Some(()) => Decoded::Entry(end + 1),
                    None => Decoded::Damaged(end + 1),
                }
            }
            Self::Local => decode_local(bytes, entry),
        }
    }
}

/// What [`Format::decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// An entry; so many bytes it takes.
    Entry(usize),
    /// Not an entry; so many bytes are to be skipped.
    Damaged(usize),
    /// More bytes are needed to tell.
    Incomplete,
}

/// Stream and time of a `local` entry.
const LOCAL_HEAD: usize = 1 + 8;
/// Beyond this a length is damage: no writer makes such entries.
const LOCAL_LENGTH_MAX: usize = super::LINE_PIECE_BYTES_MAX + LOCAL_HEAD;

fn decode_local(bytes: &[u8], entry: &mut Entry) -> Decoded {
    let Some(length) = bytes.first_chunk::<4>().map(|b| u32::from_le_bytes(*b)) else {
        return Decoded::Incomplete;
    };
    let length = length as usize;
    let plausible_stream = bytes.get(4).is_none_or(|number| [1, 2].contains(number));
    if !(LOCAL_HEAD..=LOCAL_LENGTH_MAX).contains(&length) || !plausible_stream {
        return Decoded::Damaged(1);
    }
    let Some(body) = bytes.get(4..4 + length) else {
        return Decoded::Incomplete;
    };
    let Some(trailer) = bytes.get(4 + length..8 + length) else {
        return Decoded::Incomplete;
    };
    let nanos = i64::from_le_bytes(body[1..LOCAL_HEAD].try_into().unwrap_or_default());
    let stream = match body[0] {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Decoded::Damaged(1),
    };
    match Timestamp::from_nanosecond(i128::from(nanos)) {
        Ok(time) if trailer == &bytes[..4] => {
            entry.stream = stream;
            entry.time = time;
            entry.line.clear();
            entry.line.extend_from_slice(&body[LOCAL_HEAD..]);
            entry.attributes = None;
            Decoded::Entry(length + 8)
        }
        _ => Decoded::Damaged(1),
    }
}

/// Fields in the order in which the writer puts them are read without a JSON parser; anything else goes through one.
fn decode_json(line: &[u8], entry: &mut Entry) -> Option<()> {
    decode_json_quickly(line, entry).or_else(|| decode_json_slowly(line, entry))
}

fn decode_json_quickly(line: &[u8], entry: &mut Entry) -> Option<()> {
    let rest = line.strip_prefix(b"{\"log\":\"")?;
    entry.line.clear();
    let used = unescape(rest, &mut entry.line)?;
    let rest = rest[used..].strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = if let Some(rest) = rest.strip_prefix(b"out\"") {
        (Stream::Stdout, rest)
    } else {
        (Stream::Stderr, rest.strip_prefix(b"err\"")?)
    };
    let time = rest.strip_prefix(b",\"time\":\"")?.strip_suffix(b"\"}")?;
    if entry.time_text != time {
        entry.time = std::str::from_utf8(time).ok()?.parse().ok()?;
        entry.time_text.clear();
        entry.time_text.extend_from_slice(time);
    }
    entry.stream = stream;
    entry.attributes = None;
    Some(())
}

fn decode_json_slowly(line: &[u8], entry: &mut Entry) -> Option<()> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(default)]
        log: String,
        #[serde(default)]
        stream: String,
        attrs: Option<Box<serde_json::value::RawValue>>,
        time: String,
    }
    let read: Line = serde_json::from_slice(line).ok()?;
    entry.stream = if read.stream == "stderr" {
        Stream::Stderr
    } else {
        Stream::Stdout
    };
    entry.time = read.time.parse().ok()?;
    entry.time_text = read.time.into_bytes();
    entry.line = read.log.into_bytes();
    entry.attributes = read.attrs.map(|attrs| attrs.get().to_owned());
    Some(())
}

/// Appends the text of a JSON string whose opening quote lies before `bytes`; how many bytes it takes with its closing quote.
fn unescape(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + memchr::memchr2(b'"', b'\\', &bytes[at..])?;
        out.extend_from_slice(&bytes[at..next]);
        if bytes[next] == b'"' {
            return Some(next + 1);
        }
        let simple = match bytes.get(next + 1)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            b'u' => {
                at = next + unescape_unicode(&bytes[next..], out)?;
                continue;
            }
            _ => return None,
        };
        out.push(simple);
        at = next + 2;
    }
}

/// One `\uHHHH`, or a pair of surrogates: how many bytes it takes.
fn unescape_unicode(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let unit = |at: usize| -> Option<u32> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(0)?;
    let (code, used) = match first {
        0xd800..=0xdbff => match unit(6) {
            Some(second @ 0xdc00..=0xdfff) => {
                (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
            }
            _ => (0xfffd, 6),
        },
        0xdc00..=0xdfff => (0xfffd, 6),
        _ => (first, 6),
    };
    let mut buffer = [0; 4];
    out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
    Some(used)
}

/// Which bytes [`escape`] must look at: control characters, quote, backslash, `<`, `>`, `&` and everything that is not ASCII.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = true;
        byte += 1;
    }
    plain[0x7f] = true;
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[b'<' as usize] = false;
    plain[b'>' as usize] = false;
    plain[b'&' as usize] = false;
    plain
};

/// How many bytes [`escape`] looks at together: the compiler makes vector instructions of it.
const TOGETHER: usize = 32;

/// Is there nothing to escape in `bytes`? The same question as [`PLAIN`]'s, without a table.
fn all_plain(bytes: &[u8; TOGETHER]) -> bool {
    let special = |byte: u8| {
        !(0x20..0x80).contains(&byte)
            || byte == b'"'
            || byte == b'\\'
            || byte == b'<'
            || byte == b'>'
            || byte == b'&'
    };
    bytes
        .iter()
        .fold(0, |any, byte| any | u8::from(special(*byte)))
        == 0
}

/// How many bytes at the beginning of `line` need no escaping.
fn plain_run(line: &[u8]) -> usize {
    let mut run = 0;
    while let Some(bytes) = line[run..].first_chunk::<TOGETHER>()
        && all_plain(bytes)
    {
        run += TOGETHER;
    }
    let rest = &line[run..];
    run + rest
        .iter()
        .position(|byte| !PLAIN[usize::from(*byte)])
        .unwrap_or(rest.len())
}

/// Appends `line` as the inside of a JSON string, escaped as Go's encoder does.
fn escape(out: &mut Vec<u8>, mut line: &[u8]) {
    while !line.is_empty() {
        let run = plain_run(line);
        out.extend_from_slice(&line[..run]);
        line = &line[run..];
        let Some(byte) = line.first() else { return };
        let used = match byte {
            b'"' => push(out, b"\\\""),
            b'\\' => push(out, b"\\\\"),
            b'\n' => push(out, b"\\n"),
            b'\r' => push(out, b"\\r"),
            b'\t' => push(out, b"\\t"),
            0..0x80 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
                1
            }
            0x80.. => escape_character(out, line),
        };
        line = &line[used..];
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    out.extend_from_slice(bytes);
    1
}

/// The character that `line` begins with, which is not ASCII: how many bytes it takes.
fn escape_character(out: &mut Vec<u8>, line: &[u8]) -> usize {
    let window = &line[..line.len().min(4)];
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&window[..e.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        None => {
            out.extend_from_slice(b"\\ufffd");
            1
        }
        Some(c @ ('\u{2028}' | '\u{2029}')) => {
            out.extend_from_slice(if c == '\u{2028}' {
                b"\\u2028"
            } else {
                b"\\u2029"
            });
            c.len_utf8()
        }
        Some(c) => {
            out.extend_from_slice(&line[..c.len_utf8()]);
            c.len_utf8()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(format: Format, line: &[u8], nanos: i64) -> Vec<u8> {
        let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap();
        let mut out = Vec::new();
        format.encode(
            &mut out,
            Stream::Stderr,
            (time, &time_text(time)),
            None,
            line,
        );
        out
    }

    #[test]
    fn json_is_dockers() {
        let text = entry(
            Format::JsonFile,
            b"a<b>&\"\\\x01\xff\xe2\x80\xa8\n",
            1_500_000_000_120_000_000,
        );
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"log\":\"a\\u003cb\\u003e\\u0026\\\"\\\\\\u0001\\ufffd\\u2028\\n\",\"stream\":\"stderr\",\"time\":\"2017-07-14T02:40:00.12Z\"}\n"
        );
    }

    #[test]
    fn attributes_and_foreign_order_are_read() {
        let line =
            br#"{"time":"2017-07-14T02:40:00Z","stream":"stdout","attrs":{"a":"b"},"log":"x"}"#;
        let mut entry = Entry::default();
        decode_json(line, &mut entry).unwrap();
        assert_eq!(entry.line, b"x");
        assert_eq!(entry.attributes.as_deref(), Some(r#"{"a":"b"}"#));
    }

    proptest! {
        #[test]
        fn local_gives_back_every_byte(line in proptest::collection::vec(any::<u8>(), 0..200), nanos in 0i64..4_000_000_000_000_000_000) {
            let bytes = entry(Format::Local, &line, nanos);
            let mut read = Entry::default();
            prop_assert_eq!(Format::Local.decode(&bytes, &mut read), Decoded::Entry(bytes.len()));
            prop_assert_eq!(&read.line, &line);
            prop_assert_eq!(read.time.as_nanosecond(), i128::from(nanos));
        }

        #[test]
        fn json_gives_back_text(line in any::<String>(), nanos in 0i64..4_000_000_000_000_000_000) {
            let bytes = entry(Format::JsonFile, line.as_bytes(), nanos);
            let (mut read, mut slow) = (Entry::default(), Entry::default());
            prop_assert_eq!(Format::JsonFile.decode(&bytes, &mut read), Decoded::Entry(bytes.len()));
            prop_assert_eq!(&read.line, line.as_bytes());
            decode_json_slowly(&bytes, &mut slow).unwrap();
            prop_assert_eq!(&slow.line, line.as_bytes());
            prop_assert_eq!(slow.time, read.time);
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut entry = Entry::default();
            let _ = Format::JsonFile.decode(&bytes, &mut entry);
            let _ = Format::Local.decode(&bytes, &mut entry);
            let _ = unescape(&bytes, &mut Vec::new());
        }

        #[test]
        fn runs_end_where_the_table_says(bytes in proptest::collection::vec(0x1du8..0x82, 0..200)) {
            let end = bytes.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(bytes.len());
            prop_assert_eq!(plain_run(&bytes), end);
        }

        #[test]
        fn escaped_is_valid_json(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = vec![b'"'];
            escape(&mut out, &bytes);
            out.push(b'"');
            let text: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(text.replace('\u{fffd}', ""), String::from_utf8_lossy(&bytes).replace('\u{fffd}', ""));
        }
    }
}
