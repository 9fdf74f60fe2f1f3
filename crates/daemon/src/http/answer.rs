//! What handlers give back: an answer, a hijacked stream, or a failure with its status. The one place where the engine's kinds
//! become statuses.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hull_engine::streams::AttachStream;
use hull_engine::{Error as EngineError, Kind};
use hyper::body::Frame;
use serde::Serialize;

use super::hijack::Hijack;
use super::{Body, BoxError};

/// A handler's result.
pub type Outcome = Result<Answer, Failure>;

/// What a handler answers.
pub enum Answer {
    /// An ordinary response.
    Plain(http::Response<Body>),
    /// The connection becomes a raw stream.
    Hijack(Hijack),
    /// The connection becomes a websocket: the handshake's answer and the process's streams.
    WebSocket(http::Response<Body>, AttachStream),
}

/// A refused or failed request: its status and the sentence of the error body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: StatusCode,
    /// `{"message": ..}`.
    pub message: String,
}

impl Failure {
    /// A failure of any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 501, naming what is missing.
    pub fn missing(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("not implemented: {what}"),
        )
    }

    /// The response that says so.
    pub fn response(self) -> http::Response<Body> {
        if self.status == StatusCode::NOT_MODIFIED {
            return plain(self.status, empty());
        }
        if self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED {
            tracing::warn!(status = self.status.as_u16(), error = %self.message, "request failed");
        }
        json_response(
            self.status,
            &hull_api::Error {
                message: self.message,
            },
        )
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let status = match error.kind {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::InvalidParameter => StatusCode::BAD_REQUEST,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Kind::Cancelled | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            message: error.message,
        }
    }
}

/// An empty body.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that arrives piece by piece; each piece is flushed as it comes.
pub fn stream<S, E>(pieces: S) -> Body
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    let frames = pieces.map(|piece| {
        let piece = piece.map(Frame::data).map_err(Into::into);
        if let Err(error) = &piece {
            // The status is out: cutting the answer off is all that the client can be told.
            tracing::warn!(%error, "answer broken off");
        }
        piece
    });
    StreamBody::new(frames).boxed_unsync()
}

fn plain(status: StatusCode, body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    response
}

/// A response with a JSON body, ended by a newline as Go's encoder does.
pub fn json_response<T: Serialize>(status: StatusCode, value: &T) -> http::Response<Body> {
    let mut text = serde_json::to_vec(value)
        .unwrap_or_else(|e| format!("{{\"message\":\"encode: {e}\"}}").into_bytes());
    text.push(b'\n');
    with_type(plain(status, full(text)), "application/json")
}

fn with_type(mut response: http::Response<Body>, media_type: &'static str) -> http::Response<Body> {
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

impl Answer {
    /// 200 with a JSON body.
    pub fn json<T: Serialize>(value: &T) -> Outcome {
        Ok(Self::Plain(json_response(StatusCode::OK, value)))
    }

    /// 201 with a JSON body.
    pub fn created<T: Serialize>(value: &T) -> Outcome {
        Ok(Self::Plain(json_response(StatusCode::CREATED, value)))
    }

    /// A status without a body.
    pub fn status(status: StatusCode) -> Outcome {
        Ok(Self::Plain(plain(status, empty())))
    }

    /// 204.
    pub fn no_content() -> Outcome {
        Self::status(StatusCode::NO_CONTENT)
    }

    /// 200 with a body of another media type.
    pub fn body(media_type: &'static str, body: Body) -> Outcome {
        Ok(Self::Plain(with_type(
            plain(StatusCode::OK, body),
            media_type,
        )))
    }

    /// 200 with JSON values, one a line, each flushed.
    pub fn json_lines<S, T>(values: S) -> Outcome
    where
        S: Stream<Item = T> + Send + 'static,
        T: Serialize,
    {
        Self::body(
            "application/json",
            stream(values.map(|value| json_line(&value, b"\n"))),
        )
    }
}

/// One value of a JSON stream.
pub fn json_line<T: Serialize>(value: &T, end: &[u8]) -> Result<Bytes, BoxError> {
    let mut text = serde_json::to_vec(value)?;
    text.extend_from_slice(end);
    Ok(text.into())
}
