//! A connection that becomes a raw stream: attach and exec.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyStream;
use hull_engine::streams::AttachStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::answer::{empty, stream};
use super::{Body, io::Stream};

/// Bytes moved at once.
const CHUNK: usize = 32 << 10;
/// How long the last bytes may take to reach a client after the process's output ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A process's streams, to be joined to the client's connection.
pub struct Hijack {
    /// The process's side.
    pub stream: AttachStream,
    /// What the client is told it gets.
    pub media_type: &'static str,
    /// The request's body where it was not read: input of clients that do not upgrade.
    pub body: Body,
    /// How long output waits after the answer's head; see [`head_start`].
    pub head_start: Duration,
}

/// How long the output waits after the answer's head, by the client's `User-Agent`.
///
/// docker-py and docker-modem (dockerode, testcontainers) drop what arrives together with the head of a hijacked answer:
/// the one leaves it in a buffer of Python's http.client, the other ignores the `head` of node's upgrade event. A dockerd
/// takes so long to start a process that nobody noticed. Clients that are known to read on from the head do not wait.
pub fn head_start(agent: &str) -> Duration {
    let reads_on = [
        "Docker-Client/",
        "hull/",
        "Hull",
        "Go-http-client/",
        "curl/",
    ];
    match reads_on.iter().any(|name| agent.starts_with(name)) {
        true => Duration::ZERO,
        false => Duration::from_millis(50),
    }
}

impl Hijack {
    /// The answer to a request with an `Upgrade` header.
    pub fn upgraded(&self) -> Response<Body> {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .extensions_mut()
            .insert(hyper::ext::ReasonPhrase::from_static(b"UPGRADED"));
        let headers = response.headers_mut();
        self.type_header(headers);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        response
    }

    /// The head of a raw stream for a client that did not ask for an upgrade; whatever follows is the stream.
    pub fn raw_head(&self) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n",
            self.media_type
        )
    }

    /// An ordinary response with the output as its body and the request's body as input: for requests without upgrade that
    /// came to hyper.
    pub fn ordinary(self) -> Response<Body> {
        let AttachStream {
            reader, mut writer, ..
        } = self.stream;
        let mut body = BodyStream::new(self.body);
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.next().await {
                if let Ok(data) = frame.into_data()
                    && writer.write_all(&data).await.is_err()
                {
                    return;
                }
            }
            // An error here means that the process has ended: its output says the rest.
            let _ = writer.shutdown().await;
        });
        let mut response = Response::new(stream(ReaderStream::with_capacity(reader, CHUNK)));
        let media_type = HeaderValue::from_static(self.media_type);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, media_type);
        response
    }

    fn type_header(&self, headers: &mut HeaderMap) {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(self.media_type),
        );
    }

    /// Joins the two until the process's output ends or the client cannot be written to. The client's half-close becomes the
    /// process's end of input and ends nothing else.
    pub async fn join<S: Stream>(self, client: S) {
        let AttachStream {
            mut reader,
            mut writer,
            ..
        } = self.stream;
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let output = async {
            tokio::time::sleep(self.head_start).await;
            copy(&mut reader, &mut to_client).await
        };
        let input = async {
            let ended = copy(&mut from_client, &mut writer).await;
            if ended.is_ok() {
                // An error here means that the process has ended: its output says the rest.
                let _ = writer.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = output => {
                if let Err(error) = result {
                    tracing::debug!(%error, "raw stream broke off");
                }
            }
            () = input => {}
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, to_client.shutdown()).await;
    }
}

/// Copies until the end, flushing whenever nothing more is at hand.
async fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = bytes::BytesMut::with_capacity(4 << 10);
    loop {
        if buffer.capacity() < 1 << 10 {
            buffer.reserve(CHUNK);
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        writer.write_all_buf(&mut buffer).await?;
        writer.flush().await?;
        buffer.clear();
    }
}
