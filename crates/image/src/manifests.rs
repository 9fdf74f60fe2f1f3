//! The manifests that an image's name stands for: its own, or all those of the index that led to it, here or not.

use hull_oci::image::{DOCUMENT_LEN_MAX, Document, chain_ids, is_index, is_manifest};
use hull_oci::{Descriptor, Digest, Index, Manifest, Platform};
use hull_state::{content, images};

use crate::images::Images;
use crate::types::Image;
use crate::{Error, Result};

/// The annotations by which BuildKit names what an attestation is for.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestInfo {
    /// The manifest, with its platform where the index tells it.
    pub descriptor: Descriptor,
    /// What it describes.
    pub kind: ManifestKind,
    /// Whether its config and layers are all here, as blobs or unpacked.
    pub available: bool,
    /// Bytes of its blobs that are here, itself included.
    pub content: u64,
}

/// What a manifest describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image that can be run.
    Image {
        /// The index's word, else the config's.
        platform: Platform,
        /// The image's id, if it is here.
        id: Option<Digest>,
        /// Bytes of its layers, unpacked.
        unpacked: u64,
    },
    /// A statement about the image with this manifest.
    Attestation(Digest),
    /// Anything else.
    Unknown,
}

impl Images {
    /// The manifests of an image. `all` are the images that are here ([`Images::list`]): other platforms of the same name are
    /// images of their own.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] when it was removed meanwhile; those of the store.
    pub fn manifests(&self, image: &Image, all: &[Image]) -> Result<Vec<ManifestInfo>> {
        let listed = match self.index_of(image)? {
            Some(index) => index.manifests,
            None => vec![image.target.clone()],
        };
        listed
            .into_iter()
            .map(|descriptor| self.manifest_info(descriptor, all))
            .collect()
    }

    /// The index that led to an image, if one did and it is here.
    fn index_of(&self, image: &Image) -> Result<Option<Index>> {
        let id = image.id.to_string();
        let digests = image
            .repo_digests
            .iter()
            .filter_map(|one| one.digest.clone());
        let mut candidates: Vec<String> = digests.map(|digest| digest.to_string()).collect();
        let named = self.options().db.read(|tx| images::names_of(tx, &id))?;
        candidates.extend(named.into_iter().map(|name| name.target_digest));
        candidates.sort();
        candidates.dedup();
        for candidate in candidates {
            let row = self.options().db.read(|tx| content::get(tx, &candidate))?;
            let Some(row) = row.filter(|row| is_index(&row.media_type)) else {
                continue;
            };
            let Ok(digest) = candidate.parse::<Digest>() else {
                continue;
            };
            let Some(Document::Index(index)) = self.document(&digest, &row.media_type)? else {
                continue;
            };
            if index
                .manifests
                .iter()
                .any(|one| one.digest == image.target.digest)
            {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// A document among the blobs; nothing when it is not here.
    fn document(&self, digest: &Digest, kind: &str) -> Result<Option<Document>> {
        match self.options().content.read(digest, DOCUMENT_LEN_MAX as u64) {
            Ok(bytes) => Document::parse(&bytes, Some(kind))
                .map(Some)
                .map_err(|error| Error::Invalid(error.to_string())),
            Err(hull_store::Error::BlobNotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn manifest_info(&self, descriptor: Descriptor, all: &[Image]) -> Result<ManifestInfo> {
        let here = all
            .iter()
            .find(|one| one.target.digest == descriptor.digest);
        let manifest = match self.document(&descriptor.digest, &descriptor.media_type)? {
            Some(Document::Manifest(manifest)) => Some(manifest),
            Some(Document::Index(_)) | None => None,
        };
        let (available, content) = match &manifest {
            Some(manifest) => self.measured(&descriptor, manifest, here)?,
            None => (false, 0),
        };
        let attested = descriptor
            .annotations
            .get(REFERENCE_TYPE)
            .filter(|kind| *kind == "attestation-manifest")
            .and_then(|_| descriptor.annotations.get(REFERENCE_DIGEST)?.parse().ok());
        let kind = match attested {
            Some(of) => ManifestKind::Attestation(of),
            None if here.is_some_and(|image| image.artifact_type.is_some())
                || !is_manifest(&descriptor.media_type) =>
            {
                ManifestKind::Unknown
            }
            None => ManifestKind::Image {
                platform: descriptor
                    .platform
                    .clone()
                    .or_else(|| here.map(|image| image.config.platform()))
                    .unwrap_or_default(),
                id: here.map(|image| image.id.clone()),
                unpacked: here.map_or(0, |image| image.size),
            },
        };
        Ok(ManifestInfo {
            descriptor,
            kind,
            available,
            content,
        })
    }

    /// Whether all of a manifest is here, and the bytes of its blobs that are.
    fn measured(
        &self,
        descriptor: &Descriptor,
        manifest: &Manifest,
        here: Option<&Image>,
    ) -> Result<(bool, u64)> {
        let blobs = &self.options().content;
        let mut available = blobs.has(&manifest.config.digest);
        let mut sum = descriptor.size;
        let chains = here.map_or_else(Vec::new, |image| chain_ids(&image.config.rootfs.diff_ids));
        for (index, layer) in manifest.layers.iter().enumerate() {
            let unpacked = match chains.get(index) {
                Some(chain) => self.has_layer(chain)?,
                None => false,
            };
            available &= unpacked || blobs.has(&layer.digest);
        }
        let mut counted: Vec<&Digest> = Vec::new();
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if blobs.has(&blob.digest) && !counted.contains(&&blob.digest) {
                counted.push(&blob.digest);
                sum += blob.size;
            }
        }
        Ok((available, sum))
    }
}
