//! The networks service.

mod create;
pub(crate) mod defaults;
pub(crate) mod plane;
pub(crate) mod ports;

use std::collections::BTreeMap;
use std::sync::Arc;

use hull_api::filters::Filters;
use hull_api::network::{
    EndpointResource, Network, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworksPruneReport,
};
use hull_state::networks as rows;

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::task::Message;
use crate::world::{World, blocking};
use plane::NetworkRecord;

/// The networks service. A cheap clone.
#[derive(Clone)]
pub struct Networks {
    pub(crate) world: Arc<World>,
}

impl Networks {
    /// Makes a network.
    pub async fn create(&self, request: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        let record = blocking(&self.world, move |world| create::create(world, request)).await?;
        self.emit("create", &record);
        Ok(NetworkCreateResponse {
            id: record.network.id,
            warning: String::new(),
        })
    }

    fn emit(&self, action: &str, record: &NetworkRecord) {
        let attributes = [
            ("name".to_owned(), record.network.name.clone()),
            ("type".to_owned(), record.network.driver.clone()),
        ];
        self.world
            .events
            .publish("network", action, &record.network.id, attributes.into());
    }

    /// Everything about one network, by id, name or id prefix. `scope` empty: any.
    pub async fn inspect(&self, id: &str, verbose: bool, scope: &str) -> Result<Network> {
        let wanted = id.to_owned();
        let record = blocking(&self.world, move |world| world.plane.find(&wanted)).await?;
        if !scope.is_empty() && scope != "local" {
            return Err(Error::not_found(format!("network {id} not found")));
        }
        let mut network = to_api(&record);
        network.containers = Some(self.containers_of(&record.network.id));
        if verbose {
            network.services = Some(BTreeMap::new());
        }
        Ok(network)
    }

    /// The ends of running containers.
    fn containers_of(&self, id: &str) -> BTreeMap<String, EndpointResource> {
        let mut containers = BTreeMap::new();
        for view in self.world.registry.views() {
            for attachment in view
                .attachments
                .iter()
                .filter(|attachment| attachment.network.network.id == id)
            {
                let endpoint = &attachment.endpoint;
                let resource = EndpointResource {
                    name: view.record.name.clone(),
                    endpoint_id: endpoint.id.clone(),
                    mac_address: endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                    ipv4_address: endpoint.ipv4.map(|net| net.to_string()).unwrap_or_default(),
                    ipv6_address: endpoint.ipv6.map(|net| net.to_string()).unwrap_or_default(),
                };
                containers.insert(view.record.id.clone(), resource);
            }
        }
        containers
    }

