//! Pushing: blobs that the repository lacks are mounted from where the registry has them, or sent, several at once; then
//! the manifest, bit for bit as it is here. A blob that was never fetched is mounted or fetched from where it is known
//! to be; when nobody has it any more the manifest is made anew.

use std::io::Read;

use hull_oci::image::is_foreign;
use hull_oci::{Descriptor, Digest, Manifest, Reference};
use hull_state::images;
use reqwest::header::LOCATION;
use reqwest::{Method, Response};
use tokio::task::JoinSet;

use crate::images::Images;
use crate::progress::ProgressSink;
use crate::pull::blocking;
use crate::registry::{Access, Repository, Request};
use crate::types::{Image, PushOptions, PushOutcome};
use crate::{Error, Result};

/// Piece of a blob that is read at once.
const CHUNK_LEN: usize = 256 * 1024;
/// Bytes of one request of an upload in pieces; they are held in memory.
const CHUNK_SENT: u64 = 8 << 20;
/// The largest such piece that a registry may ask for.
const CHUNK_SENT_MAX: u64 = 64 << 20;
/// Pieces between the disk and the network.
const QUEUE_CHUNKS: usize = 4;

impl Images {
    /// Pushes an image under its name; a repository without a tag pushes all its tags.
    ///
    /// # Errors
    /// Docker's sentences: an unknown image, or what the registry refuses.
    pub async fn push(
        &self,
        reference: &Reference,
        options: &PushOptions,
        progress: &ProgressSink,
    ) -> Result<Vec<PushOutcome>> {
        if reference.digest.is_some() {
            return Err(Error::Invalid("cannot push a digest reference".to_owned()));
        }
        let repository =
            self.transport()
                .client
                .repository(reference, options.auth.as_ref(), Access::Push)?;
        progress
            .state(
                None,
                format!("The push refers to repository [{}]", reference.name()),
            )
            .await;
        let names = match &reference.tag {
            Some(_) => vec![reference.clone()],
            None => self.tags_in(reference)?,
        };
        if names.is_empty() {
            let familiar = reference.familiar_name();
            return Err(Error::NoSuchTag(format!(
                "An image does not exist locally with the tag: {familiar}"
            )));
        }
        let mut outcomes = Vec::new();
        for name in names {
            outcomes.push(self.push_tag(&repository, &name, progress).await?);
        }
        Ok(outcomes)
    }

    fn tags_in(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let names = self.options().db.read(images::names)?;
        let parsed = names
            .iter()
            .filter_map(|name| Reference::parse_normalized(&name.name).ok());
        Ok(parsed
            .filter(|name| name.name() == reference.name())
            .collect())
    }

    async fn push_tag(
        &self,
        repository: &Repository,
        name: &Reference,
        progress: &ProgressSink,
    ) -> Result<PushOutcome> {
        let known = self
            .options()
            .db
            .read(|tx| images::name(tx, &name.to_string()))?;
        let known = known.ok_or_else(|| {
            Error::NoSuchTag(format!(
                "An image does not exist locally with the tag: {}",
                name.familiar_name()
            ))
        })?;
        let image = self.resolve(&known.image_id)?;
        let image = {
            let images = self.clone();
            blocking(move || images.distributable(image)).await?
        };
        let (image, bytes, manifest) = match self.push_content(repository, &image, progress).await?
        {
            Some((bytes, manifest)) => (image, bytes, manifest),
            // Nobody has some layer as the manifest names it: as Docker does, one is made of what is here.
            None => {
                let images = self.clone();
                let image = blocking(move || images.remade(image)).await?;
                let pushed = self.push_content(repository, &image, progress).await?;
                let (bytes, manifest) =
                    pushed.ok_or_else(|| Error::NoSuchImage(image.id.to_string()))?;
                (image, bytes, manifest)
            }
        };
        let tag = name.tag.clone().unwrap_or_default();
        let media_type = manifest.media_type.unwrap_or(image.target.media_type);
        let mut request = Request::new(
            Method::PUT,
            format!("/v2/{}/manifests/{tag}", repository.path()),
        )
        .header("content-type", &media_type)?;
        request.body = bytes.into();
        let size = request.body.len() as u64;
        let response = repository.send(&request).await?;
        if !response.status().is_success() {
            return Err(repository.failure(response, false).await);
        }
        let digest = image.target.digest;
        self.options().db.write(|tx| {
            images::put_repo_digest(tx, &name.name(), &digest.to_string(), &known.image_id)
        })?;
        progress
            .state(None, format!("{tag}: digest: {digest} size: {size}"))
            .await;
        Ok(PushOutcome { tag, digest, size })
    }

