//! Paths to routes, queries to parameters: pure, and total over any bytes that a client may send.

use std::borrow::Cow;

use http::Method;
use hull_oci::Digest;

use crate::error::{Error, Result};
use crate::name::{Name, Reference, UploadId};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(Name),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Name, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Name, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Name),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Name, UploadId),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Name, Digest),
    /// `/healthz`
    Health,
    /// `/metrics`
    Metrics,
}

impl Route {
    /// Reads a path. What cannot be a manifest's name is an unknown manifest when it is asked for, and an invalid one
    /// when it is pushed.
    pub fn parse(method: &Method, path: &str) -> Result<Self> {
        let path = percent_decode(path).ok_or(Error::NotFound)?;
        match path.as_ref() {
            "/v2/" | "/v2" => return Ok(Route::Base),
            "/v2/_catalog" => return Ok(Route::Catalog),
            "/healthz" => return Ok(Route::Health),
            "/metrics" => return Ok(Route::Metrics),
            _ => {}
        }
        let path = path.strip_prefix("/v2/").ok_or(Error::NotFound)?;
        let (head, last) = path.rsplit_once('/').ok_or(Error::NotFound)?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            let name = Name::new(name)?;
            return match last {
                "" => Ok(Route::Uploads(name)),
                id => Ok(Route::Upload(name, UploadId::new(id)?)),
            };
        }
        if let Some(name) = head.strip_suffix("/tags").filter(|_| last == "list") {
            return Name::new(name).map(Route::Tags);
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            let name = Name::new(name)?;
            return match Reference::parse(last) {
                Ok(reference) => Ok(Route::Manifest(name, reference)),
                Err(Error::TagInvalid(tag)) if method != Method::PUT => {
                    Err(Error::ManifestUnknown(tag))
                }
                Err(error) => Err(error),
            };
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            let name = Name::new(name)?;
            if last == "uploads" {
                return Ok(Route::Uploads(name));
            }
            return Ok(Route::Blob(name, parse_digest(last)?));
        }
        if let Some(name) = head.strip_suffix("/referrers") {
            return Ok(Route::Referrers(Name::new(name)?, parse_digest(last)?));
        }
        Err(Error::NotFound)
    }

    /// A short constant for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Route::Base => "base",
            Route::Catalog => "catalog",
            Route::Tags(_) => "tags",
            Route::Manifest(..) => "manifest",
            Route::Blob(..) => "blob",
            Route::Uploads(_) | Route::Upload(..) => "upload",
            Route::Referrers(..) => "referrers",
            Route::Health => "health",
            Route::Metrics => "metrics",
        }
    }

    /// The repository that the route lies in.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Route::Tags(name)
            | Route::Manifest(name, _)
            | Route::Blob(name, _)
            | Route::Uploads(name)
            | Route::Upload(name, _)
            | Route::Referrers(name, _) => Some(name),
            Route::Base | Route::Catalog | Route::Health | Route::Metrics => None,
        }
    }
}

/// A digest in a path or a query.
pub fn parse_digest(text: &str) -> Result<Digest> {
    text.parse().map_err(Error::DigestMalformed)
}

/// Most parameters that are looked at in one query.
const PARAMETERS_MAX: usize = 64;

/// A query's parameters, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads a query. Parameters that do not decode are left out, as Go's `url.ParseQuery` leaves them out.
    pub fn parse(query: Option<&'a str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').take(PARAMETERS_MAX);
        Query(
            pairs
                .filter(|pair| !pair.is_empty())
                .filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((form_decode(key)?, form_decode(value)?))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of a parameter.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_ref())
    }
}

fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        // A space in a form; `%2B` is the plus.
        percent_decode(&text.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()))
    } else {
        percent_decode(text)
    }
}

/// Decodes `%xx`; nothing for a malformed escape, what is not UTF-8, and NUL.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('\0') {
        return None;
    }
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, tail @ ..] = tail else {
                return None;
            };
            let digit = |b: u8| (b as char).to_digit(16);
            let byte = (digit(*high)? << 4 | digit(*low)?) as u8;
            if byte == 0 {
                return None;
            }
            bytes.push(byte);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Encodes what may not stand in a query's value.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn route(path: &str) -> String {
        match Route::parse(&Method::GET, path) {
            Ok(route) => format!("{route:?}"),
            Err(error) => format!("{} {}", error.status().as_u16(), error.code()),
        }
    }

    #[test]
    fn routes() {
        let blob = format!("/v2/a/b/blobs/sha256:{HEX}");
        let lines: Vec<String> = [
            "/v2/",
            "/v2",
            "/v2/_catalog",
            "/v2/a/tags/list",
            "/v2/a/b/c/manifests/latest",
            "/v2/manifests/manifests/v1",
            "/v2/a/blobs/uploads/",
            "/v2/a/blobs/uploads",
            "/v2/a/blobs/uploads/0123456789abcdef0123456789abcdef",
            "/v2/blobs/uploads/blobs/uploads/",
            &blob,
            &blob.replace(':', "%3a"),
            "/v2/a/blobs/sha256:xyz",
            "/v2/a/manifests/.bad",
            "/v2/a/manifests/md5:00",
            "/v2/A/manifests/x",
            "/v2/../manifests/x",
            "/v2/a/%2e%2e/b/manifests/x",
            "/v2/a//b/manifests/x",
            "/v2/a/manifests/..%2f..%2fetc",
            "/v2/a/blobs/uploads/../../x",
            "/v2/a/blobs/uploads/0123",
            "/v2/%00/manifests/x",
            "/v2/_tags/manifests/x",
            "/",
            "",
        ]
        .iter()
        .map(|path| format!("{path} -> {}", route(path).replace(HEX, "HEX")))
        .collect();
        expect_test::expect_file!["../tests/golden/routes.txt"].assert_eq(&lines.join("\n"));
    }

    #[test]
    fn an_invalid_tag_is_unknown_to_a_reader_and_invalid_to_a_writer() {
        let put = Route::parse(&Method::PUT, "/v2/a/manifests/.bad").expect_err("invalid");
        assert_eq!(put.code(), "TAG_INVALID");
    }

    #[test]
    fn queries() {
        let query = Query::parse(Some("digest=sha256%3Aab&tag=1&tag=a%20b+c&&x&bad=%zz"));
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1", "a b c"]);
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.get("bad"), None);
    }

    proptest! {
        /// Whatever is accepted cannot leave its directory.
        #[test]
        fn no_accepted_name_escapes(path in "/v2/[a-zA-Z0-9./%_:-]{0,60}/(manifests|blobs|tags|referrers|blobs/uploads)/[a-z0-9./%:_-]{0,40}") {
            if let Ok(route) = Route::parse(&Method::GET, &path) {
                if let Some(name) = route.name() {
                    let safe = |part: &str| !part.is_empty() && !part.starts_with(['.', '_']);
                    prop_assert!(name.as_str().split('/').all(safe));
                }
                if let Route::Manifest(_, Reference::Tag(tag)) = route {
                    prop_assert!(!tag.as_str().contains('/') && !tag.as_str().starts_with('.'));
                }
            }
        }

        #[test]
        fn never_panics(path in "\\PC{0,80}", query in "\\PC{0,80}") {
            let _ = Route::parse(&Method::GET, &path);
            let _ = Query::parse(Some(&query));
        }

        #[test]
        fn encoding_is_undone_by_decoding(text in "[^\0]{0,40}") {
            let encoded = percent_encode(&text);
            let decoded = percent_decode(&encoded);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }
    }
}
