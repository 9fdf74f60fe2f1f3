//! A blob that comes in from upstream once, and goes out to everybody who waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use hull_oci::Digest;
use tokio::sync::{mpsc, watch};

use super::upstream::{Upstream, failed};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::net::body::Body;
use crate::storage::{Storage, Upload};

/// How much is written and sent on at once.
const PIECE_LEN: usize = 256 << 10;
/// Pieces that may wait for a slow client.
const PIECES_MAX: usize = 2;

/// The downloads under way, by repository and digest.
#[derive(Debug, Default, Clone)]
pub struct Downloads(Arc<Mutex<Running>>);

type Running = HashMap<(Name, Digest), Arc<Download>>;

/// One download.
#[derive(Debug)]
pub struct Download {
    /// The blob's length in bytes.
    pub len: u64,
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    written: u64,
    ended: Option<bool>,
}

impl Downloads {
    /// Begins a download, or joins one. Two that begin at the same time both fetch; the second to finish changes nothing.
    pub async fn join(
        &self,
        upstream: &Upstream,
        storage: &Arc<Storage>,
        name: &Name,
        digest: &Digest,
    ) -> Result<Arc<Download>> {
        let key = (name.clone(), digest.clone());
        if let Some(download) = self.lock().get(&key) {
            return Ok(download.clone());
        }
        let response = upstream
            .get(Method::GET, name, &format!("blobs/{digest}"))
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Error::BlobUnknown(digest.clone()));
        }
        let response = super::succeeded(response)?;
        let len = response
            .content_length()
            .ok_or_else(|| Error::Upstream("it did not say how long the blob is".into()))?;
        let (opener, repository, algorithm) = (storage.clone(), name.clone(), digest.algorithm());
        let upload =
            tokio::task::spawn_blocking(move || opener.start_upload(&repository, algorithm))
                .await??;
        let file = Arc::new(upload.reader()?);
        let (sender, progress) = watch::channel(Progress {
            written: 0,
            ended: None,
        });
        let download = Arc::new(Download {
            len,
            file,
            progress,
        });
        self.lock().insert(key.clone(), download.clone());
        let (downloads, storage) = (self.clone(), storage.clone());
        tokio::spawn(async move {
            let outcome = receive(response, upload, &storage, &key, len, &sender).await;
            downloads.lock().remove(&key);
            if let Err(error) = &outcome {
                tracing::warn!(digest = %key.1, "download failed: {error}");
            }
            sender.send_modify(|progress| progress.ended = Some(outcome.is_ok()));
        });
        Ok(download)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive(
    response: reqwest::Response,
    upload: Upload,
    storage: &Arc<Storage>,
    (name, digest): &(Name, Digest),
    len: u64,
    progress: &watch::Sender<Progress>,
) -> Result<()> {
    let id = upload.id().clone();
    let received = write_all(response, upload, len, progress).await;
    let (storage, name, digest) = (storage.clone(), name.clone(), digest.clone());
    tokio::task::spawn_blocking(move || match received {
        Ok(upload) => storage.finish_upload(&name, upload, &digest),
        Err(error) => {
            // Upstream would have to be asked for the rest by range; a fresh start is simpler and as right.
            let _ = storage.cancel_upload(&name, &id);
            Err(error)
        }
    })
    .await?
}

async fn write_all(
    mut response: reqwest::Response,
    mut upload: Upload,
    len: u64,
    progress: &watch::Sender<Progress>,
) -> Result<Upload> {
    loop {
        let mut batch: Vec<Bytes> = Vec::new();
        let mut batch_len = 0;
        let ended = loop {
            match response.chunk().await.map_err(failed)? {
                None => break true,
                Some(bytes) => {
                    batch_len += bytes.len();
                    batch.push(bytes);
                }
            }
            if batch_len >= PIECE_LEN {
                break false;
            }
        };
        upload = tokio::task::spawn_blocking(move || {
            batch
                .iter()
                .try_for_each(|bytes| upload.write(bytes))
                .map(|()| upload)
        })
        .await??;
        if upload.offset() > len || (ended && upload.offset() != len) {
            return Err(Error::Upstream(format!(
                "it sent {} of {len} bytes",
                upload.offset()
            )));
        }
        progress.send_modify(|progress| progress.written = upload.offset());
        if ended {
            return Ok(upload);
        }
    }
}

impl Download {
    /// A body that sends a part of the blob as it comes in.
    pub fn body(self: &Arc<Self>, range: Range<u64>) -> Body {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        let download = self.clone();
        let len = range.end - range.start;
        tokio::spawn(async move {
            if let Err(error) = download.send(range, &sender).await {
                // The client may be gone, too.
                let _ = sender.send(Err(error)).await;
            }
        });
        Body::Channel(receiver, len)
    }

    async fn send(
        &self,
        range: Range<u64>,
        sender: &mpsc::Sender<std::io::Result<Bytes>>,
    ) -> std::io::Result<()> {
        let mut progress = self.progress.clone();
        let mut at = range.start;
        while at < range.end {
            let now = *progress.borrow_and_update();
            let there = match now.ended {
                Some(true) => self.len,
                Some(false) => return Err(std::io::Error::other("the download failed")),
                // The last byte waits for the verification.
                None => now.written.min(self.len.saturating_sub(1)),
            };
            let end = there.min(range.end);
            if at >= end {
                if progress.changed().await.is_err() {
                    return Err(std::io::Error::other("the download was lost"));
                }
                continue;
            }
            let piece = usize::try_from(end - at)
                .unwrap_or(PIECE_LEN)
                .min(PIECE_LEN);
            let file = self.file.clone();
            let bytes = tokio::task::spawn_blocking(move || {
                let mut buffer = BytesMut::zeroed(piece);
                file.read_exact_at(&mut buffer, at)
                    .map(|()| buffer.freeze())
            })
            .await
            .map_err(std::io::Error::other)??;
            at += bytes.len() as u64;
            if sender.send(Ok(bytes)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}
