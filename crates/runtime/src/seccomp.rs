//! From the specification's filter to what init loads, and its listener's descriptor to who answers it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use hull_oci::runtime::{ContainerProcessState, Seccomp, SeccompAction, State};
use hull_security::seccomp::{Arch, compile, needs_listener};
use hull_sys::clone::Child;
use hull_sys::fdpass;
use hull_sys::seccomp::{FLAG_NEW_LISTENER, SockFilter};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::PidfdGetfdFlags;

use crate::error::Context;
use crate::{Error, Result};

/// `SECCOMP_FILTER_FLAG_TSYNC`: init has one thread, and it excludes the listener.
const FLAG_TSYNC: u64 = 1;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub instructions: Vec<SockFilter>,
    pub flags: u64,
}

/// Compiles; `None` when the profile allows everything anyway.
pub(crate) fn filter(profile: &Seccomp) -> Result<Option<Filter>> {
    if profile.syscalls.is_empty() && profile.default_action == SeccompAction::Allow {
        return Ok(None);
    }
    let native = Arch::native().ok_or_else(|| Error::Unsupported {
        field: "linux.seccomp".into(),
        reason: format!("no system call table for {}", std::env::consts::ARCH),
    })?;
    let program = compile(profile, native).map_err(|e| Error::Seccomp(strip(&e.to_string())))?;
    let listens = needs_listener(profile);
    if listens && profile.listener_path.is_none() {
        return Err(Error::Seccomp(
            "listenerPath is required with SCMP_ACT_NOTIFY".into(),
        ));
    }
    let instructions = program.instructions.iter().map(|i| SockFilter {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    });
    Ok(Some(Filter {
        instructions: instructions.collect(),
        flags: program.flags & !FLAG_TSYNC | if listens { FLAG_NEW_LISTENER } else { 0 },
    }))
}

/// Who answers notified calls.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Listener {
    /// `linux.seccomp.listenerPath`.
    path: PathBuf,
    /// `linux.seccomp.listenerMetadata`.
    metadata: Option<String>,
}

impl Listener {
    /// The listener of a profile, if its filter has one.
    pub(crate) fn of(profile: Option<&Seccomp>, filter: Option<&Filter>) -> Option<Self> {
        let profile =
            profile.filter(|_| filter.is_some_and(|f| f.flags & FLAG_NEW_LISTENER != 0))?;
        Some(Self {
            path: profile.listener_path.as_ref()?.into(),
            metadata: profile.listener_metadata.clone(),
        })
    }

    /// Connects to it, before there is a process that would hang without it.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) fn connect(&self) -> Result<OwnedFd> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
            .on("make", "socket")?;
        let address = SocketAddrUnix::new(&self.path).on("name", &self.path)?;
        rustix::net::connect(&socket, &address).on("connect to seccomp listener", &self.path)?;
        Ok(socket)
    }

    /// Sends it the descriptor that is number `fd` in `process`: the process itself, under its filter, might
    /// have to ask the listener whether it may.
    ///
    /// # Errors
    /// When the descriptor cannot be fetched or sent.
    pub(crate) fn hand_over(
        &self,
        socket: &OwnedFd,
        process: &Child,
        fd: i32,
        state: State,
    ) -> Result<()> {
        let flags = PidfdGetfdFlags::empty();
        let notify = rustix::process::pidfd_getfd(&process.pidfd, fd, flags).on(
            "fetch seccomp listener of",
            format!("process {}", process.pid),
        )?;
        let message = ContainerProcessState {
            oci_version: state.oci_version.clone(),
            fds: vec![ContainerProcessState::SECCOMP_FD.into()],
            pid: process.pid,
            metadata: self.metadata.clone(),
            state,
        };
        let text = serde_json::to_vec(&message)
            .map_err(std::io::Error::from)
            .on("encode state for", &self.path)?;
        fdpass::send(socket.as_fd(), &text, &[notify.as_fd()])
            .on("send to seccomp listener", &self.path)?;
        Ok(())
    }
}

/// The compiler names the field itself, as this crate's error does.
fn strip(text: &str) -> String {
    let text = text.strip_prefix("linux.seccomp").unwrap_or(text);
    text.trim_start_matches([':', '.', ' ']).to_owned()
}

/// The filter's instructions as bytes, in native order, for the state directory.
pub(crate) fn to_bytes(filter: &[SockFilter]) -> Vec<u8> {
    let one = |i: &SockFilter| {
        let [a, b] = i.code.to_ne_bytes();
        let [c, d, e, f] = i.k.to_ne_bytes();
        [a, b, i.jt, i.jf, c, d, e, f]
    };
    filter.iter().flat_map(one).collect()
}

/// The inverse of [`to_bytes`]; a remainder is dropped.
pub(crate) fn from_bytes(bytes: &[u8]) -> Vec<SockFilter> {
    let one = |chunk: &[u8; 8]| SockFilter {
        code: u16::from_ne_bytes([chunk[0], chunk[1]]),
        jt: chunk[2],
        jf: chunk[3],
        k: u32::from_ne_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
    };
    bytes.as_chunks().0.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        let filter = [SockFilter {
            code: 0x15,
            jt: 1,
            jf: 2,
            k: 0xdead_beef,
        }];
        assert_eq!(from_bytes(&to_bytes(&filter)), filter);
    }
}
