//! The volumes service.

use hull_api::filters::Filters;
use hull_api::volume::{Volume, VolumeCreateRequest, VolumeListResponse, VolumesPruneReport};

use crate::error::{Error, Result};

/// The volumes service. A cheap clone.
#[derive(Clone)]
pub struct Volumes {}

impl Volumes {
    /// Makes a volume, or returns the one of that name.
    pub async fn create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        let _ = request;
        Err(Error::missing("volume create"))
    }

    /// Everything about one volume.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let _ = name;
        Err(Error::missing("volume inspect"))
    }

    /// The volumes, by name.
    pub async fn list(&self, filters: Filters) -> Result<VolumeListResponse> {
        let _ = filters;
        Err(Error::missing("volume list"))
    }

    /// Removes a volume that nothing uses; `force` is content when it does not exist.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let _ = (name, force);
        Err(Error::missing("volume remove"))
    }

    /// Removes unused anonymous volumes; with the filter `all`, unused named ones too.
    pub async fn prune(&self, filters: Filters) -> Result<VolumesPruneReport> {
        let _ = filters;
        Err(Error::missing("volume prune"))
    }
}
