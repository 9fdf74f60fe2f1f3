//! `hull registry`: an OCI distribution 1.1 server over the content store.
//!
//! [`route`] reads paths, [`api`] answers, [`storage`] is the files, [`net`] the connections. It shares its root directory with
//! nobody: neither with the daemon's content nor with a second server.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod api;
pub mod auth;
pub mod config;
pub mod error;
pub mod metrics;
pub mod name;
pub mod net;
pub mod proxy;
pub mod range;
pub mod rest;
pub mod route;
pub mod server;
pub mod storage;

use std::ffi::OsString;

use clap::Parser as _;

pub use error::{Error, Result};

/// Runs the server with a command line without the words `hull registry`; the exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    let name = OsString::from("hull registry");
    let config = match config::Config::try_parse_from(std::iter::once(name).chain(args)) {
        Ok(config) => config,
        Err(error) => {
            // Help and version go to standard output, with 0. A closed terminal is nobody's error.
            let _ = error.print();
            return error.exit_code();
        }
    };
    tracing_subscriber::fmt()
        .with_max_level(config.log_level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match server::run(config) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hull registry: {error:#}");
            1
        }
    }
}
