//! Image references: `[domain/]path[:tag][@digest]`, normalized as Docker does.
//!
//! The grammar and the error sentences are those of `distribution/reference`. Parsing is linear and allocates only
//! the result.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Digest, DigestError};

/// The registry of names without a domain.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of references with neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// Longest repository path, in bytes.
pub const PATH_LEN_MAX: usize = 255;
/// Longest tag, in bytes.
pub const TAG_LEN_MAX: usize = 128;

const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";

/// Why a string is not an image reference. The sentences are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The string does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The path has an upper-case letter; the field is the path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The string could be an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path is longer than [`PATH_LEN_MAX`].
    #[error("repository name must not be more than 255 characters")]
    NameTooLong,
    /// [`Reference::tagged`] was given something that is no tag.
    #[error("invalid tag format")]
    Tag,
    /// The part after `@` has a digest's shape but is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A normalized image reference. Values made by [`Reference::parse_normalized`] follow the grammar; whoever fills the
/// fields by hand is responsible for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The registry, with its port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub domain: String,
    /// The repository inside the registry: `library/nginx`.
    pub path: String,
    /// The tag, if one was given.
    pub tag: Option<String>,
    /// The digest, if one was given.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses what a user types: `nginx` is `docker.io/library/nginx`. Adds no tag.
    ///
    /// Docker's own quirk that a first component such as `my_host.com` (no valid domain, but a valid path) yields a
    /// reference without a domain is not kept: it is an invalid reference here.
    pub fn parse_normalized(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let official = domain == DEFAULT_DOMAIN && !remainder.contains('/');
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            let prefix = if official { OFFICIAL_PREFIX } else { "" };
            return Err(ReferenceError::Uppercase(format!("{prefix}{remote}")));
        }
        let (name_tag, digest) = match remainder.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (remainder, None),
        };
        let (path, tag) = match name_tag.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name_tag, None),
        };
        let shaped = is_domain(domain)
            && is_path(path)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(has_digest_shape);
        if !shaped {
            return Err(ReferenceError::Format);
        }
        let path = if official {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path.to_owned()
        };
        if path.len() > PATH_LEN_MAX {
            return Err(ReferenceError::NameTooLong);
        }
        Ok(Reference {
            domain: domain.to_owned(),
            path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::parse).transpose()?,
        })
    }

    /// The same reference, with the tag `latest` when it has neither tag nor digest.
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// `domain/path`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as users write it: `nginx` for `docker.io/library/nginx`.
    ///
    /// A path of Docker Hub that would be read as another registry's, or as an image's ID, stays whole; Docker shortens it, and means
    /// another image then.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.path,
        };
        if split_domain(short) != (DEFAULT_DOMAIN, short) || is_identifier(short) {
            return self.name();
        }
        short.to_owned()
    }

    /// The reference as users write it: `nginx:latest`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// The repository pinned to `digest`; the tag is dropped, for a digest says more.
    pub fn to_digest(&self, digest: Digest) -> Self {
        Reference {
            domain: self.domain.clone(),
            path: self.path.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// The repository with `tag` and no digest.
    pub fn tagged(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            domain: self.domain.clone(),
            path: self.path.clone(),
            tag: Some(tag.to_owned()),
            digest: None,
        })
    }

    /// Whether there is neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Reference::parse_normalized(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::go::display(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Whether `text` is a valid tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match text.as_bytes() {
        [first, rest @ ..] => {
            word(*first)
                && rest.len() < TAG_LEN_MAX
                && rest.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'))
        }
        [] => false,
    }
}

/// Whether `text` is a valid repository path (components joined by `/`), without the length limit.
pub fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Whether `text` is a full image ID: 64 lower-case hex digits.
pub fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits off the domain as `splitDockerDomain` does; the remainder lacks `library/`.
fn split_domain(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, text);
    };
    match first {
        LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN, rest),
        "localhost" => (first, rest),
        _ if first.contains(['.', ':']) || first.to_lowercase() != first => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    }
}

/// `alnum (separator alnum)*`, where a separator is `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alnum = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    alnum(first)
        && alnum(last)
        && bytes.split(alnum).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

/// A host name, an IPv4 or a bracketed IPv6 address, with an optional port.
fn is_domain(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port),
            None if port.is_empty() => None,
            None => return false,
        };
        (None, port)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    host.is_none_or(|host| host.split('.').all(is_domain_component))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The regular expression's idea of a digest; [`Digest`] then decides.
fn has_digest_shape(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let component = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(component)
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}
