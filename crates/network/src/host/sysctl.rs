//! `/proc/sys/net`, as the calling thread's network namespace sees it.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// Writes `value` into e.g. `ipv4/ip_forward`, unless it is there already.
pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    let path = path(name);
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    if current.trim_end() == value {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| Error::File {
        operation: "write",
        path,
        source,
    })
}

/// The value, without its line end; None where the kernel has no such setting.
pub(crate) fn get(name: &str) -> Option<String> {
    std::fs::read_to_string(path(name))
        .ok()
        .map(|text| text.trim_end().to_owned())
}

fn path(name: &str) -> PathBuf {
    // Not /proc/sys/net of the process's first thread: tests run a Host in a thread with a namespace of its own. The kernel resolves
    // these files by the thread that opens them.
    PathBuf::from("/proc/sys/net").join(name)
}
