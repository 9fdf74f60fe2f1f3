//! Pulling: from a reference to a recorded image.
//!
//! Every layer is fetched, verified, decompressed and unpacked as one stream, several at once; each is unpacked into a
//! directory of its own, and only the commits are in order. The network side is async and feeds a small queue; the rest
//! runs on one blocking thread per layer. Memory is bounded by the number of downloads times the queue.

use std::collections::BTreeMap;

use hull_oci::image::{Document, chain_ids, is_index, is_layer};
use hull_oci::{Descriptor, Digest, Index, Manifest, Platform, Reference};
use hull_state::images;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;

use crate::images::{CONFIG_LEN_MAX, Images, id_of_reference};
use crate::lease::Lease;
use crate::load::INDEX_DEPTH_MAX;
use crate::progress::ProgressSink;
use crate::registry::{Access, ManifestBody, Repository, read_bounded};
use crate::types::{DistributionInspect, Login, PullOptions, PullOutcome};
use crate::unpack::{Documents, NewImage, Staged, is_image_config, parse_config};
use crate::{Auth, Error, Result};

/// The manifest that a reference leads to, and by which index.
pub(crate) struct Target {
    pub manifest: Manifest,
    pub body: ManifestBody,
    pub kind: String,
    pub index: Option<(ManifestBody, String)>,
}

impl Target {
    /// The digest that the reference has in the registry.
    pub fn digest(&self) -> &Digest {
        self.index
            .as_ref()
            .map_or(&self.body.digest, |(index, _)| &index.digest)
    }
}

