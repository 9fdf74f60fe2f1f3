//! The rules themselves: a pure function of networks and endpoints, held by golden files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Action, Base, Chain, ChainKind, DataType, Element, Family, Hook, Match, Rule, Ruleset, Set,
    Table, Value,
};
use crate::model::{Endpoint, Network, PortMapping, Protocol};

/// What the rules depend on besides networks and endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallOptions {
    /// Name of the tables.
    pub table: String,
    /// Write the IPv6 table too.
    pub ipv6: bool,
}

/// Links that are our bridges.
pub const BRIDGES: &str = "bridges";
/// Bridges of internal networks.
pub const INTERNAL: &str = "internal";
/// (bridge, bridge) where containers may talk to one another.
pub const PEERS: &str = "peers";
/// (source, destination) allowed although the network forbids it: `--link`.
pub const LINKS: &str = "links";
/// Ports published on every address of the host.
pub const PORTS: &str = "ports";
/// Ports published on one address.
pub const ADDRESS_PORTS: &str = "address_ports";

/// Everything of one daemon.
pub fn ruleset(networks: &[Network], endpoints: &[Endpoint], options: &FirewallOptions) -> Ruleset {
    let mut bridges: Vec<&Network> = networks.iter().filter(|n| n.driver == "bridge").collect();
    bridges.sort_by(|a, b| a.bridge.cmp(&b.bridge));
    let families = [Family::Ip, Family::Ip6];
    let wanted = families
        .into_iter()
        .filter(|family| *family == Family::Ip || options.ipv6);
    Ruleset {
        name: options.table.clone(),
        tables: wanted
            .map(|family| table(family, &bridges, endpoints))
            .collect(),
    }
}

/// The elements that one endpoint contributes: (set, element).
pub fn elements(
    family: Family,
    network: &Network,
    endpoint: &Endpoint,
) -> Vec<(&'static str, Element)> {
    if network.driver != "bridge" || network.internal {
        return Vec::new();
    }
    let Some(address) = container_address(family, endpoint) else {
        return Vec::new();
    };
    let mut out: Vec<(&'static str, Element)> = endpoint
        .ports
        .iter()
        .filter_map(|port| port_element(family, address, port))
        .collect();
    for peer in endpoint
        .links
        .iter()
        .filter(|peer| family_of(peer) == family)
    {
        out.push((
            LINKS,
            Element {
                key: vec![value(address), value(*peer)],
                data: Vec::new(),
            },
        ));
        out.push((
            LINKS,
            Element {
                key: vec![value(*peer), value(address)],
                data: Vec::new(),
            },
        ));
    }
    out
}

/// The redirection inside a container's own namespace: port 53 of the resolver's address leads to the ports where it listens.
pub fn resolver(udp: SocketAddrV4, tcp: SocketAddrV4) -> Ruleset {
    let lead = |protocol, target: SocketAddrV4| {
        let address = Match::Daddr(IpNet::V4(Ipv4Net::from(*target.ip())));
        rule(
            &[address, Match::Port(protocol, 53)],
            Action::TranslateTo(target),
        )
    };
    let base = Base {
        kind: ChainKind::Nat,
        hook: Hook::Output,
        priority: -100,
    };
    let rules = vec![lead(Protocol::Udp, udp), lead(Protocol::Tcp, tcp)];
    let chains = vec![Chain {
        name: "output",
        base: Some(base),
        rules,
    }];
    Ruleset {
        name: "hull-dns".to_owned(),
        tables: vec![Table {
            family: Family::Ip,
            sets: Vec::new(),
            chains,
        }],
    }
}

fn family_of(ip: &IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::Ip,
        IpAddr::V6(_) => Family::Ip6,
    }
}

fn value(ip: IpAddr) -> Value {
    match ip {
        IpAddr::V4(ip) => Value::Ipv4(ip),
        IpAddr::V6(ip) => Value::Ipv6(ip),
    }
}

