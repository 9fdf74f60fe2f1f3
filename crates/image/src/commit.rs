//! Commit: a container's changes become a layer, and with a config an image.

use std::io::Write;

use hull_oci::image::{History, chain_id, media_type};
use hull_oci::{Descriptor, Digest, ImageConfig, Platform};
use hull_state::images;
use hull_store::layer::diff;

use crate::images::{Images, now};
use crate::lease::Lease;
use crate::types::{CommitOptions, Image};
use crate::{Error, Result};

impl Images {
    /// Makes an image of a container's snapshot and returns its id. Blocks. Nobody should write to the snapshot
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] when the files cannot be read or the layer not written.
    pub fn commit(&self, options: &CommitOptions) -> Result<Digest> {
        let parent = match &options.parent {
            Some(id) => Some(self.resolve(&id.to_string())?),
            None => None,
        };
        let lease = Lease::new(self)?;
        let mut config = new_config(options, parent.as_ref());
        let mut layers = match &parent {
            Some(parent) => {
                let (_, manifest) = self.manifest_of(parent)?;
                self.layers_here(parent, &manifest, &lease)?
            }
            None => Vec::new(),
        };
        let chains: Vec<Digest> = parent
            .iter()
            .filter_map(|parent| parent.chain_id.clone())
            .collect();
        let (layer, diff_id) = self.commit_layer(options, chains.first(), &config, &lease)?;
        config.rootfs.diff_ids.push(diff_id);
        layers.push(layer);
        let id = self.record_own(&config, layers, options.reference.as_ref())?;
        if let Some(parent) = &parent {
            // A crash before this leaves a whole image that does not say where it is from.
            let (own, parent) = (id.to_string(), parent.id.to_string());
            self.options()
                .db
                .write(|tx| images::set_parent(tx, &own, &parent))?;
        }
        Ok(id)
    }

    fn commit_layer(
        &self,
        options: &CommitOptions,
        parent: Option<&Digest>,
        config: &ImageConfig,
        lease: &Lease,
    ) -> Result<(Descriptor, Digest)> {
        let source = self
            .options()
            .snapshotter
            .diff_source(&options.snapshot_key)?;
        let writer = self.options().content.writer(None, None)?;
        let mut writer = diff(&source, options.hidden, &self.options().ids, writer)?;
        writer.flush().map_err(|source| Error::Stream {
            operation: "write the layer",
            source,
        })?;
        let size = writer.written();
        let blob = lease.store(writer)?;
        let diff_ids = [
            config.rootfs.diff_ids.as_slice(),
            std::slice::from_ref(&blob),
        ]
        .concat();
        let chain = chain_id(&diff_ids)
            .ok_or_else(|| Error::Invalid("an image without layers".to_owned()))?;
        lease.hold(&[], std::slice::from_ref(&chain))?;
        let layer = Descriptor::new(media_type::OCI_LAYER, blob.clone(), size);
        if !self.has_layer(&chain)? {
            let staged = self.stage_blob(&blob, true)?;
            self.commit_staged(staged, &blob, &chain, parent, Some(&layer))?;
        }
        Ok((layer, blob))
    }

    /// The bytes and the parsed form of an image's manifest.
    pub(crate) fn manifest_of(&self, image: &Image) -> Result<(Vec<u8>, hull_oci::Manifest)> {
        let read = self.options().content.read(
            &image.target.digest,
            hull_oci::image::DOCUMENT_LEN_MAX as u64,
        );
        let bytes = match read {
            Ok(bytes) => bytes,
            // It was removed since it was looked up.
            Err(hull_store::Error::BlobNotFound(_)) => {
                return Err(Error::NoSuchImage(image.id.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let manifest = serde_json::from_slice(&bytes).map_err(|error| {
            Error::Invalid(format!(
                "image {} has a damaged manifest: {error}",
                image.id
            ))
        })?;
        Ok((bytes, manifest))
    }
}

fn new_config(options: &CommitOptions, parent: Option<&Image>) -> ImageConfig {
    let now = now();
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let below = parent.map(|parent| parent.config.clone());
    let platform = below
        .as_ref()
        .map_or_else(Platform::host, ImageConfig::platform);
    let mut history = below
        .as_ref()
        .map(|below| below.history.clone())
        .unwrap_or_default();
    history.push(History {
        created: Some(now.clone()),
        created_by: given(&options.created_by),
        author: given(&options.author),
        comment: given(&options.comment),
        empty_layer: false,
    });
    ImageConfig {
        created: Some(now),
        author: given(&options.author),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        config: Some(options.config.clone()),
        rootfs: below.map(|below| below.rootfs).unwrap_or_default(),
        history,
        comment: given(&options.comment),
        container: options.container.clone(),
        ..ImageConfig::default()
    }
}