impl Images {
    /// Pulls an image; without tag and digest, `latest`.
    ///
    /// # Errors
    /// Docker's sentences for what the registry refuses or does not have.
    pub async fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &ProgressSink,
    ) -> Result<PullOutcome> {
        let reference = reference.clone().with_default_tag();
        let repository =
            self.transport()
                .client
                .repository(&reference, options.auth.as_ref(), Access::Pull)?;
        let wanted = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_default(),
        };
        progress
            .state(Some(&wanted), format!("Pulling from {}", reference.path))
            .await;
        self.check_rejected(&reference)?;
        // What must be signed is judged at every pull: keys and policies change.
        if self.needs_no_signature(&reference)
            && let Some(outcome) = self
                .is_current(&repository, &reference, &wanted, options)
                .await?
        {
            finish_words(progress, &reference, &outcome).await;
            return Ok(outcome);
        }
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let target = find_manifest(&repository, &wanted, &platform).await?;
        let mut digests = vec![target.digest().clone(), target.body.digest.clone()];
        digests.dedup();
        self.check_signatures(&repository, &reference, &digests, progress)
            .await?;
        let before = self
            .options()
            .db
            .try_read::<_, Error>(|tx| id_of_reference(tx, &reference))?;
        let digest = target.digest().clone();
        let image_id = match is_image_config(&target.manifest.config.media_type) {
            true => {
                self.pull_manifest(&repository, &target, &reference, progress)
                    .await?
            }
            false => {
                self.pull_artifact(&repository, target, &reference, progress)
                    .await?
            }
        };
        let up_to_date = before == Some(image_id.to_string());
        let outcome = PullOutcome {
            image_id,
            digest,
            up_to_date,
        };
        finish_words(progress, &reference, &outcome).await;
        Ok(outcome)
    }

    /// Pulls every tag of a repository.
    ///
    /// # Errors
    /// As [`Images::pull`]; the first tag that fails ends it.
    pub async fn pull_all_tags(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &ProgressSink,
    ) -> Result<Vec<PullOutcome>> {
        let repository =
            self.transport()
                .client
                .repository(reference, options.auth.as_ref(), Access::Pull)?;
        let mut outcomes = Vec::new();
        for tag in repository.tags().await? {
            outcomes.push(
                self.pull(&reference.tagged(&tag)?, options, progress)
                    .await?,
            );
        }
        Ok(outcomes)
    }

    /// What a registry has under a reference, without fetching it.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub async fn distribution_inspect(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
    ) -> Result<DistributionInspect> {
        let reference = reference.clone().with_default_tag();
        let repository = self
            .transport()
            .client
            .repository(&reference, auth, Access::Pull)?;
        let wanted = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_default(),
        };
        let body = repository.manifest(&wanted).await?;
        let (kind, document) = parse(&body)?;
        let descriptor = Descriptor::new(kind, body.digest.clone(), body.bytes.len() as u64);
        let platforms = match document {
            Document::Index(index) => index
                .manifests
                .into_iter()
                .filter_map(|entry| entry.platform)
                .collect(),
            Document::Manifest(manifest) => {
                let bytes = fetch_config(&repository, &manifest.config).await?;
                parse_config(&bytes, manifest.layers.len())
                    .map(|config| vec![config.platform()])
                    .unwrap_or_default()
            }
        };
        Ok(DistributionInspect {
            descriptor,
            platforms,
        })
    }

    /// Checks credentials with a registry (`index.docker.io` for an empty name).
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for wrong ones.
    pub async fn login(&self, registry: &str, auth: &Auth) -> Result<Login> {
        let name = registry
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let name = name
            .split('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or("docker.io");
        let host = self.transport().client.host(name)?;
        let request = crate::registry::Request::new(reqwest::Method::GET, "/v2/");
        let response = host.send(&request, Some(auth), "").await?;
        if !response.status().is_success() {
            return Err(Error::Registry {
                host: host.name.clone(),
                status: response.status().as_u16(),
                reason: format!(
                    "login attempt to {} failed with status: {}",
                    response.url(),
                    response.status()
                ),
            });
        }
        let identity_token = host.identity_token(auth).await?;
        Ok(Login {
            status: "Login Succeeded".to_owned(),
            identity_token,
        })
    }

    /// Whether the image is here as the registry has it: one round trip by tag, none by digest.
    async fn is_current(
        &self,
        repository: &Repository,
        reference: &Reference,
        wanted: &str,
        options: &PullOptions,
    ) -> Result<Option<PullOutcome>> {
        let here =
            self.options().db.try_read::<_, Error>(|tx| {
                let Some(id) = id_of_reference(tx, reference)? else {
                    return Ok(None);
                };
                let name = images::name(tx, &reference.to_string())?;
                Ok(images::record(tx, &id)?
                    .map(|record| (record, name.map(|name| name.target_digest))))
            })?;
        let Some((record, target_digest)) = here else {
            return Ok(None);
        };
        let own = record.platform.parse::<Platform>().unwrap_or_default();
        if !own.matches(&options.platform.clone().unwrap_or_else(Platform::host)) {
            return Ok(None);
        }
        let digest = match &reference.digest {
            Some(digest) => digest.clone(),
            None => {
                let Some(target_digest) = target_digest else {
                    return Ok(None);
                };
                let head = repository.head_manifest(wanted).await?;
                match head.and_then(|head| head.digest) {
                    Some(digest) if digest.to_string() == target_digest => digest,
                    Some(_) | None => return Ok(None),
                }
            }
        };
        let Ok(image_id) = record.id.parse() else {
            return Ok(None);
        };
        Ok(Some(PullOutcome {
            image_id,
            digest,
            up_to_date: true,
        }))
    }

    async fn pull_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        reference: &Reference,
        progress: &ProgressSink,
    ) -> Result<Digest> {
        let manifest = &target.manifest;
        if let Some(strange) = manifest
            .layers
            .iter()
            .find(|layer| !is_layer(&layer.media_type))
        {
            return Err(Error::Invalid(format!(
                "unsupported media type {} of a layer",
                strange.media_type
            )));
        }
        let blobs: Vec<Digest> = [&target.body.digest, &manifest.config.digest]
            .into_iter()
            .chain(target.index.iter().map(|(index, _)| &index.digest))
            .chain(manifest.layers.iter().map(|layer| &layer.digest))
            .cloned()
            .collect();
        let lease = self.lease(blobs, Vec::new()).await?;
        let config_bytes = fetch_config(repository, &manifest.config).await?;
        let config = parse_config(&config_bytes, manifest.layers.len())?;
        let chains = chain_ids(&config.rootfs.diff_ids);
        let layers_lease = self.lease(Vec::new(), chains.clone()).await?;
        self.pass("pull.leased")?;
        self.pull_layers(
            repository,
            &manifest.layers,
            &config.rootfs.diff_ids,
            &chains,
            progress,
        )
        .await?;
        let images = self.clone();
        let (manifest, body) = (manifest.clone(), target.body.bytes.clone());
        let kind = target.kind.clone();
        let index = target
            .index
            .as_ref()
            .map(|(index, kind)| (index.bytes.clone(), kind.clone()));
        let names: Vec<Reference> = if reference.digest.is_none() {
            vec![reference.clone()]
        } else {
            Vec::new()
        };
        let repo_digest = reference.to_digest(target.digest().clone());
        // Held until the image has its record.
        let _leases = (lease, layers_lease);
        blocking(move || {
            let id = images.record(&NewImage {
                documents: Documents {
                    manifest_bytes: &body,
                    manifest: &manifest,
                    manifest_type: &kind,
                    index: index
                        .as_ref()
                        .map(|(bytes, kind)| (bytes.as_slice(), kind.as_str())),
                    names: &names,
                    repo_digest: Some(repo_digest),
                },
                config_bytes: &config_bytes,
                config: &config,
            })?;
            images.pass("pull.recorded").map(|()| id)
        })
        .await
    }

    /// A lease on blobs and layers; writing it may have to wait for a collection.
    pub(crate) async fn lease(&self, blobs: Vec<Digest>, chains: Vec<Digest>) -> Result<Lease> {
        let images = self.clone();
        blocking(move || {
            let lease = Lease::new(&images)?;
            lease.hold(&blobs.iter().collect::<Vec<_>>(), &chains)?;
            Ok(lease)
        })
        .await
    }

    /// Brings all layers here: the missing ones at once, committed in order.
    async fn pull_layers(
        &self,
        repository: &Repository,
        blobs: &[Descriptor],
        diff_ids: &[Digest],
        chains: &[Digest],
        progress: &ProgressSink,
    ) -> Result<()> {
        let mut missing = Vec::new();
        let mut bare = Vec::new();
        for (index, blob) in blobs.iter().enumerate() {
            if self.has_layer(&chains[index])? {
                progress
                    .state(Some(blob.digest.short()), "Already exists")
                    .await;
                if !self.options().content.has(&blob.digest)
                    && self.unpacked_from(&chains[index])?.is_none()
                {
                    bare.push(index);
                }
            } else {
                progress
                    .state(Some(blob.digest.short()), "Pulling fs layer")
                    .await;
                missing.push(index);
            }
        }
        let mut tasks: JoinSet<(usize, Result<Option<Staged>>)> = JoinSet::new();
        let mut guards: BTreeMap<usize, OwnedMutexGuard<()>> = BTreeMap::new();
        let mut ready = BTreeMap::new();
        let mut to_start = missing.iter().copied().peekable();
        let mut to_commit = missing.iter().copied().peekable();
        while to_commit.peek().is_some() {
            while let Some(index) = to_commit.next_if(|index| ready.contains_key(index)) {
                if let Some(staged) = ready.remove(&index).flatten() {
                    self.commit_pulled(staged, index, blobs, diff_ids, chains, progress)
                        .await?;
                }
                guards.remove(&index);
            }
            let Some(lowest) = to_commit.peek().copied() else {
                break;
            };
            tokio::select! {
                biased;
                // Locks are taken from the lowest layer up: see `Locks`.
                guard = self.lock_next(to_start.peek().map(|index| &blobs[*index].digest)) => {
                    if let Some(index) = to_start.next() {
                        // Two layers of one image may be the same blob: the second waits for the first's commit.
                        guards.insert(index, guard);
                        let task = self.clone().pull_layer(repository.clone(), blobs[index].clone(), chains[index].clone(), progress.clone());
                        tasks.spawn(async move { (index, task.await) });
                    }
                }
                Some(done) = tasks.join_next() => {
                    let (index, staged) = done.map_err(|error| Error::Invalid(format!("a layer's task failed: {error}")))?;
                    debug_assert!(index >= lowest, "committed twice");
                    ready.insert(index, staged?);
                }
            }
        }
        // An unpacked layer of which no archive is left could not be given away.
        for index in bare {
            self.fetch_blob(repository, &blobs[index], progress).await?;
            self.set_unpacked_from(&chains[index], &blobs[index])?;
        }
        Ok(())
    }

    async fn lock_next(&self, digest: Option<&Digest>) -> OwnedMutexGuard<()> {
        match digest {
            Some(digest) => self.inner.layer_locks.lock(digest).await,
            None => std::future::pending().await,
        }
    }

    async fn commit_pulled(
        &self,
        staged: Staged,
        index: usize,
        blobs: &[Descriptor],
        diff_ids: &[Digest],
        chains: &[Digest],
        progress: &ProgressSink,
    ) -> Result<()> {
        let id = blobs[index].digest.short().to_owned();
        progress.count(
            &id,
            "Extracting",
            blobs[index].size,
            Some(blobs[index].size),
        );
        let (images, blob) = (self.clone(), blobs[index].clone());
        let (diff_id, chain) = (diff_ids[index].clone(), chains[index].clone());
        let parent = index.checked_sub(1).map(|below| chains[below].clone());
        blocking(move || {
            images.pass("pull.staged")?;
            images.commit_staged(staged, &diff_id, &chain, parent.as_ref(), Some(&blob))?;
            images.pass("pull.layer")
        })
        .await?;
        progress.state(Some(&id), "Pull complete").await;
        Ok(())
    }
}

