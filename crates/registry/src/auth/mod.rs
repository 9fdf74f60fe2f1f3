//! Who may do what: nobody asked, a password file, or tokens of another server.

mod htpasswd;
mod key;
mod token;

use http::{HeaderMap, Method, header};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::route::{Query, Route};

use htpasswd::Htpasswd;
use token::Tokens;

/// How requests are authenticated.
#[derive(Debug)]
pub enum Auth {
    /// Everybody may do everything.
    Nobody,
    /// Whoever has a password may do everything.
    Basic(Htpasswd),
    /// Whoever has a token may do what it says.
    Bearer(Tokens),
}

/// Something that a request needs to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    kind: &'static str,
    name: String,
    actions: &'static [&'static str],
}

impl Scope {
    fn repository(name: &Name, actions: &'static [&'static str]) -> Self {
        Scope {
            kind: "repository",
            name: name.to_string(),
            actions,
        }
    }

    /// What a route needs (Docker's token specification, "Requesting a Token").
    pub fn needed(route: &Route, method: &Method, query: &Query<'_>) -> Vec<Scope> {
        let actions: &[&str] = match *method {
            Method::GET | Method::HEAD if !matches!(route, Route::Upload(..)) => &["pull"],
            Method::DELETE if !matches!(route, Route::Upload(..)) => &["delete"],
            _ => &["pull", "push"],
        };
        let mut scopes = Vec::new();
        if let Some(name) = route.name() {
            scopes.push(Scope::repository(name, actions));
        }
        if *route == Route::Catalog {
            scopes.push(Scope {
                kind: "registry",
                name: "catalog".to_owned(),
                actions: &["*"],
            });
        }
        if matches!(route, Route::Uploads(_))
            && query.get("mount").is_some()
            && let Some(Ok(from)) = query.get("from").map(Name::new)
        {
            scopes.push(Scope::repository(&from, &["pull"]));
        }
        scopes
    }
}

impl Auth {
    /// Reads the files that the configuration names.
    pub fn from_config(config: &Config) -> anyhow::Result<Self> {
        if let Some(path) = &config.htpasswd {
            return Ok(Auth::Basic(Htpasswd::open(path, &config.realm)?));
        }
        match (
            &config.token_realm,
            &config.token_service,
            &config.token_issuer,
            &config.token_keys,
        ) {
            (Some(realm), Some(service), Some(issuer), Some(keys)) => {
                Ok(Auth::Bearer(Tokens::open(realm, service, issuer, keys)?))
            }
            _ => Ok(Auth::Nobody),
        }
    }

    /// Checks a request; the user's name, where there is one.
    pub async fn check(&self, headers: &HeaderMap, needed: &[Scope]) -> Result<Option<String>> {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        match self {
            Auth::Nobody => Ok(None),
            Auth::Basic(htpasswd) => match given {
                Some((scheme, text)) if scheme.eq_ignore_ascii_case("basic") => {
                    htpasswd.check(text.trim()).await.map(Some)
                }
                _ => Err(Error::Unauthorized(htpasswd.challenge())),
            },
            Auth::Bearer(tokens) => match given {
                Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => {
                    tokens.check(text.trim(), needed)
                }
                _ => Err(Error::Unauthorized(tokens.challenge(needed, None))),
            },
        }
    }

    /// Whether users differ in what they may read, so that a blob may not be mounted from just anywhere.
    pub fn is_by_repository(&self) -> bool {
        matches!(self, Auth::Bearer(_))
    }
}

/// Puts text into a quoted string of a header.
fn quote(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && *c != '"' && *c != '\\')
        .collect()
}
