//! From the specification's filter to what init loads.

use hull_oci::runtime::{Seccomp, SeccompAction};
use hull_security::seccomp::{Arch, compile, needs_listener};
use hull_sys::seccomp::{FLAG_NEW_LISTENER, SockFilter};

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
