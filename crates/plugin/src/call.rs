//! One call: a POST over a connection of its own, with a bound on its time and on the answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::discover::Address;
use crate::{Error, Result};

/// The longest answer of a plugin, in bytes.
const ANSWER_MAX: usize = 8 << 20;
/// As much of an answer that is no JSON as goes into a message.
const QUOTED_MAX: usize = 400;
/// What dockerd accepts.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Tries again, after 1, 2, 4, .. seconds, as long as `again` says so and the next attempt comes before `patience` is over: moby's
/// `backoff` and `abort`.
pub(crate) async fn with_patience<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    again: impl Fn(&Error) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_secs(1);
    loop {
        match attempt().await {
            Err(error) if again(&error) && begun.elapsed() + pause < patience => {
                tracing::warn!(%error, "a plugin is not there, retrying in {pause:?}");
            }
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Calls `method` once.
pub(crate) async fn call(
    address: &Address,
    method: &str,
    body: Vec<u8>,
    limit: Duration,
) -> Result<Bytes> {
    let failed = |source| Error::Connect {
        method: method.to_owned(),
        address: address.to_string(),
        source,
    };
    let exchange = async {
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                exchange(stream, method, body).await
            }
            Address::Tcp(host) => {
                let stream = TcpStream::connect(host).await.map_err(failed)?;
                exchange(stream, method, body).await
            }
        }
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::late(method, limit)),
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    method: &str,
    body: Vec<u8>,
) -> Result<Bytes> {
    let broken = |why: String| Error::Broken {
        method: method.to_owned(),
        why,
    };
    let said = |error: hyper::Error| broken(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("/{method}"))
        .header("host", "plugin.moby.localhost")
        .header("accept", MEDIA_TYPE)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(error.to_string()))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(said)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(
                |error| match error.is::<http_body_util::LengthLimitError>() {
                    true => Error::rubbish(method, format!("it is longer than {ANSWER_MAX} bytes")),
                    false => broken(error.to_string()),
                },
            )?;
        Ok((status, body.to_bytes()))
    };
    let answered = answered.await;
    connection.abort();
    let (status, bytes) = answered?;
    match status {
        StatusCode::OK => Ok(bytes),
        _ => Err(Error::Status {
            method: method.to_owned(),
            said: words(status, &bytes),
        }),
    }
}

/// The `Err` of an answer with another status than 200, else the answer itself.
fn words(status: StatusCode, bytes: &[u8]) -> String {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Refusal {
        #[serde(rename = "Err")]
        err: String,
    }
    match hull_api::json::from_slice::<Refusal>(bytes) {
        Ok(refusal) if !refusal.err.is_empty() => refusal.err,
        _ if bytes.is_empty() => format!("status {status}"),
        _ => quoted(bytes),
    }
}

fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(QUOTED_MAX) {
        None => text.trim_end().to_owned(),
        Some((end, _)) => format!("{}..", &text[..end]),
    }
}

/// An answer, read.
pub(crate) fn decoded<T: DeserializeOwned>(method: &str, bytes: &[u8]) -> Result<T> {
    hull_api::json::from_slice(bytes).map_err(|error| Error::rubbish(method, error))
}
