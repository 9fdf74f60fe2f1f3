//! One repository: manifests and blobs, at its mirrors first.

use std::sync::Arc;

use bytes::Bytes;
use hull_oci::distribution::TagList;
use hull_oci::image::{DOCUMENT_LEN_MAX, media_type};
use hull_oci::{Descriptor, Digest, Index, Reference};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response};
use tokio::sync::mpsc;

use super::Access;
use super::host::{Host, Request, error_reason, read_bounded, registry_error};
use crate::types::Auth;
use crate::{Error, Result};

/// A repository and the credentials for it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Repository {
    /// In the order in which they are asked; the registry itself is the last.
    hosts: Vec<Arc<Host>>,
    /// The only host that gets the credentials.
    domain: String,
    pub reference: Reference,
    auth: Option<Auth>,
    access: Access,
}

/// What `HEAD` says of a manifest.
pub(crate) struct ManifestHead {
    pub digest: Option<Digest>,
}

/// A manifest's bytes and the type that they were sent as.
pub(crate) struct ManifestBody {
    pub bytes: Vec<u8>,
    pub media_type: Option<String>,
    pub digest: Digest,
}

impl Repository {
    pub fn new(
        hosts: Vec<Arc<Host>>,
        reference: Reference,
        domain: &str,
        auth: Option<Auth>,
        access: Access,
    ) -> Self {
        Repository {
            hosts,
            domain: domain.to_owned(),
            reference,
            auth,
            access,
        }
    }

