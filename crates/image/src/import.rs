//! Import: a root file system's tar becomes an image of one layer.

use std::io::{self, Read, Write};

use hull_oci::image::{History, RootFs, chain_ids, media_type};
use hull_oci::{Descriptor, Digest, ImageConfig, Platform};
use hull_store::content::BlobWriter;
use hull_store::layer::decompress_detect;

use crate::images::{Images, now};
use crate::lease::Lease;
use crate::types::ImportOptions;
use crate::unpack::{Documents, NewImage};
use crate::{Error, Result};

impl Images {
    /// Makes an image of a tar stream, plain or compressed, and returns its id. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`] for a damaged stream.
    pub fn import(
        &self,
        input: impl Read + Send + 'static,
        options: &ImportOptions,
    ) -> Result<Digest> {
        let lease = Lease::new(self)?;
        let stream = |source| Error::Stream {
            operation: "read the archive",
            source,
        };
        let (_, plain) = decompress_detect(input).map_err(stream)?;
        let writer = self.options().content.writer(None, None)?;
        let mut tee = Tee {
            reader: plain,
            writer,
        };
        let staged = self.stage(&mut tee, None)?;
        let size = tee.writer.written();
        let blob = lease.store(tee.writer)?;
        let diff_ids = vec![staged.applied.diff_id.clone()];
        let chains = chain_ids(&diff_ids);
        lease.hold(&[], &chains)?;
        let layer = Descriptor::new(media_type::OCI_LAYER, blob, size);
        self.commit_staged(staged, &diff_ids[0], &chains[0], None, Some(&layer))?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let now = now();
        let config = ImageConfig {
            created: Some(now.clone()),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config: Some(options.config.clone()),
            rootfs: RootFs::new(diff_ids),
            history: vec![History {
                created: Some(now),
                comment: Some(options.message.clone()).filter(|message| !message.is_empty()),
                ..History::default()
            }],
            comment: Some(options.message.clone()).filter(|message| !message.is_empty()),
            ..ImageConfig::default()
        };
        self.record_own(&config, vec![layer], options.reference.as_ref())
    }

    /// Records an image that was made here: writes its config and manifest.
    pub(crate) fn record_own(
        &self,
        config: &ImageConfig,
        layers: Vec<Descriptor>,
        name: Option<&hull_oci::Reference>,
    ) -> Result<Digest> {
        let json = |error: serde_json::Error| Error::Invalid(error.to_string());
        let config_bytes = serde_json::to_vec(config).map_err(json)?;
        let manifest = crate::compress::local_manifest(
            Descriptor::of(media_type::OCI_CONFIG, &config_bytes),
            layers,
        );
        let manifest_bytes = serde_json::to_vec(&manifest).map_err(json)?;
        let names: Vec<_> = name
            .cloned()
            .map(hull_oci::Reference::with_default_tag)
            .into_iter()
            .collect();
        self.record(&NewImage {
            documents: Documents {
                manifest_bytes: &manifest_bytes,
                manifest: &manifest,
                manifest_type: media_type::OCI_MANIFEST,
                index: None,
                names: &names,
                repo_digest: None,
            },
            config_bytes: &config_bytes,
            config,
        })
    }
}

/// Writes what is read to a blob.
struct Tee<R> {
    reader: R,
    writer: BlobWriter,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.writer.write_all(&buffer[..count])?;
        Ok(count)
    }
}
