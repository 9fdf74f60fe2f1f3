//! Searching a registry's index (`/v1/search`, which Docker Hub and few others have); of a registry without one, its
//! catalog.

use hull_oci::distribution::Catalog;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::images::Images;
use crate::registry::{Host, Request, next_page, read_bounded};
use crate::types::Auth;
use crate::{Error, Result};

/// Results when nobody says how many.
const LIMIT_DEFAULT: usize = 25;
/// Docker's bound.
const LIMIT_MAX: usize = 100;
/// Longest answer read, in bytes.
const ANSWER_LEN_MAX: usize = 4 << 20;
/// Pages of a catalog that are read.
const CATALOG_PAGES_MAX: usize = 100;
/// Where Docker Hub's index is.
const INDEX: &str = "index.docker.io";

/// What to search for.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// The term, with the registry's host before it unless it is Docker Hub's.
    pub term: String,
    /// At most so many results; 0: 25.
    pub limit: usize,
    /// Credentials for the registry.
    pub auth: Option<Auth>,
    /// Only official images, or only others.
    pub official: Option<bool>,
    /// Only automated builds, or only others.
    pub automated: Option<bool>,
    /// At least so many stars.
    pub stars: u64,
}

/// One result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Repository.
    pub name: String,
    /// What its owner says about it.
    pub description: String,
    /// How many like it.
    pub star_count: u64,
    /// One of Docker's own.
    pub is_official: bool,
    /// Built automatically.
    pub is_automated: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    results: Vec<Found>,
}

impl Images {
    /// Searches for repositories.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit above 100 or a term with a scheme; what the registry answers.
    pub async fn search(&self, options: &SearchOptions) -> Result<Vec<Found>> {
        if options.limit > LIMIT_MAX {
            return Err(Error::Invalid(format!(
                "limit {} is outside the range of [1, {LIMIT_MAX}]",
                options.limit
            )));
        }
        let limit = match options.limit {
            0 => LIMIT_DEFAULT,
            limit => limit,
        };
        let (domain, term) = split(&options.term)?;
        let host = self
            .transport()
            .client
            .exact_host(domain.unwrap_or(INDEX))?;
        let path = search_path(term, limit)?;
        let request = Request::new(Method::GET, path).header("x-docker-token", "true")?;
        let auth = options.auth.as_ref();
        let response = host.send(&request, auth, "").await?;
        let status = response.status();
        let mut found = match (status.as_u16(), domain) {
            (200, _) => {
                let body = read_bounded(response, ANSWER_LEN_MAX).await?;
                let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
                    Error::Invalid(format!(
                        "the registry's search result is not valid: {error}"
                    ))
                })?;
                answer.results
            }
            (404 | 405, Some(domain)) => catalog(&host, auth, domain, term).await?,
            (number, _) => {
                return Err(Error::Registry {
                    host: host.name.clone(),
                    status: number,
                    reason: format!("Unexpected status code {number}"),
                });
            }
        };
        found.retain(|one| {
            options
                .official
                .is_none_or(|wanted| one.is_official == wanted)
                && options
                    .automated
                    .is_none_or(|wanted| one.is_automated == wanted)
                && one.star_count >= options.stars
        });
        found.truncate(limit);
        Ok(found)
    }
}

/// The registry, unless it is the default one, and what to look for there.
fn split(term: &str) -> Result<(Option<&str>, &str)> {
    if term.contains("://") {
        return Err(Error::Invalid(format!(
            "invalid repository name: repository name ({term}) should not have a scheme"
        )));
    }
    Ok(match term.split_once('/') {
        Some((host, rest))
            if (host.contains(['.', ':']) || host == "localhost")
                && !matches!(host, "docker.io" | INDEX) =>
        {
            (Some(host), rest)
        }
        Some(("docker.io" | INDEX, rest)) => (None, rest),
        Some(_) | None => (None, term),
    })
}

fn search_path(term: &str, limit: usize) -> Result<String> {
    let url = Url::parse_with_params(
        "http://x/v1/search",
        [("q", term), ("n", &limit.to_string())],
    )
    .map_err(|error| Error::Invalid(format!("invalid search term: {error}")))?;
    Ok(format!("/v1/search?{}", url.query().unwrap_or_default()))
}

/// The repositories of a catalog whose names contain the term, under names that can be pulled.
async fn catalog(host: &Host, auth: Option<&Auth>, domain: &str, term: &str) -> Result<Vec<Found>> {
    let mut path = "/v2/_catalog?n=1000".to_owned();
    let mut found = Vec::new();
    for _ in 0..CATALOG_PAGES_MAX {
        let request = Request::new(Method::GET, path.as_str());
        let response = host.send(&request, auth, "registry:catalog:*").await?;
        if !response.status().is_success() {
            return Err(Error::Registry {
                host: host.name.clone(),
                status: response.status().as_u16(),
                reason: format!(
                    "it has no search (/v1/search), and its catalog answers {}",
                    response.status()
                ),
            });
        }
        let next = response
            .headers()
            .get("link")
            .and_then(|link| link.to_str().ok())
            .and_then(next_page);
        let body = read_bounded(response, ANSWER_LEN_MAX).await?;
        let page: Catalog = serde_json::from_slice(&body).map_err(|error| {
            Error::Invalid(format!("the registry's catalog is not valid: {error}"))
        })?;
        let matching = page
            .repositories
            .into_iter()
            .filter(|name| name.contains(term));
        found.extend(matching.map(|name| Found {
            name: format!("{domain}/{name}"),
            ..Found::default()
        }));
        match next {
            Some(next) if found.len() < LIMIT_MAX => path = next,
            Some(_) | None => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn registries_before_terms() {
        assert_eq!(split("nginx").unwrap(), (None, "nginx"));
        assert_eq!(split("team/app").unwrap(), (None, "team/app"));
        assert_eq!(split("docker.io/team/app").unwrap(), (None, "team/app"));
        assert_eq!(
            split("r.example:5/a/b").unwrap(),
            (Some("r.example:5"), "a/b")
        );
        assert_eq!(split("localhost/a").unwrap(), (Some("localhost"), "a"));
        assert!(split("https://r.example/a").is_err());
    }
}
