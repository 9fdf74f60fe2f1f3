//! The service itself: what it holds, opening, look-ups by name and id, tagging, history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use hull_oci::image::{chain_ids, media_type};
use hull_oci::reference::is_identifier;
use hull_oci::{Descriptor, Digest, ImageConfig, Manifest, Reference};
use hull_state::{Tx, content, images, layers};

use crate::artifact::artifact_type;
use crate::registry::Client;
use crate::types::{HistoryEntry, Image, ImagesOptions, LayerInfo, RegistryConfig, Transfers};
use crate::{Error, Result};

/// Largest image config read, in bytes. The largest seen in the field are some hundred KiB.
pub(crate) const CONFIG_LEN_MAX: u64 = 8 << 20;

/// The image service. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub options: ImagesOptions,
    /// In force; replaced as a whole, so that what runs goes on with what it began with.
    transport: RwLock<Arc<Transport>>,
    pub layer_locks: crate::locks::Locks,
    /// Held while garbage is collected and while a lease is written: between mark and sweep nothing becomes wanted.
    pub collecting: Mutex<()>,
}

/// Everything between the service and registries.
pub(crate) struct Transport {
    pub client: Client,
    pub downloads: Arc<tokio::sync::Semaphore>,
    pub uploads: Arc<tokio::sync::Semaphore>,
    /// Tries per layer.
    pub attempts_max: usize,
}

impl Transport {
    fn new(
        registries: RegistryConfig,
        [downloads, uploads, attempts_max]: [usize; 3],
    ) -> Result<Arc<Self>> {
        let limit = |count: usize| Arc::new(tokio::sync::Semaphore::new(count.max(1)));
        Ok(Arc::new(Self {
            client: Client::new(registries)?,
            downloads: limit(downloads),
            uploads: limit(uploads),
            attempts_max,
        }))
    }
}

impl Images {
    /// Opens the service and sweeps what a crash left: leases, half-unpacked layers, blobs without a row.
    pub fn new(options: ImagesOptions) -> Result<Self> {
        let limits = [
            options.max_concurrent_downloads,
            options.max_concurrent_uploads,
            options.max_download_attempts,
        ];
        let transport = Transport::new(options.registries.clone(), limits)?;
        let images = Images {
            inner: Arc::new(Inner {
                transport: RwLock::new(transport),
                layer_locks: crate::locks::Locks::default(),
                collecting: Mutex::new(()),
                options,
            }),
        };
        images.sweep()?;
        Ok(images)
    }

    /// Changes how registries are reached from now on. Pulls and pushes that run end with what they began with, and count
    /// against the old limits.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a mirror that is no address; then nothing has changed.
    pub fn set_transfers(&self, transfers: Transfers) -> Result<()> {
        let registries = RegistryConfig {
            mirrors: transfers.mirrors,
            insecure: transfers.insecure,
            ..self.options().registries.clone()
        };
        let limits = [
            transfers.max_concurrent_downloads,
            transfers.max_concurrent_uploads,
            transfers.max_download_attempts,
        ];
        let new = Transport::new(registries, limits)?;
        *self
            .inner
            .transport
            .write()
            .unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(crate) fn transport(&self) -> Arc<Transport> {
        self.inner
            .transport
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn options(&self) -> &ImagesOptions {
        &self.inner.options
    }

    /// Passes a failure point.
    pub(crate) fn pass(&self, point: &'static str) -> Result<()> {
        match &self.options().failpoint {
            None => Ok(()),
            Some(failpoint) => failpoint(point).map_err(Error::Invalid),
        }
    }

    pub(crate) fn collecting(&self) -> MutexGuard<'_, ()> {
        self.inner
            .collecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds an image by id, name, name and digest, or id prefix (with or without `sha256:`), as Docker does in this
    /// order.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousId`], [`Error::Reference`].
    pub fn resolve(&self, text: &str) -> Result<Image> {
        self.options().db.try_read(|tx| {
            let id = resolve_id(tx, text)?;
            load(tx, &id)?.ok_or_else(|| Error::NoSuchImage(text.to_owned()))
        })
    }

    /// All images, newest first.
    pub fn list(&self) -> Result<Vec<Image>> {
        self.options().db.try_read(|tx| {
            let mut list = Vec::new();
            for record in images::records(tx)? {
                list.push(assemble(tx, record)?);
            }
            list.sort_by_key(|image: &Image| std::cmp::Reverse(image.config.created_at()));
            Ok(list)
        })
    }

    /// Gives an image another name, which is taken from whatever image had it.
    ///
    /// # Errors
    /// Those of [`Images::resolve`]; [`Error::Invalid`] for a target with a digest.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<Image> {
        if target.digest.is_some() {
            return Err(Error::Invalid(
                "refusing to create a tag with a digest reference".to_owned(),
            ));
        }
        let image = self.resolve(source)?;
        let name = target.clone().with_default_tag();
        let row = images::Name {
            name: name.to_string(),
            image_id: image.id.to_string(),
            target_digest: image.target.digest.to_string(),
            target_media_type: image.target.media_type.clone(),
            updated: now(),
        };
        self.options().db.write(|tx| images::set_name(tx, &row))?;
        self.resolve(&image.id.to_string())
    }

    /// How an image came about, newest step first.
    ///
    /// # Errors
    /// Those of [`Images::resolve`].
    pub fn history(&self, name: &str) -> Result<Vec<HistoryEntry>> {
        let image = self.resolve(name)?;
        let mut sizes = image.layers.iter().map(|layer| layer.size);
        let mut entries: Vec<HistoryEntry> = image
            .config
            .history
            .iter()
            .map(|step| HistoryEntry {
                id: None,
                created: step.created.clone(),
                created_by: step.created_by.clone().unwrap_or_default(),
                size: if step.empty_layer {
                    0
                } else {
                    sizes.next().unwrap_or(0)
                },
                comment: step.comment.clone().unwrap_or_default(),
                tags: Vec::new(),
            })
            .collect();
        entries.reverse();
        // Each step below is the image that the one above was committed from, as far as those are here.
        let mut own = Some(image);
        for entry in &mut entries {
            let Some(image) = own else { break };
            entry.id = Some(image.id);
            entry.tags = image.names;
            own = match image.parent {
                Some(parent) => self
                    .options()
                    .db
                    .try_read(|tx| load(tx, &parent.to_string()))?,
                None => None,
            };
        }
        Ok(entries)
    }
}

/// Now, RFC 3339 in UTC.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// The id that `text` means.
pub(crate) fn resolve_id(tx: &Tx<'_>, text: &str) -> Result<String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if is_identifier(hex) {
        let id = format!("sha256:{hex}");
        return match images::record(tx, &id)? {
            Some(_) => Ok(id),
            None => Err(Error::NoSuchImage(text.to_owned())),
        };
    }
    let reference = match Reference::parse_normalized(text) {
        Ok(reference) => Some(reference),
        Err(error) if !text.starts_with("sha256:") => return Err(error.into()),
        Err(_) => None,
    };
    if let Some(reference) = &reference
        && let Some(id) = id_of_reference(tx, reference)?
    {
        return Ok(id);
    }
    match images::find_by_prefix(tx, hex) {
        Ok(id) => Ok(id),
        Err(hull_state::Error::Ambiguous { prefix, .. }) => Err(Error::AmbiguousId(prefix)),
        Err(error) if error.is_not_found() => Err(match reference {
            Some(reference) => Error::no_such_image(&reference.with_default_tag()),
            None => Error::NoSuchImage(text.to_owned()),
        }),
        Err(error) => Err(error.into()),
    }
}