fn container_address(family: Family, endpoint: &Endpoint) -> Option<IpAddr> {
    match family {
        Family::Ip => endpoint.ipv4.map(|net| IpAddr::V4(net.addr())),
        Family::Ip6 => endpoint.ipv6.map(|net| IpAddr::V6(net.addr())),
    }
}

/// None for a mapping of the other family, or one that is not resolved.
fn port_element(
    family: Family,
    address: IpAddr,
    port: &PortMapping,
) -> Option<(&'static str, Element)> {
    let host_ip = port.host_ip.filter(|ip| family_of(ip) == family)?;
    if port.host_port == 0 {
        return None;
    }
    let data = vec![value(address), Value::Service(port.container_port)];
    let (proto, service) = (
        Value::Proto(port.protocol.number()),
        Value::Service(port.host_port),
    );
    Some(if host_ip.is_unspecified() {
        (
            PORTS,
            Element {
                key: vec![proto, service],
                data,
            },
        )
    } else {
        (
            ADDRESS_PORTS,
            Element {
                key: vec![proto, value(host_ip), service],
                data,
            },
        )
    })
}

fn table(family: Family, bridges: &[&Network], endpoints: &[Endpoint]) -> Table {
    Table {
        family,
        sets: sets(family, bridges, endpoints),
        chains: chains(family, bridges),
    }
}

fn sets(family: Family, bridges: &[&Network], endpoints: &[Endpoint]) -> Vec<Set> {
    let address = match family {
        Family::Ip => DataType::Ipv4,
        Family::Ip6 => DataType::Ipv6,
    };
    let name = |network: &Network| Value::Ifname(network.bridge.clone());
    let of = |wanted: fn(&Network) -> bool| {
        let chosen = bridges.iter().filter(move |n| wanted(n));
        chosen
            .map(move |n| Element {
                key: vec![name(n)],
                data: Vec::new(),
            })
            .collect::<Vec<_>>()
    };
    let pairs = bridges.iter().filter(|n| n.icc);
    let pairs = pairs
        .map(|n| Element {
            key: vec![name(n), name(n)],
            data: Vec::new(),
        })
        .collect();
    let set = |name, key: &[DataType], data: &[DataType], elements| Set {
        name,
        key: key.to_vec(),
        data: data.to_vec(),
        elements,
    };
    let mut out = vec![
        set(BRIDGES, &[DataType::Ifname], &[], of(|_| true)),
        set(INTERNAL, &[DataType::Ifname], &[], of(|n| n.internal)),
        set(PEERS, &[DataType::Ifname, DataType::Ifname], &[], pairs),
        set(LINKS, &[address, address], &[], Vec::new()),
        set(
            PORTS,
            &[DataType::Proto, DataType::Service],
            &[address, DataType::Service],
            Vec::new(),
        ),
        set(
            ADDRESS_PORTS,
            &[DataType::Proto, address, DataType::Service],
            &[address, DataType::Service],
            Vec::new(),
        ),
    ];
    for endpoint in endpoints {
        let Some(network) = bridges.iter().find(|n| n.id == endpoint.network_id) else {
            continue;
        };
        for (name, element) in elements(family, network, endpoint) {
            if let Some(set) = out.iter_mut().find(|s| s.name == name) {
                set.elements.push(element);
            }
        }
    }
    for set in &mut out {
        set.elements.sort_by(|a, b| a.key.cmp(&b.key));
        // Two containers linked both ways, or a port that a broken record names twice, must not fail the whole transaction.
        set.elements.dedup_by(|a, b| a.key == b.key);
    }
    out
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::Ip => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        Family::Ip6 => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    }
}

fn rule(matches: &[Match], action: Action) -> Rule {
    Rule {
        matches: matches.to_vec(),
        action,
    }
}

