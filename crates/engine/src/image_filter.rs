//! The `reference` filter of image lists. Pure.

use hull_api::filters::Filters;
use hull_oci::Reference;

/// The `reference` filter: a shell pattern over the familiar name, with or without the tag.
pub(crate) fn names(filters: &Filters, name: &Reference) -> bool {
    let (full, bare) = (name.familiar(), name.familiar_name());
    filters.get("reference").any(|pattern| {
        let tail = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
        [&full, &bare].into_iter().any(|text| glob(pattern, text))
            || (!pattern.contains('/')
                && (glob(pattern, &tail(&full)) || glob(pattern, &tail(&bare)))
                && !full.contains('/'))
    })
}

/// Go's `path.Match` without classes: `*` and `?` do not match a slash.
fn glob(pattern: &str, text: &str) -> bool {
    fn inner(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                inner(&pattern[1..], text)
                    || text
                        .first()
                        .is_some_and(|c| *c != b'/' && inner(pattern, &text[1..]))
            }
            (Some(b'?'), Some(c)) if *c != b'/' => inner(&pattern[1..], &text[1..]),
            (Some(p), Some(c)) if p == c => inner(&pattern[1..], &text[1..]),
            _ => false,
        }
    }
    // The recursion is as deep as the texts are long, and a name has at most 255 bytes.
    pattern.len() <= 512 && text.len() <= 512 && inner(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns() {
        assert!(glob("busybox*", "busybox:latest"));
        assert!(glob("*/b?x", "a/box"));
        assert!(!glob("*", "a/box"));
        assert!(!glob("box", "boxes"));
    }
}
