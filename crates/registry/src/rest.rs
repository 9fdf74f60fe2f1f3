//! Giving memory back when nobody has asked for anything for a while: the program's own pages, most of which only the start or a
//! rare request has needed, and what the allocator holds free.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::net::serve::stopped;

/// Without a request for so long, the server rests.
const QUIET: Duration = Duration::from_millis(400);

/// What requests tell and the task that waits for their absence hears.
#[derive(Debug, Default)]
pub struct Rest {
    asked: AtomicU64,
    wake: Notify,
}

impl Rest {
    /// A request has come.
    pub fn disturb(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Gives memory back after each burst of requests, and after the start; sleeps in between. Ends with `stop`.
    pub async fn after_each_burst(&self, mut stop: watch::Receiver<bool>) {
        let mut seen = self.asked.load(Ordering::Relaxed);
        loop {
            tokio::select! {
                () = tokio::time::sleep(QUIET) => {}
                () = stopped(&mut stop) => return,
            }
            let asked = self.asked.load(Ordering::Relaxed);
            if std::mem::replace(&mut seen, asked) != asked {
                continue;
            }
            hull_sys::process::trim_heap();
            match hull_sys::resident::drop_program_pages() {
                Ok(bytes) => tracing::debug!(bytes, "unmapped the program's pages"),
                Err(error) => tracing::debug!(%error, "cannot unmap the program's pages"),
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = stopped(&mut stop) => return,
            }
        }
    }
}