    /// Brings all blobs of an image's manifest to the repository, and gives that. None when one can be had nowhere.
    async fn push_content(
        &self,
        repository: &Repository,
        image: &Image,
        progress: &ProgressSink,
    ) -> Result<Option<(Vec<u8>, Manifest)>> {
        let (bytes, manifest) = self.manifest_of(image)?;
        let blobs: Vec<Descriptor> = manifest
            .layers
            .iter()
            .chain([&manifest.config])
            .cloned()
            .collect();
        let held = blobs
            .iter()
            .map(|blob| &blob.digest)
            .chain([&image.target.digest])
            .cloned()
            .collect();
        let chains = image
            .layers
            .iter()
            .map(|layer| layer.chain_id.clone())
            .collect();
        let _lease = self.lease(held, chains).await?;
        let complete = self
            .push_blobs(repository, &blobs, &manifest.config.digest, progress)
            .await?;
        Ok(complete.then_some((bytes, manifest)))
    }

    async fn push_blobs(
        &self,
        repository: &Repository,
        blobs: &[Descriptor],
        config: &Digest,
        progress: &ProgressSink,
    ) -> Result<bool> {
        let mut tasks: JoinSet<Result<bool>> = JoinSet::new();
        let mut seen = std::collections::BTreeSet::new();
        for blob in blobs {
            if is_foreign(&blob.media_type) || !seen.insert(blob.digest.clone()) {
                continue;
            }
            let quiet = blob.digest == *config;
            let progress = if quiet {
                ProgressSink::none()
            } else {
                progress.clone()
            };
            progress.state(Some(blob.digest.short()), "Preparing").await;
            let (images, repository, blob) = (self.clone(), repository.clone(), blob.clone());
            tasks.spawn(async move { images.push_blob(&repository, &blob, &progress).await });
        }
        let mut complete = true;
        while let Some(done) = tasks.join_next().await {
            complete &=
                done.map_err(|error| Error::Invalid(format!("a layer's task failed: {error}")))??;
        }
        Ok(complete)
    }

