//! Network drivers: each turns a network and an endpoint into a [`NetPlan`], a value that [`crate::Host`] applies. Pure, golden-tested.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::model::{Endpoint, MacAddr, Network};

/// What a plan may depend on of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// IPv6 exists in this kernel and is not switched off.
    pub ipv6: bool,
    /// br_netfilter is there: bridged packets can be sent through the firewall.
    pub bridge_netfilter: bool,
    /// Destinations of the host's routes, for choosing subnets that hide nothing.
    pub routes: Vec<IpNet>,
    /// The link of the default route, for `macvlan`/`ipvlan` without a parent.
    pub default_link: Option<String>,
}

/// What to do in order to connect an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetPlan {
    /// Nothing: the container shares the host's namespace, or has only loopback.
    Nothing,
    /// Make one interface inside the container's namespace.
    Interface(InterfacePlan),
}

/// One interface inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePlan {
    /// Exact name, or the prefix that gets the first free number.
    pub name: InterfaceName,
    /// Kind of link.
    pub link: LinkPlan,
    /// Its hardware address, where the link has one of its own.
    pub mac: Option<MacAddr>,
    /// Bytes; None takes the parent's or the kernel's.
    pub mtu: Option<u32>,
    /// Addresses with prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Default routes.
    pub gateways: Vec<IpAddr>,
    /// IPv6 is left on for this interface.
    pub ipv6: bool,
}

/// How the interface gets its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceName {
    /// This one.
    Exact(String),
    /// This and the lowest number not in use in the namespace.
    Prefix(String),
}

/// The kinds of link that drivers make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkPlan {
    /// A pair, the host's end on a bridge.
    Veth {
        /// The bridge's name.
        bridge: String,
        /// The host's end may not talk to other isolated ends (bridge(8) `isolated on`): how `icc=false` is kept where bridged packets do
        /// not meet the firewall. Where they do, its rules keep it, and published ports stay in reach of neighbours.
        isolated: bool,
    },
    /// A macvlan child.
    Macvlan {
        /// The parent link's name.
        parent: String,
        /// Its mode.
        mode: MacvlanMode,
    },
    /// An ipvlan child.
    Ipvlan {
        /// The parent link's name.
        parent: String,
        /// Its mode.
        mode: IpvlanMode,
        /// Its flag.
        flag: IpvlanFlag,
    },
}

/// `macvlan_mode` (ip-link(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Children of one parent never meet.
    Private,
    /// Children meet through the switch outside.
    Vepa,
    /// Children meet inside the host; Docker's default.
    Bridge,
    /// One child takes over the parent.
    Passthru,
}

/// `ipvlan_mode` (ip-link(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Docker's default.
    L2,
    /// Routed by the parent's namespace.
    L3,
    /// The same, seen by its conntrack.
    L3s,
}

/// `ipvlan_flag` (ip-link(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Docker's default.
    Bridge,
    /// Children never meet.
    Private,
    /// Children meet outside.
    Vepa,
}

/// A network driver.
///
/// Laws, held by the contract suite: `plan` is pure (equal arguments, equal plans); addresses of the plan are exactly the endpoint's, the
/// link-local ones last; a
/// gateway appears only for an endpoint that carries the default route of a network that is not internal; a refused network is refused
/// by `validate` already, before anything is made.
pub trait Driver: Send + Sync {
    /// The name by which users ask for it.
    fn name(&self) -> &'static str;
    /// Refuses a network that this driver cannot make.
    fn validate(&self, network: &Network) -> Result<()>;
    /// What connecting this endpoint takes.
    fn plan(&self, network: &Network, endpoint: &Endpoint, facts: &HostFacts) -> Result<NetPlan>;
}

