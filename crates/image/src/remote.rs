//! Registries spoken to without an image store: what `manifest` of the command line does.

use hull_oci::image::{Document, is_index};
use hull_oci::{Descriptor, Digest, Manifest, Platform, Reference};
use reqwest::Method;

use crate::pull::{fetch_config, parse};
use crate::registry::{Access, Client, Repository, Request};
use crate::types::{Auth, RegistryConfig};
use crate::{Error, Result};

/// A client of registries.
pub struct Remote {
    client: Client,
}

/// A manifest or an index as a registry has it.
#[derive(Debug, Clone)]
pub struct RemoteDocument {
    /// Type, digest, length.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The parsed form.
    pub document: Document,
}

impl Remote {
    /// A client by the configuration.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a configuration that cannot be used.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        Ok(Remote {
            client: Client::new(config)?,
        })
    }

    /// Fetches what a reference means.
    ///
    /// # Errors
    /// Docker's sentences for what the registry refuses or does not have.
    pub async fn document(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
    ) -> Result<RemoteDocument> {
        let repository = self.client.repository(reference, auth, Access::Pull)?;
        let wanted = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        };
        let body = repository.manifest(&wanted).await?;
        let (kind, document) = parse(&body)?;
        Ok(RemoteDocument {
            descriptor: Descriptor::new(kind, body.digest.clone(), body.bytes.len() as u64),
            bytes: body.bytes,
            document,
        })
    }

    /// The platform that a manifest's config names.
    ///
    /// # Errors
    /// Those of the registry; [`Error::Invalid`] for a config that is none.
    pub async fn platform(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
        manifest: &Manifest,
    ) -> Result<Platform> {
        let repository = self.client.repository(reference, auth, Access::Pull)?;
        let bytes = fetch_config(&repository, &manifest.config).await?;
        let config: hull_oci::ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Invalid(format!("invalid image config: {error}")))?;
        Ok(config.platform())
    }

    /// Puts a manifest or an index under the reference's digest or tag.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn put(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Digest> {
        let repository = self.client.repository(reference, auth, Access::Push)?;
        let name = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        };
        let path = format!("/v2/{}/manifests/{name}", repository.path());
        let mut request = Request::new(Method::PUT, path).header("content-type", media_type)?;
        let digest = Digest::sha256_of(&bytes);
        request.body = bytes.into();
        let response = repository.send(&request).await?;
        match response.status().is_success() {
            true => Ok(digest),
            false => Err(repository.failure(response, false).await),
        }
    }

    /// Makes the blobs of a manifest, which lie in another repository of the same registry, appear in the target's.
    ///
    /// # Errors
    /// What the registry refuses; [`Error::Invalid`] when it will not mount.
    pub async fn mount(
        &self,
        source: &Reference,
        target: &Reference,
        auth: Option<&Auth>,
        manifest: &Manifest,
    ) -> Result<()> {
        let repository = self.client.repository(target, auth, Access::Push)?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if hull_oci::image::is_foreign(&blob.media_type) {
                continue;
            }
            mount_blob(&repository, &source.path, &blob.digest).await?;
        }
        Ok(())
    }
}

async fn mount_blob(repository: &Repository, from: &str, digest: &Digest) -> Result<()> {
    let head = format!("/v2/{}/blobs/{digest}", repository.path());
    let there = repository.send(&Request::new(Method::HEAD, head)).await?;
    if there.status().is_success() {
        return Ok(());
    }
    let path = format!(
        "/v2/{}/blobs/uploads/?mount={digest}&from={from}",
        repository.path()
    );
    let response = repository.send(&Request::new(Method::POST, path)).await?;
    match response.status().as_u16() {
        201 => Ok(()),
        202 => Err(Error::Invalid(format!(
            "the registry does not mount {digest} from {from}: push the image to {} first",
            repository.path()
        ))),
        _ => Err(repository.failure(response, false).await),
    }
}

impl RemoteDocument {
    /// Whether it is an index.
    pub fn is_index(&self) -> bool {
        is_index(&self.descriptor.media_type) || matches!(self.document, Document::Index(_))
    }
}
