//! Attach over a websocket (RFC 6455): the handshake's answer, the frames' codec, and the joining of both ends. Output is
//! sent in binary messages without Docker's stream headers, as dockerd does; input is the payload of whatever data comes.

use base64::Engine;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hull_api::frames;
use hull_engine::streams::AttachStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::answer::empty;
use super::{Body, Failure, io::Stream};

/// RFC 6455 section 1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest message that a client may send: input is typed or pasted.
const PAYLOAD_MAX: u64 = 1 << 20;
/// Bytes of output in one message.
const CHUNK: usize = 32 << 10;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Answers the handshake.
///
/// # Errors
/// 400 for a request that is no websocket handshake.
pub fn handshake(headers: &HeaderMap) -> Result<Response<Body>, Failure> {
    let get = |name: &str| super::call::text(headers, name);
    let key = get("sec-websocket-key");
    if !get("upgrade").eq_ignore_ascii_case("websocket") || key.is_empty() {
        return Err(Failure::invalid("bad request: not a websocket handshake"));
    }
    if get("sec-websocket-version") != "13" {
        return Err(Failure::invalid(
            "bad request: missing or bad WebSocket Version",
        ));
    }
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept =
        HeaderValue::from_str(&accept(key)).map_err(|e| Failure::invalid(e.to_string()))?;
    out.insert("sec-websocket-accept", accept);
    if let Some(protocol) = headers.get("sec-websocket-protocol") {
        out.insert("sec-websocket-protocol", protocol.clone());
    }
    Ok(response)
}

fn accept(key: &str) -> String {
    let text = format!("{key}{ACCEPT_SUFFIX}");
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(hash)
}

/// A frame as a server sends it: whole, unmasked.
fn encode(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    out.extend_from_slice(&[0x80 | opcode]);
    match payload.len() {
        len @ 0..=125 => out.extend_from_slice(&[len as u8]),
        len @ 126..=0xffff => {
            out.extend_from_slice(&[126]);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.extend_from_slice(&[127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out.freeze()
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    opcode: u8,
    payload: BytesMut,
}

/// Takes the next whole frame from the buffer. Fragments of a message are taken as they come: input has no boundaries.
fn decode(buffer: &mut BytesMut) -> Result<Option<Received>, &'static str> {
    let Some(&[first, second]) = buffer.first_chunk::<2>() else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err("reserved bits are set");
    }
    if second & 0x80 == 0 {
        return Err("a client's frame must be masked");
    }
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let head = 2 + extended + 4;
    if buffer.len() < head {
        return Ok(None);
    }
    let len = match extended {
        0 => u64::from(second & 0x7f),
        n => buffer[2..2 + n]
            .iter()
            .fold(0u64, |len, byte| len << 8 | u64::from(*byte)),
    };
    let opcode = first & 0x0f;
    if len > PAYLOAD_MAX || (opcode >= CLOSE && len > 125) {
        return Err("the frame is too long");
    }
    if buffer.len() < head + len as usize {
        return Ok(None);
    }
    let mask = [
        buffer[head - 4],
        buffer[head - 3],
        buffer[head - 2],
        buffer[head - 1],
    ];
    buffer.advance(head);
    let mut payload = buffer.split_to(len as usize);
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok(Some(Received { opcode, payload }))
}

/// Joins a websocket and a process until one of them ends.
pub async fn join<S: Stream>(attached: AttachStream, client: S) {
    let AttachStream {
        reader,
        mut writer,
        terminal,
    } = attached;
    let (mut from_client, mut to_client) = tokio::io::split(client);
    // Answers to pings go through the one writer; a client that floods is read no faster than it reads.
    let (pongs, mut waiting) = mpsc::channel::<Bytes>(4);
    let input = async move {
        let mut buffer = BytesMut::new();
        loop {
            match decode(&mut buffer) {
                Ok(Some(frame)) => match frame.opcode {
                    CLOSE => return,
                    PING if pongs.send(encode(PONG, &frame.payload)).await.is_err() => return,
                    0 | TEXT | BINARY if writer.write_all(&frame.payload).await.is_err() => return,
                    _ => {}
                },
                Ok(None) => match from_client.read_buf(&mut buffer).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                },
                Err(why) => {
                    tracing::debug!(why, "websocket broke off");
                    return;
                }
            }
        }
    };
    let output = async {
        let mut output = Output {
            reader,
            terminal,
            decoder: frames::Decoder::default(),
        };
        loop {
            let message = tokio::select! {
                Some(pong) = waiting.recv() => pong,
                piece = output.next() => match piece {
                    Some(piece) => encode(BINARY, &piece),
                    None => return,
                },
            };
            if to_client.write_all(&message).await.is_err() || to_client.flush().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = input => {}
        () = output => {}
    }
    // The client may be gone already.
    let _ = to_client
        .write_all(&encode(CLOSE, &1000u16.to_be_bytes()))
        .await;
    let _ = to_client.shutdown().await;
}

struct Output {
    reader: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    terminal: bool,
    decoder: frames::Decoder,
}

impl Output {
    /// The next bytes of output. Dropped while waiting it loses nothing.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Ok(Some(frame)) = self.decoder.next_frame() {
                return Some(frame.payload);
            }
            let mut piece = BytesMut::with_capacity(CHUNK);
            if self.reader.read_buf(&mut piece).await.ok()? == 0 {
                return None;
            }
            if self.terminal {
                return Some(piece.freeze());
            }
            self.decoder.push(&piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(opcode: u8, payload: &[u8]) -> BytesMut {
        let mut frame = BytesMut::from(&encode(opcode, payload)[..]);
        frame[1] |= 0x80;
        let at = frame.len() - payload.len();
        let tail = frame.split_off(at);
        frame.extend_from_slice(&[1, 2, 3, 4]);
        frame.extend(
            tail.iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        frame
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn frames_of_every_length_survive() {
        for len in [0usize, 1, 125, 126, 65535, 65536] {
            let payload = vec![b'x'; len];
            let mut buffer = masked(BINARY, &payload);
            let tail = buffer.split_off(buffer.len() - 1);
            assert_eq!(decode(&mut buffer.clone()), Ok(None));
            buffer.unsplit(tail);
            assert_eq!(decode(&mut buffer).unwrap().unwrap().payload, payload);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        assert!(decode(&mut BytesMut::from(&encode(TEXT, b"unmasked")[..])).is_err());
        assert!(decode(&mut BytesMut::from(&[0xf1u8, 0x80][..])).is_err());
        let huge = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
        assert!(decode(&mut BytesMut::from(&huge[..])).is_err());
    }
}
