//! Lists, a page at a time: tags, repositories, referrers.

use std::path::Path;

use hull_oci::{Algorithm, Descriptor, Digest};

use super::{Storage, files};
use crate::error::{Error, Result};
use crate::name::{Name, Tag};

/// Most entries on one page, whatever was asked for.
pub const PAGE_LEN_MAX: usize = 10_000;
/// Most referrers on one page.
const REFERRERS_MAX: usize = 200;
/// Most bytes of referrers on one page: annotations are as long as their pusher liked, and clients have a limit for indexes.
const REFERRERS_LEN_MAX: usize = 3 << 20;
/// Deepest repository name walked; a name of 255 bytes has at most 128 components.
const DEPTH_MAX: usize = 128;

/// A part of a sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Whether more follow.
    pub more: bool,
}

/// A page of referrers.
#[derive(Debug, Clone, PartialEq)]
pub struct Referrers {
    /// The entries.
    pub descriptors: Vec<Descriptor>,
    /// Where the next page goes on, if there is one.
    pub next: Option<String>,
}

impl Storage {
    /// Tags of a repository after `last`, at most `n`, in ASCII order.
    pub fn tags(&self, name: &Name, n: Option<usize>, last: Option<&str>) -> Result<Page<String>> {
        if !self.has_repository(name) {
            return Err(Error::NameUnknown(name.to_string()));
        }
        let mut tags = files::entries(&self.repository(name).join("_tags"))?;
        tags.retain(|tag| Tag::new(tag).is_ok());
        Ok(page(tags, n, last))
    }

    /// Repositories after `last`, at most `n`, in ASCII order.
    pub fn catalog(&self, n: Option<usize>, last: Option<&str>) -> Result<Page<String>> {
        let names = self.repositories()?;
        Ok(page(
            names.into_iter().map(|name| name.to_string()).collect(),
            n,
            last,
        ))
    }

    /// All repositories that have manifests or blobs, in no particular order.
    pub(super) fn repositories(&self) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        walk(&self.root.join("repositories"), "", 0, &mut names)?;
        Ok(names)
    }

    /// Manifests whose subject is `subject`, of one kind if `artifact_type` is given, after the entry `last`.
    pub fn referrers(
        &self,
        name: &Name,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&str>,
    ) -> Result<Referrers> {
        let dir = self.referrers_dir(name, subject);
        let mut entries = files::entries(&dir)?;
        entries.retain(|entry| !entry.starts_with(files::PARTIAL_PREFIX));
        entries.sort_unstable();
        let mut found = Referrers {
            descriptors: Vec::new(),
            next: None,
        };
        let mut len = 0;
        let mut previous: Option<String> = None;
        for entry in entries {
            if last.is_some_and(|last| entry.as_str() <= last) {
                continue;
            }
            let Some(json) = files::read(&dir.join(&entry))? else {
                continue;
            };
            let Ok(descriptor) = serde_json::from_str::<Descriptor>(&json) else {
                continue;
            };
            let wanted =
                artifact_type.is_none_or(|kind| descriptor.artifact_type.as_deref() == Some(kind));
            if !wanted || !self.manifest_link(name, &descriptor.digest).exists() {
                continue;
            }
            let full =
                found.descriptors.len() == REFERRERS_MAX || len + json.len() > REFERRERS_LEN_MAX;
            if full && previous.is_some() {
                found.next = previous;
                break;
            }
            len += json.len();
            found.descriptors.push(descriptor);
            previous = Some(entry);
        }
        Ok(found)
    }
}

fn page(mut all: Vec<String>, n: Option<usize>, last: Option<&str>) -> Page<String> {
    if let Some(last) = last {
        all.retain(|entry| entry.as_str() > last);
    }
    all.sort_unstable();
    let n = n.unwrap_or(PAGE_LEN_MAX).min(PAGE_LEN_MAX);
    // Nothing was asked for: no next page either (distribution-spec, "Listing Tags").
    let more = n > 0 && all.len() > n;
    all.truncate(n);
    Page { entries: all, more }
}

fn walk(dir: &Path, prefix: &str, depth: usize, names: &mut Vec<Name>) -> Result<()> {
    let entries = files::entries(dir)?;
    let is_repository = entries
        .iter()
        .any(|entry| entry == "_manifests" || entry == "_blobs");
    if is_repository && let Ok(name) = Name::new(prefix) {
        names.push(name);
    }
    if depth == DEPTH_MAX {
        return Ok(());
    }
    for entry in entries {
        if entry.starts_with(['_', '.']) {
            continue;
        }
        let path = dir.join(&entry);
        if path.is_dir() {
            let name = if prefix.is_empty() {
                entry
            } else {
                format!("{prefix}/{entry}")
            };
            walk(&path, &name, depth + 1, names)?;
        }
    }
    Ok(())
}

/// The digests named by the files `<dir>/<algorithm>/<hex>`.
pub(super) fn digests(dir: &Path) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let entries = files::entries(&dir.join(algorithm.as_str()))?;
        found.extend(
            entries
                .iter()
                .filter_map(|hex| Digest::new(algorithm, hex).ok()),
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Following the pages gives each entry once, in order.
        #[test]
        fn pages_join_to_the_whole(all in prop::collection::btree_set("[a-c]{1,3}", 0..30), n in 1usize..7) {
            let mut seen: Vec<String> = Vec::new();
            loop {
                let last = seen.last().cloned();
                let page = page(all.iter().cloned().rev().collect(), Some(n), last.as_deref());
                prop_assert!(page.entries.len() <= n);
                seen.extend(page.entries);
                if !page.more {
                    break;
                }
            }
            prop_assert_eq!(seen, all.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn none_asked_for() {
        let page = page(vec!["a".into()], Some(0), None);
        assert_eq!(
            page,
            Page {
                entries: vec![],
                more: false
            }
        );
    }
}
