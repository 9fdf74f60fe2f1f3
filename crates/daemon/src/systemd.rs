//! systemd: readiness (sd_notify(3)) and socket activation (sd_listen_fds(3)).

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result, bail};

/// Number of the first descriptor that systemd passes.
const FIRST_FD: i32 = 3;
/// More sockets than anyone configures.
const FDS_MAX: i32 = 64;

/// Tells systemd the daemon's state; without systemd nothing happens.
pub(crate) fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, state, "systemd was not told");
    }
}

/// Takes the sockets that systemd passed: all, or the one numbered `wanted`.
pub(crate) fn take_listeners(wanted: Option<i32>) -> Result<Vec<OwnedFd>> {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let count: i32 = match std::env::var("LISTEN_FDS") {
        Ok(count) if ours => count.parse().context("LISTEN_FDS")?,
        _ => 0,
    };
    let numbers = FIRST_FD..FIRST_FD + count.clamp(0, FDS_MAX);
    if let Some(fd) = wanted {
        if !numbers.contains(&fd) {
            bail!("failed to load listeners: systemd passed no socket {fd}");
        }
        return Ok(vec![
            hull_sys::fds::take(fd).with_context(|| format!("socket {fd} from systemd"))?,
        ]);
    }
    numbers
        .map(|fd| hull_sys::fds::take(fd).with_context(|| format!("socket {fd} from systemd")))
        .collect()
}
