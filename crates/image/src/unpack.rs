//! From a layer's bytes to a committed snapshot, and from committed layers to an image's record.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;

use hull_oci::image::{chain_ids, media_type};
use hull_oci::{Descriptor, Digest, ImageConfig, Manifest, Reference};
use hull_state::{content, images, layers};
use hull_store::Error as StoreError;
use hull_store::layer::{Applied, ApplyOptions, apply};
use hull_store::snapshot::Snapshotter;

use crate::images::{Images, now};
use crate::{Error, Result};

/// Prefix of the keys of layers that are being unpacked.
pub(crate) const STAGE_PREFIX: &str = "stage-";

/// A layer that was unpacked into a directory of its own and awaits its commit; dropped, it is removed.
pub(crate) struct Staged {
    snapshotter: Arc<dyn Snapshotter>,
    key: Option<String>,
    pub applied: Applied,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            discard(&self.snapshotter, key);
        }
    }
}

/// Removes a staged layer, off the async threads: it may have many files.
fn discard(snapshotter: &Arc<dyn Snapshotter>, key: String) {
    let snapshotter = snapshotter.clone();
    let remove = move || {
        if let Err(error) = snapshotter.remove(&key) {
            tracing::warn!(key, %error, "cannot remove a half-unpacked layer; the next start does");
        }
    };
    match tokio::runtime::Handle::try_current() {
        Ok(handle) => drop(handle.spawn_blocking(remove)),
        Err(_) => remove(),
    }
}

/// What is needed to record an image whose layers are committed.
pub(crate) struct NewImage<'a> {
    pub documents: Documents<'a>,
    /// The config's bytes.
    pub config_bytes: &'a [u8],
    pub config: &'a ImageConfig,
}

/// A manifest, how it was found, and what it is to be called.
pub(crate) struct Documents<'a> {
    /// The manifest's own bytes and type.
    pub manifest_bytes: &'a [u8],
    pub manifest: &'a Manifest,
    pub manifest_type: &'a str,
    /// The index that led to the manifest, if one did: bytes and type.
    pub index: Option<(&'a [u8], &'a str)>,
    /// Names to set.
    pub names: &'a [Reference],
    /// `name@digest` under which a registry has it.
    pub repo_digest: Option<Reference>,
}

impl Images {
    /// Unpacks a plain tar stream into a new staged snapshot; `known_diff_id` if its digest was just verified. Blocks.
    pub(crate) fn stage(
        &self,
        reader: impl Read,
        known_diff_id: Option<Digest>,
    ) -> std::result::Result<Staged, StoreError> {
        let snapshotter = self.options().snapshotter.clone();
        let key = format!("{STAGE_PREFIX}{:016x}", rand::random::<u64>());
        let dir = snapshotter.stage(&key)?;
        let unpack = || {
            let root = File::open(&dir).map_err(|source| StoreError::Io {
                operation: "open",
                path: dir.clone(),
                source,
            })?;
            let options = ApplyOptions {
                max_bytes: self.options().max_layer_bytes,
                known_diff_id,
                ids: self.options().ids.clone(),
                ..ApplyOptions::default()
            };
            apply(reader, root.as_fd(), &options)
        };
        match unpack() {
            Ok(applied) => Ok(Staged {
                snapshotter,
                key: Some(key),
                applied,
            }),
            Err(error) => {
                discard(&snapshotter, key);
                Err(error)
            }
        }
    }

    /// Whether the layer is unpacked here.
    pub(crate) fn has_layer(&self, chain_id: &Digest) -> Result<bool> {
        Ok(self
            .options()
            .db
            .read(|tx| layers::get(tx, &chain_id.to_string()))?
            .is_some())
    }

