//! The system service: what the engine tells of itself and of the host.

use hull_api::system::{DiskUsage, SystemInfo, SystemVersion};

use crate::error::{Error, Result};

/// Which kinds `system df` counts; none set: all.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskUsageOptions {
    /// Images.
    pub images: bool,
    /// Containers.
    pub containers: bool,
    /// Volumes.
    pub volumes: bool,
    /// Build cache.
    pub build_cache: bool,
}

/// The system service. A cheap clone.
#[derive(Clone)]
pub struct System {}

impl System {
    /// `GET /info`.
    pub async fn info(&self) -> Result<SystemInfo> {
        Err(Error::missing("system info"))
    }

    /// `GET /version`.
    pub async fn version(&self) -> Result<SystemVersion> {
        Err(Error::missing("system version"))
    }

    /// `GET /system/df`.
    pub async fn disk_usage(&self, options: DiskUsageOptions) -> Result<DiskUsage> {
        let _ = options;
        Err(Error::missing("system df"))
    }
}
