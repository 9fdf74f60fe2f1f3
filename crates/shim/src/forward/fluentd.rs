//! `fluentd`: the forward protocol, version 1, in message mode
//! (<https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>), with acknowledgements, retries, and a
//! background sender.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::net::Connection;
use super::options::{self, Tls};
use super::{Driver, Info, Message};
use crate::logfile::Stream;

/// Longest pause between attempts.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// An answer is a map with one short text.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Messages that wait in the background, at most, whatever the option says: its default is more than any memory limit allows.
const QUEUED_MAX: usize = 8 << 10;

/// Sends to one server, in this thread or in one of its own.
pub struct Fluentd {
    encoder: Encoder,
    sender: Sending,
}

enum Sending {
    Here(Box<Sender>),
    Behind {
        queue: Option<SyncSender<Packed>>,
        thread: Option<JoinHandle<()>>,
    },
}

/// A message on the wire, and what its acknowledgement must say.
struct Packed {
    bytes: Vec<u8>,
    chunk: Option<String>,
}

struct Encoder {
    tag: String,
    /// Fields that every record has.
    fields: Vec<(String, String)>,
    sub_second: bool,
    request_ack: bool,
    chunks: u64,
}

struct Sender {
    settings: options::Fluentd,
    connection: Option<(Connection, Instant)>,
}

impl Fluentd {
    /// Connects, unless that is to be done in the background.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn open(settings: options::Fluentd, info: &Info) -> io::Result<Self> {
        let mut fields = vec![
            ("container_id".to_owned(), info.id.clone()),
            ("container_name".to_owned(), format!("/{}", info.name)),
        ];
        fields.extend(info.attributes.clone());
        let encoder = Encoder {
            tag: info.tag.clone(),
            fields,
            sub_second: settings.sub_second,
            request_ack: settings.request_ack,
            chunks: 0,
        };
        let limit = usize::try_from(settings.buffer_limit).unwrap_or(usize::MAX);
        let asynchronous = settings.asynchronous;
        let mut sender = Sender {
            settings,
            connection: None,
        };
        if !asynchronous {
            sender.connect()?;
            return Ok(Self {
                encoder,
                sender: Sending::Here(Box::new(sender)),
            });
        }
        let (queue, waiting) = sync_channel(limit.clamp(1, QUEUED_MAX));
        let thread = std::thread::Builder::new().spawn(move || sender.run(&waiting))?;
        Ok(Self {
            encoder,
            sender: Sending::Behind {
                queue: Some(queue),
                thread: Some(thread),
            },
        })
    }
}

impl Driver for Fluentd {
    fn send(&mut self, message: &Message<'_>) -> io::Result<()> {
        let packed = self.encoder.pack(message);
        match &mut self.sender {
            Sending::Here(sender) => sender.deliver(&packed),
            Sending::Behind {
                queue: Some(queue), ..
            } => queue.try_send(packed).map_err(|e| match e {
                TrySendError::Full(_) => {
                    io::Error::other("fluent#appendBuffer: Buffer full, a message is lost")
                }
                TrySendError::Disconnected(_) => io::Error::other("the sender has ended"),
            }),
            Sending::Behind { queue: None, .. } => Ok(()),
        }
    }

    fn finish(&mut self) {
        if let Sending::Behind { queue, thread } = &mut self.sender {
            *queue = None;
            if let Some(thread) = thread.take() {
                // The process's own deadline bounds this.
                let _ = thread.join();
            }
        }
    }
}

