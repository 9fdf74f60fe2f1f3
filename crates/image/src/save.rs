//! Saving: one archive that is an OCI layout and, by `manifest.json`, a Docker archive too, as `docker save` has written
//! since version 25. Blobs go in as they are stored, so that what is loaded again is bit-identical.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use hull_oci::image::media_type;
use hull_oci::{Descriptor, Digest, Index, Manifest, Platform, Reference};
use hull_store::layer::tar::{Entry, Kind, Writer};
use serde::Serialize;

use crate::compress::local_manifest;
use crate::images::Images;
use crate::lease::Lease;
use crate::types::Image;
use crate::{Error, Result};

const BUFFER_LEN: usize = 256 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image to save, and the names that it was asked for by.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The image.
    pub image: Image,
    /// The names that go into the archive with it, sorted.
    pub names: Vec<Reference>,
}

impl Images {
    /// What `docker save` means by these words: a repository without a tag is all its tags, an id is saved without names.
    /// With platforms the images must be of one of them.
    ///
    /// # Errors
    /// Those of [`Images::resolve`]; [`Error::PlatformMismatch`].
    pub fn select(&self, names: &[String], platforms: &[Platform]) -> Result<Vec<Selected>> {
        let wanted = self.wanted(names)?;
        for one in &wanted {
            let actual = one.image.config.platform();
            if !platforms.is_empty() && !platforms.iter().any(|wanted| actual.matches(wanted)) {
                let wanted: Vec<String> = platforms.iter().map(Platform::to_string).collect();
                return Err(Error::PlatformMismatch {
                    reference: one
                        .names
                        .first()
                        .map_or_else(|| one.image.id.short().to_owned(), Reference::familiar),
                    actual: actual.to_string(),
                    wanted: wanted.join(", "),
                });
            }
        }
        Ok(wanted)
    }

    /// Writes images as a tar stream and gives the output back: [`Images::select`] with [`Images::save_selected`]. Blocks.
    ///
    /// # Errors
    /// Theirs.
    pub fn save<W: Write>(&self, names: &[String], out: W) -> Result<W> {
        self.save_selected(&self.select(names, &[])?, out)
    }

