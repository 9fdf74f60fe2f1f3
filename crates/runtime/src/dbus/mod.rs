//! A small D-Bus client: calls one at a time over a unix socket, and the signals that come meanwhile.
//!
//! The runtime is single-threaded and speaks to one peer, systemd; an asynchronous library would bring a
//! hundred crates, and threads into a process that is about to clone itself.

mod value;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use value::Value;
use value::{Malformed, Reader, Writer};

/// Largest message that is read: a unit's properties are a few KiB.
const MESSAGE_MAX: usize = 1 << 20;
/// Most signals that wait to be looked at; older ones are dropped.
const SIGNALS_MAX: usize = 1024;
/// Longest line of the authentication.
const LINE_MAX: usize = 4096;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer's answer.
    #[error("{text} ({name})")]
    Refused {
        /// As `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// For people.
        text: String,
    },
}

impl CallError {
    /// Whether the peer refused with this name.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name == wanted)
    }
}

impl From<Malformed> for CallError {
    fn from(e: Malformed) -> Self {
        Self::Io(io::Error::new(io::ErrorKind::InvalidData, e))
    }
}

/// Kinds of messages.
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// A message, as far as a client looks at it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Message {
    kind: u8,
    serial: u32,
    reply_serial: Option<u32>,
    path: Option<String>,
    interface: Option<String>,
    pub member: Option<String>,
    error_name: Option<String>,
    destination: Option<String>,
    pub body: Vec<Value>,
}

impl Message {
    fn to_bytes(&self) -> Vec<u8> {
        let field = |code: u8, value: Value| {
            Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
        };
        let text = |code: u8, text: &Option<String>| {
            let value = |t: &String| match code {
                1 => Value::Path(t.clone()),
                _ => Value::str(t),
            };
            text.as_ref().map(|t| field(code, value(t)))
        };
        let signature: String = self.body.iter().map(Value::signature).collect();
        let signature = (!signature.is_empty()).then_some(signature);
        let fields = [
            text(1, &self.path),
            text(2, &self.interface),
            text(3, &self.member),
            text(4, &self.error_name),
            self.reply_serial.map(|n| field(5, Value::U32(n))),
            text(6, &self.destination),
            signature.map(|s| field(8, Value::Signature(s))),
        ];
        let mut body = Writer::default();
        self.body.iter().for_each(|v| body.value(v));
        let mut all = Writer::default();
        // Little-endian, kind, no flags, version 1.
        all.bytes.extend_from_slice(&[b'l', self.kind, 0, 1]);
        all.u32(body.bytes.len() as u32);
        all.u32(self.serial);
        let fields: Vec<Value> = fields.into_iter().flatten().collect();
        all.value(&Value::Array("(yv)".into(), fields));
        all.align(8);
        all.bytes.extend_from_slice(&body.bytes);
        all.bytes
    }

    /// How long the message is whose first 16 bytes these are.
    fn length(head: &[u8; 16]) -> Result<usize, Malformed> {
        let number = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            match head[0] {
                b'B' => u32::from_be_bytes(bytes),
                _ => u32::from_le_bytes(bytes),
            }
        };
        if !matches!(head[0], b'l' | b'B') || head[3] != 1 {
            return Err(Malformed("not a D-Bus message of version 1"));
        }
        let (body, fields) = (number(4) as usize, number(12) as usize);
        if body > MESSAGE_MAX || fields > MESSAGE_MAX {
            return Err(Malformed("message is too large"));
        }
        Ok((16 + fields).next_multiple_of(8) + body)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let big_endian = bytes.first() == Some(&b'B');
        let mut reader = Reader::new(bytes, big_endian);
        let head = reader.values("yyyyuua(yv)")?;
        let [
            _,
            Value::Byte(kind),
            _,
            _,
            Value::U32(length),
            Value::U32(serial),
            Value::Array(_, fields),
        ] = &head[..]
        else {
            return Err(Malformed("header of another shape"));
        };
        let mut message = Self {
            kind: *kind,
            serial: *serial,
            ..Self::default()
        };
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(pair) = field else { continue };
            let [Value::Byte(code), Value::Variant(value)] = &pair[..] else {
                continue;
            };
            let text = value.as_str().map(str::to_owned);
            match (code, value.as_ref()) {
                (1, _) => message.path = text,
                (2, _) => message.interface = text,
                (3, _) => message.member = text,
                (4, _) => message.error_name = text,
                (5, Value::U32(n)) => message.reply_serial = Some(*n),
                (6, _) => message.destination = text,
                (8, Value::Signature(s)) => signature.clone_from(s),
                // Sender, file descriptors, and what later versions add.
                _ => {}
            }
        }
        reader.align(8)?;
        if reader.rest() != *length as usize {
            return Err(Malformed("body of another length"));
        }
        message.body = reader.values(&signature)?;
        Ok(message)
    }
}

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// As `org.freedesktop.systemd1`.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// As `org.freedesktop.systemd1.Manager`.
    pub interface: &'a str,
}

