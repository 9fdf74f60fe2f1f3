//! A client of the registry behind a pull-through cache: requests, tokens, and nothing kept on disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use hull_oci::distribution::{AuthChallenge, TokenResponse};
use hull_oci::image::media_type::ACCEPTED_MANIFESTS;
use reqwest::Response;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::route::percent_encode;

/// Longest document taken, in bytes.
const DOCUMENT_LEN_MAX: usize = hull_oci::image::DOCUMENT_LEN_MAX;
/// Most tokens kept; all are forgotten beyond.
const TOKENS_MAX: usize = 1024;
/// How long before its end a token is not used any more.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// Longest life believed of a token.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The other registry.
#[derive(Debug)]
pub struct Upstream {
    base: String,
    http: reqwest::Client,
    account: Option<Account>,
    tokens: Mutex<HashMap<String, Token>>,
}

struct Account {
    user: String,
    password: String,
}

/// Leaves the password out, so that a log line cannot leak it.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Token {
    header: String,
    until: Instant,
}

impl Upstream {
    /// Prepares a client; asks nothing yet.
    pub fn open(url: &str, config: &Config) -> anyhow::Result<Self> {
        // An error means that somebody has installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = reqwest::Url::parse(url).with_context(|| format!("{url:?} is no URL"))?;
        anyhow::ensure!(
            matches!(parsed.scheme(), "http" | "https"),
            "{url:?} is neither http nor https"
        );
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(config.idle_timeout)
            .pool_max_idle_per_host(8)
            .user_agent(concat!("hull-registry/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &config.proxy_ca {
            let pem =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let certs = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("cannot use {}", path.display()))?;
            builder = builder.tls_certs_merge(certs);
        }
        let account = match (&config.proxy_username, &config.proxy_password_file) {
            (Some(user), Some(path)) => {
                let password = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Some(Account {
                    user: user.clone(),
                    password,
                })
            }
            _ => None,
        };
        Ok(Upstream {
            base: url.trim_end_matches('/').to_owned(),
            http: builder.build().context("cannot make an HTTP client")?,
            account,
            tokens: Mutex::default(),
        })
    }

    /// Asks for `/v2/<name>/<rest>`; the answer whatever its status, after logging in where that was asked for.
    pub async fn get(&self, method: Method, name: &Name, rest: &str) -> Result<Response> {
        let url = format!("{}/v2/{name}/{rest}", self.base);
        let scope = format!("repository:{name}:pull");
        let first = self.send(method.clone(), &url, self.known(&scope)).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        match self.log_in(first.headers(), &scope).await? {
            Some(header) => self.send(method, &url, Some(header)).await,
            None => Ok(first),
        }
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        authorization: Option<String>,
    ) -> Result<Response> {
        let mut request = self.http.request(method, url);
        for kind in ACCEPTED_MANIFESTS {
            request = request.header(header::ACCEPT, *kind);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.send().await.map_err(failed)
    }

    fn known(&self, scope: &str) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens
            .get(scope)
            .filter(|token| token.until > Instant::now())?;
        Some(token.header.clone())
    }

    fn basic(&self) -> Option<String> {
        let account = self.account.as_ref()?;
        let pair = format!("{}:{}", account.user, account.password);
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }

    /// Answers a challenge; the header to send, if there is one that could help.
    async fn log_in(&self, headers: &HeaderMap, scope: &str) -> Result<Option<String>> {
        let challenges: Vec<AuthChallenge> = headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(AuthChallenge::parse_header)
            .collect();
        let bearer = challenges
            .iter()
            .find(|challenge| challenge.realm().is_some() && challenge.service().is_some());
        let (header, life) = match bearer {
            Some(challenge) => self.fetch_token(challenge, scope).await?,
            None => match self.basic() {
                Some(header) => (header, TOKEN_LIFE_MAX),
                None => return Ok(None),
            },
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        let until = Instant::now() + life.saturating_sub(TOKEN_MARGIN);
        tokens.insert(
            scope.to_owned(),
            Token {
                header: header.clone(),
                until,
            },
        );
        Ok(Some(header))
    }

    async fn fetch_token(
        &self,
        challenge: &AuthChallenge,
        scope: &str,
    ) -> Result<(String, Duration)> {
        let realm = challenge.realm().unwrap_or_default();
        let url = format!(
            "{realm}{}service={}&scope={}",
            if realm.contains('?') { '&' } else { '?' },
            percent_encode(challenge.service().unwrap_or_default()),
            percent_encode(challenge.scope().unwrap_or(scope)),
        );
        let response = self.send(Method::GET, &url, self.basic()).await?;
        if !response.status().is_success() {
            return Err(Error::Upstream(format!(
                "its token server answered {}",
                response.status()
            )));
        }
        let body = read_document(response).await?;
        let token: TokenResponse = serde_json::from_slice(&body).map_err(|error| {
            Error::Upstream(format!("its token server's answer is malformed: {error}"))
        })?;
        let bearer = token
            .bearer()
            .ok_or_else(|| Error::Upstream("its token server gave no token".into()))?;
        let life = Duration::from_secs(
            token
                .expires_in
                .unwrap_or(TokenResponse::DEFAULT_EXPIRES_IN_S),
        );
        Ok((format!("Bearer {bearer}"), life.min(TOKEN_LIFE_MAX)))
    }
}

/// Reads a bounded body.
pub async fn read_document(mut response: Response) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(bytes) = response.chunk().await.map_err(failed)? {
        if body.len() + bytes.len() > DOCUMENT_LEN_MAX {
            return Err(Error::Upstream(format!(
                "its answer is longer than {DOCUMENT_LEN_MAX} bytes"
            )));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body.freeze())
}

/// An error with its causes, without the address, which may hold a password.
pub fn failed(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message += &format!(": {cause}");
        source = cause.source();
    }
    Error::Upstream(message)
}
