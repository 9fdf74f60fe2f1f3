//! `gelf`: Graylog's extended log format 1.1, as datagrams (compressed, in chunks) or over TCP.

use std::io::{self, Write};

use flate2::Compression as Level;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

use super::net::Connection;
use super::options::{self, Address, Compression, Tls};
use super::{Driver, Info, Message};
use crate::logfile::Stream;

/// A datagram's size with its head, in bytes: what Docker sends.
const CHUNK_BYTES: usize = 1420;
/// Magic, message id, number and count.
const CHUNK_HEAD_BYTES: usize = 12;
/// The format's own limit.
const CHUNKS_MAX: usize = 128;

/// Sends to one server.
pub struct Gelf {
    settings: options::Gelf,
    connection: Option<Connection>,
    host: String,
    extra: Map<String, Value>,
    /// Distinguishes the chunks of one message from those of another.
    next_id: u64,
}

impl Gelf {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn open(settings: options::Gelf, info: &Info, host: &str) -> io::Result<Self> {
        let mut extra = Map::new();
        for (key, value) in &info.attributes {
            let key = match key.starts_with('_') {
                true => key.clone(),
                false => format!("_{key}"),
            };
            extra.insert(key, json!(value));
        }
        for (key, value) in [
            ("_container_id", &info.id),
            ("_container_name", &info.name),
            ("_image_id", &info.image_id),
            ("_image_name", &info.image_name),
            ("_command", &info.command),
            ("_tag", &info.tag),
            ("_created", &info.created),
        ] {
            extra.entry(key).or_insert_with(|| json!(value));
        }
        let connection = Connection::open(&settings.address, &Tls::default()).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("gelf: cannot connect to GELF endpoint: {e}"),
            )
        })?;
        let seed = jiff::Timestamp::now().as_nanosecond() as u64;
        Ok(Self {
            settings,
            connection: Some(connection),
            host: host.to_owned(),
            extra,
            next_id: seed ^ u64::from(std::process::id()) << 40,
        })
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        let level = match message.stream {
            Stream::Stdout => 6,
            Stream::Stderr => 3,
        };
        let mut value = Map::new();
        value.insert("version".to_owned(), json!("1.1"));
        value.insert("host".to_owned(), json!(self.host));
        let line = String::from_utf8_lossy(message.line);
        value.insert("short_message".to_owned(), json!(line));
        let seconds = message.time.as_millisecond() as f64 / 1000.0;
        value.insert("timestamp".to_owned(), json!(seconds));
        value.insert("level".to_owned(), json!(level));
        value.extend(self.extra.clone());
        Value::Object(value).to_string().into_bytes()
    }

    fn compress(&self, text: &[u8]) -> io::Result<Vec<u8>> {
        let level = Level::new(self.settings.level);
        match self.settings.compression {
            Compression::None => Ok(text.to_vec()),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(text)?;
                encoder.finish()
            }
            Compression::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text)?;
                encoder.finish()
            }
        }
    }

    fn send_datagrams(&mut self, text: &[u8]) -> io::Result<()> {
        let packed = self.compress(text)?;
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(&self.settings.address, &Tls::default())?),
        };
        for datagram in chunks(&packed, id)? {
            // A port without a listener answers by ICMP, which shows at the next write: that one is tried again.
            connection
                .send(&datagram)
                .or_else(|_| connection.send(&datagram))?;
        }
        Ok(())
    }

    /// Over TCP a message ends with a null byte.
    fn send_stream(&mut self, mut text: Vec<u8>) -> io::Result<()> {
        text.push(0);
        let mut attempt = 0;
        loop {
            let connection = match self.connection.take() {
                Some(connection) => Ok(connection),
                None => Connection::open(&self.settings.address, &Tls::default()),
            };
            let sent = connection.and_then(|mut connection| {
                connection.send(&text)?;
                Ok(connection)
            });
            match sent {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(e) if attempt >= self.settings.reconnects_max => return Err(e),
                Err(_) => {
                    attempt += 1;
                    std::thread::sleep(self.settings.reconnect_delay);
                }
            }
        }
    }
}

impl Driver for Gelf {
    fn send(&mut self, message: &Message<'_>) -> io::Result<()> {
        // The format knows no empty message.
        if message.line.is_empty() {
            return Ok(());
        }
        let text = self.render(message);
        let sent = match self.settings.address {
            Address::Udp(_) => self.send_datagrams(&text),
            Address::Tcp(_) | Address::Tls(_) | Address::Unix(_) | Address::Unixgram(_) => {
                self.send_stream(text)
            }
        };
        sent.map_err(|e| io::Error::new(e.kind(), format!("gelf: cannot send GELF message: {e}")))
    }
}

/// One datagram, or several with a head.
fn chunks(packed: &[u8], id: u64) -> io::Result<Vec<Vec<u8>>> {
    if packed.len() <= CHUNK_BYTES {
        return Ok(vec![packed.to_vec()]);
    }
    let pieces = packed.chunks(CHUNK_BYTES - CHUNK_HEAD_BYTES);
    let count = pieces.len();
    if count > CHUNKS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("msg too large, would need {count} chunks"),
        ));
    }
    Ok(pieces
        .enumerate()
        .map(|(number, piece)| {
            let mut datagram = vec![0x1e, 0x0f];
            datagram.extend_from_slice(&id.to_be_bytes());
            datagram.extend([number as u8, count as u8]);
            datagram.extend_from_slice(piece);
            datagram
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_message_is_cut_and_a_larger_one_refused() {
        assert_eq!(chunks(&[7; CHUNK_BYTES], 1).unwrap().len(), 1);
        let packed: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        let datagrams = chunks(&packed, 0x0102).unwrap();
        assert_eq!(datagrams.len(), 4);
        let mut joined = Vec::new();
        for (number, datagram) in datagrams.iter().enumerate() {
            assert!(datagram.len() <= CHUNK_BYTES);
            let head = [0x1e, 0x0f, 0, 0, 0, 0, 0, 0, 1, 2, number as u8, 4];
            assert_eq!(datagram[..CHUNK_HEAD_BYTES], head);
            joined.extend_from_slice(&datagram[CHUNK_HEAD_BYTES..]);
        }
        assert_eq!(joined, packed);
        let room = (CHUNK_BYTES - CHUNK_HEAD_BYTES) * CHUNKS_MAX;
        assert!(chunks(&vec![0; room], 1).is_ok());
        assert!(chunks(&vec![0; room + 1], 1).is_err());
    }
}
