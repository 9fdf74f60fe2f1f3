//! Manifests and tags of a repository.

use std::collections::BTreeMap;

use bytes::Bytes;
use hull_oci::image::{Document, is_foreign, media_type};
use hull_oci::{Descriptor, Digest};

use super::{Storage, files};
use crate::error::{Error, Result};
use crate::name::{Name, Reference, Tag};

/// Longest manifest taken, in bytes (distribution-spec, "Pushing Manifests").
pub const MANIFEST_LEN_MAX: usize = hull_oci::image::DOCUMENT_LEN_MAX;

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What a push of a manifest has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest that it refers to, which makes it a referrer.
    pub subject: Option<Digest>,
}

impl Storage {
    /// Finds a manifest's digest and media type.
    pub fn find_manifest(&self, name: &Name, reference: &Reference) -> Result<(Digest, String)> {
        let unknown = || Error::ManifestUnknown(reference.to_string());
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => self.tag(name, tag)?.ok_or_else(unknown)?,
        };
        let media_type = files::read(&self.manifest_link(name, &digest))?.ok_or_else(unknown)?;
        Ok((digest, media_type))
    }

    /// Where a tag points to.
    pub fn tag(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>> {
        let text = files::read(&self.tag_path(name, tag))?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Reads a manifest.
    pub fn manifest(&self, name: &Name, reference: &Reference) -> Result<StoredManifest> {
        let (digest, media_type) = self.find_manifest(name, reference)?;
        let bytes = self.manifest_bytes(&digest).map_err(|error| match error {
            Error::Store(hull_store::Error::BlobNotFound(_)) => {
                Error::ManifestUnknown(reference.to_string())
            }
            error => error,
        })?;
        Ok(StoredManifest {
            digest,
            media_type,
            bytes,
        })
    }

    fn manifest_bytes(&self, digest: &Digest) -> Result<Bytes> {
        if let Some(bytes) = self.cache.get(digest) {
            return Ok(bytes);
        }
        let bytes = Bytes::from(self.content.read(digest, MANIFEST_LEN_MAX as u64)?);
        self.cache.put(digest, &bytes);
        Ok(bytes)
    }

    /// Stores a manifest under a reference and further tags, after everything that it needs was found in the repository.
    pub fn put_manifest(
        &self,
        name: &Name,
        reference: &Reference,
        more_tags: &[Tag],
        content_type: Option<&str>,
        bytes: &Bytes,
    ) -> Result<Pushed> {
        let document = Document::parse(bytes, content_type).map_err(Error::ManifestInvalid)?;
        let needs = Needs::of(&document);
        let algorithm = match reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => hull_oci::Algorithm::Sha256,
        };
        let digest = Digest::of(algorithm, bytes);
        if let Reference::Digest(expected) = reference
            && *expected != digest
        {
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual: digest,
            });
        }
        let _entered = self
            .gate
            .enter(needs.all().cloned().chain([digest.clone()]));
        let missing = self.missing(name, &needs);
        if !missing.is_empty() {
            return Err(Error::ManifestBlobUnknown(missing));
        }
        let own_tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let media_type = document_type(&document, content_type);
        self.write_manifest(name, &digest, &media_type, &document, bytes)?;
        for tag in own_tag.into_iter().chain(more_tags) {
            files::write(&self.tag_path(name, tag), digest.to_string().as_bytes())?;
        }
        Ok(Pushed {
            digest,
            subject: subject(&document).map(|subject| subject.digest.clone()),
        })
    }

    /// Stores a manifest that an upstream registry sent, whose content may come later or never.
    pub fn cache_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        tag: Option<&Tag>,
        content_type: Option<&str>,
        bytes: &Bytes,
    ) -> Result<StoredManifest> {
        let document = Document::parse(bytes, content_type).map_err(Error::ManifestInvalid)?;
        let _entered = self.gate.enter([digest.clone()]);
        let media_type = document_type(&document, content_type);
        self.write_manifest(name, digest, &media_type, &document, bytes)?;
        if let Some(tag) = tag {
            files::write(&self.tag_path(name, tag), digest.to_string().as_bytes())?;
        }
        Ok(StoredManifest {
            digest: digest.clone(),
            media_type,
            bytes: bytes.clone(),
        })
    }

    fn write_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        media_type: &str,
        document: &Document,
        bytes: &Bytes,
    ) -> Result<()> {
        if !self.content.has(digest) {
            self.content.put_as(digest.algorithm(), bytes)?;
        }
        if let Some(subject) = subject(document) {
            let descriptor = referrer(document, media_type, digest, bytes.len() as u64);
            let json = serde_json::to_vec(&descriptor).map_err(|error| Error::Io {
                operation: "encode",
                path: "referrer".into(),
                source: error.into(),
            })?;
            files::write(&self.referrer_path(name, &subject.digest, digest), &json)?;
        }
        self.cache.put(digest, bytes);
        let link = self.manifest_link(name, digest);
        // Also when it is there already: a push renews its age.
        files::write(&link, media_type.as_bytes())
    }

    fn missing(&self, name: &Name, needs: &Needs) -> Vec<Digest> {
        let there =
            |digest: &Digest, link: std::path::PathBuf| link.exists() && self.content.has(digest);
        let blobs = needs
            .blobs
            .iter()
            .filter(|digest| !there(digest, self.blob_link(name, digest)));
        let manifests = needs
            .manifests
            .iter()
            .filter(|digest| !there(digest, self.manifest_link(name, digest)));
        blobs.chain(manifests).cloned().collect()
    }

    pub(super) fn referrer_path(
        &self,
        name: &Name,
        subject: &Digest,
        digest: &Digest,
    ) -> std::path::PathBuf {
        let file = format!("{}-{}", digest.algorithm(), digest.hex());
        self.referrers_dir(name, subject).join(file)
    }

    /// Removes a tag, or a manifest with all tags that point to it.
    pub fn delete_manifest(&self, name: &Name, reference: &Reference) -> Result<()> {
        let unknown = || Error::ManifestUnknown(reference.to_string());
        match reference {
            Reference::Tag(tag) => {
                let removed = files::remove(&self.tag_path(name, tag))?;
                removed.then_some(()).ok_or_else(unknown)
            }
            Reference::Digest(digest) => {
                if !self.has_repository(name) {
                    return Err(Error::NameUnknown(name.to_string()));
                }
                let link = self.manifest_link(name, digest);
                if !link.exists() {
                    return Err(unknown());
                }
                self.remove_manifest(name, digest)
            }
        }
    }

    /// Tags first, so that none ever points to nothing; the entry among its subject's referrers last, which is left out
    /// of lists when the manifest is gone.
    pub(super) fn remove_manifest(&self, name: &Name, digest: &Digest) -> Result<()> {
        for (tag, target) in self.tag_targets(name)? {
            if target == *digest {
                files::remove(&self.tag_path(name, &tag))?;
            }
        }
        files::remove(&self.manifest_link(name, digest))?;
        let subject_digest = self
            .manifest_bytes(digest)
            .ok()
            .and_then(|bytes| Document::parse(&bytes, None).ok())
            .and_then(|document| subject(&document).map(|subject| subject.digest.clone()));
        if let Some(subject) = subject_digest {
            files::remove(&self.referrer_path(name, &subject, digest))?;
        }
        Ok(())
    }

    /// All tags and where they point to.
    pub(super) fn tag_targets(&self, name: &Name) -> Result<BTreeMap<Tag, Digest>> {
        let mut targets = BTreeMap::new();
        for entry in files::entries(&self.repository(name).join("_tags"))? {
            let Ok(tag) = Tag::new(&entry) else { continue };
            if let Some(digest) = self.tag(name, &tag)? {
                targets.insert(tag, digest);
            }
        }
        Ok(targets)
    }
}

