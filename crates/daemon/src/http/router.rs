//! The table of routes, and matching a path against it. Pure but for calling the handler.

use std::future::Future;
use std::pin::Pin;

use http::Method;
use hull_api::version::Version;

use super::query::decode;
use super::{Call, Failure, Outcome};

/// A handler's future.
pub type Pending = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One route.
pub struct Route {
    /// Method; HEAD is not implied by GET.
    pub method: Method,
    /// Path without version: `{x}` is one segment, `{x*}` one or more (names of images have slashes).
    pub pattern: &'static str,
    /// First API version that has it.
    pub since: Version,
    /// Whether the work ends when the client goes away; if not, it goes on to its end.
    pub cancellable: bool,
    /// What answers.
    pub handler: fn(Call) -> Pending,
}

/// A path split into its version and the rest.
#[derive(Debug, PartialEq, Eq)]
pub struct VersionedPath<'a> {
    /// As in the path, unchecked.
    pub version: Option<&'a str>,
    /// With its leading slash.
    pub path: &'a str,
}

/// Splits `/v1.44/info` into its version and `/info`.
pub fn split_version(path: &str) -> VersionedPath<'_> {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let (version, path) = rest.split_at(end);
        let plausible =
            !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        plausible.then_some(VersionedPath {
            version: Some(version),
            path,
        })
    });
    versioned.unwrap_or(VersionedPath {
        version: None,
        path,
    })
}

/// Finds the route for a method and a path, with the placeholders' values.
///
/// # Errors
/// A broken percent escape.
pub fn find<'r>(
    routes: &'r [Route],
    method: &Method,
    path: &str,
    version: Version,
) -> Result<Option<(&'r Route, Vec<String>)>, Failure> {
    let path = path.trim_start_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    for route in routes {
        if route.method == *method
            && route.since <= version
            && let Some(raw) = matches(route.pattern, &segments)
        {
            let params = raw
                .iter()
                .map(|value| decode(value, false))
                .collect::<Result<_, _>>()?;
            return Ok(Some((route, params)));
        }
    }
    Ok(None)
}

fn matches(pattern: &str, segments: &[&str]) -> Option<Vec<String>> {
    let pattern = pattern.trim_start_matches('/');
    let count = pattern.split('/').count();
    let mut params = Vec::new();
    let mut rest = segments;
    for (index, part) in pattern.split('/').enumerate() {
        let take = match part.ends_with("*}") {
            true => rest.len().checked_sub(count - index - 1)?,
            false => 1,
        };
        let (here, after) = rest.split_at_checked(take.max(1))?;
        match part.starts_with('{') {
            true if here.iter().all(|s| s.is_empty()) => return None,
            true => params.push(here.join("/")),
            false if here[0] != part => return None,
            false => {}
        }
        rest = after;
    }
    rest.is_empty().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pattern: &str, path: &str) -> Option<Vec<String>> {
        matches(
            pattern,
            &path.trim_start_matches('/').split('/').collect::<Vec<_>>(),
        )
    }

    #[test]
    fn placeholders() {
        let one = |s: &str| Some(vec![s.to_owned()]);
        assert_eq!(params("/info", "/info"), Some(vec![]));
        assert_eq!(
            params("/containers/{id}/json", "/containers/a/json"),
            one("a")
        );
        assert_eq!(params("/containers/{id}/json", "/containers//json"), None);
        assert_eq!(
            params("/containers/{id}/json", "/containers/a/b/json"),
            None
        );
        assert_eq!(
            params("/images/{name*}/json", "/images/localhost:5000/a/b/json"),
            one("localhost:5000/a/b")
        );
        assert_eq!(params("/images/{name*}/json", "/images/json"), None);
        assert_eq!(params("/images/{name*}", "/images/a/b"), one("a/b"));
        assert_eq!(params("/images/{name*}", "/images"), None);
        assert_eq!(params("/images/{name*}", "/images/"), None);
        assert_eq!(
            params("/a/{x}/b/{y}", "/a/1/b/2"),
            Some(vec!["1".into(), "2".into()])
        );
    }

    #[test]
    fn versions() {
        assert_eq!(
            split_version("/v1.44/info"),
            VersionedPath {
                version: Some("1.44"),
                path: "/info"
            }
        );
        assert_eq!(
            split_version("/info"),
            VersionedPath {
                version: None,
                path: "/info"
            }
        );
        assert_eq!(
            split_version("/volumes/x"),
            VersionedPath {
                version: None,
                path: "/volumes/x"
            }
        );
        assert_eq!(
            split_version("/version"),
            VersionedPath {
                version: None,
                path: "/version"
            }
        );
        assert_eq!(split_version("/vx/info").version, None);
    }
}
