//! The Engine API without a client between: requests written byte by byte, and what comes back.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::engine::Engine;

/// How long any answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status; 0 where the connection ended without an answer.
    pub status: u16,
    /// Head and body, as text.
    pub text: String,
}

impl Answer {
    /// The `message` of an error.
    pub fn message(&self) -> String {
        let body = self
            .text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body);
        let body: serde_json::Value = serde_json::from_str(body.trim()).unwrap_or_default();
        body["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection to the engine's socket.
pub fn connect(engine: &Engine) -> UnixStream {
    let stream = UnixStream::connect(engine.root().join("e.sock")).expect("connect to the engine");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("set a timeout");
    stream
        .set_write_timeout(Some(TIMEOUT))
        .expect("set a timeout");
    stream
}

/// Sends one request with a JSON body and reads the answer to its end.
#[track_caller]
pub fn request(engine: &Engine, method: &str, path: &str, body: &[u8]) -> Answer {
    request_as(engine, method, path, "application/json", body)
}

/// As [`request`], with a body of another type.
#[track_caller]
pub fn request_as(engine: &Engine, method: &str, path: &str, media: &str, body: &[u8]) -> Answer {
    let mut stream = connect(engine);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("send the head");
    // The engine may answer and close before it has read a body that it refuses.
    let _ = stream.write_all(body);
    read(&mut stream)
}

/// Reads an answer until the engine closes the connection.
#[track_caller]
pub fn read(stream: &mut UnixStream) -> Answer {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!(
                "no end of the answer within {TIMEOUT:?}: {}",
                String::from_utf8_lossy(&bytes)
            )
        }
        // A reset after the answer is the end of it too.
        Ok(_) | Err(_) => {}
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Answer { status, text }
}
