//! Query strings.

use std::fmt::Write as _;

/// A path with a growing query string; values are percent-encoded.
#[derive(Clone, Debug)]
pub struct Query {
    path: String,
    first: bool,
}

impl Query {
    /// Starts with a path that needs no encoding; see [`Query::segments`] for names.
    pub fn new(path: impl Into<String>) -> Self {
        Query {
            path: path.into(),
            first: true,
        }
    }

    /// Joins path segments, each percent-encoded but for `/`, `:` and `@` of image names.
    pub fn segments(parts: &[&str]) -> Self {
        let mut path = String::new();
        for part in parts {
            path.push('/');
            encode(&mut path, part, b"-_.~:/@");
        }
        Query::new(path)
    }

    /// Adds a parameter.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.path.push(if self.first { '?' } else { '&' });
        self.first = false;
        self.path.push_str(key);
        self.path.push('=');
        encode(&mut self.path, value.as_ref(), b"-_.~");
        self
    }

    /// Adds a parameter where there is a value that is not empty.
    #[must_use]
    pub fn set_some(self, key: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) if !value.as_ref().is_empty() => self.set(key, value),
            _ => self,
        }
    }

    /// Adds `key=1` when `flag`.
    #[must_use]
    pub fn flag(self, key: &str, flag: bool) -> Self {
        if flag { self.set(key, "1") } else { self }
    }

    /// The path with its query.
    pub fn as_str(&self) -> &str {
        &self.path
    }
}

impl From<&str> for Query {
    fn from(path: &str) -> Self {
        Query::new(path)
    }
}

fn encode(out: &mut String, text: &str, keep: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || keep.contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn encodes() {
        let query = Query::segments(&["images", "a/b:c", "json"])
            .set("f", "{\"a\": 1}")
            .flag("all", true)
            .flag("x", false);
        assert_eq!(
            query.as_str(),
            "/images/a/b:c/json?f=%7B%22a%22%3A%201%7D&all=1"
        );
    }
}