/// What a manifest needs in its repository.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub blobs: Vec<Digest>,
    pub manifests: Vec<Digest>,
}

impl Needs {
    /// Configuration and layers that were not left elsewhere on purpose, or the children of an index.
    pub fn of(document: &Document) -> Self {
        match document {
            Document::Manifest(manifest) => {
                let layers = manifest
                    .layers
                    .iter()
                    .filter(|layer| !is_foreign(&layer.media_type));
                Needs {
                    blobs: [&manifest.config]
                        .into_iter()
                        .chain(layers)
                        .map(|d| d.digest.clone())
                        .collect(),
                    manifests: Vec::new(),
                }
            }
            Document::Index(index) => Needs {
                blobs: Vec::new(),
                manifests: index.manifests.iter().map(|d| d.digest.clone()).collect(),
            },
        }
    }

    /// Both kinds.
    pub fn all(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.iter().chain(&self.manifests)
    }
}

pub(super) fn subject(document: &Document) -> Option<&Descriptor> {
    match document {
        Document::Manifest(manifest) => manifest.subject.as_ref(),
        Document::Index(index) => index.subject.as_ref(),
    }
}

/// What the document says of itself; else how it was sent; else what its form means.
fn document_type(document: &Document, content_type: Option<&str>) -> String {
    let (inside, default) = match document {
        Document::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
        Document::Index(index) => (&index.media_type, media_type::OCI_INDEX),
    };
    let sent = content_type
        .map(|sent| sent.split(';').next().unwrap_or_default().trim())
        .filter(|sent| hull_oci::image::is_manifest(sent) || hull_oci::image::is_index(sent));
    inside.as_deref().or(sent).unwrap_or(default).to_owned()
}

/// The entry among a subject's referrers (distribution-spec, "Listing Referrers").
fn referrer(document: &Document, media_type: &str, digest: &Digest, len: u64) -> Descriptor {
    let (artifact_type, annotations) = match document {
        Document::Manifest(manifest) => {
            let own = manifest.artifact_type.clone();
            let config = Some(manifest.config.media_type.clone());
            (
                own.or(config).filter(|kind| !kind.is_empty()),
                manifest.annotations.clone(),
            )
        }
        Document::Index(index) => (index.artifact_type.clone(), index.annotations.clone()),
    };
    Descriptor {
        artifact_type,
        annotations,
        ..Descriptor::new(media_type, digest.clone(), len)
    }
}
