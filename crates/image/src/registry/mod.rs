//! The client of the registry protocol (distribution-spec 1.1): hosts, schemes, authentication, redirects.
//!
//! Credentials go to the registry that they are for, and to the token server that it names over HTTPS; a redirect to
//! another origin is followed without them. Every wait has a deadline and every body a bound.

mod auth;
mod host;
mod repository;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hull_oci::Reference;
use hull_oci::reference::DEFAULT_DOMAIN;

pub(crate) use auth::Access;
pub(crate) use host::{Host, Request, read_bounded, request_error};
pub(crate) use repository::{ManifestBody, Repository};

use crate::types::{Auth, RegistryConfig};
use crate::{Error, Result};

/// Where docker.io's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// All registries, each with its connections and tokens.
pub(crate) struct Client {
    config: RegistryConfig,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl Client {
    pub fn new(config: RegistryConfig) -> Result<Self> {
        for mirror in &config.mirrors {
            let url = reqwest::Url::parse(mirror)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https"));
            if url.is_none_or(|url| url.host_str().is_none()) {
                return Err(Error::Invalid(format!(
                    "invalid mirror: {mirror:?} is not a valid URI"
                )));
            }
        }
        Ok(Client {
            config,
            hosts: Mutex::default(),
        })
    }

    /// The repository that a reference names, at its mirrors (for pulling from docker.io) and its registry.
    pub fn repository(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
        access: Access,
    ) -> Result<Repository> {
        let mut hosts = Vec::new();
        if reference.domain == DEFAULT_DOMAIN && access == Access::Pull {
            for mirror in &self.config.mirrors {
                hosts.push(self.mirror(mirror)?);
            }
        }
        let mirrors = hosts.len();
        hosts.push(self.host(&reference.domain)?);
        Ok(Repository::new(
            hosts,
            mirrors,
            reference.clone(),
            auth.cloned(),
            access,
        ))
    }

    /// The registry of a domain as users write it.
    pub fn host(&self, domain: &str) -> Result<Arc<Host>> {
        let name = if domain == DEFAULT_DOMAIN || domain == "index.docker.io" {
            DOCKER_HUB
        } else {
            domain
        };
        self.cached(name, None)
    }

    fn mirror(&self, url: &str) -> Result<Arc<Host>> {
        let parsed = reqwest::Url::parse(url)
            .map_err(|_| Error::Invalid(format!("invalid mirror: {url:?}")))?;
        let host = parsed.host_str().unwrap_or_default();
        let name = match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        self.cached(&name, Some(parsed.scheme()))
    }

    fn cached(&self, name: &str, scheme: Option<&str>) -> Result<Arc<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{}{name}", scheme.unwrap_or_default());
        if let Some(host) = hosts.get(&key) {
            return Ok(host.clone());
        }
        if hosts.len() >= HOSTS_MAX {
            hosts.clear();
        }
        let host = Arc::new(Host::new(name, scheme, &self.config)?);
        hosts.insert(key, host.clone());
        Ok(host)
    }
}

/// Registries remembered at once; beyond that all are forgotten and found again.
const HOSTS_MAX: usize = 256;
