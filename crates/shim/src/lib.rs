//! The per-container monitor and its protocol: lifecycle, stdio, log, exit record.
#![forbid(unsafe_code)]

pub mod logfile;
pub mod protocol;
