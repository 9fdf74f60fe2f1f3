//! Bodies and headers of the registry protocol (distribution-spec 1.1, and the token scheme of Docker registries).
//!
//! The referrers response is an [`crate::image::Index`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::go;

/// Error codes (distribution-spec, "Error Codes", and those that Docker registries add).
pub mod code {
    /// Blob unknown to the registry.
    pub const BLOB_UNKNOWN: &str = "BLOB_UNKNOWN";
    /// Blob upload invalid.
    pub const BLOB_UPLOAD_INVALID: &str = "BLOB_UPLOAD_INVALID";
    /// Blob upload unknown.
    pub const BLOB_UPLOAD_UNKNOWN: &str = "BLOB_UPLOAD_UNKNOWN";
    /// Digest did not match the content.
    pub const DIGEST_INVALID: &str = "DIGEST_INVALID";
    /// A manifest refers to an unknown manifest or blob.
    pub const MANIFEST_BLOB_UNKNOWN: &str = "MANIFEST_BLOB_UNKNOWN";
    /// Manifest invalid.
    pub const MANIFEST_INVALID: &str = "MANIFEST_INVALID";
    /// Manifest unknown.
    pub const MANIFEST_UNKNOWN: &str = "MANIFEST_UNKNOWN";
    /// Repository name invalid.
    pub const NAME_INVALID: &str = "NAME_INVALID";
    /// Repository name unknown.
    pub const NAME_UNKNOWN: &str = "NAME_UNKNOWN";
    /// Length did not match the content.
    pub const SIZE_INVALID: &str = "SIZE_INVALID";
    /// Tag invalid.
    pub const TAG_INVALID: &str = "TAG_INVALID";
    /// Authentication required.
    pub const UNAUTHORIZED: &str = "UNAUTHORIZED";
    /// Access denied.
    pub const DENIED: &str = "DENIED";
    /// Operation unsupported.
    pub const UNSUPPORTED: &str = "UNSUPPORTED";
    /// Too many requests.
    pub const TOOMANYREQUESTS: &str = "TOOMANYREQUESTS";
    /// Range invalid.
    pub const RANGE_INVALID: &str = "RANGE_INVALID";
    /// Pagination number invalid.
    pub const PAGINATION_NUMBER_INVALID: &str = "PAGINATION_NUMBER_INVALID";
    /// Service unavailable.
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
    /// Anything else.
    pub const UNKNOWN: &str = "UNKNOWN";
}

/// The body of an error response.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The errors, usually one.
    #[serde(default, deserialize_with = "go::null")]
    pub errors: Vec<ErrorInfo>,
}

impl ErrorBody {
    /// A body with one error.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        ErrorBody {
            errors: vec![ErrorInfo {
                code: code.to_owned(),
                message: message.into(),
                detail: None,
            }],
        }
    }
}

/// One error of a registry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// One of [`code`].
    #[serde(default, deserialize_with = "go::null")]
    pub code: String,
    /// A sentence for people.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub message: String,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// The answer of `GET /v2/<name>/tags/list`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TagList {
    /// The repository.
    #[serde(default, deserialize_with = "go::null")]
    pub name: String,
    /// Its tags, sorted.
    #[serde(default, deserialize_with = "go::null")]
    pub tags: Vec<String>,
}

/// The answer of `GET /v2/_catalog`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// The repositories, sorted.
    #[serde(default, deserialize_with = "go::null")]
    pub repositories: Vec<String>,
}

/// The answer of a token server.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenResponse {
    /// The bearer token, in Docker's naming.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub token: Option<String>,
    /// The bearer token, in OAuth 2's naming.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub access_token: Option<String>,
    /// Lifetime in seconds; 60 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// When it was issued, RFC 3339.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub issued_at: Option<String>,
    /// A token that buys further tokens.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub refresh_token: Option<String>,
    /// The granted scope.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub scope: Option<String>,
}

impl TokenResponse {
    /// Lifetime of a token whose response names none, in seconds (Docker's token specification).
    pub const DEFAULT_EXPIRES_IN_S: u64 = 60;

    /// The bearer token under either name.
    pub fn bearer(&self) -> Option<&str> {
        self.token.as_deref().or(self.access_token.as_deref())
    }
}

/// Leaves the secrets out, so that a log line cannot leak them.
impl std::fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenResponse")
            .field("expires_in", &self.expires_in)
            .field("issued_at", &self.issued_at)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// One challenge of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthChallenge {
    /// What is asked for.
    pub scheme: AuthScheme,
    /// All parameters, names in lower case; the first of equal names wins.
    pub params: BTreeMap<String, String>,
}

