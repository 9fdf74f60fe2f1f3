//! Configuration, wiring, HTTP routes, hijack, error to status. No container rule lives here: handlers parse, call the
//! engine and render its answer.
#![forbid(unsafe_code)]

pub mod authz;
pub mod config;
pub mod http;
mod listen;
mod lock;
mod log;
pub mod metrics;
mod reload;
mod remap;
mod routes;
mod run;
mod setup;
mod systemd;
mod tls;

pub use config::Personality;

use std::sync::{Arc, RwLock};

use hull_engine::Engine;

/// `Api-Version` of every answer.
pub const API_VERSION: &str = "1.55";
/// `Server` of every answer: the release of Docker whose behaviour is implemented, which clients parse.
pub const SERVER: &str = "Docker/29.0.0 (linux)";

/// Everything that handlers use.
pub struct Daemon {
    /// The services.
    pub engine: Engine,
    /// Authorization plugins, replaced by a reload.
    pub authorization: RwLock<Arc<authz::Authorization>>,
    /// What `--metrics-addr` shows beside the engine's own numbers.
    pub counters: metrics::Counters,
}

/// Runs the daemon until it is told to stop; returns the exit code. `args` are those after the program's name (and after
/// `daemon`).
pub fn main(args: &[String], personality: Personality) -> i32 {
    match run::run(args, personality) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    }
}
