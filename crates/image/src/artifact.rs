//! OCI artifacts: manifests whose config is no image's (image-spec 1.1, "Guidelines for Artifact Usage"), referrers among
//! them. They are kept as objects: listed, inspected, saved, pushed, removed; nothing of them is unpacked or run.
//!
//! An artifact's record has the manifest's digest for id and the manifest for config, for many artifacts have the same
//! config (`{}`).

use hull_oci::{Digest, Manifest, Reference};

use crate::images::Images;
use crate::load::Archive;
use crate::progress::ProgressSink;
use crate::pull::{Target, blocking};
use crate::registry::Repository;
use crate::types::Loaded;
use crate::unpack::Documents;
use crate::{Error, Result};

/// What kind of artifact a manifest is: its own word, or its config's type.
pub(crate) fn artifact_type(manifest: &Manifest) -> String {
    manifest
        .artifact_type
        .clone()
        .unwrap_or_else(|| manifest.config.media_type.clone())
}

impl Images {
    /// Fetches all blobs of an artifact, as they are.
    pub(crate) async fn pull_artifact(
        &self,
        repository: &Repository,
        target: Target,
        reference: &Reference,
        progress: &ProgressSink,
    ) -> Result<Digest> {
        let manifest = &target.manifest;
        let blobs: Vec<Digest> = manifest
            .layers
            .iter()
            .chain([&manifest.config])
            .map(|blob| &blob.digest)
            .chain([&target.body.digest, target.digest()])
            .cloned()
            .collect();
        let _lease = self.lease(blobs, Vec::new()).await?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let id = blob.digest.short();
            if self.options().content.has(&blob.digest) {
                progress.state(Some(id), "Already exists").await;
                continue;
            }
            progress.state(Some(id), "Pulling fs layer").await;
            self.fetch_blob(repository, blob, progress).await?;
            progress.state(Some(id), "Download complete").await;
        }
        let names: Vec<Reference> = match reference.digest {
            None => vec![reference.clone()],
            Some(_) => Vec::new(),
        };
        let repo_digest = reference.to_digest(target.digest().clone());
        let images = self.clone();
        blocking(move || {
            let index = target.index.as_ref();
            images.record_artifact(&Documents {
                manifest_bytes: &target.body.bytes,
                manifest: &target.manifest,
                manifest_type: &target.kind,
                index: index.map(|(index, kind)| (index.bytes.as_slice(), kind.as_str())),
                names: &names,
                repo_digest: Some(repo_digest),
            })
        })
        .await
    }

    /// Records an artifact of an archive, whose blobs must all be in it.
    pub(crate) fn load_artifact(
        &self,
        archive: &Archive,
        bytes: &[u8],
        manifest: &Manifest,
        kind: &str,
        names: Vec<Reference>,
    ) -> Result<Loaded> {
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            archive.lease.hold(&[&blob.digest], &[])?;
            if !self.options().content.has(&blob.digest) {
                return Err(Error::Invalid(format!(
                    "the archive lacks {} of an artifact",
                    blob.digest
                )));
            }
        }
        let image_id = self.record_artifact(&Documents {
            manifest_bytes: bytes,
            manifest,
            manifest_type: kind,
            index: None,
            names: &names,
            repo_digest: None,
        })?;
        Ok(Loaded { image_id, names })
    }

    fn record_artifact(&self, documents: &Documents<'_>) -> Result<Digest> {
        let text = String::from_utf8(documents.manifest_bytes.to_vec())
            .map_err(|_| Error::Invalid("artifact manifest is not UTF-8 text".to_owned()))?;
        let _guard = self.collecting();
        let stored = self.store_documents(documents)?;
        let id = stored.manifest.digest.clone();
        let blobs = documents.manifest.layers.iter();
        let size = blobs.map(|blob| blob.size).sum();
        self.options().db.try_write::<_, Error>(|tx| {
            self.write_documents(tx, documents, &stored)?;
            hull_state::images::put_record(
                tx,
                &hull_state::images::Record {
                    id: id.to_string(),
                    target_digest: id.to_string(),
                    config: text.clone(),
                    chain_id: None,
                    size,
                    created: stored.now.clone(),
                    platform: String::new(),
                },
            )?;
            stored.write_names(tx, documents, &id)
        })?;
        Ok(id)
    }
}