impl Sender {
    /// Until there is nothing more to send.
    fn run(&mut self, waiting: &Receiver<Packed>) {
        let idle = Duration::from_secs(3600);
        loop {
            match waiting.recv_timeout(idle) {
                Ok(packed) => {
                    if let Err(e) = self.deliver(&packed) {
                        super::complain(&e);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn connect(&mut self) -> io::Result<&mut Connection> {
        let interval = self.settings.reconnect_interval;
        let stale = |since: &Instant| !interval.is_zero() && since.elapsed() >= interval;
        if self
            .connection
            .as_ref()
            .is_none_or(|(_, since)| stale(since))
        {
            let connection = Connection::open(&self.settings.address, &Tls::default())?;
            connection.set_timeouts(self.settings.read_timeout, self.settings.write_timeout)?;
            self.connection = Some((connection, Instant::now()));
        }
        match &mut self.connection {
            Some((connection, _)) => Ok(connection),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Tries until it is sent, or has been tried often enough.
    fn deliver(&mut self, packed: &Packed) -> io::Result<()> {
        let mut wait = self.settings.retry_wait;
        let mut attempts = 0;
        loop {
            match self.attempt(packed) {
                Ok(()) => return Ok(()),
                Err(e) if attempts >= self.settings.retries_max => {
                    return Err(io::Error::new(
                        e.kind(),
                        format!("fluent#write: failed to write after {attempts} attempts: {e}"),
                    ));
                }
                Err(_) => self.connection = None,
            }
            attempts += 1;
            std::thread::sleep(wait);
            wait = (wait + wait / 2).min(WAIT_MAX);
        }
    }

    fn attempt(&mut self, packed: &Packed) -> io::Result<()> {
        let connection = self.connect()?;
        connection.send(&packed.bytes)?;
        let Some(chunk) = &packed.chunk else {
            return Ok(());
        };
        let mut answer = Vec::new();
        let mut buffer = [0; 512];
        while answer.len() < ANSWER_BYTES_MAX {
            if let Some(acknowledged) = acknowledged(&answer) {
                return match acknowledged == chunk.as_bytes() {
                    true => Ok(()),
                    false => Err(io::Error::other("an acknowledgement of another chunk")),
                };
            }
            match connection.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
        Err(io::Error::other("the acknowledgement does not end"))
    }
}

/// The text of `{"ack": text}`, once it is whole.
fn acknowledged(answer: &[u8]) -> Option<&[u8]> {
    let rest = answer.strip_prefix(&[0x81, 0xa3])?.strip_prefix(b"ack")?;
    let (length, text) = match rest.split_first()? {
        (0xd9, rest) => {
            let (length, text) = rest.split_first()?;
            (usize::from(*length), text)
        }
        (head @ 0xa0..=0xbf, text) => (usize::from(head & 0x1f), text),
        _ => return None,
    };
    text.get(..length)
}

impl Encoder {
    /// `[tag, time, record, option]`.
    fn pack(&mut self, message: &Message<'_>) -> Packed {
        let mut bytes = vec![0x94];
        text(&mut bytes, self.tag.as_bytes());
        let seconds = u32::try_from(message.time.as_second()).unwrap_or(0);
        if self.sub_second {
            // EventTime: extension type 0 of eight bytes.
            bytes.extend([0xd7, 0x00]);
            bytes.extend(seconds.to_be_bytes());
            let nanos = u32::try_from(message.time.subsec_nanosecond()).unwrap_or(0);
            bytes.extend(nanos.to_be_bytes());
        } else {
            bytes.push(0xce);
            bytes.extend(seconds.to_be_bytes());
        }
        let source: &str = match message.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let partial = message.partial.as_ref().map(|partial| {
            [
                ("partial_message", "true".to_owned()),
                ("partial_id", partial.id.clone()),
                ("partial_ordinal", partial.ordinal.to_string()),
                ("partial_last", partial.last.to_string()),
            ]
        });
        let partial = partial.iter().flatten();
        let own = ["source", "log"];
        let fields = self
            .fields
            .iter()
            .filter(|(key, _)| !own.contains(&key.as_str()));
        let count = fields.clone().count() + partial.clone().count() + own.len();
        bytes.push(0xde);
        bytes.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        for (key, value) in fields {
            text(&mut bytes, key.as_bytes());
            text(&mut bytes, value.as_bytes());
        }
        for (key, value) in partial {
            text(&mut bytes, key.as_bytes());
            text(&mut bytes, value.as_bytes());
        }
        text(&mut bytes, b"source");
        text(&mut bytes, source.as_bytes());
        text(&mut bytes, b"log");
        text(&mut bytes, message.line);
        let chunk = self.request_ack.then(|| {
            self.chunks += 1;
            format!("{:08x}{:016x}", std::process::id(), self.chunks)
        });
        match &chunk {
            None => bytes.push(0x80),
            Some(chunk) => {
                bytes.push(0x81);
                text(&mut bytes, b"chunk");
                text(&mut bytes, chunk.as_bytes());
            }
        }
        Packed { bytes, chunk }
    }
}

/// A msgpack text: in the shortest of its forms.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len();
    match length {
        0..32 => out.push(0xa0 | length as u8),
        32..256 => out.extend([0xd9, length as u8]),
        256..65_536 => {
            out.push(0xda);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend((length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let answer = b"\x81\xa3ack\xa5abcde";
        for end in 0..answer.len() {
            assert_eq!(acknowledged(&answer[..end]), None);
        }
        assert_eq!(acknowledged(answer), Some(&b"abcde"[..]));
        assert_eq!(acknowledged(b"\x81\xa3ack\xd9\x02ab"), Some(&b"ab"[..]));
        assert_eq!(acknowledged(b"\xc0"), None);
    }
}
