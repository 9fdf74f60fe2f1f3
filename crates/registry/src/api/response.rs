//! Building responses: the headers that every one has, and error bodies.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use hull_oci::Digest;

use crate::error::Error;
use crate::net::body::Body;

/// Says which protocol is spoken; Docker asks for it at `/v2/`.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// The digest of what is sent or was stored.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A response in the making.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    len: Option<u64>,
}

impl Answer {
    /// An empty one.
    pub fn new(status: StatusCode) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        Answer {
            status,
            headers,
            body: Body::empty(),
            len: None,
        }
    }

    /// 200.
    pub fn ok() -> Self {
        Self::new(StatusCode::OK)
    }

    /// An error with its body.
    pub fn error(error: &Error) -> Self {
        let mut answer = Self::new(error.status());
        match error {
            Error::Unauthorized(challenge) => {
                answer = answer.with(header::WWW_AUTHENTICATE, challenge)
            }
            Error::MethodNotAllowed(methods) => answer = answer.with(header::ALLOW, methods),
            Error::RangeUnsatisfiable(len) => {
                answer = answer.with(header::CONTENT_RANGE, &format!("bytes */{len}"));
            }
            Error::ChunkOutOfOrder { offset, location } => {
                answer = answer
                    .with(header::LOCATION, location)
                    .with(header::RANGE, &upload_range(*offset));
            }
            // What the client still sends of its body would be read as its next request.
            Error::ManifestTooLarge(_) | Error::TooSlow(_) | Error::BodyCut(_) => {
                answer = answer.with(header::CONNECTION, "close");
            }
            _ => {}
        }
        // Cannot fail: an error body has only strings for keys.
        answer.json(serde_json::to_string(&error.body()).unwrap_or_default())
    }

    /// Adds a header. A value that HTTP cannot carry, which only names and types checked elsewhere could have, is left out.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// Adds the digest of what is sent or was stored.
    pub fn with_digest(self, digest: &Digest) -> Self {
        self.with(CONTENT_DIGEST, &digest.to_string())
    }

    /// Sets a JSON body.
    pub fn json(self, json: impl Into<bytes::Bytes>) -> Self {
        let json = json.into();
        let len = json.len() as u64;
        self.with(header::CONTENT_TYPE, "application/json")
            .body(Body::Bytes(json), len)
    }

    /// Sets the body and its length.
    pub fn body(mut self, body: Body, len: u64) -> Self {
        self.body = body;
        self.len = Some(len);
        self
    }

    /// The response; to a HEAD, without its body.
    pub fn finish(mut self, head_only: bool) -> Response<Body> {
        let bodiless = matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if !bodiless {
            self.headers.insert(
                header::CONTENT_LENGTH,
                HeaderValue::from(self.len.unwrap_or(0)),
            );
        }
        let mut response = Response::new(if head_only { Body::empty() } else { self.body });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// How many bytes of body will be sent.
    pub fn body_len(&self, head_only: bool) -> u64 {
        if head_only { 0 } else { self.len.unwrap_or(0) }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

/// What an upload has, as clients expect it: the last byte's position, and `0-0` also for none at all.
pub fn upload_range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}
