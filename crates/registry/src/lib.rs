//! `hull registry`: an OCI distribution 1.1 server over the content store.
//!
//! [`route`] reads paths, [`api`] answers, [`storage`] is the files, [`net`] the connections. It shares its root directory with
//! nobody: neither with the daemon's content nor with a second server.
#![forbid(unsafe_code)]

pub mod api;
pub mod config;
pub mod error;
pub mod name;
pub mod net;
pub mod range;
pub mod route;
pub mod server;
pub mod storage;

use std::ffi::OsString;

use clap::Parser as _;
use tracing as _;

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
    match server::run(config) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hull registry: {error:#}");
            1
        }
    }
}