/// The driver of that name. `null` is Docker's name for the driver of the network `none`.
pub fn by_name(name: &str) -> Result<&'static dyn Driver> {
    match name {
        "bridge" => Ok(&Bridge),
        "host" => Ok(&HostNetwork),
        "none" | "null" => Ok(&NoNetwork),
        "macvlan" => Ok(&Macvlan),
        "ipvlan" => Ok(&Ipvlan),
        "overlay" => Err(Error::NotImplemented {
            what: "network driver \"overlay\" (VXLAN between hosts)".to_owned(),
        }),
        _ => Err(Error::NoSuchDriver {
            name: name.to_owned(),
        }),
    }
}

struct Bridge;
struct HostNetwork;
struct NoNetwork;
struct Macvlan;
struct Ipvlan;

/// The parts that every driver with an interface shares.
fn interface(
    network: &Network,
    endpoint: &Endpoint,
    facts: &HostFacts,
    link: LinkPlan,
) -> InterfacePlan {
    let name = if endpoint.interface.is_empty() {
        InterfaceName::Prefix(network.interface_prefix.clone())
    } else {
        InterfaceName::Exact(endpoint.interface.clone())
    };
    let ipv4: Option<Ipv4Net> = endpoint.ipv4;
    let ipv6: Option<Ipv6Net> = endpoint.ipv6.filter(|_| facts.ipv6);
    let mut gateways = Vec::new();
    if endpoint.default_route && !network.internal {
        gateways.extend(endpoint.gateway4.filter(|_| ipv4.is_some()).map(IpAddr::V4));
        gateways.extend(endpoint.gateway6.filter(|_| ipv6.is_some()).map(IpAddr::V6));
    }
    let link_local6 = endpoint.link_local.iter().any(|ip| ip.addr().is_ipv6());
    let mac = endpoint.mac.unwrap_or_else(|| match ipv4 {
        Some(net) => MacAddr::from_ipv4(net.addr()),
        None => MacAddr::from_id(&endpoint.id),
    });
    InterfacePlan {
        name,
        link,
        mac: Some(mac),
        mtu: (network.mtu != 0).then_some(network.mtu),
        addresses: ipv4
            .map(IpNet::V4)
            .into_iter()
            .chain(ipv6.map(IpNet::V6))
            .chain(endpoint.link_local.iter().copied())
            .collect(),
        gateways,
        ipv6: ipv6.is_some() || link_local6,
    }
}

impl Driver for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn validate(&self, network: &Network) -> Result<()> {
        if network.bridge.is_empty() || network.bridge.len() > 15 {
            return Err(Error::Invalid(format!(
                "invalid bridge name {:?} of network {}",
                network.bridge, network.name
            )));
        }
        for option in [
            "com.docker.network.bridge.gateway_mode_ipv4",
            "com.docker.network.bridge.gateway_mode_ipv6",
        ] {
            match network.options.get(option).map(String::as_str) {
                None | Some("" | "nat") => {}
                Some(mode) => {
                    return Err(Error::NotImplemented {
                        what: format!("{option}={mode}"),
                    });
                }
            }
        }
        if network.enable_ipv4 && network.ipv4_subnet().is_none() && !network.inhibit_ipv4 {
            return Err(Error::Invalid(format!(
                "network {} has no IPv4 subnet",
                network.name
            )));
        }
        Ok(())
    }

    fn plan(&self, network: &Network, endpoint: &Endpoint, facts: &HostFacts) -> Result<NetPlan> {
        self.validate(network)?;
        let link = LinkPlan::Veth {
            bridge: network.bridge.clone(),
            isolated: !network.icc && !facts.bridge_netfilter,
        };
        Ok(NetPlan::Interface(interface(
            network, endpoint, facts, link,
        )))
    }
}

impl Driver for HostNetwork {
    fn name(&self) -> &'static str {
        "host"
    }

    fn validate(&self, _network: &Network) -> Result<()> {
        Ok(())
    }

    fn plan(
        &self,
        _network: &Network,
        _endpoint: &Endpoint,
        _facts: &HostFacts,
    ) -> Result<NetPlan> {
        Ok(NetPlan::Nothing)
    }
}

