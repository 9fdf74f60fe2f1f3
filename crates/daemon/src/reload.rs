//! SIGHUP: the file is read again, and what can be changed while the daemon runs is changed.

use std::sync::Arc;

use anyhow::{Result, anyhow};

use crate::authz::Authorization;
use crate::config::{Config, ConfigError, Flags, Personality};
use crate::{Daemon, log, setup, systemd};

/// What a SIGHUP needs.
pub(crate) struct Reload {
    pub(crate) level: log::Level,
    pub(crate) flags: Flags,
    pub(crate) personality: Personality,
}

impl Reload {
    /// Reads the configuration again; gives it if it is in force now. Of a bad one nothing is taken, and the log says why.
    pub(crate) async fn again(&self, daemon: &Daemon) -> Option<Config> {
        systemd::notify("RELOADING=1");
        let file = Config::file(&self.flags, self.personality);
        tracing::info!("Got signal to reload configuration, reloading from: {file}");
        let taken = self.take(daemon).await;
        systemd::notify("READY=1");
        match taken {
            Ok(config) => Some(config),
            Err(error) => {
                tracing::error!("{error:#}");
                None
            }
        }
    }

    async fn take(&self, daemon: &Daemon) -> Result<Config> {
        let config = Config::load(&self.flags, self.personality).map_err(|error| match error {
            file @ ConfigError::File { .. } => anyhow!(file),
            other => anyhow!("file configuration validation failed: {other}"),
        })?;
        let failed = |error: anyhow::Error| anyhow!("Error reconfiguring the daemon: {error:#}");
        let new = setup::reloadable(&config).map_err(failed)?;
        let attributes = daemon
            .engine
            .reload(new)
            .await
            .map_err(|error| failed(error.into()))?;
        let plugins = daemon.engine.plugins.clone();
        daemon.set_authorization(Authorization::new(&config.authorization_plugins, plugins));
        self.level.modify(|now| *now = log::level(&config))?;
        tracing::info!(
            "Reloaded configuration: {}",
            serde_json::to_string(&attributes)?
        );
        Ok(config)
    }
}

impl Daemon {
    /// The authorization plugins in force.
    pub(crate) fn authorization(&self) -> Arc<Authorization> {
        self.authorization
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn set_authorization(&self, new: Authorization) {
        *self
            .authorization
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(new);
    }
}
