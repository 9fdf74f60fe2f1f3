//! Log files of a container: the formats `json-file` and `local`, written by the shim with rotation and read by the engine.
//!
//! A log is a file and its older generations: `NAME`, `NAME.1`, .., `NAME.n`, the highest number oldest
//! (`NAME.n.gz` when compressed). No tokio here: the shim is synchronous, and the engine reads in a blocking task.

mod format;
mod lines;
mod read;
mod source;
mod write;

use std::path::PathBuf;

pub use format::{Decoded, Entry, Format, Stream, time_text};
pub use lines::Lines;
pub use read::{ReadOptions, Reader};
pub use write::{Rotation, Writer, parse_size};

/// Longest piece of a line in one entry, in bytes: Docker cuts a longer line into several entries, only the last with the line's end.
pub const LINE_PIECE_BYTES_MAX: usize = 16 << 10;

/// Why a log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A log option has a value that it cannot have.
    #[error("invalid value for log option {option:?}: {value:?}: {reason}")]
    Option {
        /// The option, for instance `max-size`.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The name of generation `n` of a log (0: the one being written).
#[must_use]
pub fn generation(path: &std::path::Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}
