//! Blobs: download whole or in part, ask for, delete.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::BytesMut;
use http::{StatusCode, header};
use hull_oci::Digest;

use super::{Answer, App, Call};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::net::body::Body;
use crate::proxy::Download;
use crate::range::{self, Wanted};

/// Up to here a blob is read and sent with its head by one system call; longer ones are sent by the kernel.
const INLINE_LEN_MAX: u64 = 16 << 10;

/// A blob never changes under its digest.
const CACHE_CONTROL: &str = "max-age=31536000, immutable";

/// Where a blob's bytes are.
enum Source {
    Here(File, u64),
    Coming(Arc<Download>),
}

impl Source {
    fn len(&self) -> u64 {
        match self {
            Source::Here(_, len) => *len,
            Source::Coming(download) => download.len,
        }
    }
}

impl App {
    pub(super) async fn get_blob(
        &self,
        call: &Call<'_>,
        name: &Name,
        digest: &Digest,
    ) -> Result<Answer> {
        let etag = format!("\"{digest}\"");
        let known = call.header(header::IF_NONE_MATCH);
        if call.is_head() {
            let (repository, wanted) = (name.clone(), digest.clone());
            let here = self
                .blocking(move |storage| storage.blob_size(&repository, &wanted))
                .await;
            let len = match (here, &self.proxy) {
                (Err(Error::BlobUnknown(_)), Some(proxy)) => proxy.blob_size(name, digest).await?,
                (len, _) => len?,
            };
            return Ok(describe(StatusCode::OK, digest).body(Body::empty(), len));
        }
        let source = self.find_blob(name, digest).await?;
        let len = source.len();
        if known.is_some_and(|tags| tags == "*" || tags.contains(&etag)) {
            return Ok(describe(StatusCode::NOT_MODIFIED, digest));
        }
        let range = call
            .header(header::RANGE)
            .filter(|_| call.header(header::IF_RANGE).is_none_or(|tag| tag == etag));
        let (answer, range) = match range::parse_range(range, len) {
            Wanted::Whole => (describe(StatusCode::OK, digest), 0..len),
            Wanted::Part(range) => {
                let content = format!("bytes {}-{}/{len}", range.start, range.end - 1);
                let answer = describe(StatusCode::PARTIAL_CONTENT, digest);
                (answer.with(header::CONTENT_RANGE, &content), range)
            }
            Wanted::Unsatisfiable => return Err(Error::RangeUnsatisfiable(len)),
        };
        let len = range.end - range.start;
        let body = match source {
            Source::Coming(download) => download.body(range),
            Source::Here(file, _) if len > INLINE_LEN_MAX => {
                Body::file(file, range.start, len, call.files.clone())
            }
            Source::Here(file, _) => {
                let mut buffer = BytesMut::zeroed(len as usize);
                file.read_exact_at(&mut buffer, range.start)
                    .map_err(Error::io("read", self.storage.content().path(digest)))?;
                Body::Bytes(buffer.freeze())
            }
        };
        Ok(answer.body(body, len))
    }

    async fn find_blob(&self, name: &Name, digest: &Digest) -> Result<Source> {
        match (self.storage.open_blob(name, digest), &self.proxy) {
            (Err(Error::BlobUnknown(_)), Some(proxy)) => {
                proxy.blob(name, digest).await.map(Source::Coming)
            }
            (found, _) => found.map(|(file, len)| Source::Here(file, len)),
        }
    }

    pub(super) async fn delete_blob(&self, name: &Name, digest: &Digest) -> Result<Answer> {
        let (name, digest) = (name.clone(), digest.clone());
        self.blocking(move |storage| storage.delete_blob(&name, &digest))
            .await?;
        Ok(Answer::new(StatusCode::ACCEPTED))
    }
}

fn describe(status: StatusCode, digest: &Digest) -> Answer {
    Answer::new(status)
        .with_digest(digest)
        .with(header::ETAG, &format!("\"{digest}\""))
        .with(header::CONTENT_TYPE, "application/octet-stream")
        .with(header::ACCEPT_RANGES, "bytes")
        .with(header::CACHE_CONTROL, CACHE_CONTROL)
}
