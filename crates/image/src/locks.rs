//! One asynchronous lock per layer, so that two pulls do not fetch the same bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hull_oci::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by digest; an entry lives as long as somebody holds or awaits it.
///
/// Whoever takes several must take them in the order in which it will be done with them (the lowest layer first): the
/// holder of a lock then waits only for locks above it, and no circle can form.
#[derive(Default)]
pub(crate) struct Locks {
    by_digest: Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>,
}

impl Locks {
    pub async fn lock(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self
                .by_digest
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(digest).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(AsyncMutex::new(()));
                    locks.insert(digest.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
