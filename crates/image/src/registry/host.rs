//! One registry host: its scheme, connections and tokens, and how a request is sent to it.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use hull_oci::distribution::{AuthChallenge, AuthScheme, ErrorBody};
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, Url};
use tokio::sync::mpsc;

use super::auth::{Tokens, basic, bearer, choose, fetch_token};
use super::hosts::Settings;
use super::tls;
use crate::types::{Auth, RegistryConfig};
use crate::{Error, Result};

const REDIRECTS_MAX: usize = 10;
const AUTH_ROUNDS_MAX: usize = 3;
/// An error document beyond this is cut.
const ERROR_LEN_MAX: usize = 64 << 10;

/// A registry host.
pub(crate) struct Host {
    /// `name[:port]`.
    pub name: String,
    /// What stands in place of `/v2`.
    base: String,
    /// Sent with every request to the host itself.
    headers: HeaderMap,
    insecure: bool,
    /// Whether it is asked for content by digest.
    pub pull: bool,
    /// Whether it is asked what a tag means.
    pub resolve: bool,
    /// Whether it takes what is pushed.
    pub push: bool,
    http: reqwest::Client,
    /// An index into `schemes` plus one, once known.
    scheme: AtomicU8,
    schemes: &'static [&'static str],
    tokens: Tokens,
}

/// A request without a streamed body: it can be sent again, with credentials or to another scheme.
#[derive(Clone)]
pub(crate) struct Request {
    pub method: Method,
    /// From `/v2/` on; or a whole address that the registry gave (an upload's location).
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Request {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::Invalid(format!("invalid header {name}")))?;
        self.headers.append(name, value);
        Ok(self)
    }
}