    /// Writes the images as a tar stream and gives the output back. Blocks.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] when one was removed meanwhile; [`Error::Stream`] for the output's.
    pub fn save_selected<W: Write>(&self, wanted: &[Selected], out: W) -> Result<W> {
        let lease = Lease::new(self)?;
        let mut archive = Vec::new();
        let mut entries = Vec::new();
        let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
        let mut documents: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
        for Selected { image, names } in wanted {
            let (target, made, manifest) = self.saved_manifest(image, &lease)?;
            if let Some(bytes) = made {
                documents.insert(target.digest.clone(), bytes);
            }
            blobs.insert(target.digest.clone(), target.size);
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                blobs.insert(blob.digest.clone(), blob.size);
            }
            entries.extend(index_entries(image, target, names));
            if image.artifact_type.is_some() {
                // Docker's list knows images only.
                continue;
            }
            archive.push(ArchiveImage {
                config: blob_path(&manifest.config.digest),
                repo_tags: Some(names.iter().map(Reference::familiar).collect())
                    .filter(|tags: &Vec<_>| !tags.is_empty()),
                layers: manifest
                    .layers
                    .iter()
                    .map(|layer| blob_path(&layer.digest))
                    .collect(),
            });
        }
        let stream = |source| Error::Stream {
            operation: "write the archive",
            source,
        };
        let json = |error: serde_json::Error| Error::Invalid(error.to_string());
        let mut tar = Writer::new(out);
        for dir in directories(&blobs) {
            tar.member(&member(&dir, Kind::Directory, 0))
                .map_err(stream)?;
        }
        for (digest, size) in &blobs {
            match documents.get(digest) {
                Some(bytes) => {
                    let path = blob_path(digest);
                    tar.member(&member(&path, Kind::File, *size))
                        .and_then(|()| tar.data(bytes))
                        .map_err(stream)?;
                }
                None => self.save_blob(&mut tar, digest, *size)?,
            }
        }
        let lists = [
            (
                "index.json",
                serde_json::to_vec(&Index::new(entries)).map_err(json)?,
            ),
            ("manifest.json", serde_json::to_vec(&archive).map_err(json)?),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ];
        for (name, bytes) in lists {
            tar.member(&member(name, Kind::File, bytes.len() as u64))
                .map_err(stream)?;
            tar.data(&bytes).map_err(stream)?;
        }
        tar.finish().map_err(stream)
    }

    /// The manifest to save an image by: its own, or where blobs of that were never fetched one made of the layers that
    /// are here, as Docker makes them anew. The bytes are given for a made one, which is not stored.
    #[allow(clippy::type_complexity, reason = "used once, right above")]
    fn saved_manifest(
        &self,
        image: &Image,
        lease: &Lease,
    ) -> Result<(Descriptor, Option<Vec<u8>>, Manifest)> {
        let (_, manifest) = self.manifest_of(image)?;
        let here = self.layers_here(image, &manifest, lease)?;
        if here == manifest.layers || image.artifact_type.is_some() {
            return Ok((image.target.clone(), None, manifest));
        }
        let mut config = manifest.config;
        config.media_type = media_type::OCI_CONFIG.to_owned();
        let made = local_manifest(config, here);
        let bytes = serde_json::to_vec(&made).map_err(|error| Error::Invalid(error.to_string()))?;
        let digest = Digest::sha256_of(&bytes);
        let target = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
        Ok((target, Some(bytes), made))
    }

    fn save_blob<W: Write>(&self, tar: &mut Writer<W>, digest: &Digest, size: u64) -> Result<()> {
        let stream = |source| Error::Stream {
            operation: "write the archive",
            source,
        };
        let actual = self.options().content.size(digest)?;
        if actual != size {
            return Err(hull_store::Error::SizeMismatch {
                expected: size,
                actual,
            }
            .into());
        }
        let mut file = self.options().content.get(digest)?;
        tar.member(&member(&blob_path(digest), Kind::File, size))
            .map_err(stream)?;
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            match file.read(&mut buffer).map_err(|source| Error::Stream {
                operation: "read a blob",
                source,
            })? {
                0 => return Ok(()),
                count => tar.data(&buffer[..count]).map_err(stream)?,
            }
        }
    }

    fn wanted(&self, names: &[String]) -> Result<Vec<Selected>> {
        let mut wanted: Vec<Selected> = Vec::new();
        for name in names {
            let repository = Reference::parse_normalized(name)
                .ok()
                .filter(Reference::is_name_only);
            let whole = match repository {
                Some(repository) => self.tags_of(&repository)?,
                None => Vec::new(),
            };
            let found = match whole.is_empty() {
                true => vec![(self.resolve(name)?, self.name_asked(name)?)],
                false => whole,
            };
            for (image, tag) in found {
                match wanted.iter_mut().find(|other| other.image.id == image.id) {
                    Some(other) => other.names.extend(tag),
                    None => wanted.push(Selected {
                        image,
                        names: tag.into_iter().collect(),
                    }),
                }
            }
        }
        for one in &mut wanted {
            one.names.sort();
            one.names.dedup();
        }
        Ok(wanted)
    }

    /// All images that have a tag in the repository.
    fn tags_of(&self, repository: &Reference) -> Result<Vec<(Image, Option<Reference>)>> {
        let mut found = Vec::new();
        for image in self.list()? {
            for name in image
                .names
                .iter()
                .filter(|name| name.name() == repository.name())
            {
                found.push((image.clone(), Some(name.clone())));
            }
        }
        Ok(found)
    }

    /// The name, if the image was asked for by one with a tag.
    fn name_asked(&self, text: &str) -> Result<Option<Reference>> {
        let Ok(reference) = Reference::parse_normalized(text) else {
            return Ok(None);
        };
        let reference = reference.with_default_tag();
        if reference.digest.is_some() {
            return Ok(None);
        }
        let named = self
            .options()
            .db
            .read(|tx| hull_state::images::name(tx, &reference.to_string()))?;
        Ok(named.map(|_| reference))
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn directories(blobs: &BTreeMap<Digest, u64>) -> BTreeSet<String> {
    let algorithms = blobs
        .keys()
        .map(|digest| format!("blobs/{}/", digest.algorithm()));
    std::iter::once("blobs/".to_owned())
        .chain(algorithms)
        .collect()
}

/// A member whose attributes do not depend on this host.
fn member(path: &str, kind: Kind, size: u64) -> Entry {
    let mode = if kind == Kind::Directory {
        0o755
    } else {
        0o644
    };
    Entry {
        kind,
        path: path.as_bytes().to_vec(),
        mode,
        size,
        ..Entry::default()
    }
}

/// One entry per name, or one without a name.
fn index_entries(image: &Image, target: Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    let mut plain = target;
    if image.artifact_type.is_none() {
        plain.platform = Some(image.config.platform());
    }
    if names.is_empty() {
        return vec![plain];
    }
    let named = |name: &Reference| {
        let mut entry = plain.clone();
        let tag = name.tag.clone().unwrap_or_default();
        entry
            .annotations
            .insert("io.containerd.image.name".to_owned(), name.to_string());
        entry
            .annotations
            .insert("org.opencontainers.image.ref.name".to_owned(), tag);
        entry
    };
    names.iter().map(named).collect()
}
