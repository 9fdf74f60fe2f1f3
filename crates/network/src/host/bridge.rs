//! Bridges on the host: made, or taken over; and what of the host's settings they need.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::driver::HostFacts;
use crate::error::{Error, Result};
use crate::host::sysctl;
use crate::model::{MacAddr, Network};
use crate::netlink::Batch;
use crate::netlink::route::{End, Link, Route, absence_is_fine, exists_is_fine};

/// The alias by which a daemon knows its own links again, after a restart or a crash.
pub(crate) fn alias(instance: &str) -> String {
    format!("hull:{instance}")
}

/// Makes the bridge with its addresses, or completes one that exists. Returns its index.
pub(crate) fn ensure(
    route: &mut Route,
    network: &Network,
    alias: &str,
    facts: &HostFacts,
) -> Result<u32> {
    let (link, made) = match route.link(&network.bridge)? {
        Some(link) if link.kind == "bridge" => (link, false),
        Some(link) => {
            return Err(Error::Invalid(format!(
                "link {} exists and is not a bridge ({})",
                network.bridge,
                if link.kind.is_empty() {
                    "a device"
                } else {
                    &link.kind
                }
            )));
        }
        None => (create(route, network, alias)?, true),
    };
    let done = complete(route, network, &link, made || link.alias == alias, facts);
    if done.is_err() && made {
        delete(route, &network.bridge)?;
    }
    done.map(|()| link.index)
}

fn create(route: &mut Route, network: &Network, alias: &str) -> Result<Link> {
    // A bridge without an address of its own takes its ports' lowest, and changes it with them: neighbours would lose it.
    let mac = match network.ipv4_subnet().and_then(|s| s.gateway) {
        Some(IpAddr::V4(gateway)) => MacAddr::from_ipv4(gateway),
        Some(IpAddr::V6(_)) | None => MacAddr::from_id(&network.id),
    };
    let mtu = (network.mtu != 0).then_some(network.mtu);
    let mut batch = Batch::new();
    batch.bridge(&End {
        name: &network.bridge,
        mac: Some(mac),
        mtu,
        ..End::default()
    });
    route.execute(batch)?;
    let mut batch = Batch::new();
    batch.link_alias(&network.bridge, alias);
    let made = route
        .execute(batch)
        .and_then(|()| route.link(&network.bridge));
    match made {
        Ok(Some(link)) => Ok(link),
        Ok(None) => Err(Error::Malformed {
            operation: "create bridge",
            what: "it is gone again",
        }),
        Err(error) => {
            delete(route, &network.bridge)?;
            Err(error)
        }
    }
}

/// `ours`: made by this daemon, now or before; a bridge of the administrator keeps its IPv6 switch and its MTU.
fn complete(
    route: &mut Route,
    network: &Network,
    link: &Link,
    ours: bool,
    facts: &HostFacts,
) -> Result<()> {
    let name = &network.bridge;
    let set = |family: &str, key: &str, value: &str| {
        sysctl::set(&format!("{family}/conf/{name}/{key}"), value)
    };
    let wants_ipv6 = network.ipv6_subnet().is_some() && facts.ipv6;
    if ours && facts.ipv6 {
        set("ipv6", "disable_ipv6", if wants_ipv6 { "0" } else { "1" })?;
        set("ipv6", "accept_ra", "0")?;
        // Neighbour discovery on behalf of others takes the link-local address, which would be tentative for the first second or two.
        set("ipv6", "accept_dad", "0")?;
    }
    let present = route.addresses(link.index)?;
    let mut batch = Batch::new();
    batch.link_up(link.index, name);
    if ours && network.mtu != 0 {
        batch.link_mtu(link.index, name, network.mtu);
    }
    for address in gateways(network, wants_ipv6).filter(|a| !present.contains(a)) {
        batch.address(link.index, name, address);
    }
    exists_is_fine(route.execute(batch))?;
    // 127.0.0.1 reaches published ports: without it the kernel calls the translated packet a martian.
    set("ipv4", "route_localnet", "1")?;
    if !network.icc && facts.bridge_netfilter {
        let mut batch = Batch::new();
        batch.bridge_firewall(link.index, name);
        route.execute(batch)?;
    } else if !network.icc {
        // Ports are isolated from one another; what `--link` allows goes through the host, which answers ARP for the neighbour.
        set("ipv4", "proxy_arp_pvlan", "1")?;
        set("ipv4", "send_redirects", "0")?;
    }
    Ok(())
}

/// The addresses of the bridge itself.
fn gateways(network: &Network, ipv6: bool) -> impl Iterator<Item = IpNet> {
    let v4 = network.ipv4_subnet().filter(|_| !network.inhibit_ipv4);
    let v6 = network.ipv6_subnet().filter(|_| ipv6);
    v4.into_iter()
        .chain(v6)
        .filter_map(|subnet| IpNet::new(subnet.gateway?, subnet.cidr.prefix_len()).ok())
}

pub(crate) fn delete(route: &mut Route, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.delete_link(name);
    absence_is_fine(route.execute(batch))
}

/// Forwarding between links, without which no container reaches anything. Never switched off again: others may rely on it by then.
pub(crate) fn forward(ipv6: bool) -> Result<()> {
    sysctl::set("ipv4/ip_forward", "1")?;
    if ipv6 {
        sysctl::set("ipv6/conf/default/forwarding", "1")?;
        sysctl::set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}