impl Host {
    pub(super) fn new(settings: Settings, config: &RegistryConfig) -> Result<Self> {
        let schemes: &'static [&'static str] = match settings.scheme {
            Some("http") => &["http"],
            Some(_) => &["https"],
            None if settings.insecure => &["https", "http"],
            None => &["https"],
        };
        let timeout = settings.dial_timeout.unwrap_or(config.connect_timeout);
        let http = http_client(Some(tls::config(&settings)?), config, timeout)?;
        Ok(Host {
            name: settings.name,
            base: settings.base,
            headers: settings.headers,
            insecure: settings.insecure,
            pull: settings.pull,
            resolve: settings.resolve,
            push: settings.push,
            http,
            scheme: AtomicU8::new(0),
            schemes,
            tokens: Tokens::default(),
        })
    }

    /// Sends a request and answers challenges with `auth`, for a token of `scope`.
    pub async fn send(
        &self,
        request: &Request,
        auth: Option<&Auth>,
        scope: &str,
    ) -> Result<Response> {
        let user = auth.map_or("", |auth| auth.username.as_str());
        let mut authorization = match auth.and_then(|auth| auth.registry_token.as_deref()) {
            Some(token) => Some(bearer(token)?),
            None => self.tokens.get(scope, user),
        };
        for _ in 0..AUTH_ROUNDS_MAX {
            let response = self
                .send_any_scheme(request, authorization.as_ref())
                .await?;
            if response.status() != 401 {
                return Ok(response);
            }
            let url = response.url().clone();
            let challenges: Vec<AuthChallenge> = response
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(AuthChallenge::parse_header)
                .collect();
            let refused = authorization.is_some();
            let body = read_bounded(response, ERROR_LEN_MAX)
                .await
                .unwrap_or_default();
            let denied = |reason: &str| Error::Unauthorized {
                url: url.to_string(),
                reason: error_reason(&body, reason),
            };
            match choose(&challenges) {
                Some(challenge) if challenge.scheme == AuthScheme::Bearer => {
                    if refused {
                        self.tokens.forget(scope, user);
                    }
                    if refused && auth.is_some_and(|auth| auth.registry_token.is_some()) {
                        return Err(denied("unauthorized: authentication required"));
                    }
                    let wanted = if scope.is_empty() {
                        challenge.scope().unwrap_or_default()
                    } else {
                        scope
                    };
                    let plain = url.scheme() == "http" || self.insecure;
                    let token = fetch_token(&self.http, challenge, wanted, auth, plain).await?;
                    self.tokens
                        .put(scope, user, token.header.clone(), token.lifetime);
                    authorization = Some(token.header);
                }
                Some(_) => match auth.filter(|auth| !auth.username.is_empty()) {
                    Some(auth) if !refused => {
                        let header = basic(auth)?;
                        self.tokens
                            .put(scope, user, header.clone(), Duration::from_secs(3600));
                        authorization = Some(header);
                    }
                    Some(_) => {
                        self.tokens.forget(scope, user);
                        return Err(denied("unauthorized: authentication required"));
                    }
                    None => {
                        return Err(Error::Unauthorized {
                            url: url.to_string(),
                            reason: "no basic auth credentials".to_owned(),
                        });
                    }
                },
                None => return Err(denied("unauthorized: authentication required")),
            }
        }
        Err(Error::Unauthorized {
            url: format!("https://{}{}", self.name, request.path),
            reason: "unauthorized: the registry refuses every token that its token server gives"
                .to_owned(),
        })
    }

    /// Puts a streamed body to an address that the registry gave. It cannot be sent twice: the credentials are those that
    /// the request before was accepted with.
    pub async fn upload(
        &self,
        location: &str,
        size: u64,
        mut body: mpsc::Receiver<Bytes>,
        auth: Option<&Auth>,
        scope: &str,
    ) -> Result<Response> {
        let url = Url::parse(location)
            .map_err(|_| Error::Invalid(format!("invalid address {location:?}")))?;
        let user = auth.map_or("", |auth| auth.username.as_str());
        let chunks = futures_util::stream::poll_fn(move |context| {
            body.poll_recv(context)
                .map(|chunk| chunk.map(Ok::<_, io::Error>))
        });
        let mut request = self
            .http
            .put(url.clone())
            .header(CONTENT_LENGTH, size)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(reqwest::Body::wrap_stream(chunks));
        let own = self.schemes.iter().any(|scheme| {
            Url::parse(&format!("{scheme}://{}/", self.name))
                .is_ok_and(|own| own.origin() == url.origin())
        });
        let authorization = match auth.and_then(|auth| auth.registry_token.as_deref()) {
            Some(token) => Some(bearer(token)?),
            None => self.tokens.get(scope, user),
        };
        if own {
            request = request.headers(self.headers.clone());
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
        }
        request
            .send()
            .await
            .map_err(|error| request_error("Put", &url, &error))
    }

    /// A refresh token for login, where the registry's token server gives one.
    pub async fn identity_token(&self, auth: &Auth) -> Result<Option<String>> {
        let response = self
            .send_any_scheme(&Request::new(Method::GET, "/v2/"), None)
            .await?;
        let plain = response.url().scheme() == "http" || self.insecure;
        let challenges: Vec<AuthChallenge> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(AuthChallenge::parse_header)
            .collect();
        match choose(&challenges) {
            Some(challenge) if challenge.scheme == AuthScheme::Bearer => {
                Ok(fetch_token(&self.http, challenge, "", Some(auth), plain)
                    .await?
                    .refresh)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Sends over the scheme that is known to work, or tries them in order.
    async fn send_any_scheme(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response> {
        let known = usize::from(self.scheme.load(Ordering::Relaxed));
        if known > 0 || request.path.contains("://") {
            let scheme = self.schemes[known.saturating_sub(1).min(self.schemes.len() - 1)];
            return self.send_once(scheme, request, authorization).await;
        }
        let mut last = None;
        for (index, scheme) in self.schemes.iter().enumerate() {
            match self.send_once(scheme, request, authorization).await {
                // What speaks TLS answers so to plain HTTP: why TLS failed says more.
                Ok(response) if last.is_some() && response.status() == 400 => break,
                Ok(response) => {
                    self.scheme.store(index as u8 + 1, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Invalid("no scheme to reach the registry by".to_owned())))
    }

    async fn send_once(
        &self,
        scheme: &str,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response> {
        let address = match request.path.strip_prefix("/v2") {
            _ if request.path.contains("://") => request.path.clone(),
            Some(rest) => format!("{scheme}://{}{}{rest}", self.name, self.base),
            None => format!("{scheme}://{}{}", self.name, request.path),
        };
        let origin = Url::parse(&format!("{scheme}://{}/", self.name))
            .map_err(|_| Error::Invalid(format!("invalid registry host {:?}", self.name)))?;
        let mut url = Url::parse(&address)
            .map_err(|_| Error::Invalid(format!("invalid address {address:?}")))?;
        let mut method = request.method.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut builder = self
                .http
                .request(method.clone(), url.clone())
                .headers(request.headers.clone());
            if url.origin() == origin.origin() {
                builder = builder.headers(self.headers.clone());
                if let Some(authorization) = authorization {
                    builder = builder.header(AUTHORIZATION, authorization.clone());
                }
            }
            if !request.body.is_empty() && method == request.method {
                builder = builder.body(request.body.clone());
            }
            let response = builder
                .send()
                .await
                .map_err(|error| request_error(go_method(&method), &url, &error))?;
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let location = location
                .filter(|_| matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308));
            let Some(location) = location else {
                return Ok(response);
            };
            let next = url
                .join(location)
                .map_err(|_| Error::Invalid(format!("invalid redirect to {location:?}")))?;
            let downgrade = url.scheme() == "https" && next.scheme() != "https";
            if !matches!(next.scheme(), "http" | "https") || downgrade {
                return Err(Error::Invalid(format!(
                    "the registry redirects to {next}, which is not HTTPS: refused"
                )));
            }
            if response.status() == 303 {
                method = Method::GET;
            }
            url = next;
        }
        Err(Error::Request {
            method: go_method(&method),
            url: address,
            reason: "stopped after 10 redirects".to_owned(),
        })
    }
}

/// Reads a body whole; longer than `limit` bytes is an error.
pub(crate) async fn read_bounded(response: Response, limit: usize) -> Result<Vec<u8>> {
    let url = response.url().clone();
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| request_error("Get", &url, &error))?;
        if body.len() + chunk.len() > limit {
            return Err(Error::Invalid(format!(
                "the answer of {url} is longer than {limit} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first error of a registry's error document as Go prints it: `denied: requested access ..`.
pub(super) fn error_reason(body: &[u8], otherwise: &str) -> String {
    match registry_error(body) {
        Some((code, message)) => format!("{}: {message}", code.to_lowercase().replace('_', " ")),
        None => otherwise.to_owned(),
    }
}

/// Code and message of the first error in a registry's error document.
pub(super) fn registry_error(body: &[u8]) -> Option<(String, String)> {
    let parsed: ErrorBody = serde_json::from_slice(body).ok()?;
    let first = parsed.errors.into_iter().next()?;
    let cut = |text: String| text.chars().take(500).collect::<String>();
    Some((cut(first.code), cut(first.message)))
}

/// An error of the HTTP client in Go's words, for Docker's users search for those.
pub(crate) fn request_error(method: &'static str, url: &Url, error: &reqwest::Error) -> Error {
    let mut source = error.source();
    let mut innermost = error.to_string();
    let mut kind = None;
    while let Some(inner) = source {
        innermost = inner.to_string();
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        source = inner.source();
    }
    let host = url.host_str().unwrap_or_default();
    let address = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let reason = match kind {
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("dial tcp {address}: connect: connection refused")
        }
        Some(io::ErrorKind::NetworkUnreachable) => {
            format!("dial tcp {address}: connect: network is unreachable")
        }
        _ if error.is_timeout() && error.is_connect() => format!("dial tcp {address}: i/o timeout"),
        _ if error.is_timeout() => {
            "net/http: request canceled (the registry sent nothing for too long)".to_owned()
        }
        _ if innermost.contains("lookup address") => {
            format!("dial tcp: lookup {host}: no such host")
        }
        // hyper's words for a body that is cut off.
        _ if innermost.contains("before message length reached") => "unexpected EOF".to_owned(),
        _ => innermost,
    };
    let mut shown = url.clone();
    shown.set_query(None);
    Error::Request {
        method,
        url: shown.to_string(),
        reason,
    }
}

fn go_method(method: &Method) -> &'static str {
    match method.as_str() {
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        "DELETE" => "Delete",
        _ => "Get",
    }
}

/// The host without its port.
fn bare(name: &str) -> &str {
    match name.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => name.split(':').next().unwrap_or(name),
    }
}

/// An HTTP client by the configuration; TLS by the system's roots where nothing else is given.
pub(super) fn http_client(
    tls: Option<rustls::ClientConfig>,
    config: &RegistryConfig,
    connect_timeout: Duration,
) -> Result<reqwest::Client> {
    let tls = match tls {
        Some(tls) => tls,
        None => tls::config(&Settings::default())?,
    };
    let proxies = config.proxies.or_environment();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .user_agent(concat!("hull/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .read_timeout(config.stall_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .proxy(reqwest::Proxy::custom(move |url| proxies.for_url(url)))
        .build()
        .map_err(|error| Error::Invalid(format!("HTTP client: {error}")))
}

fn is_loopback(name: &str) -> bool {
    let host = bare(name);
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Docker's rule: loopback, and what `--insecure-registry` names by host, host and port, or network.
pub(super) fn is_insecure(name: &str, listed: &[String]) -> bool {
    let host = bare(name);
    let address = host.parse::<IpAddr>().ok();
    is_loopback(name)
        || listed.iter().any(|entry| {
            let within = |address: IpAddr| in_network(address, entry).unwrap_or(false);
            entry == name || entry == host || address.is_some_and(within)
        })
}

pub(super) fn in_network(address: IpAddr, network: &str) -> Option<bool> {
    let (base, length) = network.split_once('/')?;
    let (base, length): (IpAddr, u32) = (base.parse().ok()?, length.parse().ok()?);
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Some(u32::from(address) & mask == u32::from(base) & mask)
        }
        (IpAddr::V6(address), IpAddr::V6(base)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Some(u128::from(address) & mask == u128::from(base) & mask)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_registries() {
        let listed = [
            "10.0.0.0/8".to_owned(),
            "plain.example".to_owned(),
            "other.example:5000".to_owned(),
        ];
        for name in [
            "localhost:5000",
            "127.0.0.1",
            "[::1]:5000",
            "10.1.2.3:80",
            "plain.example:9",
            "other.example:5000",
        ] {
            assert!(is_insecure(name, &listed), "{name}");
        }
        for name in [
            "docker.io",
            "11.0.0.1",
            "other.example",
            "other.example:5001",
            "localhost.example",
        ] {
            assert!(!is_insecure(name, &listed), "{name}");
        }
    }
}
