//! A request as a handler sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use hull_api::version::Version;
use serde::de::DeserializeOwned;

use super::{Body, Failure, JSON_BODY_MAX, Query};
use crate::Daemon;

/// How long a client may take to send a body that is read whole.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// One request.
pub struct Call {
    /// Everything that handlers use.
    pub daemon: Arc<Daemon>,
    /// The client's API version, or the current one where the path names none.
    pub version: Version,
    /// The pattern's placeholders, decoded, in order.
    pub params: Vec<String>,
    /// Query parameters.
    pub query: Query,
    /// Method, URI, headers.
    pub head: Parts,
    /// The body, until someone takes it.
    pub body: Body,
}

impl Call {
    /// The first placeholder of the pattern.
    pub fn id(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// A header's text; empty where it is absent or not text.
    pub fn header(&self, name: &str) -> &str {
        text(&self.head.headers, name)
    }

    /// Reads a JSON body of at most [`JSON_BODY_MAX`] bytes.
    ///
    /// # Errors
    /// 400 for another media type or an empty body, 413 for a longer one.
    pub async fn json_bytes(&mut self) -> Result<Bytes, Failure> {
        let body = std::mem::take(&mut self.body);
        let declared = self.header("content-length").parse::<usize>().unwrap_or(0);
        if declared > JSON_BODY_MAX {
            return Err(too_large());
        }
        let bytes = read_all(body, JSON_BODY_MAX).await?;
        if !bytes.is_empty() {
            let media_type = self.header(header::CONTENT_TYPE.as_str());
            let essence = media_type.split(';').next().unwrap_or_default().trim();
            if !essence.eq_ignore_ascii_case("application/json") {
                return Err(Failure::invalid(format!(
                    "unsupported Content-Type header ({media_type}): must be 'application/json'"
                )));
            }
        }
        Ok(bytes)
    }

    /// Reads a JSON body by Go's rules.
    ///
    /// # Errors
    /// As [`Call::json_bytes`]; 400 for an empty body and for what is not such a value.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let bytes = self.json_bytes().await?;
        if bytes.is_empty() {
            return Err(Failure::invalid(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        hull_api::json::from_slice(&bytes).map_err(|e| invalid_json(&e))
    }

    /// As [`Call::json`], with the zero value for an empty body.
    ///
    /// # Errors
    /// As [`Call::json`].
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T, Failure> {
        let bytes = self.json_bytes().await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        hull_api::json::from_slice(&bytes).map_err(|e| invalid_json(&e))
    }
}

/// 400 with Docker's preface.
pub fn invalid_json(error: &hull_api::json::Error) -> Failure {
    Failure::invalid(format!("invalid JSON: {error}"))
}

fn too_large() -> Failure {
    Failure::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("request body is longer than {JSON_BODY_MAX} bytes"),
    )
}

/// Reads a whole body into memory.
///
/// # Errors
/// 413 where it is longer than `max`, 400 where it breaks off, 408 where it takes longer than [`BODY_TIMEOUT`].
pub async fn read_all(body: Body, max: usize) -> Result<Bytes, Failure> {
    match tokio::time::timeout(BODY_TIMEOUT, read_bounded(body, max)).await {
        Ok(read) => read,
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request body took too long to arrive",
        )),
    }
}

async fn read_bounded(mut body: Body, max: usize) -> Result<Bytes, Failure> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::invalid(format!("reading request body: {e}")))?;
        if let Ok(data) = frame.into_data() {
            if all.len() + data.len() > max {
                return Err(too_large());
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

/// A header's text; empty where it is absent or not text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
