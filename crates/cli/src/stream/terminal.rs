//! The user's terminal: raw mode with a guard that puts it back, size, and its changes.

use hull_client::{Client, Query};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// Keeps stdin raw until dropped.
#[derive(Debug)]
pub struct Raw {
    saved: Option<Termios>,
}

impl Raw {
    /// Makes stdin raw; no terminal, no change.
    pub fn stdin() -> Raw {
        let stdin = rustix::stdio::stdin();
        let Ok(saved) = tcgetattr(stdin) else {
            return Raw { saved: None };
        };
        let mut raw = saved.clone();
        raw.make_raw();
        match tcsetattr(stdin, OptionalActions::Now, &raw) {
            Ok(()) => Raw { saved: Some(saved) },
            Err(_) => Raw { saved: None },
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(saved) = self.saved.take() {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &saved);
        }
    }
}

/// Height and width of the terminal on stdout; zeros where there is none.
pub fn size() -> (u16, u16) {
    tcgetwinsize(rustix::stdio::stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// Tells the daemon the terminal's size now and on every change, for ever. `path` is `/containers/ID` or `/exec/ID`.
pub async fn follow_size(client: &Client, path: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    // The process may not be there yet: Docker's client tries a few times.
    for attempt in 0..10 {
        if resize(client, path, size()).await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10 * (attempt + 1))).await;
    }
    while changes.recv().await.is_some() {
        resize(client, path, size()).await;
    }
}

/// Sets the size of a container's or exec's terminal.
pub async fn resize(client: &Client, path: &str, (height, width): (u16, u16)) -> bool {
    if height == 0 && width == 0 {
        return true;
    }
    let query = Query::new(format!("{path}/resize"))
        .set("h", height.to_string())
        .set("w", width.to_string());
    client.post(query).await.is_ok()
}
