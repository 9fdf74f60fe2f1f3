//! The head of a connection's first request, read before hyper sees it.
//!
//! Attach and exec start turn the connection into a raw stream even where the request has no `Upgrade` header
//! (clients older than that header, and hand-made ones). hyper can give a connection away only by an upgrade, so for these
//! requests, when they come first on their connection, as raw clients send them, the head is parsed here and hyper is left
//! out. All others are handed to hyper with the bytes that were read.

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::router::split_version;

/// The longest head that is looked at; hyper takes longer ones, which cannot be raw requests.
const HEAD_MAX: usize = 16 << 10;
/// The longest body of an exec start request.
const RAW_BODY_MAX: usize = 64 << 10;

/// What came first on a connection.
pub enum First {
    /// For hyper: these bytes were read.
    Ordinary(Bytes),
    /// A request for a raw stream with its body, and what the client sent after it.
    Raw(Box<Request<Bytes>>, Bytes),
    /// The client closed before a whole head came.
    Closed,
}

/// Reads the first head. Bounded in bytes; the caller bounds the time.
///
/// # Errors
/// Those of the connection.
pub async fn first<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<First> {
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(if buffer.is_empty() {
                First::Closed
            } else {
                First::Ordinary(buffer.freeze())
            });
        }
        if !may_be_raw(&buffer) {
            return Ok(First::Ordinary(buffer.freeze()));
        }
        let Some(end) = find_end(&buffer) else {
            if buffer.len() >= HEAD_MAX {
                return Ok(First::Ordinary(buffer.freeze()));
            }
            continue;
        };
        let Some((request, body_len)) = parse_raw(&buffer[..end]) else {
            return Ok(First::Ordinary(buffer.freeze()));
        };
        while buffer.len() < end + body_len {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(First::Closed);
            }
        }
        let mut rest = buffer.freeze();
        let _head = rest.split_to(end);
        let body = rest.split_to(body_len);
        return Ok(First::Raw(Box::new(request.map(|()| body)), rest));
    }
}

/// Is the start of the request line that of a POST?
fn may_be_raw(bytes: &[u8]) -> bool {
    let wanted = b"POST /";
    let seen = bytes.len().min(wanted.len());
    bytes[..seen] == wanted[..seen]
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Parses a head that asks for a raw stream without an upgrade; the body's length beside it.
fn parse_raw(head: &[u8]) -> Option<(Request<()>, usize)> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let mut request_line = lines.next()?.split(' ');
    let (method, target, protocol) = (
        request_line.next()?,
        request_line.next()?,
        request_line.next()?,
    );
    if method != "POST" || !matches!(protocol, "HTTP/1.1" | "HTTP/1.0") || !is_raw_target(target) {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse::<Uri>().ok()?;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request
            .headers_mut()
            .append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    let headers = request.headers();
    if headers.contains_key(header::UPGRADE)
        || headers.contains_key(header::TRANSFER_ENCODING)
        || headers.contains_key(header::EXPECT)
    {
        return None;
    }
    let body_len = match headers.get(header::CONTENT_LENGTH) {
        Some(length) => length
            .to_str()
            .ok()?
            .parse()
            .ok()
            .filter(|n| *n <= RAW_BODY_MAX)?,
        None => 0,
    };
    Some((request, body_len))
}

fn is_raw_target(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = split_version(path).path.split('/').collect();
    matches!(
        parts[..],
        ["", "containers", _, "attach"] | ["", "exec", _, "start"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn see(mut input: &[u8]) -> String {
        match first(&mut input).await.unwrap() {
            First::Closed => "closed".into(),
            First::Ordinary(bytes) => format!("ordinary {}", bytes.len()),
            First::Raw(request, rest) => {
                format!("raw {} {:?} {:?}", request.uri(), request.body(), rest)
            }
        }
    }

    #[tokio::test]
    async fn only_raw_streams_without_upgrade_are_taken() {
        assert_eq!(see(b"").await, "closed");
        assert_eq!(see(b"GET /info HTTP/1.1\r\n\r\n").await, "ordinary 22");
        assert_eq!(
            see(b"POST /containers/a/start HTTP/1.1\r\n\r\n").await,
            "ordinary 37"
        );
        let upgrade = b"POST /containers/a/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n";
        assert_eq!(see(upgrade).await, format!("ordinary {}", upgrade.len()));
        assert_eq!(
            see(b"POST /v1.41/containers/a/attach?stream=1 HTTP/1.1\r\nHost: x\r\n\r\nhello").await,
            "raw /v1.41/containers/a/attach?stream=1 b\"\" b\"hello\""
        );
        assert_eq!(
            see(b"POST /exec/b/start HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}in").await,
            "raw /exec/b/start b\"{}\" b\"in\""
        );
        assert_eq!(
            see(b"POST /exec/b/start HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}").await,
            "closed"
        );
        assert_eq!(see(b"POST /exec/b/st").await, "ordinary 15");
    }
}