    /// Brings a blob to the repository, whether it is here or only in another registry. False when it is nowhere.
    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        progress: &ProgressSink,
    ) -> Result<bool> {
        let id = blob.digest.short();
        let permits = self.transport().uploads.clone();
        let permit = permits.acquire_owned().await;
        let _permit =
            permit.map_err(|_| Error::Invalid("the service is shutting down".to_owned()))?;
        let head = Request::new(
            Method::HEAD,
            format!("/v2/{}/blobs/{}", repository.path(), blob.digest),
        );
        let response = repository.send(&head).await?;
        if response.status().is_success() {
            progress.state(Some(id), "Layer already exists").await;
            return Ok(true);
        }
        let sources = self.sources(&blob.digest)?;
        let mut path = format!("/v2/{}/blobs/uploads/", repository.path());
        let domain = &repository.reference.domain;
        let mountable = sources
            .iter()
            .find(|source| source.domain == *domain && source.path != repository.path());
        if let Some(source) = mountable {
            path = format!("{path}?mount={}&from={}", blob.digest, source.path);
        } else if !self.bring(&sources, repository, blob).await? {
            return Ok(false);
        }
        let response = repository.send(&Request::new(Method::POST, path)).await?;
        match response.status().as_u16() {
            201 => {
                let from = mountable.map_or("", |source| source.path.as_str());
                progress
                    .state(Some(id), format!("Mounted from {from}"))
                    .await;
                return Ok(true);
            }
            202 => {}
            _ => return Err(repository.failure(response, false).await),
        }
        let chunk_min = response
            .headers()
            .get("oci-chunk-min-length")
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let location = upload_location(&response)?;
        drop(response);
        if !self.bring(&sources, repository, blob).await? {
            return Ok(false);
        }
        match chunk_min {
            // The registry asks for pieces.
            Some(least) => {
                self.send_chunks(repository, blob, location, least, progress)
                    .await?;
            }
            None => {
                self.send_blob(repository, blob, &location, progress)
                    .await?
            }
        }
        progress.state(Some(id), "Pushed").await;
        Ok(true)
    }

    /// The repositories that are known to have the blob.
    fn sources(&self, blob: &Digest) -> Result<Vec<Reference>> {
        let names = self
            .options()
            .db
            .read(|tx| hull_state::content::repositories_of(tx, &blob.to_string()))?;
        Ok(names
            .iter()
            .filter_map(|name| Reference::parse_normalized(name).ok())
            .collect())
    }

    /// Fetches a blob that was never fetched from a repository that it is known from. False when none gives it.
    async fn bring(
        &self,
        sources: &[Reference],
        target: &Repository,
        blob: &Descriptor,
    ) -> Result<bool> {
        if self.options().content.has(&blob.digest) {
            return Ok(true);
        }
        for source in sources {
            // Credentials are for their own registry only.
            let auth = target
                .auth()
                .filter(|_| source.domain == target.reference.domain);
            let repository = self
                .transport()
                .client
                .repository(source, auth, Access::Pull)?;
            let head = Request::new(
                Method::HEAD,
                format!("/v2/{}/blobs/{}", repository.path(), blob.digest),
            );
            // Asked once before it is fetched, which is tried again and again.
            let fetched = match repository.send(&head).await {
                Ok(response) if !response.status().is_success() => continue,
                // Only the later "Pushing" is the user's business.
                Ok(_) => {
                    self.fetch_blob(&repository, blob, &ProgressSink::none())
                        .await
                }
                Err(error) => Err(error),
            };
            match fetched {
                Ok(()) => {
                    self.record_blob(blob)?;
                    return Ok(true);
                }
                Err(error) => {
                    tracing::info!(blob = %blob.digest, repository = source.name(), %error, "cannot be fetched again");
                }
            }
        }
        Ok(false)
    }

    /// Sends a blob in pieces of at least `least` bytes (distribution-spec, "Pushing a blob in chunks").
    async fn send_chunks(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        mut location: String,
        least: u64,
        progress: &ProgressSink,
    ) -> Result<()> {
        if least > CHUNK_SENT_MAX {
            return Err(Error::Invalid(format!(
                "the registry wants pieces of at least {least} bytes, more than {CHUNK_SENT_MAX}"
            )));
        }
        let length = CHUNK_SENT.max(least);
        let mut file = self.options().content.get(&blob.digest)?;
        let mut done = 0;
        while done < blob.size {
            let (back, piece) = blocking(move || read_piece(file, length)).await?;
            file = back;
            if piece.is_empty() {
                break;
            }
            let end = done + piece.len() as u64;
            let mut request = Request::new(Method::PATCH, location)
                .header("content-type", "application/octet-stream")?
                .header("content-range", &format!("{done}-{}", end - 1))?;
            request.body = piece.into();
            let response = repository.send(&request).await?;
            if response.status() != 202 {
                return Err(repository.failure(response, false).await);
            }
            location = upload_location(&response)?;
            done = end;
            progress.count(blob.digest.short(), "Pushing", done, Some(blob.size));
        }
        let complete = Request::new(Method::PUT, with_digest(&location, &blob.digest)?);
        let response = repository.send(&complete).await?;
        match response.status().as_u16() {
            201 => Ok(()),
            _ => Err(repository.failure(response, false).await),
        }
    }

    /// Sends a blob in one request, streamed from the disk.
    async fn send_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        location: &str,
        progress: &ProgressSink,
    ) -> Result<()> {
        let id = blob.digest.short();
        let attempts = self.transport().attempts_max;
        let mut delay = self.options().registries.retry_delay;
        for attempt in 1.. {
            let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE_CHUNKS);
            let file = self.options().content.get(&blob.digest)?;
            let (told, total, name) = (progress.clone(), blob.size, id.to_owned());
            let reading = tokio::spawn(blocking(move || {
                read_chunks(file, &sender, &told, &name, total)
            }));
            let complete = with_digest(location, &blob.digest)?;
            let sent = repository.upload(&complete, blob.size, receiver).await;
            let read = reading
                .await
                .map_err(|error| Error::Invalid(format!("reading failed: {error}")))?;
            match sent {
                Ok(response) if response.status() == 201 => return read,
                // Too much for one request: something on the way has a limit, which pieces may keep.
                Ok(response) if response.status() == 413 && blob.size > CHUNK_SENT => {
                    let path = format!("/v2/{}/blobs/uploads/", repository.path());
                    let response = repository.send(&Request::new(Method::POST, path)).await?;
                    if response.status() != 202 {
                        return Err(repository.failure(response, false).await);
                    }
                    let location = upload_location(&response)?;
                    return self
                        .send_chunks(repository, blob, location, 0, progress)
                        .await;
                }
                Ok(response) if response.status().as_u16() < 500 || attempt >= attempts => {
                    return Err(repository.failure(response, false).await);
                }
                Err(error) if attempt >= attempts || !matches!(error, Error::Request { .. }) => {
                    return Err(error);
                }
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        Ok(())
    }
}

