//! Making a network: validation, subnets, record, link.

use hull_api::network::{Ipam, IpamConfig, NetworkCreateRequest};
use hull_network::{Network, Subnet, driver, ipam};
use hull_state::networks as rows;
use ipnet::IpNet;

use super::plane::NetworkRecord;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::id::new_id;
use crate::world::World;

/// Makes it, all or nothing.
pub(super) fn create(world: &World, request: NetworkCreateRequest) -> Result<NetworkRecord> {
    check_name(&request.name)?;
    if request.config_only {
        return create_configuration(world, request);
    }
    let request = with_configuration(world, request)?;
    if request.ingress || request.scope == "swarm" {
        return Err(Error::new(
            Kind::Unavailable,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ));
    }
    let driver_name = if request.driver.is_empty() {
        "bridge"
    } else {
        request.driver.as_str()
    };
    if matches!(driver_name, "host" | "null") {
        return Err(Error::new(
            Kind::Forbidden,
            format!("only one instance of \"{driver_name}\" network is allowed"),
        ));
    }
    let driver = driver::by_name(driver_name)?;
    let mut options = request.options.clone();
    for (key, value) in world
        .options
        .default_network_options
        .get(driver_name)
        .into_iter()
        .flatten()
    {
        options.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let mut network = Network {
        id: new_id(),
        name: request.name.clone(),
        driver: driver_name.to_owned(),
        internal: request.internal,
        enable_ipv4: request.enable_ipv4.unwrap_or(true),
        enable_ipv6: request.enable_ipv6.unwrap_or(false),
        options,
        mtu: if driver_name == "bridge" {
            world.options.bridge.mtu
        } else {
            0
        },
        ..Network::default()
    };
    network.apply_options()?;
    let asked = request.ipam.clone().unwrap_or_default();
    if !matches!(asked.driver.as_str(), "" | "default" | "null") {
        return Err(Error::not_found(format!(
            "plugin {:?} not found",
            asked.driver
        )));
    }
    let mut record = NetworkRecord {
        network,
        created: clock::now(),
        attachable: request.attachable,
        ingress: false,
        config_only: false,
        config_from: request.config_from.unwrap_or_default(),
        labels: request.labels,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: asked.options.clone(),
            config: Vec::new(),
        },
    };
    let routes = world.plane.host.facts()?.routes;
    world.db.try_write(|tx| {
        let mut in_use = Vec::new();
        for row in rows::list(tx)? {
            in_use.extend(
                NetworkRecord::decode(&row)?
                    .network
                    .subnets
                    .into_iter()
                    .map(|subnet| subnet.cidr),
            );
        }
        if asked.driver != "null" {
            record.network.subnets =
                subnets(world, &record.network, &asked.config, &in_use, &routes)?;
        }
        record.ipam.config = shown(&record.network.subnets);
        driver.validate(&record.network)?;
        insert(tx, &record)
    })?;
    let applied = world
        .options
        .failpoints
        .pass("network.create.row")
        .and_then(|()| Ok(world.plane.host.ensure_network(&record.network)?))
        .and_then(|()| world.plane.sync_firewall())
        .and_then(|()| world.options.failpoints.pass("network.create.applied"));
    if let Err(error) = applied {
        // The link first: the row names it until it is gone.
        let link = world.plane.host.remove_network(&record.network);
        let row = world.db.write(|tx| rows::remove(tx, &record.network.id));
        let rules = world.plane.sync_firewall();
        if let Err(undo) = link
            .map_err(Error::from)
            .and(row.map(|_| ()).map_err(Error::from))
            .and(rules)
        {
            return Err(Error::new(
                error.kind,
                format!(
                    "{}; then, undoing the network: {}",
                    error.message, undo.message
                ),
            ));
        }
        return Err(error);
    }
    Ok(record)
}