    /// The credentials for the registry.
    pub fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }

    /// The credentials for one of the hosts: mirrors get none.
    fn auth_for(&self, host: &Host) -> Option<&Auth> {
        self.auth.as_ref().filter(|_| host.name == self.domain)
    }

    pub fn path(&self) -> &str {
        &self.reference.path
    }

    /// The registry itself, the last of the hosts.
    pub fn registry(&self) -> &Host {
        &self.hosts[self.hosts.len() - 1]
    }

    /// Sends a request to the registry itself.
    pub async fn send(&self, request: &Request) -> Result<Response> {
        let scope = self.access.scope(self.path());
        let host = self.registry();
        host.send(request, self.auth_for(host), &scope).await
    }

    /// Completes an upload at `location` with a streamed body of `size` bytes.
    pub async fn upload(
        &self,
        location: &str,
        size: u64,
        body: mpsc::Receiver<Bytes>,
    ) -> Result<Response> {
        let scope = self.access.scope(self.path());
        let host = self.registry();
        host.upload(location, size, body, self.auth_for(host), &scope)
            .await
    }

    /// Sends to each host until one answers with success; the last one's answer counts otherwise. `by_tag`: only to those
    /// that may say what a tag means.
    async fn send_anywhere(&self, request: &Request, by_tag: bool) -> Result<Response> {
        let scope = self.access.scope(self.path());
        let able = |host: &&Arc<Host>| if by_tag { host.resolve } else { host.pull };
        for mirror in self.hosts[..self.hosts.len() - 1].iter().filter(able) {
            let sent = mirror.send(request, self.auth_for(mirror), &scope).await;
            match sent {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    tracing::debug!(mirror = mirror.name, status = %response.status(), "mirror has not what is wanted");
                }
                Err(error) => tracing::warn!(mirror = mirror.name, %error, "mirror failed"),
            }
        }
        self.send(request).await
    }

    /// Asks for a manifest without its body; `None` when the registry does not have it or does not say.
    pub async fn head_manifest(&self, tag: &str) -> Result<Option<ManifestHead>> {
        let response = self
            .send_anywhere(
                &self.manifest_request(Method::HEAD, tag)?,
                !tag.contains(':'),
            )
            .await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        Ok(Some(ManifestHead {
            digest: header("docker-content-digest").and_then(|digest| digest.parse().ok()),
        }))
    }

    /// Fetches a manifest by tag or digest and verifies it.
    pub async fn manifest(&self, tag_or_digest: &str) -> Result<ManifestBody> {
        let response = self
            .send_anywhere(
                &self.manifest_request(Method::GET, tag_or_digest)?,
                !tag_or_digest.contains(':'),
            )
            .await?;
        if !response.status().is_success() {
            return Err(self.failure(response, true).await);
        }
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let media_type = header(CONTENT_TYPE.as_str());
        let promised =
            header("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
        let bytes = read_bounded(response, DOCUMENT_LEN_MAX).await?;
        let expected = match tag_or_digest.parse::<Digest>() {
            Ok(asked) => Some(asked),
            Err(_) => promised,
        };
        let digest = match expected {
            Some(expected) => {
                let actual = Digest::of(expected.algorithm(), &bytes);
                if actual != expected {
                    let sentence = format!("manifest verification failed for digest {expected}");
                    let mismatch = hull_store::Error::DigestMismatch { expected, actual };
                    return Err(Error::Layer(sentence, mismatch));
                }
                expected
            }
            None => Digest::sha256_of(&bytes),
        };
        Ok(ManifestBody {
            bytes,
            media_type,
            digest,
        })
    }

    /// What refers to a manifest here; `None` when the registry does not know the API. Only the first page counts.
    pub async fn referrers(&self, digest: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let path = format!("/v2/{}/referrers/{digest}", self.path());
        let response = self
            .send_anywhere(&Request::new(Method::GET, path), false)
            .await?;
        match response.status().as_u16() {
            200 => {
                let body = read_bounded(response, DOCUMENT_LEN_MAX).await?;
                let index: Index = serde_json::from_slice(&body).map_err(|error| {
                    Error::Invalid(format!(
                        "the registry's list of referrers is not valid: {error}"
                    ))
                })?;
                Ok(Some(index.manifests))
            }
            400 | 404 | 405 => Ok(None),
            _ => Err(self.failure(response, false).await),
        }
    }

    /// All tags, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let mut path = format!("/v2/{}/tags/list?n=1000", self.path());
        let mut tags = Vec::new();
        for _ in 0..TAG_PAGES_MAX {
            let response = self
                .send_anywhere(&Request::new(Method::GET, path.as_str()), true)
                .await?;
            if !response.status().is_success() {
                return Err(self.failure(response, false).await);
            }
            let next = response
                .headers()
                .get("link")
                .and_then(|link| link.to_str().ok())
                .and_then(next_page);
            let body = read_bounded(response, DOCUMENT_LEN_MAX).await?;
            let list: TagList = serde_json::from_slice(&body).map_err(|error| {
                Error::Invalid(format!("the registry's list of tags is not valid: {error}"))
            })?;
            tags.extend(list.tags);
            match next {
                Some(next) => path = next,
                None => return Ok(tags),
            }
        }
        Err(Error::Invalid(
            "the registry's list of tags does not end".to_owned(),
        ))
    }

    fn manifest_request(&self, method: Method, tag_or_digest: &str) -> Result<Request> {
        let path = format!("/v2/{}/manifests/{tag_or_digest}", self.path());
        Request::new(method, path).header("accept", &media_type::ACCEPTED_MANIFESTS.join(", "))
    }

    /// Opens a blob from `offset` on. The second value is where the answer really begins: 0 when the registry ignored
    /// the range.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<(Response, u64)> {
        let mut request = Request::new(Method::GET, format!("/v2/{}/blobs/{digest}", self.path()));
        if offset > 0 {
            request = request.header("range", &format!("bytes={offset}-"))?;
        }
        let response = self.send_anywhere(&request, false).await?;
        match response.status().as_u16() {
            206 => {
                let range = response
                    .headers()
                    .get("content-range")
                    .and_then(|value| value.to_str().ok());
                let start = range
                    .and_then(|range| range.strip_prefix("bytes "))
                    .and_then(|range| range.split('-').next())
                    .and_then(|start| start.parse::<u64>().ok());
                match start {
                    Some(start) if start == offset => Ok((response, start)),
                    _ => Err(Error::Registry {
                        host: self.registry().name.clone(),
                        status: 206,
                        reason: "an answer of another range than was asked for".to_owned(),
                    }),
                }
            }
            200 => Ok((response, 0)),
            _ => Err(self.failure(response, false).await),
        }
    }

    /// What an unsuccessful answer means, in Docker's words.
    pub async fn failure(&self, response: Response, manifest: bool) -> Error {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = read_bounded(response, 64 << 10).await.unwrap_or_default();
        let familiar = self.reference.familiar_name();
        let (code, message) = registry_error(&body).unwrap_or_default();
        let reason = error_reason(&body, "");
        match (status.as_u16(), code.as_str()) {
            (429, _) | (_, "TOOMANYREQUESTS") => Error::RateLimited {
                reason: rate_limit(&message, retry_after.as_deref()),
                retry_after_s: retry_after.as_deref().and_then(|when| when.parse().ok()),
            },
            (_, "MANIFEST_UNKNOWN") => Error::ManifestUnknown(self.reference.familiar(), message),
            (_, "NAME_UNKNOWN") => Error::RepositoryUnknown {
                name: familiar,
                reason,
            },
            (_, "DENIED") if self.access == Access::Push => Error::PushDenied { reason },
            (_, "DENIED") => Error::PullDenied {
                name: familiar,
                reason,
            },
            (403, _) => Error::PullDenied {
                name: familiar,
                reason: if reason.is_empty() {
                    "denied: requested access to the resource is denied".to_owned()
                } else {
                    reason
                },
            },
            (404, _) if manifest => {
                Error::ManifestUnknown(self.reference.familiar(), "manifest unknown".to_owned())
            }
            (number, _) => Error::Registry {
                host: self.registry().name.clone(),
                status: number,
                reason: if reason.is_empty() {
                    format!("received unexpected HTTP status: {status}")
                } else {
                    reason
                },
            },
        }
    }
}

/// Pages of a list of tags that are read.
const TAG_PAGES_MAX: usize = 1000;

/// The path in `Link: </v2/..>; rel="next"`. Other hosts' addresses are not followed.
pub(crate) fn next_page(link: &str) -> Option<String> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    (rest.contains("rel=\"next\"") && address.starts_with("/v2/")).then(|| address.to_owned())
}

fn rate_limit(message: &str, retry_after: Option<&str>) -> String {
    let message = if message.is_empty() {
        "the registry limits the rate of requests"
    } else {
        message
    };
    // RFC 9110, 10.2.3: seconds, or a date.
    match retry_after {
        Some(when) if when.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{message} (the registry asks to try again after {when} seconds)")
        }
        Some(when) => format!("{message} (the registry asks to try again after {when})"),
        None => message.to_owned(),
    }
}