/// Reads the next piece of a file, at most `length` bytes.
fn read_piece(file: std::fs::File, length: u64) -> Result<(std::fs::File, Vec<u8>)> {
    let mut piece = Vec::new();
    let read = (&file).take(length).read_to_end(&mut piece);
    read.map_err(|source| Error::Stream {
        operation: "read a blob",
        source,
    })?;
    Ok((file, piece))
}

/// Reads a file into the queue. A reader that is gone is the upload's failure, not ours.
fn read_chunks(
    mut file: std::fs::File,
    sender: &tokio::sync::mpsc::Sender<bytes::Bytes>,
    progress: &ProgressSink,
    id: &str,
    total: u64,
) -> Result<()> {
    let mut done = 0;
    loop {
        let mut chunk = vec![0; CHUNK_LEN];
        let count = file.read(&mut chunk).map_err(|source| Error::Stream {
            operation: "read a blob",
            source,
        })?;
        if count == 0 {
            return Ok(());
        }
        chunk.truncate(count);
        if sender.blocking_send(chunk.into()).is_err() {
            return Ok(());
        }
        done += count as u64;
        progress.count(id, "Pushing", done, Some(total));
    }
}

/// Where an upload goes on.
fn upload_location(response: &Response) -> Result<String> {
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| {
        Error::Invalid("the registry began an upload without a location".to_owned())
    })?;
    let url = response.url().join(location).map_err(|_| {
        Error::Invalid(format!(
            "the registry's upload location is invalid: {location:?}"
        ))
    })?;
    Ok(url.to_string())
}

/// The address that completes an upload.
fn with_digest(location: &str, digest: &Digest) -> Result<String> {
    let mut url = reqwest::Url::parse(location)
        .map_err(|_| Error::Invalid(format!("invalid address {location:?}")))?;
    url.query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    Ok(url.to_string())
}
