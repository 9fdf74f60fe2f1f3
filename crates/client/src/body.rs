//! Answers: whole, in pieces, or as a stream of JSON values.

use crate::Error;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

/// The most that a whole answer may be: the API's lists are far smaller.
const WHOLE_MAX: usize = 256 << 20;
/// The most that one value of a JSON stream may be.
const VALUE_MAX: usize = 64 << 20;

/// An answer with a good status, its body not yet read.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    pub(crate) fn new(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body.
    pub async fn bytes(&mut self) -> Result<Bytes, Error> {
        let mut out = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if out.is_empty() && self.body_is_finished() {
                return Ok(chunk);
            }
            if out.len() + chunk.len() > WHOLE_MAX {
                return Err(Error::Answer(format!("more than {WHOLE_MAX} bytes")));
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out.freeze())
    }

    fn body_is_finished(&self) -> bool {
        hyper::body::Body::is_end_stream(&self.body)
    }

    /// The body as a stream of JSON values.
    pub fn json_stream(self) -> JsonStream {
        JsonStream {
            answer: self,
            buffer: BytesMut::new(),
            ended: false,
        }
    }
}

/// JSON values one after another, as pull, events and stats send them.
#[derive(Debug)]
pub struct JsonStream {
    answer: Answer,
    buffer: BytesMut,
    ended: bool,
}

impl JsonStream {
    /// The next value; `None` at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            while self.buffer.first().is_some_and(u8::is_ascii_whitespace) {
                self.buffer.advance(1);
            }
            if !self.buffer.is_empty() {
                let mut values =
                    serde_json::Deserializer::from_slice(&self.buffer).into_iter::<T>();
                match values.next() {
                    Some(Ok(value)) => {
                        let used = values.byte_offset();
                        self.buffer.advance(used);
                        return Ok(Some(value));
                    }
                    Some(Err(error)) if !error.is_eof() || self.ended => {
                        return Err(Error::Answer(error.to_string()));
                    }
                    Some(Err(_)) | None => {}
                }
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > VALUE_MAX {
                return Err(Error::Answer(format!(
                    "a JSON value of more than {VALUE_MAX} bytes"
                )));
            }
            match self.answer.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }
}
