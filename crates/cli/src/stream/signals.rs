//! Passes the signals that we get on to a container.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hull_client::{Client, Query};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Every signal that can be passed on but SIGCHLD, SIGPIPE and SIGURG, which mean something to ourselves only.
const PASSED: [(&str, i32); 13] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("WINCH", 28),
    ("IO", 29),
];

/// Signals caught from now on.
#[derive(Debug)]
pub struct Caught(Vec<(&'static str, Signal)>);

impl Caught {
    /// Begins to catch.
    pub fn new() -> Caught {
        Caught(
            PASSED
                .iter()
                .filter_map(|&(name, number)| {
                    Some((name, signal(SignalKind::from_raw(number)).ok()?))
                })
                .collect(),
        )
    }

    /// The next signal's name.
    async fn next(&mut self) -> Option<&'static str> {
        let mut waits: FuturesUnordered<_> = self
            .0
            .iter_mut()
            .map(|(name, signal)| async { signal.recv().await.map(|()| *name) })
            .collect();
        waits.next().await.flatten()
    }

    /// Passes signals on to container `id`, for ever.
    pub async fn forward(mut self, client: &Client, id: &str) {
        while let Some(name) = self.next().await {
            // A container that has ended cannot be told; its exit code ends us.
            let _ = client
                .post(Query::segments(&["containers", id, "kill"]).set("signal", name))
                .await;
        }
    }
}
