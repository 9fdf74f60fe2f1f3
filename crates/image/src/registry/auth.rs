//! Authentication: basic, and bearer tokens from the token server that a registry names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hull_oci::distribution::{AuthChallenge, AuthScheme, TokenResponse};
use reqwest::Url;
use reqwest::header::HeaderValue;

use super::host::{error_reason, read_bounded, request_error};
use crate::types::Auth;
use crate::{Error, Result};

/// Tokens kept per registry.
const TOKENS_MAX: usize = 128;
/// A token answer is some KiB.
const TOKEN_LEN_MAX: usize = 1 << 20;
/// A token that ends within this time is not used any more.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// The name that Docker's token servers know clients by.
const CLIENT_ID: &str = "docker";

/// What is asked of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Pull,
    Push,
}

impl Access {
    /// The scope of a token for it.
    pub fn scope(self, path: &str) -> String {
        match self {
            Access::Pull => format!("repository:{path}:pull"),
            Access::Push => format!("repository:{path}:pull,push"),
        }
    }
}

/// Tokens by scope and user.
#[derive(Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<(String, String), (HeaderValue, Instant)>>,
}

impl Tokens {
    pub fn get(&self, scope: &str, user: &str) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (header, until) = known.get(&(scope.to_owned(), user.to_owned()))?;
        (Instant::now() < *until).then(|| header.clone())
    }

    pub fn put(&self, scope: &str, user: &str, header: HeaderValue, lifetime: Duration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TOKENS_MAX {
            known.clear();
        }
        let until = Instant::now() + lifetime.saturating_sub(TOKEN_MARGIN);
        known.insert((scope.to_owned(), user.to_owned()), (header, until));
    }

    pub fn forget(&self, scope: &str, user: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(scope.to_owned(), user.to_owned()));
    }
}

/// The header of basic authentication, marked secret.
pub(super) fn basic(auth: &Auth) -> Result<HeaderValue> {
    secret(&format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", auth.username, auth.password))
    ))
}

/// The header for a bearer token, marked secret.
pub(super) fn bearer(token: &str) -> Result<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(text).map_err(|_| {
        Error::Invalid("credentials with characters that no header can carry".to_owned())
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// The challenge to answer: bearer before basic.
pub(super) fn choose(challenges: &[AuthChallenge]) -> Option<&AuthChallenge> {
    let of = |scheme: AuthScheme| {
        challenges
            .iter()
            .find(move |challenge| challenge.scheme == scheme)
    };
    of(AuthScheme::Bearer).or_else(|| of(AuthScheme::Basic))
}

/// A token and how long it may be used.
pub(super) struct Token {
    pub header: HeaderValue,
    pub lifetime: Duration,
    /// A refresh token, where the server gave one.
    pub refresh: Option<String>,
}

/// Buys a token from the server that the challenge names. `plain_http` allows a token server without TLS.
pub(super) async fn fetch_token(
    http: &reqwest::Client,
    challenge: &AuthChallenge,
    scope: &str,
    auth: Option<&Auth>,
    plain_http: bool,
) -> Result<Token> {
    let realm = challenge
        .realm()
        .ok_or_else(|| Error::Invalid("no realm in the registry's challenge".to_owned()))?;
    let mut url = Url::parse(realm).map_err(|_| {
        Error::Invalid(format!(
            "invalid realm in the registry's challenge: {realm:?}"
        ))
    })?;
    if url.scheme() != "https" && !(url.scheme() == "http" && plain_http) {
        return Err(Error::Invalid(format!(
            "the registry names a token server that is not HTTPS: {realm:?}"
        )));
    }
    let service = challenge.service().unwrap_or_default();
    let refresh = auth.and_then(|auth| auth.identity_token.as_deref());
    let (status, body) = match refresh {
        Some(refresh) => {
            let form = form(&[
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", CLIENT_ID),
                ("scope", scope),
                ("refresh_token", refresh),
            ]);
            let request = http
                .post(url.clone())
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(form);
            let answer = ask("Post", request, &url).await?;
            let by_name = auth.is_some_and(|auth| !auth.username.is_empty());
            match answer.0.as_u16() {
                // Token servers without OAuth2 say so in all these ways (containerd's `FetchToken` lists whose).
                400 | 401 | 404 | 405 if by_name => {
                    query(&mut url, service, scope, auth);
                    ask("Get", by_password(http, &url, auth)?, &url).await?
                }
                _ => answer,
            }
        }
        None => {
            query(&mut url, service, scope, auth);
            ask("Get", by_password(http, &url, auth)?, &url).await?
        }
    };
    if !status.is_success() {
        let reason = match status.as_u16() {
            401 | 403 => error_reason(&body, "unauthorized: incorrect username or password"),
            _ => error_reason(
                &body,
                &format!("unexpected status from the token server: {status}"),
            ),
        };
        return Err(Error::Unauthorized {
            url: plain(&url),
            reason,
        });
    }
    let answer: TokenResponse = serde_json::from_slice(&body)
        .map_err(|error| Error::Invalid(format!("unable to decode token response: {error}")))?;
    let token = answer.bearer().ok_or_else(|| {
        Error::Invalid("authorization server did not include a token in the response".to_owned())
    })?;
    Ok(Token {
        header: bearer(token)?,
        lifetime: Duration::from_secs(
            answer
                .expires_in
                .unwrap_or(TokenResponse::DEFAULT_EXPIRES_IN_S)
                .min(86_400),
        ),
        refresh: answer.refresh_token.clone(),
    })
}

async fn ask(
    method: &'static str,
    request: reqwest::RequestBuilder,
    url: &Url,
) -> Result<(reqwest::StatusCode, Vec<u8>)> {
    let response = request
        .send()
        .await
        .map_err(|error| request_error(method, url, &error))?;
    let status = response.status();
    Ok((status, read_bounded(response, TOKEN_LEN_MAX).await?))
}

fn query(url: &mut Url, service: &str, scope: &str, auth: Option<&Auth>) {
    let mut query = url.query_pairs_mut();
    if !service.is_empty() {
        query.append_pair("service", service);
    }
    for part in scope.split(' ').filter(|part| !part.is_empty()) {
        query.append_pair("scope", part);
    }
    if let Some(auth) = auth.filter(|auth| !auth.username.is_empty()) {
        query.append_pair("account", &auth.username);
        query.append_pair("client_id", CLIENT_ID);
        query.append_pair("offline_token", "true");
    }
}

/// Asks by name and password; where there is only an identity token that takes the password's place.
fn by_password(
    http: &reqwest::Client,
    url: &Url,
    auth: Option<&Auth>,
) -> Result<reqwest::RequestBuilder> {
    let request = http.get(url.clone());
    let Some(auth) = auth.filter(|auth| !auth.username.is_empty()) else {
        return Ok(request);
    };
    let mut auth = auth.clone();
    if auth.password.is_empty() {
        auth.password = auth.identity_token.clone().unwrap_or_default();
    }
    Ok(request.header("Authorization", basic(&auth)?))
}

fn plain(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

fn form(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form/").unwrap_or_else(|_| unreachable!("a constant"));
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}
