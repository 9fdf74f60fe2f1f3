//! Applies a [`NetPlan`]: one interface into one sandbox, all of it or nothing.

use std::net::IpAddr;
use std::time::Duration;

use crate::driver::{HostFacts, InterfaceName, InterfacePlan, LinkPlan};
use crate::error::{Error, Result};
use crate::host::{Connected, sysctl};
use crate::netlink::Batch;
use crate::netlink::route::{CREATE_VETH, End, Link, Route, absence_is_fine};
use crate::netns::{self, Sandbox};

/// A link that must exist.
fn host_link(host: &mut Route, name: &str) -> Result<Link> {
    host.link(name)?.ok_or_else(|| Error::Kernel {
        operation: "look up link",
        object: name.to_owned(),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    })
}

/// Makes the interface. On failure the link is deleted again, and its error is the one returned.
pub(crate) fn connect(
    host: &mut Route,
    sandbox: &Sandbox,
    plan: &InterfacePlan,
    facts: &HostFacts,
) -> Result<Connected> {
    let name = match &plan.name {
        InterfaceName::Exact(name) => name.clone(),
        InterfaceName::Prefix(prefix) => free_name(&mut sandbox.route(), prefix)?,
    };
    let port = create_link(host, sandbox, plan, &name, facts)?;
    let done = configure(sandbox, plan, &name).and_then(|connected| {
        settle(host, &port)?;
        Ok(connected)
    });
    done.inspect_err(|_| undo_link(&mut sandbox.route(), &name))
}

/// How often, and for how long each time, a kernel that does not settle by being asked (before Linux 6.9) is waited for.
const SETTLE_TRIES: usize = 50;
const SETTLE_WAIT: Duration = Duration::from_micros(200);

/// Waits until port and bridge carry packets: what comes before is lost, and a lost SYN costs its sender a second. A link that does not
/// come up in time is no error: packets will find it later.
fn settle(host: &mut Route, links: &[String]) -> Result<()> {
    for _ in 0..SETTLE_TRIES {
        let mut up = true;
        // In this order: the bridge follows its port.
        for link in links {
            up &= host.link(link)?.is_some_and(|link| link.up);
        }
        if up {
            break;
        }
        std::thread::sleep(SETTLE_WAIT);
    }
    Ok(())
}

/// Deletes the interface; its other end goes with it. An interface that is gone is no error.
pub(crate) fn disconnect(sandbox: &Sandbox, interface: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.delete_link(interface);
    absence_is_fine(sandbox.route().execute(batch))
}

/// Deletes the interface that was made by this plan, whatever its name is; that there is none is no error. It is known by its hardware
/// address, and where it has none of its own (ipvlan) by the planned addresses.
pub(crate) fn disconnect_planned(sandbox: &Sandbox, plan: &InterfacePlan) -> Result<()> {
    let mut route = sandbox.route();
    for link in route.links()? {
        let made = match plan.mac {
            Some(mac) => link.mac == Some(mac),
            None => {
                let has = route.addresses(link.index)?;
                plan.addresses.iter().any(|address| has.contains(address))
            }
        };
        if made {
            let mut batch = Batch::new();
            batch.delete_link(&link.name);
            return absence_is_fine(route.execute(batch));
        }
    }
    Ok(())
}

fn free_name(route: &mut Route, prefix: &str) -> Result<String> {
    let links = route.links()?;
    // One of the first links.len() + 1 numbers is free.
    let mut names = (0..=links.len()).map(|n| format!("{prefix}{n}"));
    names
        .find(|name| links.iter().all(|link| link.name != *name))
        .ok_or_else(|| Error::Invalid(format!("no interface name with prefix {prefix} is free")))
}

/// Docker's names for the host's ends: `veth` and seven hex digits.
fn veth_name() -> String {
    format!("veth{:07x}", rand::random::<u32>() >> 4)
}

/// Tries at a free random name: one of 2^28 is taken by chance hardly ever.
const NAME_TRIES: usize = 4;

