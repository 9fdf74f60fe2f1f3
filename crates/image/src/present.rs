//! Which of an image's layer blobs are here. An image may have a manifest whose blobs were never fetched: its layers
//! were unpacked from other blobs before (a loaded archive's plain tar, another registry's compression). The layer's own
//! row then names the blob that it was unpacked from, which is kept as long as the layer is.

use hull_oci::image::{Compression, media_type};
use hull_oci::{Descriptor, Digest, Manifest};
use hull_state::{content, layers};

use crate::images::{Images, now};
use crate::lease::Lease;
use crate::types::Image;
use crate::{Error, Result};

impl Images {
    /// The image's layers as blobs that are here: those of its manifest, or where one was never fetched the one that
    /// the layer was unpacked from. The lease keeps all of them.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] when it was removed meanwhile; [`Error::LayerAbsent`] when neither blob is here.
    pub(crate) fn layers_here(
        &self,
        image: &Image,
        manifest: &Manifest,
        lease: &Lease,
    ) -> Result<Vec<Descriptor>> {
        let chains: Vec<Digest> = image
            .layers
            .iter()
            .map(|layer| layer.chain_id.clone())
            .collect();
        let blobs: Vec<&Digest> = manifest
            .layers
            .iter()
            .chain([&manifest.config])
            .map(|blob| &blob.digest)
            .chain([&image.target.digest])
            .collect();
        lease.hold(&blobs, &chains)?;
        // Collected just before it was held: then it was removed as well.
        let id = image.id.to_string();
        if (self.options().db)
            .read(|tx| hull_state::images::record(tx, &id))?
            .is_none()
        {
            return Err(Error::NoSuchImage(id));
        }
        let mut here = Vec::with_capacity(chains.len());
        for (chain, layer) in chains.iter().zip(&manifest.layers) {
            if self.options().content.has(&layer.digest) {
                here.push(layer.clone());
                continue;
            }
            let own = self.unpacked_from(chain)?;
            here.push(own.ok_or_else(|| Error::LayerAbsent {
                layer: layer.digest.to_string(),
                image: image.id.short().to_owned(),
            })?);
        }
        Ok(here)
    }

    /// The blob that an unpacked layer came from, if that is here.
    pub(crate) fn unpacked_from(&self, chain: &Digest) -> Result<Option<Descriptor>> {
        let row = self
            .options()
            .db
            .read(|tx| layers::get(tx, &chain.to_string()))?;
        let digest = row
            .and_then(|row| row.blob_digest)
            .and_then(|digest| digest.parse::<Digest>().ok());
        match digest {
            Some(digest) if self.options().content.has(&digest) => {
                let kind = layer_type(self.compression(&digest)?);
                let size = self.options().content.size(&digest)?;
                Ok(Some(Descriptor::new(kind, digest, size)))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Makes a blob that is here the one that an unpacked layer counts as coming from.
    pub(crate) fn set_unpacked_from(&self, chain: &Digest, blob: &Descriptor) -> Result<()> {
        let now = now();
        self.options().db.try_write(|tx| {
            put_blob(tx, blob, &now)?;
            if let Some(mut row) = layers::get(tx, &chain.to_string())? {
                row.blob_digest = Some(blob.digest.to_string());
                row.blob_size = Some(blob.size);
                layers::put(tx, &row)?;
            }
            Ok(())
        })
    }

    /// Records a blob that was fetched for a manifest that is here already.
    pub(crate) fn record_blob(&self, blob: &Descriptor) -> Result<()> {
        let now = now();
        Ok(self.options().db.write(|tx| put_blob(tx, blob, &now))?)
    }
}

fn put_blob(tx: &hull_state::Tx<'_>, blob: &Descriptor, now: &str) -> hull_state::Result<()> {
    let row = content::Blob {
        digest: blob.digest.to_string(),
        size: blob.size,
        media_type: blob.media_type.clone(),
        created: now.to_owned(),
    };
    content::put(tx, &row)
}

/// The media type of a layer's blob.
fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None | Compression::Xz | Compression::Bzip2 => media_type::OCI_LAYER,
        Compression::Gzip => media_type::OCI_LAYER_GZIP,
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
    }
}
