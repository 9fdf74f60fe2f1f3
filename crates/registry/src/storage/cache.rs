//! Manifests in memory: they are small, asked for all the time, and never change under their digest.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use hull_oci::Digest;

/// Most bytes kept.
const BYTES_MAX: usize = 2 << 20;
/// Longer manifests are read from disk each time.
const ENTRY_LEN_MAX: usize = 64 << 10;

/// A bounded map from digest to bytes; the oldest go first.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Inner>);

/// What a cache holds.
pub type Cached = Bytes;

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    len: usize,
}

impl Cache {
    /// What is there.
    pub fn get(&self, digest: &Digest) -> Option<Cached> {
        super::lock(&self.0).entries.get(digest).cloned()
    }

    /// Takes in verified bytes.
    pub fn put(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() > ENTRY_LEN_MAX {
            return;
        }
        let mut inner = super::lock(&self.0);
        if inner
            .entries
            .insert(digest.clone(), bytes.clone())
            .is_some()
        {
            return;
        }
        inner.len += bytes.len();
        inner.order.push_back(digest.clone());
        while inner.len > BYTES_MAX {
            let Some(oldest) = inner.order.pop_front() else {
                break;
            };
            inner.len -= inner.entries.remove(&oldest).map_or(0, |bytes| bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_oldest_first() {
        let cache = Cache::default();
        let make = |n: u8| Bytes::from(vec![n; ENTRY_LEN_MAX]);
        let digests: Vec<Digest> = (0..40).map(|n| Digest::sha256_of(&make(n))).collect();
        for (n, digest) in digests.iter().enumerate() {
            cache.put(digest, &make(n as u8));
        }
        assert_eq!(cache.get(&digests[0]), None);
        assert_eq!(cache.get(&digests[39]), Some(make(39)));
        assert!(super::super::lock(&cache.0).len <= BYTES_MAX);
        let long = Bytes::from(vec![0; ENTRY_LEN_MAX + 1]);
        cache.put(&Digest::sha256_of(&long), &long);
        assert_eq!(cache.get(&Digest::sha256_of(&long)), None);
    }
}