/// A connection to a bus, or to a peer that speaks without one.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    serial: u32,
    deadline: Instant,
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects and authenticates as the caller's user; everything that follows must end within `limit`.
    /// `bus`: there is a bus in between, to be greeted.
    pub(crate) fn open(socket: &Path, bus: bool, limit: Duration) -> Result<Self, CallError> {
        let mut connection = Self {
            stream: UnixStream::connect(socket)?,
            serial: 0,
            deadline: Instant::now() + limit,
            signals: VecDeque::new(),
        };
        connection.authenticate()?;
        if bus {
            connection.call(BUS, "Hello", Vec::new())?;
        }
        Ok(connection)
    }

    /// `EXTERNAL`: the kernel tells the peer who this is.
    ///
    /// `BEGIN` is sent before the answer is there, as sd-bus does, so that it cannot arrive together with the first call: systemd's private
    /// socket looks at what follows `BEGIN` in the same read only when more comes (`bus_socket_auth_verify_server`), and the call hangs.
    fn authenticate(&mut self) -> Result<(), CallError> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        self.stream
            .write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LINE_MAX {
                return Err(Malformed("authentication is too long").into());
            }
        }
        if !line.starts_with(b"OK ") {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            let text = format!("authentication refused: {text}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text).into());
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        match self.stream.read_exact(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            other => other,
        }
    }

    fn receive(&mut self) -> Result<Message, CallError> {
        let mut head = [0; 16];
        self.fill(&mut head)?;
        let length = Message::length(&head)?;
        let mut bytes = head.to_vec();
        bytes.resize(length, 0);
        self.fill(&mut bytes[16..])?;
        Ok(Message::parse(&bytes)?)
    }

    /// Calls a method and waits for its answer.
    pub(crate) fn call(
        &mut self,
        target: Target<'_>,
        member: &str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>, CallError> {
        self.serial += 1;
        let message = Message {
            kind: METHOD_CALL,
            serial: self.serial,
            path: Some(target.path.into()),
            interface: Some(target.interface.into()),
            member: Some(member.into()),
            destination: Some(target.destination.into()),
            body,
            ..Message::default()
        };
        self.stream.write_all(&message.to_bytes())?;
        loop {
            let answer = self.receive()?;
            match answer.kind {
                SIGNAL => {
                    if self.signals.len() == SIGNALS_MAX {
                        self.signals.pop_front();
                    }
                    self.signals.push_back(answer);
                }
                METHOD_RETURN if answer.reply_serial == Some(self.serial) => {
                    return Ok(answer.body);
                }
                ERROR if answer.reply_serial == Some(self.serial) => {
                    let text = answer.body.first().and_then(Value::as_str);
                    return Err(CallError::Refused {
                        name: answer.error_name.unwrap_or_default(),
                        text: text.unwrap_or("refused").to_owned(),
                    });
                }
                // Calls to us, which nobody has a reason for.
                _ => {}
            }
        }
    }

    /// Asks a bus for signals.
    pub(crate) fn subscribe(&mut self, rule: &str) -> Result<(), CallError> {
        self.call(BUS, "AddMatch", vec![Value::str(rule)])?;
        Ok(())
    }

    /// Whether somebody on a bus has this name.
    pub(crate) fn has_owner(&mut self, name: &str) -> Result<bool, CallError> {
        let answer = self.call(BUS, "NameHasOwner", vec![Value::str(name)])?;
        Ok(matches!(answer[..], [Value::Bool(true)]))
    }

    /// The next signal, one that came during a call first.
    pub(crate) fn signal(&mut self) -> Result<Message, CallError> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.receive()?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }
}