impl Driver for NoNetwork {
    fn name(&self) -> &'static str {
        "null"
    }

    fn validate(&self, _network: &Network) -> Result<()> {
        Ok(())
    }

    fn plan(
        &self,
        _network: &Network,
        _endpoint: &Endpoint,
        _facts: &HostFacts,
    ) -> Result<NetPlan> {
        Ok(NetPlan::Nothing)
    }
}

/// The `parent` option, else the link of the default route.
fn parent(network: &Network, facts: &HostFacts) -> Result<String> {
    network.options.get("parent").filter(|p| !p.is_empty()).or(facts.default_link.as_ref()).cloned().ok_or_else(|| {
        Error::Invalid(format!("network {}: no parent link given (-o parent=NAME) and the host has no default route", network.name))
    })
}

/// The value of a choice option: `Err` names the option and what was given.
fn choice<T: Copy>(
    network: &Network,
    option: &str,
    default: T,
    choices: &[(&str, T)],
) -> Result<T> {
    match network.options.get(option).map(String::as_str) {
        None | Some("") => Ok(default),
        Some(value) => choices
            .iter()
            .find(|(name, _)| *name == value)
            .map(|(_, choice)| *choice)
            .ok_or_else(|| Error::Option {
                option: option.to_owned(),
                value: value.to_owned(),
                why: "unknown mode",
            }),
    }
}

fn macvlan_mode(network: &Network) -> Result<MacvlanMode> {
    let choices = [
        ("bridge", MacvlanMode::Bridge),
        ("private", MacvlanMode::Private),
        ("vepa", MacvlanMode::Vepa),
        ("passthru", MacvlanMode::Passthru),
    ];
    choice(network, "macvlan_mode", MacvlanMode::Bridge, &choices)
}

fn ipvlan_mode(network: &Network) -> Result<IpvlanMode> {
    let choices = [
        ("l2", IpvlanMode::L2),
        ("l3", IpvlanMode::L3),
        ("l3s", IpvlanMode::L3s),
    ];
    choice(network, "ipvlan_mode", IpvlanMode::L2, &choices)
}

fn ipvlan_flag(network: &Network) -> Result<IpvlanFlag> {
    let choices = [
        ("bridge", IpvlanFlag::Bridge),
        ("private", IpvlanFlag::Private),
        ("vepa", IpvlanFlag::Vepa),
    ];
    choice(network, "ipvlan_flag", IpvlanFlag::Bridge, &choices)
}

impl Driver for Macvlan {
    fn name(&self) -> &'static str {
        "macvlan"
    }

    fn validate(&self, network: &Network) -> Result<()> {
        macvlan_mode(network).map(|_| ())
    }

    fn plan(&self, network: &Network, endpoint: &Endpoint, facts: &HostFacts) -> Result<NetPlan> {
        let link = LinkPlan::Macvlan {
            parent: parent(network, facts)?,
            mode: macvlan_mode(network)?,
        };
        Ok(NetPlan::Interface(interface(
            network, endpoint, facts, link,
        )))
    }
}

impl Driver for Ipvlan {
    fn name(&self) -> &'static str {
        "ipvlan"
    }

    fn validate(&self, network: &Network) -> Result<()> {
        ipvlan_mode(network).and(ipvlan_flag(network)).map(|_| ())
    }

    fn plan(&self, network: &Network, endpoint: &Endpoint, facts: &HostFacts) -> Result<NetPlan> {
        let link = LinkPlan::Ipvlan {
            parent: parent(network, facts)?,
            mode: ipvlan_mode(network)?,
            flag: ipvlan_flag(network)?,
        };
        // An ipvlan child shares its parent's hardware address.
        Ok(NetPlan::Interface(InterfacePlan {
            mac: None,
            ..interface(network, endpoint, facts, link)
        }))
    }
}