async fn finish_words(progress: &ProgressSink, reference: &Reference, outcome: &PullOutcome) {
    progress
        .state(None, format!("Digest: {}", outcome.digest))
        .await;
    let what = if outcome.up_to_date {
        "Image is up to date"
    } else {
        "Downloaded newer image"
    };
    progress
        .state(None, format!("Status: {what} for {}", reference.familiar()))
        .await;
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::Invalid(format!("a blocking task failed: {error}"))),
    }
}

/// A document that is none, with what its reader stumbled over.
pub(crate) fn invalid(error: hull_oci::image::DocumentError) -> Error {
    Error::Invalid(match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

pub(crate) fn parse(body: &ManifestBody) -> Result<(String, Document)> {
    let document = Document::parse(&body.bytes, body.media_type.as_deref()).map_err(invalid)?;
    let inside = match &document {
        Document::Index(index) => index.media_type.clone(),
        Document::Manifest(manifest) => manifest.media_type.clone(),
    };
    let sent = body
        .media_type
        .as_deref()
        .and_then(|kind| kind.split(';').next())
        .map(|kind| kind.trim().to_owned());
    Ok((inside.or(sent).unwrap_or_default(), document))
}

/// Follows indexes to the manifest for the platform.
async fn find_manifest(
    repository: &Repository,
    wanted: &str,
    platform: &Platform,
) -> Result<Target> {
    let first = repository.manifest(wanted).await?;
    let (kind, document) = parse(&first)?;
    let mut index = match document {
        Document::Manifest(manifest) => {
            return Ok(Target {
                manifest,
                body: first,
                kind,
                index: None,
            });
        }
        Document::Index(index) => index,
    };
    for _ in 0..INDEX_DEPTH_MAX {
        let chosen = choose(&index, platform, &repository.reference)?;
        let body = repository.manifest(&chosen.digest.to_string()).await?;
        if is_index(&chosen.media_type) != is_index(&parse(&body)?.0) {
            return Err(Error::Invalid(format!(
                "the index describes {} as something that it is not",
                chosen.digest
            )));
        }
        match parse(&body)? {
            (own, Document::Manifest(manifest)) => {
                return Ok(Target {
                    manifest,
                    body,
                    kind: own,
                    index: Some((first, kind)),
                });
            }
            (_, Document::Index(next)) => index = next,
        }
    }
    Err(Error::Invalid(
        "the image's indexes are nested too deeply, or in a circle".to_owned(),
    ))
}

fn choose<'i>(
    index: &'i Index,
    platform: &Platform,
    reference: &Reference,
) -> Result<&'i Descriptor> {
    index.select(platform).ok_or_else(|| Error::NoPlatform {
        platform: platform.to_string(),
        reference: reference.familiar(),
    })
}

/// Fetches an image's config and verifies it.
pub(crate) async fn fetch_config(repository: &Repository, config: &Descriptor) -> Result<Vec<u8>> {
    if config.size > CONFIG_LEN_MAX {
        return Err(Error::Invalid(format!(
            "image config of {} bytes is larger than the limit",
            config.size
        )));
    }
    let (response, _) = repository.blob(&config.digest, 0).await?;
    let bytes = read_bounded(response, CONFIG_LEN_MAX as usize).await?;
    let actual = Digest::of(config.digest.algorithm(), &bytes);
    if actual != config.digest {
        return Err(hull_store::Error::DigestMismatch {
            expected: config.digest.clone(),
            actual,
        }
        .into());
    }
    Ok(bytes)
}