    /// The networks, without their containers.
    pub async fn list(&self, filters: Filters) -> Result<Vec<Network>> {
        filters
            .validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])
            .map_err(Error::invalid)?;
        let records = blocking(&self.world, |world| world.plane.all()).await?;
        let dangling = filters.boolean("dangling").map_err(Error::invalid)?;
        for kind in filters.get("type") {
            if kind != "builtin" && kind != "custom" {
                return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
            }
        }
        let listed = records.iter().filter(|record| {
            let network = &record.network;
            let used = || record.is_predefined() || !self.containers_of(&network.id).is_empty();
            filters.exact("driver", &network.driver)
                && filters.matches("id", |wanted| network.id.contains(wanted))
                && filters.matches("name", |wanted| network.name.contains(wanted))
                && filters.exact("scope", "local")
                && filters.matches("type", |kind| (kind == "builtin") == record.is_predefined())
                && filters.matches_pairs("label", &record.labels)
                && dangling.is_none_or(|dangling| dangling != used())
        });
        Ok(listed.map(to_api).collect())
    }

    /// Removes a network that no container is connected to.
    pub async fn remove(&self, id: &str) -> Result<()> {
        let wanted = id.to_owned();
        let record = blocking(&self.world, move |world| world.plane.find(&wanted)).await?;
        if record.is_predefined() {
            return Err(Error::new(
                Kind::Forbidden,
                format!(
                    "{} is a pre-defined network and cannot be removed",
                    record.network.name
                ),
            ));
        }
        let gone = record.clone();
        blocking(&self.world, move |world| remove(world, &gone)).await?;
        self.emit("destroy", &record);
        Ok(())
    }

    /// Connects a container.
    pub async fn connect(&self, id: &str, request: NetworkConnectRequest) -> Result<()> {
        let (network, settings) = (
            id.to_owned(),
            Box::new(request.endpoint_config.unwrap_or_default()),
        );
        crate::containers::ask(&self.world, &request.container, |reply| Message::Connect {
            network,
            settings,
            reply,
        })
        .await
    }

    /// Disconnects a container.
    pub async fn disconnect(&self, id: &str, request: NetworkDisconnectRequest) -> Result<()> {
        let (network, force) = (id.to_owned(), request.force);
        crate::containers::ask(&self.world, &request.container, |reply| {
            Message::Disconnect {
                network,
                force,
                reply,
            }
        })
        .await
    }

    /// Removes unused networks.
    pub async fn prune(&self, filters: Filters) -> Result<NetworksPruneReport> {
        filters
            .validate(&["label", "label!", "until"])
            .map_err(Error::invalid)?;
        let until = crate::containers::until(&filters)?;
        let records = blocking(&self.world, |world| world.plane.all()).await?;
        let views = self.world.registry.views();
        let mut report = NetworksPruneReport::default();
        for record in records {
            let named =
                |networks: &BTreeMap<String, _>| networks.contains_key(&record.network.name);
            let keep = record.is_predefined()
                || views.iter().any(|view| named(&view.record.networks))
                || !filters.matches_pairs("label", &record.labels)
                || !filters.excludes_pairs("label!", &record.labels)
                || until.is_some_and(|until| clock::unix_seconds(&record.created) > until);
            if keep {
                continue;
            }
            self.world.options.failpoints.pass("prune.next")?;
            let gone = record.clone();
            match blocking(&self.world, move |world| remove(world, &gone)).await {
                Ok(()) => {
                    self.emit("destroy", &record);
                    report.networks_deleted.push(record.network.name);
                }
                Err(error) if error.is_of_state() => {
                    tracing::debug!(network = %record.network.name, %error, "not pruned");
                }
                Err(error) => tracing::warn!(network = %record.network.name, %error, "prune"),
            }
        }
        self.world.events.publish(
            "network",
            "prune",
            "",
            [("reclaimed".to_owned(), "0".to_owned())].into(),
        );
        Ok(report)
    }
}

fn remove(world: &World, record: &NetworkRecord) -> Result<()> {
    let network = &record.network;
    let lends = |other: &NetworkRecord| other.config_from.network == network.name;
    if record.config_only && world.plane.all()?.iter().any(lends) {
        return Err(Error::new(
            Kind::Forbidden,
            format!("configuration network {:?} is in use", network.name),
        ));
    }
    world.db.try_write(|tx| {
        world.options.failpoints.pass("network.remove.row")?;
        rows::remove(tx, &network.id).map_err(|error| match error {
            hull_state::Error::Taken { .. } => {
                let users: Vec<String> = rows::endpoints_of_network(tx, &network.id)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|row| plane::decode_endpoint(row).ok())
                    .map(|endpoint| {
                        format!(
                            "name:{:?} id:{:?}",
                            endpoint.container_name,
                            crate::id::short(&endpoint.id)
                        )
                    })
                    .collect();
                Error::new(
                    Kind::Forbidden,
                    format!(
                        "error while removing network: network {} has active endpoints ({})",
                        network.name,
                        users.join(", ")
                    ),
                )
            }
            other => other.into(),
        })
    })?;
    let link = world.plane.host.remove_network(network);
    let rules = world.plane.sync_firewall();
    link.map_err(Error::from).and(rules)
}

pub(crate) fn to_api(record: &NetworkRecord) -> Network {
    let network = &record.network;
    Network {
        name: network.name.clone(),
        id: network.id.clone(),
        created: record.created.clone(),
        scope: "local".to_owned(),
        driver: network.driver.clone(),
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        ipam: record.ipam.clone(),
        internal: network.internal,
        attachable: record.attachable,
        ingress: record.ingress,
        config_from: record.config_from.clone(),
        config_only: record.config_only,
        options: network.options.clone(),
        labels: record.labels.clone(),
        containers: Some(BTreeMap::new()),
        ..Network::default()
    }
}