/// Makes the link, and names the host's links that lead to it.
fn create_link(
    host: &mut Route,
    sandbox: &Sandbox,
    plan: &InterfacePlan,
    name: &str,
    facts: &HostFacts,
) -> Result<Vec<String>> {
    let end = End {
        name,
        mac: plan.mac,
        mtu: plan.mtu,
        netns: Some(sandbox.netns()),
        master: None,
    };
    match &plan.link {
        LinkPlan::Veth { bridge, isolated } => {
            let bridge = host_link(host, bridge)?;
            let port = create_veth(host, &bridge, *isolated, facts.ipv6, &end)?;
            introduce(host, &bridge, &port, plan).inspect_err(|_| undo_link(host, &port))?;
            Ok(vec![port, bridge.name])
        }
        LinkPlan::Macvlan { parent, mode } => {
            let parent = host_link(host, parent)?;
            let mut batch = Batch::new();
            batch.macvlan(&end, parent.index, *mode);
            host.execute(batch)
                .map_err(|error| unsupported("network driver macvlan", error))?;
            Ok(Vec::new())
        }
        LinkPlan::Ipvlan { parent, mode, flag } => {
            let parent = host_link(host, parent)?;
            let mut batch = Batch::new();
            batch.ipvlan(&end, parent.index, *mode, *flag);
            host.execute(batch)
                .map_err(|error| unsupported("network driver ipvlan", error))?;
            Ok(Vec::new())
        }
    }
}

fn create_veth(
    host: &mut Route,
    bridge: &Link,
    isolated: bool,
    ipv6: bool,
    peer: &End<'_>,
) -> Result<String> {
    let mut attempt = 1;
    loop {
        let name = veth_name();
        let port = End {
            name: &name,
            mtu: peer.mtu,
            master: Some(bridge.index),
            ..End::default()
        };
        let mut batch = Batch::new();
        batch.veth(&port, peer);
        batch.bridge_port(&name, isolated, ipv6);
        match host.execute(batch) {
            Err(Error::Kernel { operation: CREATE_VETH, source, .. })
                // It also says that the name inside is taken: that stays so, and the last try reports it.
                if source.raw_os_error() == Some(libc::EEXIST) && attempt < NAME_TRIES =>
            {
                attempt += 1;
            }
            Err(error @ Error::Kernel { operation: CREATE_VETH, .. }) => return Err(error),
            Err(error) => {
                undo_link(host, &name);
                return Err(error);
            }
            Ok(()) => return Ok(name),
        }
    }
}

/// Tells bridge and host where the new container is, so that the first packet finds it.
fn introduce(host: &mut Route, bridge: &Link, port: &str, plan: &InterfacePlan) -> Result<()> {
    let Some(mac) = plan.mac else { return Ok(()) };
    let port = host_link(host, port)?;
    let mut batch = Batch::new();
    batch.learned(port.index, mac);
    for address in plan.addresses.iter().map(|net| net.addr()) {
        // Nobody leases those: several containers may have the same.
        let link_local = match address {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if !link_local {
            batch.neighbour(bridge.index, address, mac);
        }
    }
    host.execute(batch)
}

fn undo_link(route: &mut Route, name: &str) {
    let mut undo = Batch::new();
    undo.delete_link(name);
    if let Err(error) = absence_is_fine(route.execute(undo)) {
        tracing::warn!(%error, "cannot undo the making of a link");
    }
}

/// Leads the default routes over this interface, in place of the ones that are there.
pub(crate) fn set_gateways(sandbox: &Sandbox, interface: &str, gateways: &[IpAddr]) -> Result<()> {
    let mut route = sandbox.route();
    let link = host_link(&mut route, interface)?;
    let mut batch = Batch::new();
    for gateway in gateways {
        batch.replace_default_route(link.index, *gateway);
    }
    route.execute(batch)
}

/// rtnetlink answers EOPNOTSUPP ("Unknown device type") for a kind of link that the kernel was built without.
fn unsupported(what: &str, error: Error) -> Error {
    match error {
        Error::Kernel { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Error::Unsupported {
                what: what.to_owned(),
                source,
            }
        }
        other => other,
    }
}

fn configure(sandbox: &Sandbox, plan: &InterfacePlan, name: &str) -> Result<Connected> {
    if plan.ipv6 {
        // The namespace's default is off.
        netns::inside(sandbox.netns(), || {
            sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), "0")
        })?;
    }
    let mut route = sandbox.route();
    let link = host_link(&mut route, name)?;
    let mut batch = Batch::new();
    batch.link_up(link.index, name);
    for address in &plan.addresses {
        batch.address(link.index, name, *address);
    }
    for gateway in &plan.gateways {
        batch.default_route(link.index, *gateway);
    }
    route.execute(batch)?;
    Ok(Connected {
        interface: name.to_owned(),
        mac: link.mac,
    })
}