const BUS: Target<'_> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call() -> Message {
        Message {
            kind: METHOD_CALL,
            serial: 7,
            path: Some("/org/freedesktop/systemd1".into()),
            interface: Some("org.freedesktop.systemd1.Manager".into()),
            member: Some("StopUnit".into()),
            destination: Some("org.freedesktop.systemd1".into()),
            body: vec![Value::str("x.scope"), Value::str("replace")],
            ..Message::default()
        }
    }

    #[test]
    fn a_message_survives_the_wire() {
        let bytes = call().to_bytes();
        let head: [u8; 16] = bytes[..16].try_into().unwrap();
        assert_eq!(Message::length(&head).unwrap(), bytes.len());
        assert_eq!(Message::parse(&bytes).unwrap(), call());
    }

    #[test]
    fn a_huge_message_is_refused_before_it_is_read() {
        let mut head = [0; 16];
        head[..4].copy_from_slice(&[b'l', 1, 0, 1]);
        head[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::length(&head).is_err());
        head[0] = b'x';
        assert!(Message::length(&head).is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_message_is_an_error_or_another_message(at in 0..150_usize, byte in any::<u8>(), cut in 0..200_usize) {
            let mut bytes = call().to_bytes();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut.max(16).min(length));
            let _ = Message::parse(&bytes);
        }
    }

    #[test]
    fn a_peer_answers_and_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let peer = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut peer = Connection {
                stream,
                serial: 0,
                deadline: Instant::now() + Duration::from_secs(10),
                signals: VecDeque::new(),
            };
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                let mut byte = [0];
                peer.fill(&mut byte).unwrap();
                line.push(byte[0]);
            }
            assert!(line.starts_with(b"\0AUTH EXTERNAL 3"), "{line:?}");
            // It does not wait for the answer with it.
            let mut begin = [0; 7];
            peer.fill(&mut begin).unwrap();
            assert_eq!(&begin, b"BEGIN\r\n");
            peer.stream.write_all(b"OK 0123\r\n").unwrap();
            let send = |peer: &mut Connection, message: Message| {
                peer.stream.write_all(&message.to_bytes()).unwrap();
            };
            let asked = peer.receive().unwrap();
            assert_eq!(asked.member.as_deref(), Some("One"));
            let signal = Message {
                kind: SIGNAL,
                serial: 1,
                member: Some("Meanwhile".into()),
                ..Message::default()
            };
            send(&mut peer, signal);
            let answer = Message {
                kind: METHOD_RETURN,
                serial: 2,
                reply_serial: Some(asked.serial),
                body: vec![Value::U32(5)],
                ..Message::default()
            };
            send(&mut peer, answer);
            let asked = peer.receive().unwrap();
            let refusal = Message {
                kind: ERROR,
                serial: 3,
                reply_serial: Some(asked.serial),
                error_name: Some("a.b.NoSuchUnit".into()),
                body: vec![Value::str("no such unit")],
                ..Message::default()
            };
            send(&mut peer, refusal);
        });
        let mut connection = Connection::open(&socket, false, Duration::from_secs(10)).unwrap();
        let target = Target {
            destination: "a.b",
            path: "/a",
            interface: "a.b",
        };
        assert_eq!(
            connection.call(target, "One", vec![]).unwrap(),
            [Value::U32(5)]
        );
        let refused = connection.call(target, "Two", vec![]).unwrap_err();
        assert!(refused.is("a.b.NoSuchUnit"));
        assert_eq!(refused.to_string(), "no such unit (a.b.NoSuchUnit)");
        let signal = connection.signal().unwrap();
        assert_eq!(signal.member.as_deref(), Some("Meanwhile"));
        peer.join().unwrap();
    }
}
