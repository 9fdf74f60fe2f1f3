//! The networks service.

use hull_api::filters::Filters;
use hull_api::network::{
    Network, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworksPruneReport,
};

use crate::error::{Error, Result};

/// The networks service. A cheap clone.
#[derive(Clone)]
pub struct Networks {}

impl Networks {
    /// Makes a network.
    pub async fn create(&self, request: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        let _ = request;
        Err(Error::missing("network create"))
    }

    /// Everything about one network, by id, name or id prefix. `scope` empty: any.
    pub async fn inspect(&self, id: &str, verbose: bool, scope: &str) -> Result<Network> {
        let _ = (id, verbose, scope);
        Err(Error::missing("network inspect"))
    }

    /// The networks, without their containers.
    pub async fn list(&self, filters: Filters) -> Result<Vec<Network>> {
        let _ = filters;
        Err(Error::missing("network list"))
    }

    /// Removes a network that no container is connected to.
    pub async fn remove(&self, id: &str) -> Result<()> {
        let _ = id;
        Err(Error::missing("network remove"))
    }

    /// Connects a container.
    pub async fn connect(&self, id: &str, request: NetworkConnectRequest) -> Result<()> {
        let _ = (id, request);
        Err(Error::missing("network connect"))
    }

    /// Disconnects a container.
    pub async fn disconnect(&self, id: &str, request: NetworkDisconnectRequest) -> Result<()> {
        let _ = (id, request);
        Err(Error::missing("network disconnect"))
    }

    /// Removes unused networks.
    pub async fn prune(&self, filters: Filters) -> Result<NetworksPruneReport> {
        let _ = filters;
        Err(Error::missing("network prune"))
    }
}
