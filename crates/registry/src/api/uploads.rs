//! Uploads: begin, append, ask, finish, cancel, and mounting instead of uploading.

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderName};
use hull_oci::{Algorithm, Digest};
use tokio::task::JoinHandle;

use super::response::upload_range;
use super::{Answer, App, Call};
use crate::error::{Error, Result};
use crate::name::{Name, UploadId};
use crate::net::body::RequestBody;
use crate::range;
use crate::route::parse_digest;
use crate::storage::Upload;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// How many bytes are gathered before a blocking thread hashes and writes them; twice as many are in memory for each
/// upload, and no thread waits for a slow client.
const BATCH_LEN: usize = 256 << 10;

impl App {
    pub(super) async fn start_upload(
        &self,
        call: &Call<'_>,
        name: &Name,
        body: RequestBody,
    ) -> Result<Answer> {
        if let Some(mounted) = self.try_mount(call, name).await? {
            return Ok(mounted);
        }
        let digest = call.query.get("digest").map(parse_digest).transpose()?;
        let algorithm = match &digest {
            Some(digest) => digest.algorithm(),
            None => call
                .query
                .get("digest-algorithm")
                .map_or(Ok(Algorithm::Sha256), |name| {
                    name.parse().map_err(Error::DigestMalformed)
                })?,
        };
        let repository = name.clone();
        let upload = self
            .blocking(move |storage| storage.start_upload(&repository, algorithm))
            .await?;
        match digest {
            None => Ok(accepted(name, upload.id(), 0)),
            Some(digest) => {
                let id = upload.id().clone();
                match self.receive_and_finish(name, upload, &digest, body).await {
                    Ok(answer) => Ok(answer),
                    Err(error) => {
                        // Nobody knows the id, so nobody could go on.
                        let repository = name.clone();
                        let _ = self
                            .blocking(move |storage| storage.cancel_upload(&repository, &id))
                            .await;
                        Err(error)
                    }
                }
            }
        }
    }

    /// Mounts the blob that the query names. A mount that cannot be is an upload that begins (distribution-spec, "Mounting a
    /// blob from another repository"), so a bad source is no error.
    async fn try_mount(&self, call: &Call<'_>, name: &Name) -> Result<Option<Answer>> {
        let Some(digest) = call.query.get("mount").filter(|digest| !digest.is_empty()) else {
            return Ok(None);
        };
        let digest = parse_digest(digest)?;
        let from = match call
            .query
            .get("from")
            .filter(|from| !from.is_empty())
            .map(Name::new)
        {
            Some(Ok(from)) => Some(from),
            Some(Err(_)) => return Ok(None),
            None => None,
        };
        // The token was checked for the source; without one it could be any repository's.
        if from.is_none() && self.auth.is_by_repository() {
            return Ok(None);
        }
        let (repository, wanted) = (name.clone(), digest.clone());
        let mounted = self
            .blocking(move |storage| storage.mount(&repository, from.as_ref(), &wanted))
            .await?;
        Ok(mounted.then(|| created(name, &digest)))
    }

    pub(super) async fn upload_status(&self, name: &Name, id: &UploadId) -> Result<Answer> {
        let status = self.storage.upload_status(name, id)?;
        Ok(progress(StatusCode::NO_CONTENT, name, id, status.offset))
    }

    pub(super) async fn append_upload(
        &self,
        call: &Call<'_>,
        name: &Name,
        id: &UploadId,
        body: RequestBody,
    ) -> Result<Answer> {
        let upload = self.resume(name, id).await?;
        let expected = check_range(call, name, &upload, &body)?;
        let (upload, received) = self.receive(upload, body).await?;
        if expected.is_some_and(|len| len != received) {
            return Err(Error::SizeInvalid);
        }
        Ok(accepted(name, id, upload.offset()))
    }

    pub(super) async fn finish_upload(
        &self,
        call: &Call<'_>,
        name: &Name,
        id: &UploadId,
        body: RequestBody,
    ) -> Result<Answer> {
        let digest = call
            .query
            .get("digest")
            .ok_or(Error::UploadInvalid("the digest is missing"))?;
        let digest = parse_digest(digest)?;
        let mut upload = self.resume(name, id).await?;
        check_range(call, name, &upload, &body)?;
        upload.expect_algorithm(digest.algorithm());
        self.receive_and_finish(name, upload, &digest, body).await
    }

