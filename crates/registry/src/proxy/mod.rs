//! A pull-through cache: what is not here is fetched from another registry, kept, and served from here from then on.
//!
//! A tag is asked for upstream again after a time to live; when upstream does not answer, the cached manifest serves. A blob is
//! fetched once whoever asks for it how often, and sent on while it comes in. Nothing unverified is kept, and the last byte of
//! a blob is sent only after it was verified.

mod download;
mod upstream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use hull_oci::Digest;
use reqwest::Response;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::name::{Name, Reference, Tag};
use crate::storage::{Storage, StoredManifest};

pub use download::Download;
use download::Downloads;
use upstream::{Upstream, read_document};

/// Most tags whose freshness is remembered; all are forgotten beyond.
const FRESH_MAX: usize = 4096;

/// The cache's knowledge besides the storage.
#[derive(Debug)]
pub struct Proxy {
    upstream: Upstream,
    storage: Arc<Storage>,
    ttl: Duration,
    fresh: Mutex<HashMap<(Name, Tag), Instant>>,
    downloads: Downloads,
}

impl Proxy {
    /// Prepares a cache of the registry at `url`.
    pub fn open(url: &str, config: &Config, storage: Arc<Storage>) -> anyhow::Result<Self> {
        Ok(Proxy {
            upstream: Upstream::open(url, config)?,
            storage,
            ttl: config.proxy_ttl,
            fresh: Mutex::default(),
            downloads: Downloads::default(),
        })
    }

    /// A manifest, from here where that is right, otherwise from upstream.
    pub async fn manifest(&self, name: &Name, reference: &Reference) -> Result<StoredManifest> {
        let cached = self.storage.manifest(name, reference);
        if let Ok(cached) = &cached {
            self.storage.use_manifest(name, &cached.digest);
        }
        match reference {
            Reference::Digest(digest) => match cached {
                Err(Error::ManifestUnknown(_)) => {
                    self.fetch_manifest(name, reference, Some(digest)).await
                }
                other => other,
            },
            Reference::Tag(tag) => match cached {
                Ok(cached) if self.is_fresh(name, tag) => Ok(cached),
                Ok(cached) => self.refresh(name, tag, cached).await,
                Err(Error::ManifestUnknown(_)) => self.fetch_manifest(name, reference, None).await,
                Err(error) => Err(error),
            },
        }
    }

    /// Asks where a cached tag points to now. Without an answer it points where it did.
    async fn refresh(
        &self,
        name: &Name,
        tag: &Tag,
        cached: StoredManifest,
    ) -> Result<StoredManifest> {
        let reference = Reference::Tag(tag.clone());
        let answer = self
            .upstream
            .get(Method::HEAD, name, &format!("manifests/{tag}"))
            .await;
        let current = match answer {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                return Err(Error::ManifestUnknown(tag.to_string()));
            }
            Ok(response) if response.status().is_success() => content_digest(response.headers()),
            Ok(_) | Err(_) => return Ok(cached),
        };
        if current.as_ref() == Some(&cached.digest) {
            self.mark_fresh(name, tag);
            return Ok(cached);
        }
        match self
            .fetch_manifest(name, &reference, current.as_ref())
            .await
        {
            Err(Error::Upstream(_)) => Ok(cached),
            other => other,
        }
    }

    async fn fetch_manifest(
        &self,
        name: &Name,
        reference: &Reference,
        expected: Option<&Digest>,
    ) -> Result<StoredManifest> {
        let response = self
            .upstream
            .get(Method::GET, name, &format!("manifests/{reference}"))
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Error::ManifestUnknown(reference.to_string()));
        }
        let response = succeeded(response)?;
        let content_type = header_text(response.headers(), header::CONTENT_TYPE);
        let said = content_digest(response.headers());
        let bytes = read_document(response).await?;
        let expected = expected
            .cloned()
            .or(said)
            .unwrap_or_else(|| Digest::sha256_of(&bytes));
        if !expected.verifies(&bytes) {
            return Err(Error::Upstream(format!(
                "it sent a manifest that is not {expected}"
            )));
        }
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        if let Some(tag) = &tag {
            self.mark_fresh(name, tag);
        }
        let (storage, name) = (self.storage.clone(), name.clone());
        tokio::task::spawn_blocking(move || {
            storage.cache_manifest(
                &name,
                &expected,
                tag.as_ref(),
                content_type.as_deref(),
                &bytes,
            )
        })
        .await?
    }

    /// The length of a blob that is not here.
    pub async fn blob_size(&self, name: &Name, digest: &Digest) -> Result<u64> {
        let response = self
            .upstream
            .get(Method::HEAD, name, &format!("blobs/{digest}"))
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Error::BlobUnknown(digest.clone()));
        }
        // Not `content_length()`: that is the length of the body, and an answer to HEAD has none.
        header_text(succeeded(response)?.headers(), header::CONTENT_LENGTH)
            .and_then(|len| len.parse().ok())
            .ok_or_else(|| Error::Upstream("it did not say how long the blob is".into()))
    }

    /// Begins to fetch a blob, or joins who does.
    pub async fn blob(&self, name: &Name, digest: &Digest) -> Result<Arc<Download>> {
        self.downloads
            .join(&self.upstream, &self.storage, name, digest)
            .await
    }

    /// A list as upstream gives it: body, `Link`, and what it says of filters. Nothing when upstream cannot.
    pub async fn list(&self, name: &Name, rest: &str) -> Option<(Bytes, HeaderMap)> {
        let response = self.upstream.get(Method::GET, name, rest).await.ok()?;
        let response = succeeded(response).ok()?;
        let mut headers = HeaderMap::new();
        for kept in [
            header::CONTENT_TYPE,
            header::LINK,
            http::HeaderName::from_static("oci-filters-applied"),
        ] {
            if let Some(value) = response.headers().get(&kept) {
                headers.insert(kept, value.clone());
            }
        }
        let bytes = read_document(response).await.ok()?;
        Some((bytes, headers))
    }

    fn is_fresh(&self, name: &Name, tag: &Tag) -> bool {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh
            .get(&(name.clone(), tag.clone()))
            .is_some_and(|since| since.elapsed() < self.ttl)
    }

    fn mark_fresh(&self, name: &Name, tag: &Tag) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.len() >= FRESH_MAX {
            fresh.clear();
        }
        fresh.insert((name.clone(), tag.clone()), Instant::now());
    }
}

fn succeeded(response: Response) -> Result<Response> {
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(Error::Upstream(format!(
            "it answered {}",
            response.status()
        )))
    }
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