/// A network that only lends its settings to others: a row, and nothing on the host.
fn create_configuration(world: &World, request: NetworkCreateRequest) -> Result<NetworkRecord> {
    if request.config_from.is_some() {
        return Err(Error::new(
            Kind::Forbidden,
            "a configuration network cannot depend on another configuration network",
        ));
    }
    let local = matches!(request.scope.as_str(), "" | "local");
    if request.ingress || request.internal || request.attachable || !local {
        return Err(Error::new(
            Kind::Forbidden,
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    let record = NetworkRecord {
        network: Network {
            id: new_id(),
            name: request.name,
            driver: "null".to_owned(),
            enable_ipv4: request.enable_ipv4.unwrap_or(true),
            enable_ipv6: request.enable_ipv6.unwrap_or(false),
            options: request.options,
            ..Network::default()
        },
        created: clock::now(),
        attachable: false,
        ingress: false,
        config_only: true,
        config_from: Default::default(),
        labels: request.labels,
        ipam: request.ipam.unwrap_or_default(),
    };
    world.db.try_write(|tx| insert(tx, &record))?;
    Ok(record)
}

/// The request with the settings of the network that it takes them from.
fn with_configuration(
    world: &World,
    mut request: NetworkCreateRequest,
) -> Result<NetworkCreateRequest> {
    let Some(from) = request
        .config_from
        .clone()
        .filter(|from| !from.network.is_empty())
    else {
        request.config_from = None;
        return Ok(request);
    };
    let lender = match world.plane.find(&from.network) {
        Ok(found) if found.config_only => found,
        Err(error) if error.kind != Kind::NotFound => return Err(error),
        Ok(_) | Err(_) => {
            return Err(Error::not_found(format!(
                "configuration network {:?} does not exist",
                from.network
            )));
        }
    };
    let ipam = request.ipam.clone().unwrap_or_default();
    let own = !matches!(ipam.driver.as_str(), "" | "default")
        || !ipam.config.is_empty()
        || !ipam.options.is_empty()
        || request.enable_ipv4 == Some(false)
        || request.enable_ipv6 == Some(true)
        || !request.labels.is_empty();
    if own {
        return Err(Error::new(
            Kind::Forbidden,
            "user-specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if !request.options.is_empty() {
        return Err(Error::new(
            Kind::Forbidden,
            "network driver options are not supported if the network depends on a configuration network",
        ));
    }
    request.enable_ipv4 = Some(lender.network.enable_ipv4);
    request.enable_ipv6 = Some(lender.network.enable_ipv6);
    request.ipam = Some(lender.ipam);
    request.options = lender.network.options;
    request.labels = lender.labels;
    request.config_from = Some(hull_api::network::ConfigReference {
        network: lender.network.name,
    });
    Ok(request)
}

fn insert(tx: &hull_state::Tx, record: &NetworkRecord) -> Result<()> {
    rows::insert(tx, &record.row()?).map_err(|error| match error {
        hull_state::Error::Taken { key, .. } => {
            Error::conflict(format!("network with name {key} already exists"))
        }
        other => other.into(),
    })
}

/// As in Docker any name will do that is not blank and not one of the predefined.
fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid network name: name is empty"));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") || name.starts_with("container:") {
        return Err(Error::new(
            Kind::Forbidden,
            format!("operation is not permitted on predefined {name} network"),
        ));
    }
    Ok(())
}

/// What was asked for, the rest chosen: at least one subnet for each family in use.
fn subnets(
    world: &World,
    network: &Network,
    asked: &[IpamConfig],
    in_use: &[IpNet],
    routes: &[IpNet],
) -> Result<Vec<Subnet>> {
    let mut subnets = Vec::new();
    let mut taken = in_use.to_vec();
    for config in asked
        .iter()
        .filter(|config| **config != IpamConfig::default())
    {
        let subnet = given(world, config, &taken, routes)?;
        taken.push(subnet.cidr);
        subnets.push(subnet);
    }
    let has = |subnets: &[Subnet], ipv6: bool| {
        subnets
            .iter()
            .any(|subnet| matches!(subnet.cidr, IpNet::V6(_)) == ipv6)
    };
    for (wanted, ipv6) in [(network.enable_ipv4, false), (network.enable_ipv6, true)] {
        if wanted && !has(&subnets, ipv6) {
            let cidr = choose(world, ipv6, &taken, routes)?;
            subnets.push(Subnet {
                cidr,
                gateway: Some(ipam::default_gateway(&cidr)),
                range: None,
                reserved: Default::default(),
            });
        }
    }
    if network.driver != "bridge" && network.internal {
        subnets.iter_mut().for_each(|subnet| subnet.gateway = None);
    }
    Ok(subnets)
}

fn given(world: &World, config: &IpamConfig, taken: &[IpNet], routes: &[IpNet]) -> Result<Subnet> {
    let address = |text: &str| {
        text.parse()
            .map_err(|_| Error::invalid(format!("invalid gateway address: {text}")))
    };
    let net = |text: &str| {
        text.parse::<IpNet>().map_err(|_| {
            Error::invalid(format!(
                "invalid subnet {text}: invalid CIDR block notation"
            ))
        })
    };
    let cidr = match config.subnet.as_str() {
        "" => choose(world, false, taken, routes)?,
        text => {
            let cidr = net(text)?;
            if cidr.trunc() != cidr {
                return Err(Error::invalid(format!(
                    "invalid network config:\ninvalid subnet {cidr}: it should be {}",
                    cidr.trunc()
                )));
            }
            ipam::check_pool(&cidr, taken)?;
            cidr
        }
    };
    let gateway = match config.gateway.as_str() {
        "" => ipam::default_gateway(&cidr),
        text => {
            let gateway = address(text)?;
            if !cidr.contains(&gateway) {
                return Err(Error::invalid(format!(
                    "invalid network config:\ninvalid gateway {gateway}: parent subnet {cidr} doesn't contain this address"
                )));
            }
            gateway
        }
    };
    let range = match config.ip_range.as_str() {
        "" => None,
        text => {
            let range = net(text)?;
            if !cidr.contains(&range) {
                return Err(Error::invalid(format!(
                    "invalid network config:\ninvalid ip-range {range}: it should be contained in subnet {cidr}"
                )));
            }
            Some(range)
        }
    };
    let reserved = config
        .auxiliary_addresses
        .iter()
        .map(|(name, text)| Ok((name.clone(), address(text)?)))
        .collect::<Result<_>>()?;
    Ok(Subnet {
        cidr,
        gateway: Some(gateway),
        range,
        reserved,
    })
}

pub(super) fn choose(
    world: &World,
    ipv6: bool,
    taken: &[IpNet],
    routes: &[IpNet],
) -> Result<IpNet> {
    let in_use: Vec<IpNet> = taken
        .iter()
        .chain(routes)
        .copied()
        .filter(|net| net.prefix_len() > 0)
        .collect();
    let mut pools = world.plane.pools.clone();
    if ipv6 {
        let mut seed = [0u8; 5];
        rand::Rng::fill(&mut rand::rng(), &mut seed);
        pools.push(ipam::ula_pool(&seed));
    }
    Ok(ipam::choose_pool(&pools, ipv6, &in_use)?)
}

/// The subnets as inspect shows them.
pub(super) fn shown(subnets: &[Subnet]) -> Vec<IpamConfig> {
    let one = |subnet: &Subnet| IpamConfig {
        subnet: subnet.cidr.to_string(),
        ip_range: subnet
            .range
            .map(|range| range.to_string())
            .unwrap_or_default(),
        gateway: subnet
            .gateway
            .map(|gateway| gateway.to_string())
            .unwrap_or_default(),
        auxiliary_addresses: subnet
            .reserved
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    };
    subnets.iter().map(one).collect()
}