    pub(super) async fn cancel_upload(&self, name: &Name, id: &UploadId) -> Result<Answer> {
        let (name, id) = (name.clone(), id.clone());
        self.blocking(move |storage| storage.cancel_upload(&name, &id))
            .await?;
        Ok(Answer::new(StatusCode::NO_CONTENT))
    }

    async fn resume(&self, name: &Name, id: &UploadId) -> Result<Upload> {
        let (name, id) = (name.clone(), id.clone());
        self.blocking(move |storage| storage.resume_upload(&name, &id))
            .await
    }

    async fn receive_and_finish(
        &self,
        name: &Name,
        upload: Upload,
        digest: &Digest,
        body: RequestBody,
    ) -> Result<Answer> {
        let (upload, _) = self.receive(upload, body).await?;
        let (repository, expected) = (name.clone(), digest.clone());
        self.blocking(move |storage| storage.finish_upload(&repository, upload, &expected))
            .await?;
        Ok(created(name, digest))
    }

    /// Writes a body to an upload while more of it comes in; how many bytes it had. What has come before a failure stays: the
    /// client may ask for it and go on.
    async fn receive(&self, upload: Upload, mut body: RequestBody) -> Result<(Upload, u64)> {
        let mut writer = Writer::Idle(Box::new(upload));
        let (mut batch, mut batch_len, mut received) = (Vec::new(), 0, 0);
        let ended = loop {
            match body.next().await {
                Ok(Some(bytes)) => {
                    received += bytes.len() as u64;
                    self.metrics.received(bytes.len() as u64);
                    batch_len += bytes.len();
                    batch.push(bytes);
                    if batch_len >= BATCH_LEN {
                        writer = writer.start(std::mem::take(&mut batch)).await?;
                        batch_len = 0;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let upload = writer.start(batch).await?.wait().await?;
        ended.map(|()| (upload, received))
    }
}

/// An upload, or the task that has it while it writes a batch.
enum Writer {
    Idle(Box<Upload>),
    Writing(JoinHandle<Result<Upload>>),
}

impl Writer {
    async fn wait(self) -> Result<Upload> {
        match self {
            Writer::Idle(upload) => Ok(*upload),
            Writer::Writing(task) => task.await?,
        }
    }

    /// Waits for the batch before, and starts the next.
    async fn start(self, batch: Vec<Bytes>) -> Result<Writer> {
        let mut upload = self.wait().await?;
        if batch.is_empty() {
            return Ok(Writer::Idle(Box::new(upload)));
        }
        Ok(Writer::Writing(tokio::task::spawn_blocking(move || {
            for bytes in batch {
                upload.write(&bytes)?;
            }
            Ok(upload)
        })))
    }
}

/// Checks that a chunk goes on where the upload ends; its announced length. Without `Content-Range` everything is appended.
fn check_range(
    call: &Call<'_>,
    name: &Name,
    upload: &Upload,
    body: &RequestBody,
) -> Result<Option<u64>> {
    let Some(header) = call.header(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let range = range::parse_content_range(header)
        .ok_or(Error::UploadInvalid("the Content-Range does not parse"))?;
    if range.start != upload.offset() {
        return Err(Error::ChunkOutOfOrder {
            offset: upload.offset(),
            location: location(name, upload.id()),
        });
    }
    let len = range.end - range.start;
    if body.announced().is_some_and(|announced| announced != len) {
        return Err(Error::SizeInvalid);
    }
    Ok(Some(len))
}

/// Relative, so that it is right behind any proxy.
fn location(name: &Name, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn progress(status: StatusCode, name: &Name, id: &UploadId, offset: u64) -> Answer {
    Answer::new(status)
        .with(header::LOCATION, &location(name, id))
        .with(header::RANGE, &upload_range(offset))
        .with(UPLOAD_UUID, id.as_str())
}

fn accepted(name: &Name, id: &UploadId, offset: u64) -> Answer {
    progress(StatusCode::ACCEPTED, name, id, offset)
}

fn created(name: &Name, digest: &Digest) -> Answer {
    Answer::new(StatusCode::CREATED)
        .with(header::LOCATION, &format!("/v2/{name}/blobs/{digest}"))
        .with_digest(digest)
}