fn chains(family: Family, bridges: &[&Network]) -> Vec<Chain> {
    let base = |kind, hook, priority| {
        Some(Base {
            kind,
            hook,
            priority,
        })
    };
    let local = loopback(family);
    let translate = [
        rule(
            &[Match::DaddrLocal],
            Action::TranslateByAddress(ADDRESS_PORTS),
        ),
        rule(&[Match::DaddrLocal], Action::TranslateByPort(PORTS)),
    ];
    let mut prerouting = vec![rule(&[Match::Daddr(local)], Action::Return)];
    prerouting.extend(translate.clone());
    let mut output = Vec::new();
    if family == Family::Ip6 {
        // IPv6 has no route_localnet: a packet from ::1 cannot leave the host. Untranslated it is refused at once, and the client tries
        // 127.0.0.1 instead of waiting.
        output.push(rule(&[Match::Daddr(local)], Action::Return));
    }
    output.extend(translate);
    vec![
        Chain {
            // route_localnet is on for our bridges, so that 127.0.0.1 can reach published ports; without this a container could reach
            // whatever listens on the host's loopback (CVE-2020-8558).
            name: "raw",
            base: base(ChainKind::Filter, Hook::Prerouting, -300),
            rules: vec![
                rule(&[Match::IifIn(BRIDGES), Match::Daddr(local)], Action::Drop),
                rule(&[Match::IifIn(BRIDGES), Match::Saddr(local)], Action::Drop),
            ],
        },
        Chain {
            // A neighbour's packet for 127.0.0.1 would be translated before the kernel looks at it and calls it a martian: hence the return.
            name: "prerouting",
            base: base(ChainKind::Nat, Hook::Prerouting, -100),
            rules: prerouting,
        },
        Chain {
            name: "output",
            base: base(ChainKind::Nat, Hook::Output, -100),
            rules: output,
        },
        Chain {
            name: "postrouting",
            base: base(ChainKind::Nat, Hook::Postrouting, 100),
            rules: postrouting(family, bridges),
        },
        Chain {
            name: "to_bridge",
            base: None,
            rules: vec![
                rule(&[Match::Established], Action::Accept),
                rule(&[Match::IifOifIn(PEERS)], Action::Accept),
                rule(&[Match::SaddrDaddrIn(LINKS)], Action::Accept),
                rule(&[Match::OifIn(INTERNAL)], Action::Drop),
                rule(&[Match::IifIn(INTERNAL)], Action::Drop),
                rule(&[Match::Translated], Action::Accept),
                // Other bridges, and hosts that route to our subnet: only published ports are open.
                rule(&[], Action::Drop),
            ],
        },
        Chain {
            name: "forward",
            base: base(ChainKind::Filter, Hook::Forward, 0),
            rules: vec![
                rule(&[Match::OifIn(BRIDGES)], Action::Jump("to_bridge")),
                rule(&[Match::IifIn(BRIDGES), Match::Established], Action::Accept),
                rule(&[Match::IifIn(INTERNAL)], Action::Drop),
                rule(&[Match::IifIn(BRIDGES)], Action::Accept),
            ],
        },
    ]
}

fn postrouting(family: Family, bridges: &[&Network]) -> Vec<Rule> {
    // 127.0.0.1 means nothing to a container; every other source is kept.
    let mut rules = vec![rule(
        &[Match::OifIn(BRIDGES), Match::Saddr(loopback(family))],
        Action::Masquerade,
    )];
    for network in bridges {
        let name = &network.bridge;
        let subnet = match family {
            Family::Ip => network.ipv4_subnet(),
            Family::Ip6 => network.ipv6_subnet(),
        };
        let Some(subnet) = subnet.map(|subnet| subnet.cidr.trunc()) else {
            continue;
        };
        // A container that reaches a neighbour, or itself, by a published port: the answer must come back by the host. (The link in
        // is not known in this hook.)
        rules.push(rule(
            &[
                Match::Saddr(subnet),
                Match::Oif(name.clone()),
                Match::Translated,
            ],
            Action::Masquerade,
        ));
        if network.masquerade && !network.internal {
            rules.push(rule(
                &[Match::Saddr(subnet), Match::OifNot(name.clone())],
                Action::Masquerade,
            ));
        }
    }
    rules
}
