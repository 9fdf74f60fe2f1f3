//! The three networks that are always there: `bridge`, `host` and `none`.

use hull_api::network::Ipam;
use hull_network::{Network, Subnet, ipam};
use hull_state::networks as rows;
use ipnet::IpNet;

use super::create::{choose, shown};
use super::plane::NetworkRecord;
use crate::clock;
use crate::error::{Error, Result};
use crate::id::new_id;
use crate::options::BridgeOptions;
use crate::world::World;

/// The default bridge's link, unless `--bridge` names another.
const DEFAULT_BRIDGE: &str = "hull0";

/// Makes sure of all three, with the default bridge as the options say it.
pub(crate) fn ensure(world: &World) -> Result<()> {
    for (name, driver) in [("host", "host"), ("none", "null")] {
        if find(world, name)?.is_none() {
            let network = Network {
                id: new_id(),
                name: name.to_owned(),
                driver: driver.to_owned(),
                ..Network::default()
            };
            put(world, &record(network))?;
        }
    }
    let options = &world.options.bridge;
    let known = find(world, "bridge")?;
    if options.name.as_deref() == Some("none") {
        if let Some(known) = known {
            world.db.write(|tx| rows::remove(tx, &known.network.id))?;
        }
        return Ok(());
    }
    let wanted = bridge(world, options, known.as_ref())?;
    match known {
        Some(known) if known.network == wanted => {}
        Some(known) => {
            let changed = NetworkRecord {
                ipam: record(wanted.clone()).ipam,
                network: wanted,
                ..known
            };
            let text = changed.encode()?;
            world
                .db
                .write(|tx| rows::set_record(tx, &changed.network.id, &text))?;
        }
        None => put(world, &record(wanted))?,
    }
    Ok(())
}

fn find(world: &World, name: &str) -> Result<Option<NetworkRecord>> {
    match world.db.read(|tx| rows::find(tx, name)) {
        Ok(row) if row.name == name => NetworkRecord::decode(&row).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn record(network: Network) -> NetworkRecord {
    NetworkRecord {
        ipam: Ipam {
            driver: "default".to_owned(),
            options: Default::default(),
            config: shown(&network.subnets),
        },
        network,
        created: clock::now(),
        attachable: false,
        ingress: false,
        config_only: false,
        config_from: Default::default(),
        labels: Default::default(),
    }
}

fn put(world: &World, record: &NetworkRecord) -> Result<()> {
    let row = record.row()?;
    Ok(world.db.write(|tx| rows::insert(tx, &row))?)
}

fn bridge(
    world: &World,
    options: &BridgeOptions,
    known: Option<&NetworkRecord>,
) -> Result<Network> {
    let link = options
        .name
        .clone()
        .unwrap_or_else(|| DEFAULT_BRIDGE.to_owned());
    let mtu = if options.mtu == 0 { 1500 } else { options.mtu };
    let binding = options
        .host_binding
        .map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
    let mut network = Network {
        id: known.map_or_else(new_id, |known| known.network.id.clone()),
        name: "bridge".to_owned(),
        driver: "bridge".to_owned(),
        enable_ipv6: options.ipv6,
        options: [
            (
                "com.docker.network.bridge.default_bridge",
                "true".to_owned(),
            ),
            (
                "com.docker.network.bridge.enable_icc",
                options.icc.to_string(),
            ),
            (
                "com.docker.network.bridge.enable_ip_masquerade",
                options.masquerade.to_string(),
            ),
            ("com.docker.network.bridge.host_binding_ipv4", binding),
            ("com.docker.network.bridge.name", link),
            ("com.docker.network.driver.mtu", mtu.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
        ..Network::default()
    };
    network.apply_options()?;
    // All addresses of both families, unless one was chosen.
    network.host_binding = options.host_binding;
    network.subnets = bridge_subnets(world, options, known)?;
    Ok(network)
}

fn bridge_subnets(
    world: &World,
    options: &BridgeOptions,
    known: Option<&NetworkRecord>,
) -> Result<Vec<Subnet>> {
    let of_family = |ipv6: bool| {
        let subnets = known
            .into_iter()
            .flat_map(|known| known.network.subnets.iter());
        subnets
            .filter(move |subnet| matches!(subnet.cidr, IpNet::V6(_)) == ipv6)
            .map(|subnet| subnet.cidr)
            .next()
    };
    // A bridge that is there already, made by an administrator, says itself which network it is in.
    let given = match options.name.as_deref() {
        Some(name) if known.is_none() => world.plane.host.link_addresses(name)?.unwrap_or_default(),
        _ => Vec::new(),
    };
    let given = |ipv6: bool| {
        given
            .iter()
            .copied()
            .find(|net| matches!(net, IpNet::V6(_)) == ipv6 && !is_link_local(&net.addr()))
    };
    let mut taken = Vec::new();
    for record in world
        .plane
        .all()?
        .into_iter()
        .filter(|record| record.network.name != "bridge")
    {
        taken.extend(record.network.subnets.into_iter().map(|subnet| subnet.cidr));
    }
    let mut subnets = Vec::new();
    for (wanted, ipv6, bip, fixed) in [
        (true, false, options.bip, options.fixed_cidr),
        (options.ipv6, true, options.bip6, options.fixed_cidr_v6),
    ] {
        if !wanted {
            continue;
        }
        let bip = bip.or(given(ipv6));
        let cidr = match (bip, fixed, of_family(ipv6)) {
            (Some(bip), _, _) => bip.trunc(),
            (None, Some(fixed), known) if known.is_none_or(|known| !known.contains(&fixed)) => {
                fixed.trunc()
            }
            (None, _, Some(known)) => known,
            (None, _, None) => choose(world, ipv6, &taken, &world.plane.host.facts()?.routes)?,
        };
        let gateway = match (bip, options.default_gateway.filter(|_| !ipv6)) {
            (Some(bip), None) => bip.addr(),
            (_, Some(gateway)) => gateway,
            (None, None) => ipam::default_gateway(&cidr),
        };
        if let Some(bip) = bip
            && bip.addr() == cidr.network()
            && bip.prefix_len() < bip.max_prefix_len() - 1
        {
            return Err(Error::invalid(format!(
                "bip {bip}: the bridge cannot have the network's own address"
            )));
        }
        subnets.push(Subnet {
            cidr,
            gateway: Some(gateway),
            range: fixed,
            reserved: Default::default(),
        });
        taken.push(cidr);
    }
    Ok(subnets)
}

fn is_link_local(address: &std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
