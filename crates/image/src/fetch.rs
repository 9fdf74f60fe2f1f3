//! One layer of a pull: an async side that fetches, a blocking side that verifies, decompresses and unpacks.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use hull_oci::image::{is_foreign, sniff};
use hull_oci::{Descriptor, Digest};
use hull_store::content::BlobWriter;
use hull_store::layer::decompress;
use tokio::sync::mpsc;

use crate::images::Images;
use crate::progress::ProgressSink;
use crate::pull::blocking;
use crate::registry::Repository;
use crate::unpack::Staged;
use crate::{Error, Result};

/// Chunks between the network and the unpacking thread of one layer. hyper's are at most some hundred KiB.
const QUEUE_CHUNKS: usize = 8;
/// Between two counters of the same layer.
const COUNT_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of one try that count as progress.
const PROGRESS_MIN: u64 = 1 << 20;
/// Addresses of a foreign layer that are tried.
const URLS_MAX: usize = 8;
/// Longest wait between two tries.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);

impl Images {
    /// Fetches and unpacks one layer; `None` when it appeared meanwhile.
    pub(crate) async fn pull_layer(
        self,
        repository: Repository,
        blob: Descriptor,
        chain: Digest,
        progress: ProgressSink,
    ) -> Result<Option<Staged>> {
        let id = blob.digest.short().to_owned();
        if self.has_layer(&chain)? {
            progress.state(Some(&id), "Already exists").await;
            return Ok(None);
        }
        let permits = self.transport().downloads.clone();
        let _permit = match permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                progress.state(Some(&id), "Waiting").await;
                let permit = permits.clone().acquire_owned().await;
                permit.map_err(|_| Error::Invalid("the service is shutting down".to_owned()))?
            }
        };
        if self.options().content.has(&blob.digest) {
            progress.state(Some(&id), "Download complete").await;
            let images = self.clone();
            return blocking(move || images.stage_blob(&blob.digest, false))
                .await
                .map(Some);
        }
        let writer = self
            .options()
            .content
            .resume(blob.digest.clone(), Some(blob.size))?;
        let offset = writer.resume_offset();
        let (sender, receiver) = mpsc::channel(QUEUE_CHUNKS);
        let images = self.clone();
        let name = format!("layer {}", blob.digest.short());
        let unpacking =
            tokio::task::spawn_blocking(move || images.unpack_stream(receiver, writer, &name));
        let fetched = self
            .fetch(&repository, &blob, offset, sender, &progress)
            .await;
        let unpacked = unpacking
            .await
            .map_err(|error| Error::Invalid(format!("unpacking failed: {error}")))?;
        // The unpacking side knows better why it stopped; a failed fetch looks like a cut stream to it.
        match (fetched, unpacked) {
            (Ok(()), unpacked) => {
                let staged = unpacked?;
                progress.state(Some(&id), "Download complete").await;
                Ok(Some(staged))
            }
            (Err(Fetch::Refused), Err(error)) => Err(error),
            (Err(Fetch::Refused), Ok(_)) => Err(Error::Invalid(format!(
                "layer {id} has more bytes than promised"
            ))),
            (Err(Fetch::Failed(error)), _) => Err(error),
        }
    }

    /// Fetches a blob alone, which stays packed. Nothing to do when it is here. The caller holds a lease on it.
    pub(crate) async fn fetch_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        progress: &ProgressSink,
    ) -> Result<()> {
        let _lock = self.inner.layer_locks.lock(&blob.digest).await;
        let content = &self.options().content;
        if content.has(&blob.digest) {
            return Ok(());
        }
        let writer = content.resume(blob.digest.clone(), Some(blob.size))?;
        let offset = writer.resume_offset();
        let (sender, receiver) = mpsc::channel(QUEUE_CHUNKS);
        let writing = tokio::task::spawn_blocking(move || {
            let mut incoming = Incoming::new(receiver, writer);
            incoming.drain().map_err(unwrap_store)?;
            incoming.writer.commit().map(drop)
        });
        let fetched = self.fetch(repository, blob, offset, sender, progress).await;
        let written = writing
            .await
            .map_err(|error| Error::Invalid(format!("writing a blob failed: {error}")))?;
        match fetched {
            Ok(()) | Err(Fetch::Refused) => written
                .map_err(|error| Error::Layer(format!("layer {}", blob.digest.short()), error)),
            Err(Fetch::Failed(error)) => Err(error),
        }
    }

    /// The blocking side of one layer: writes, hashes, decompresses and unpacks what arrives.
    fn unpack_stream(
        &self,
        receiver: mpsc::Receiver<Bytes>,
        writer: BlobWriter,
        name: &str,
    ) -> Result<Staged> {
        let shared = Arc::new(Mutex::new(Incoming::new(receiver, writer)));
        let mut reader = IncomingReader(shared.clone());
        let mut head = [0; 8];
        let mut filled = 0;
        let stream = |source| Error::Stream {
            operation: "read a layer",
            source,
        };
        while filled < head.len() {
            match reader.read(&mut head[filled..]).map_err(stream)? {
                0 => break,
                count => filled += count,
            }
        }
        let head = head[..filled].to_vec();
        let compression = sniff(&head);
        let plain = decompress(io::Cursor::new(head).chain(reader), compression).map_err(stream)?;
        let staged = self.stage(plain, None);
        let mut incoming = shared.lock().unwrap_or_else(PoisonError::into_inner);
        // What is left of the blob belongs to its digest; a wrong digest explains a damaged layer better.
        let drained = incoming.drain();
        drop(incoming);
        let incoming = Arc::into_inner(shared).map(|incoming| {
            incoming
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
        });
        let committed = match (drained, incoming) {
            (Ok(()), Some(incoming)) => incoming.writer.commit().map(drop),
            (Ok(()), None) => return Err(Error::Invalid("a decoder kept its input".to_owned())),
            (Err(source), _) => Err(unwrap_store(source)),
        };
        let wrap = |error| match &error {
            hull_store::Error::DigestMismatch { expected, .. } => {
                let sentence =
                    format!("filesystem layer verification failed for digest {expected}");
                Error::Layer(sentence, error)
            }
            _ => Error::Layer(name.to_owned(), error),
        };
        match (committed, staged) {
            (Ok(()), staged) => staged.map_err(wrap),
            (Err(error @ hull_store::Error::SizeMismatch { .. }), Err(damage))
                if damage.is_no_space() =>
            {
                drop(error);
                Err(wrap(damage))
            }
            (Err(error), _) => Err(wrap(error)),
        }
    }

    /// The network side of one layer: from `offset` on, tried again after a failure from where it stopped.
    async fn fetch(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        mut offset: u64,
        sender: mpsc::Sender<Bytes>,
        progress: &ProgressSink,
    ) -> std::result::Result<(), Fetch> {
        let id = blob.digest.short();
        let config = &self.options().registries;
        let mut delay = config.retry_delay;
        let mut attempts = 1;
        while offset < blob.size {
            let before = offset;
            let error = match self
                .fetch_once(repository, blob, &mut offset, &sender, progress)
                .await
            {
                Ok(()) if offset >= blob.size => break,
                Ok(()) => Error::Registry {
                    host: repository.registry().name.clone(),
                    status: 200,
                    reason: format!(
                        "unexpected EOF: {offset} of {} bytes of layer {id}",
                        blob.size
                    ),
                },
                Err(Fetch::Refused) => return Err(Fetch::Refused),
                Err(Fetch::Failed(error)) => error,
            };
            // Progress deserves patience, if it is more than a trickle.
            let progressed = offset - before >= PROGRESS_MIN;
            attempts = if progressed { 1 } else { attempts + 1 };
            if attempts > self.transport().attempts_max || !is_transient(&error) {
                return Err(Fetch::Failed(error));
            }
            tracing::info!(layer = id, offset, %error, "download failed, trying again");
            if let Error::RateLimited {
                retry_after_s: Some(after),
                ..
            } = &error
            {
                delay = delay.max(Duration::from_secs(*after));
            }
            let seconds = delay.as_secs().max(1);
            progress
                .state(
                    Some(id),
                    format!(
                        "Retrying in {seconds} second{}",
                        if seconds == 1 { "" } else { "s" }
                    ),
                )
                .await;
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
        progress.state(Some(id), "Verifying Checksum").await;
        Ok(())
    }

    /// Opens a blob from `offset` on: a foreign layer at the addresses that its descriptor gives (without credentials, and
    /// verified like any other), everything else, and what cannot be had there, in the repository.
    async fn open_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<(reqwest::Response, u64)> {
        let urls = blob
            .urls
            .iter()
            .filter(|_| is_foreign(&blob.media_type))
            .take(URLS_MAX);
        for address in urls {
            let Ok(url) = reqwest::Url::parse(address) else {
                continue;
            };
            match self.transport().client.get(url).await {
                Ok(response) if response.status() == 200 => return Ok((response, 0)),
                Ok(response) => {
                    tracing::info!(address, status = %response.status(), "no layer there");
                }
                Err(error) => tracing::info!(address, %error, "no layer there"),
            }
        }
        repository.blob(&blob.digest, offset).await
    }

    async fn fetch_once(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        offset: &mut u64,
        sender: &mpsc::Sender<Bytes>,
        progress: &ProgressSink,
    ) -> std::result::Result<(), Fetch> {
        let id = blob.digest.short();
        let (response, start) = self
            .open_blob(repository, blob, *offset)
            .await
            .map_err(Fetch::Failed)?;
        let mut skip = *offset - start;
        let url = response.url().clone();
        let mut stream = response.bytes_stream();
        let mut counted = Instant::now();
        progress.count(id, "Downloading", *offset, Some(blob.size));
        while let Some(chunk) = stream.next().await {
            let mut chunk = chunk.map_err(|error| {
                Fetch::Failed(crate::registry::request_error("Get", &url, &error))
            })?;
            if skip > 0 {
                let cut = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
                chunk = chunk.slice(cut..);
                skip -= cut as u64;
            }
            if chunk.is_empty() {
                continue;
            }
            let length = chunk.len() as u64;
            sender.send(chunk).await.map_err(|_| Fetch::Refused)?;
            *offset += length;
            if *offset > blob.size {
                return Err(Fetch::Refused);
            }
            if counted.elapsed() >= COUNT_INTERVAL {
                counted = Instant::now();
                progress.count(id, "Downloading", *offset, Some(blob.size));
            }
        }
        Ok(())
    }
}