    /// Commits a staged layer on its parent and records it. Blocks. One that somebody else committed meanwhile is kept.
    pub(crate) fn commit_staged(
        &self,
        mut staged: Staged,
        diff_id: &Digest,
        chain_id: &Digest,
        parent: Option<&Digest>,
        blob: Option<&Descriptor>,
    ) -> Result<()> {
        if staged.applied.diff_id != *diff_id {
            let (expected, actual) = (diff_id.clone(), staged.applied.diff_id.clone());
            return Err(StoreError::DigestMismatch { expected, actual }.into());
        }
        let parent = parent.map(Digest::to_string);
        let name = chain_id.to_string();
        if let Some(key) = staged.key.clone() {
            let pending = &staged.applied.pending;
            match self
                .options()
                .snapshotter
                .commit_layer(&name, &key, parent.as_deref(), pending)
            {
                Ok(()) => staged.key = None,
                Err(StoreError::SnapshotExists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let row = layers::Layer {
            chain_id: name.clone(),
            diff_id: diff_id.to_string(),
            parent,
            snapshot_key: name,
            size: staged.applied.size,
            blob_digest: blob.map(|blob| blob.digest.to_string()),
            blob_size: blob.map(|blob| blob.size),
        };
        self.options().db.write(|tx| layers::put(tx, &row))?;
        Ok(())
    }

    /// Stores the documents and records image, content and names in one transaction. Returns the image's id.
    pub(crate) fn record(&self, new: &NewImage<'_>) -> Result<Digest> {
        let documents = &new.documents;
        let config_text = String::from_utf8(new.config_bytes.to_vec())
            .map_err(|_| Error::Invalid("image config is not UTF-8 text".to_owned()))?;
        let chains = chain_ids(&new.config.rootfs.diff_ids);
        // What is found stored already must not be collected before it has its row.
        let _guard = self.collecting();
        let image_id = self.options().content.put(new.config_bytes)?;
        let stored = self.store_documents(documents)?;
        self.options().db.try_write::<_, Error>(|tx| {
            self.write_documents(tx, documents, &stored)?;
            let mut size = 0;
            for chain in &chains {
                size += layers::get(tx, &chain.to_string())?.map_or(0, |layer| layer.size);
            }
            images::put_record(
                tx,
                &images::Record {
                    id: image_id.to_string(),
                    target_digest: stored.manifest.digest.to_string(),
                    config: config_text.clone(),
                    chain_id: chains.last().map(Digest::to_string),
                    size,
                    created: stored.now.clone(),
                    platform: new.config.platform().to_string(),
                },
            )?;
            stored.write_names(tx, documents, &image_id)
        })?;
        Ok(image_id)
    }

    /// Puts manifest and index among the blobs; the caller keeps collections away until they have their rows.
    pub(crate) fn store_documents(&self, new: &Documents<'_>) -> Result<Stored> {
        let store = &self.options().content;
        let size = new.manifest_bytes.len() as u64;
        let digest = store.put(new.manifest_bytes)?;
        let manifest = Descriptor::new(new.manifest_type, digest, size);
        let mut target = manifest.clone();
        if let Some((bytes, kind)) = new.index {
            target = Descriptor::new(kind, store.put(bytes)?, bytes.len() as u64);
        }
        Ok(Stored {
            manifest,
            target,
            now: now(),
        })
    }

    /// The rows and edges of manifest, index and those blobs that are here.
    pub(crate) fn write_documents(
        &self,
        tx: &hull_state::Tx<'_>,
        new: &Documents<'_>,
        stored: &Stored,
    ) -> Result<()> {
        let Stored {
            manifest, target, ..
        } = stored;
        let put = |descriptor: &Descriptor| {
            let blob = content::Blob {
                digest: descriptor.digest.to_string(),
                size: descriptor.size,
                media_type: descriptor.media_type.clone(),
                created: stored.now.clone(),
            };
            content::put(tx, &blob)
        };
        let parent = manifest.digest.to_string();
        put(manifest)?;
        for child in std::iter::once(&new.manifest.config).chain(&new.manifest.layers) {
            if self.options().content.has(&child.digest) {
                put(child)?;
            }
            content::put_edge(tx, &parent, &child.digest.to_string())?;
        }
        if target.digest != manifest.digest {
            put(target)?;
            content::put_edge(tx, &target.digest.to_string(), &parent)?;
        }
        Ok(())
    }
}

/// Documents that were put among the blobs, and when.
pub(crate) struct Stored {
    pub manifest: Descriptor,
    /// The index, where one led to the manifest.
    pub target: Descriptor,
    pub now: String,
}

impl Stored {
    pub fn write_names(
        &self,
        tx: &hull_state::Tx<'_>,
        new: &Documents<'_>,
        image_id: &Digest,
    ) -> Result<()> {
        for name in new.names {
            images::set_name(
                tx,
                &images::Name {
                    name: name.to_string(),
                    image_id: image_id.to_string(),
                    target_digest: self.target.digest.to_string(),
                    target_media_type: self.target.media_type.clone(),
                    updated: self.now.clone(),
                },
            )?;
        }
        if let Some(reference) = &new.repo_digest
            && let Some(digest) = &reference.digest
        {
            let (name, digest) = (reference.name(), digest.to_string());
            images::put_repo_digest(tx, &name, &digest, &image_id.to_string())?;
        }
        Ok(())
    }
}

/// Whether a manifest's config is an image's, by its type. Docker takes unknown types for images as well; artifacts name
/// theirs.
pub(crate) fn is_image_config(kind: &str) -> bool {
    matches!(
        kind,
        media_type::OCI_CONFIG | media_type::DOCKER_CONFIG | media_type::OCTET_STREAM | ""
    )
}

/// Parses a config and checks it against its manifest's layer count.
pub(crate) fn parse_config(bytes: &[u8], layers: usize) -> Result<ImageConfig> {
    // serde takes a list for a structure, too.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Error::Invalid(
            "invalid image config: it is no JSON object".to_owned(),
        ));
    }
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|error| Error::Invalid(format!("invalid image config: {error}")))?;
    if config.rootfs.kind != "layers" {
        return Err(Error::Invalid(format!(
            "unknown rootfs type {:?} in the image config",
            config.rootfs.kind
        )));
    }
    let wanted = config.rootfs.diff_ids.len();
    if wanted != layers {
        return Err(Error::Invalid(format!(
            "invalid image: the config names {wanted} layers, the manifest has {layers}"
        )));
    }
    Ok(config)
}
