//! The per-container monitor and its protocol: lifecycle, stdio, log, exit record.
//!
//! `hull shim` is one process for each container, without threads and without tokio. `entry` sets it up, `monitor` is its loop,
//! `task` the container (by the runtime library or another program), `streams` its input and output, `log` where that goes:
//! to `logfile`, or through `forward`, a process of its own, to a log server; `exit` its last word, and `protocol` what it says with the daemon.
#![forbid(unsafe_code)]

mod entry;
pub mod exit;
pub mod forward;
mod log;
pub mod logfile;
mod monitor;
pub mod protocol;
mod streams;
mod task;

pub use entry::main;

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        // Transparent variants repeat their source's sentence.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

/// The present moment as Docker prints it: RFC 3339 with nanoseconds, UTC.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
