//! The client of the registry protocol (distribution-spec 1.1): hosts, schemes, authentication, redirects.
//!
//! Credentials go to the registry that they are for, and to the token server that it names over HTTPS; a redirect to
//! another origin is followed without them. Every wait has a deadline and every body a bound.

mod auth;
mod host;
mod hosts;
mod proxy;
mod repository;
mod tls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use hull_oci::Reference;
use hull_oci::reference::DEFAULT_DOMAIN;
use reqwest::Url;

pub(crate) use auth::Access;
pub(crate) use host::{Host, Request, read_bounded, request_error};
pub(crate) use repository::{ManifestBody, Repository, next_page};

use host::is_insecure;
use hosts::Settings;

use crate::types::{Auth, RegistryConfig};
use crate::{Error, Result};

/// Where docker.io's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// Redirects followed outside a registry.
const REDIRECTS_MAX: usize = 10;

/// The files that a host's settings were read from.
type Fingerprint = Vec<(PathBuf, Option<SystemTime>)>;

/// The hosts of a registry, the registry itself last, and the files that say so.
type Known = (Fingerprint, Vec<Arc<Host>>);

/// All registries, each with its connections and tokens.
pub(crate) struct Client {
    config: RegistryConfig,
    /// By domain or mirror.
    hosts: Mutex<HashMap<String, Known>>,
    /// For addresses that are no registry. Made when it is first used: it reads all of the host's certificates.
    http: OnceLock<reqwest::Client>,
}

impl Client {
    pub fn new(config: RegistryConfig) -> Result<Self> {
        for mirror in &config.mirrors {
            let url = Url::parse(mirror)
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
            http: OnceLock::new(),
        })
    }

    fn http(&self) -> Result<&reqwest::Client> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let made = host::http_client(None, &self.config, self.config.connect_timeout)?;
        Ok(self.http.get_or_init(|| made))
    }

    /// The repository that a reference names, at its mirrors (for pulling) and its registry.
    pub fn repository(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
        access: Access,
    ) -> Result<Repository> {
        let domain = real_name(&reference.domain);
        let mut hosts = Vec::new();
        if reference.domain == DEFAULT_DOMAIN && access == Access::Pull {
            for mirror in &self.config.mirrors {
                hosts.push(self.mirror(mirror)?);
            }
        }
        let own = self.hosts_of(domain)?;
        match access {
            Access::Pull => hosts.extend(own),
            // What is pushed goes to one host, and not to a mirror that only gives.
            Access::Push => hosts.extend(own.into_iter().find(|host| host.push)),
        }
        if hosts.is_empty() {
            return Err(Error::Invalid(format!(
                "no host of {domain} takes what is pushed (hosts.toml)"
            )));
        }
        let auth = auth.cloned();
        Ok(Repository::new(
            hosts,
            reference.clone(),
            domain,
            auth,
            access,
        ))
    }

    /// The registry of a domain as users write it.
    pub fn host(&self, domain: &str) -> Result<Arc<Host>> {
        self.exact_host(real_name(domain))
    }

    /// The host of exactly this name.
    pub fn exact_host(&self, name: &str) -> Result<Arc<Host>> {
        let hosts = self.hosts_of(name)?;
        // The registry itself comes last.
        hosts
            .into_iter()
            .next_back()
            .ok_or_else(|| Error::Invalid(format!("invalid registry host {name:?}")))
    }

    /// Fetches an address that is no registry's, without credentials.
    pub async fn get(&self, mut url: Url) -> Result<reqwest::Response> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Invalid(format!("{url} is not HTTP")));
        }
        for _ in 0..=REDIRECTS_MAX {
            let request = self.http()?.get(url.clone()).send();
            let response = request
                .await
                .map_err(|error| request_error("Get", &url, &error))?;
            let location = response
                .headers()
                .get(reqwest::header::LOCATION)
                .filter(|_| response.status().is_redirection())
                .and_then(|location| location.to_str().ok());
            let Some(location) = location else {
                return Ok(response);
            };
            url = url
                .join(location)
                .ok()
                .filter(|next| matches!(next.scheme(), "http" | "https"))
                .ok_or_else(|| Error::Invalid(format!("invalid redirect to {location:?}")))?;
        }
        Err(Error::Invalid(format!("{url}: too many redirects")))
    }

    fn mirror(&self, url: &str) -> Result<Arc<Host>> {
        let parsed =
            Url::parse(url).map_err(|_| Error::Invalid(format!("invalid mirror: {url:?}")))?;
        let host = parsed.host_str().unwrap_or_default();
        let name = match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let scheme = match parsed.scheme() {
            "http" => "http",
            _ => "https",
        };
        let hosts = self.cached(&format!("{scheme}://{name}"), &name, Some(scheme))?;
        hosts
            .into_iter()
            .next_back()
            .ok_or_else(|| Error::Invalid(format!("invalid mirror: {url:?}")))
    }

    fn hosts_of(&self, name: &str) -> Result<Vec<Arc<Host>>> {
        self.cached(name, name, None)
    }

    /// The hosts for a key, read again when their files have changed.
    fn cached(
        &self,
        key: &str,
        name: &str,
        scheme: Option<&'static str>,
    ) -> Result<Vec<Arc<Host>>> {
        if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
            return Err(Error::Invalid(format!("invalid registry host {name:?}")));
        }
        let dir = hosts::directory(self.config.certs_dir.as_deref(), name);
        let fingerprint = hosts::fingerprint(dir.as_deref());
        let mut known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((files, hosts)) = known.get(key)
            && *files == fingerprint
        {
            return Ok(hosts.clone());
        }
        if known.len() >= HOSTS_MAX {
            known.clear();
        }
        let usual = Settings::plain(name, scheme, is_insecure(name, &self.config.insecure));
        let settings = match &dir {
            Some(dir) => hosts::read(dir, usual)?,
            None => vec![usual],
        };
        let hosts: Vec<Arc<Host>> = settings
            .into_iter()
            .map(|settings| Host::new(settings, &self.config).map(Arc::new))
            .collect::<Result<_>>()?;
        known.insert(key.to_owned(), (fingerprint, hosts.clone()));
        Ok(hosts)
    }
}

/// docker.io's registry has another name.
fn real_name(domain: &str) -> &str {
    match domain {
        DEFAULT_DOMAIN | "index.docker.io" => DOCKER_HUB,
        domain => domain,
    }
}

/// Registries remembered at once; beyond that all are forgotten and found again.
const HOSTS_MAX: usize = 256;
