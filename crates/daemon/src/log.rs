//! The daemon's own log: standard error, and its level at run time.

use anyhow::Result;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{Config, Flags, Personality};
use crate::systemd;

/// Changes the level.
pub(crate) type Level = reload::Handle<LevelFilter, Registry>;

/// Starts logging.
///
/// # Errors
/// Only if logging was started before.
pub(crate) fn start(config: &Config) -> Result<Level> {
    let (filter, handle) = reload::Layer::new(level(config));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(!config.raw_logs && std::io::IsTerminal::is_terminal(&std::io::stderr()));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    if config.log_format == "json" {
        tracing::warn!("log-format json is not supported: text is written");
    }
    Ok(handle)
}

fn level(config: &Config) -> LevelFilter {
    match config.log_level.as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ if config.debug => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    }
}

/// What a SIGHUP needs.
pub(crate) struct Reload {
    pub(crate) level: Level,
    pub(crate) flags: Flags,
    pub(crate) personality: Personality,
}

impl Reload {
    /// Reads the configuration again; the log level takes effect at once, the rest at the next start.
    pub(crate) fn again(&self) {
        systemd::notify("RELOADING=1");
        match Config::load(&self.flags, self.personality) {
            Ok(config) => {
                let changed = self.level.modify(|now| *now = level(&config));
                tracing::info!(
                    level = config.log_level,
                    ok = changed.is_ok(),
                    "configuration reloaded"
                );
            }
            Err(error) => tracing::error!(%error, "configuration not reloaded"),
        }
        systemd::notify("READY=1");
    }
}
