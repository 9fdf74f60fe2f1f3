//! The command line: one file per command, rendering, hints.
#![forbid(unsafe_code)]