/// Why a fetch ended early.
enum Fetch {
    /// The unpacking side would not take more.
    Refused,
    /// The registry or the network failed.
    Failed(Error),
}

/// Whether trying again may help.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::Request { .. } => true,
        Error::RateLimited { retry_after_s, .. } => {
            retry_after_s.is_none_or(|after| after <= RETRY_DELAY_MAX.as_secs())
        }
        Error::Registry { status, .. } => *status >= 500 || *status < 300 || *status == 408,
        _ => false,
    }
}

/// What arrives from the network: old bytes of an earlier attempt first, then chunks, all going into the blob's file.
struct Incoming {
    receiver: mpsc::Receiver<Bytes>,
    writer: BlobWriter,
    chunk: Bytes,
    replaying: bool,
}

impl Incoming {
    fn new(receiver: mpsc::Receiver<Bytes>, writer: BlobWriter) -> Self {
        Incoming {
            receiver,
            writer,
            chunk: Bytes::new(),
            replaying: true,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.replaying {
            match self.writer.replay(buffer)? {
                0 => self.replaying = false,
                count => return Ok(count),
            }
        }
        if self.chunk.is_empty() {
            let Some(chunk) = self.receiver.blocking_recv() else {
                return Ok(0);
            };
            self.writer.write_all(&chunk)?;
            self.chunk = chunk;
        }
        let count = self.chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.chunk[..count]);
        self.chunk = self.chunk.slice(count..);
        Ok(count)
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

struct IncomingReader(Arc<Mutex<Incoming>>);

impl Read for IncomingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read(buffer)
    }
}

/// The store's own error inside an I/O error, or one made of it.
fn unwrap_store(error: io::Error) -> hull_store::Error {
    match error.downcast::<hull_store::Error>() {
        Ok(inner) => inner,
        Err(source) => hull_store::Error::Io {
            operation: "store",
            path: "layer".into(),
            source,
        },
    }
}
