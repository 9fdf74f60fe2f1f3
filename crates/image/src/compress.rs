//! Images made here keep their layers as plain tar. For a registry they are compressed, once: the image then has the
//! manifest that the registry has, and every later push or save gives the same bytes.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder};
use hull_oci::image::{DOCUMENT_LEN_MAX, media_type};
use hull_oci::{Descriptor, Manifest, Reference};

use crate::images::{CONFIG_LEN_MAX, Images};
use crate::lease::Lease;
use crate::types::Image;
use crate::unpack::{Documents, NewImage, parse_config};
use crate::{Error, Result};

/// Marks a manifest that was made here and that no registry has seen.
const LOCAL: &str = "org.hull.local";
/// Layers compressed at once.
const WORKERS: usize = 4;
const BUFFER_LEN: usize = 256 * 1024;

/// The manifest of an image made here.
pub(crate) fn local_manifest(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
    let mut manifest = Manifest::new(config, layers);
    manifest
        .annotations
        .insert(LOCAL.to_owned(), "true".to_owned());
    manifest
}

impl Images {
    /// The image in the form for registries; itself if it has that already. Blocks.
    pub(crate) fn distributable(&self, image: Image) -> Result<Image> {
        let (_, manifest) = self.manifest_of(&image)?;
        match manifest.annotations.contains_key(LOCAL) {
            true => self.remade(image),
            false => Ok(image),
        }
    }

    /// Gives an image a manifest for registries of which every blob is here, made of the layers that are here. Blocks.
    /// Names keep the manifest that a registry gave them: only what had the one made here gets the new one.
    pub(crate) fn remade(&self, image: Image) -> Result<Image> {
        let (_, old) = self.manifest_of(&image)?;
        if image.artifact_type.is_some() {
            return Err(Error::LayerAbsent {
                layer: old.config.digest.to_string(),
                image: image.id.short().to_owned(),
            });
        }
        let lease = Lease::new(self)?;
        let mut layers = self.layers_here(&image, &old, &lease)?;
        for group in layers.chunks_mut(WORKERS) {
            let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
                let threads: Vec<_> = group
                    .iter_mut()
                    .map(|layer| scope.spawn(|| self.compress(layer, &lease)))
                    .collect();
                let failed = || Error::Invalid("compressing a layer failed".to_owned());
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|_| Err(failed())))
                    .collect()
            });
            outcomes.into_iter().collect::<Result<()>>()?;
        }
        let mut config_blob = old.config;
        config_blob.media_type = media_type::OCI_CONFIG.to_owned();
        let manifest = Manifest::new(config_blob, layers);
        let config_bytes = self
            .options()
            .content
            .read(&manifest.config.digest, CONFIG_LEN_MAX)?;
        let config = parse_config(&config_bytes, manifest.layers.len())?;
        let manifest_bytes =
            serde_json::to_vec(&manifest).map_err(|error| Error::Invalid(error.to_string()))?;
        self.record(&NewImage {
            documents: Documents {
                manifest_bytes: &manifest_bytes,
                manifest: &manifest,
                manifest_type: media_type::OCI_MANIFEST,
                index: None,
                names: &self.names_with_local_target(&image)?,
                repo_digest: None,
            },
            config_bytes: &config_bytes,
            config: &config,
        })?;
        for (info, blob) in image.layers.iter().zip(&manifest.layers) {
            self.set_unpacked_from(&info.chain_id, blob)?;
        }
        drop(lease);
        self.collect_garbage()?;
        self.resolve(&image.id.to_string())
    }

    /// The names whose manifest is one that was made here.
    fn names_with_local_target(&self, image: &Image) -> Result<Vec<Reference>> {
        let rows = self
            .options()
            .db
            .read(|tx| hull_state::images::names_of(tx, &image.id.to_string()))?;
        let mut names = Vec::new();
        for row in rows {
            let bytes = row.target_digest.parse().map(|digest| {
                self.options()
                    .content
                    .read(&digest, DOCUMENT_LEN_MAX as u64)
            });
            let local = match bytes {
                Ok(Ok(bytes)) => serde_json::from_slice::<Manifest>(&bytes)
                    .is_ok_and(|manifest| manifest.annotations.contains_key(LOCAL)),
                Ok(Err(_)) | Err(_) => false,
            };
            if local {
                names.push(Reference::parse_normalized(&row.name)?);
            }
        }
        Ok(names)
    }

    /// Makes a gzip blob of a plain layer and points the descriptor to it. The header has no time: the same layer gives
    /// the same bytes.
    fn compress(&self, layer: &mut Descriptor, lease: &Lease) -> Result<()> {
        if layer.media_type != media_type::OCI_LAYER {
            return Ok(());
        }
        let failed = |source| Error::Stream {
            operation: "compress a layer",
            source,
        };
        let mut plain = self.options().content.get(&layer.digest)?;
        let writer = self.options().content.writer(None, None)?;
        let mut encoder = GzBuilder::new()
            .mtime(0)
            .write(writer, Compression::default());
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            match plain.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => encoder.write_all(&buffer[..count]).map_err(failed)?,
            }
        }
        let writer = encoder.finish().map_err(failed)?;
        let size = writer.written();
        let digest = lease.store(writer)?;
        *layer = Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size);
        Ok(())
    }
}