/// The image that a reference points to here: its digest counts before its tag.
pub(crate) fn id_of_reference(tx: &Tx<'_>, reference: &Reference) -> Result<Option<String>> {
    if let Some(digest) = &reference.digest {
        return Ok(images::by_repo_digest(
            tx,
            &reference.name(),
            &digest.to_string(),
        )?);
    }
    let name = reference.clone().with_default_tag().to_string();
    Ok(images::name(tx, &name)?.map(|name| name.image_id))
}

pub(crate) fn load(tx: &Tx<'_>, id: &str) -> Result<Option<Image>> {
    images::record(tx, id)?
        .map(|record| assemble(tx, record))
        .transpose()
}

fn corrupt(what: &str, id: &str) -> Error {
    Error::Invalid(format!("image {id} has a damaged record: {what}"))
}

fn assemble(tx: &Tx<'_>, record: images::Record) -> Result<Image> {
    let id: Digest = record.id.parse().map_err(|_| corrupt("id", &record.id))?;
    // An artifact's record has its manifest in the config's place.
    let artifact = match record.id == record.target_digest {
        true => {
            let manifest: Manifest = serde_json::from_str(&record.config)
                .map_err(|_| corrupt("manifest", &record.id))?;
            Some(artifact_type(&manifest))
        }
        false => None,
    };
    let config: ImageConfig = match artifact {
        Some(_) => ImageConfig::default(),
        None => serde_json::from_str(&record.config).map_err(|_| corrupt("config", &record.id))?,
    };
    let mut names = Vec::new();
    let mut last_tagged: Option<String> = None;
    for name in images::names_of(tx, &record.id)? {
        names.push(Reference::parse_normalized(&name.name)?);
        last_tagged = last_tagged.max(Some(name.updated));
    }
    let mut repo_digests = Vec::new();
    for (name, digest) in images::repo_digests_of(tx, &record.id)? {
        repo_digests.push(Reference::parse_normalized(&format!("{name}@{digest}"))?);
    }
    let mut infos = Vec::new();
    for (diff_id, chain_id) in config
        .rootfs
        .diff_ids
        .iter()
        .zip(chain_ids(&config.rootfs.diff_ids))
    {
        let size = layers::get(tx, &chain_id.to_string())?.map_or(0, |layer| layer.size);
        infos.push(LayerInfo {
            diff_id: diff_id.clone(),
            chain_id,
            size,
        });
    }
    let target: Digest = record
        .target_digest
        .parse()
        .map_err(|_| corrupt("target", &record.id))?;
    let parent = images::parent(tx, &record.id)?.and_then(|id| id.parse().ok());
    let mut target = match content::get(tx, &record.target_digest)? {
        Some(blob) => Descriptor::new(blob.media_type, target, blob.size),
        None => Descriptor::new(media_type::OCI_MANIFEST, target, 0),
    };
    target.artifact_type = artifact.clone();
    Ok(Image {
        artifact_type: artifact,
        id,
        names,
        repo_digests,
        chain_id: infos.last().map(|layer| layer.chain_id.clone()),
        layers: infos,
        config,
        raw_config: record.config,
        size: record.size,
        target,
        last_tagged,
        parent,
    })
}
