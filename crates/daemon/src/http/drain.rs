//! Request bodies that a handler did not read.
//!
//! A client that still sends its archive when the answer is there already (a refused `PUT archive`, say) would be cut off by a
//! reset and never see why. So what is left of such a body is read and dropped, within bounds; Go's server does the same.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use super::BoxError;

/// Bytes that are read and dropped.
const DRAIN_MAX: usize = 16 << 20;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A body whose rest is read when it is dropped.
pub struct Drained(Option<Incoming>);

impl Drained {
    /// Wraps a body.
    pub fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl hyper::body::Body for Drained {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let rest = async {
                let mut left = DRAIN_MAX;
                while let Some(Ok(frame)) = body.frame().await {
                    let len = frame.data_ref().map_or(0, Buf::remaining);
                    match left.checked_sub(len) {
                        Some(less) => left = less,
                        None => return,
                    }
                }
            };
            // Beyond the bounds the connection is cut, which is what the client then sees.
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
        });
    }
}