/// The scheme of a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthScheme {
    /// User name and password (RFC 7617).
    Basic,
    /// A token from `realm` (RFC 6750).
    Bearer,
    /// Anything else, in lower case.
    Other(String),
}

impl AuthChallenge {
    /// Longest header read, in bytes; what follows is ignored.
    pub const HEADER_LEN_MAX: usize = 16 << 10;
    /// Most challenges read from one header.
    pub const CHALLENGES_MAX: usize = 16;
    /// Most parameters read of one challenge.
    pub const PARAMS_MAX: usize = 32;

    /// The challenges of one header value. Never fails: malformed parts are skipped, and a hostile header yields at
    /// most [`AuthChallenge::CHALLENGES_MAX`] challenges in linear time.
    pub fn parse_header(value: &str) -> Vec<AuthChallenge> {
        let mut end = value.len().min(Self::HEADER_LEN_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        Challenges {
            rest: &value[..end],
        }
        .collect_all()
    }

    /// The token server's address, for Bearer.
    pub fn realm(&self) -> Option<&str> {
        self.params.get("realm").map(String::as_str)
    }

    /// The service to ask the token for.
    pub fn service(&self) -> Option<&str> {
        self.params.get("service").map(String::as_str)
    }

    /// The scope to ask the token for.
    pub fn scope(&self) -> Option<&str> {
        self.params.get("scope").map(String::as_str)
    }

    /// Why the last token was refused: `invalid_token`, `insufficient_scope`.
    pub fn error(&self) -> Option<&str> {
        self.params.get("error").map(String::as_str)
    }
}

/// A cursor over a header. Each step takes at least one byte off `rest`.
struct Challenges<'a> {
    rest: &'a str,
}

impl<'a> Challenges<'a> {
    fn collect_all(mut self) -> Vec<AuthChallenge> {
        let mut list: Vec<AuthChallenge> = Vec::new();
        loop {
            self.skip(|c| c == ',' || c.is_ascii_whitespace());
            if self.rest.is_empty() {
                return list;
            }
            let Some(word) = self.token() else {
                self.skip_item();
                continue;
            };
            if let Some(value) = self.value() {
                if let Some(last) = list.last_mut()
                    && last.params.len() < AuthChallenge::PARAMS_MAX
                {
                    last.params
                        .entry(word.to_ascii_lowercase())
                        .or_insert(value);
                }
                continue;
            }
            if list.len() == AuthChallenge::CHALLENGES_MAX {
                return list;
            }
            let scheme = match word.to_ascii_lowercase().as_str() {
                "basic" => AuthScheme::Basic,
                "bearer" => AuthScheme::Bearer,
                other => AuthScheme::Other(other.to_owned()),
            };
            list.push(AuthChallenge {
                scheme,
                params: BTreeMap::new(),
            });
            self.skip_token68();
        }
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(what);
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self
            .rest
            .find(|c| !is_token_char(c))
            .unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// The value after `=`, if one follows; leaves the cursor alone if not.
    fn value(&mut self) -> Option<String> {
        let after = self.rest.trim_start().strip_prefix('=')?;
        self.rest = after.trim_start();
        if let Some(quoted) = self.rest.strip_prefix('"') {
            return Some(self.quoted(quoted));
        }
        // Unquoted addresses (`realm=https://…`) are not tokens, yet are seen in the field.
        let end = self
            .rest
            .find(|c: char| c == ',' || c.is_ascii_whitespace())
            .unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(value.to_owned())
    }

    /// Reads up to the closing quote; an unclosed string ends with the header.
    fn quoted(&mut self, text: &'a str) -> String {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &text[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => value.push(c),
            }
        }
        self.rest = "";
        value
    }

    /// Skips the opaque blob that may follow a scheme (`Negotiate YII…==`), which is no parameter.
    fn skip_token68(&mut self) {
        let start = self.rest.trim_start_matches(' ');
        let body = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        let after = start.trim_start_matches(body).trim_start_matches('=');
        let ends = after.trim_start_matches(' ');
        if after.len() < start.len() && (ends.is_empty() || ends.starts_with(',')) {
            self.rest = after;
        }
    }

    /// Skips one item that starts with no token; a lone quoted string is skipped whole.
    fn skip_item(&mut self) {
        if let Some(quoted) = self.rest.strip_prefix('"') {
            self.quoted(quoted);
        } else {
            let mut chars = self.rest.chars();
            chars.next();
            self.rest = chars.as_str();
        }
    }
}

/// RFC 9110 `tchar`.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}
